"""Pictures as text: small PNGs without any library, photographs as JPEG through Pillow."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np

from ..types import BadRequest

SMALL = 64  # pictures of at most this side are kept pixel by pixel
WIDE = 900  # pixels that a photograph keeps of its longer side
QUALITIES, ENOUGH = (85, 70, 55), 180_000  # of a JPEG; bytes it may take
MAGIC = b"\x89PNG\r\n\x1a\n"


def data(kind: str, raw: bytes) -> str:
    """Bytes as an address that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def png(pixels: np.ndarray) -> str:
    """A picture (height, width, 3) or (height, width, 4) of uint8, exactly."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 6 if channels == 4 else 2, 0, 0, 0)
    return data("png", _chunks([(b"IHDR", head), (b"IDAT", _rows(pixels.reshape(height, -1)))]))


def palette(index: np.ndarray, colours: np.ndarray) -> str:
    """A picture (height, width) of numbers of at most 256 colours (red, green, blue, alpha)."""
    height, width = index.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [
        (b"IHDR", head),
        (b"PLTE", colours[:, :3].astype(np.uint8).tobytes()),
        (b"tRNS", colours[:, 3].astype(np.uint8).tobytes()),
        (b"IDAT", _rows(index.astype(np.uint8))),
    ]
    return data("png", _chunks(parts))


def photograph(pixels: np.ndarray, longest: int = WIDE) -> str:
    """A picture (height, width, 3) of uint8: small ones exactly, others as JPEG."""
    if max(pixels.shape[:2]) <= SMALL:
        return png(pixels)
    image = _pillow(pixels)
    image.thumbnail((longest, longest))
    for quality in QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= ENOUGH:
            break
    return data("jpeg", stream.getvalue())


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture at another size: single pixels kept square where it grows, averaged else."""
    if pixels.shape[0] <= height and pixels.shape[1] <= width:
        rows = np.arange(height) * pixels.shape[0] // height
        columns = np.arange(width) * pixels.shape[1] // width
        return pixels[rows][:, columns]
    return np.asarray(_pillow(pixels).resize((width, height)))


def _pillow(pixels: np.ndarray):  # type: ignore[no-untyped-def]
    try:
        from PIL import Image
    except ImportError as missing:
        raise BadRequest(
            "drawing photographs needs Pillow: pip install 'apportion[vision]'"
        ) from missing
    return Image.fromarray(np.ascontiguousarray(pixels))


def _rows(pixels: np.ndarray) -> bytes:
    """Compressed rows, each after a byte that says it is not filtered."""
    flat = np.zeros((pixels.shape[0], pixels.shape[1] + 1), dtype=np.uint8)
    flat[:, 1:] = pixels
    return zlib.compress(flat.tobytes(), 9)


def _chunks(parts: list[tuple[bytes, bytes]]) -> bytes:
    out = MAGIC
    for name, body in [*parts, (b"IEND", b"")]:
        check = zlib.crc32(name + body)
        out += struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)
    return out
