"""What a bare model cannot say about itself: how inputs are prepared, shown and named."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .training import TrainingRun
from .types import BadRequest

Kind = Literal["image", "text", "table", "function"]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with what is needed to ask it about raw inputs and to show the answer to people."""

    model: Any  # a torch module; for kind="function" any callable from rows to scores
    kind: Kind
    # raw input -> prepared (batch, ...); None = already prepared
    preprocess: Callable[[Any], Tensor] | None = None
    picture: Callable[[Tensor], Any] | None = None  # prepared image -> uint8 (height, width, 3)
    tokenizer: Any = None  # of a text model
    labels: Sequence[str] | None = None  # names of the classes
    background: Any = None  # other inputs, prepared, first axis = which one; a text for text models
    columns: Sequence[str] | None = None  # names of the columns of a table
    name: str = ""  # how the model is called in reports
    training: TrainingRun | None = None  # the recorded training the model comes from

    def __post_init__(self) -> None:
        if self.kind not in ("image", "text", "table", "function"):
            raise BadRequest(
                f"Subject(kind={self.kind!r}): one of 'image', 'text', 'table', 'function'"
            )
        if self.kind == "text" and self.tokenizer is None:
            raise BadRequest(
                "a text subject needs tokenizer=, such as AutoTokenizer.from_pretrained(path) of "
                "transformers; token ids alone can be asked about with ap.ModelGame"
            )
        if isinstance(self.background, str) and not self.background.strip():
            raise BadRequest(
                "background= is an empty text; give a page of ordinary text, or leave it out: an "
                "absent token then is the zero embedding"
            )
        if not isinstance(self.model, nn.Module):
            if self.kind != "function":
                raise BadRequest(
                    f"the model is a {type(self.model).__name__}, not a torch module; for a plain "
                    "function of rows give Subject(f, kind='function')"
                )
            object.__setattr__(self, "model", Function(self.model))

    def windows(self, length: int, count: int = 16) -> Tensor:
        """Pieces of the background text as token ids (window, position), evenly spread over it."""
        if not isinstance(self.background, str):
            raise BadRequest("windows are cut from a background text; give Subject(background=...)")
        ids = self.tokenizer(self.background, add_special_tokens=False)["input_ids"]
        ids = ids * -(-length // len(ids))  # a short text is repeated
        starts = torch.linspace(0, len(ids) - length, count).long().unique().tolist()
        return torch.tensor([ids[s : s + length] for s in starts])

    def label(self, target: int) -> str:
        """What class or token number `target` is called."""
        if self.kind == "text" and self.labels is None:
            return str(self.tokenizer.decode([target]))
        if self.labels is None:
            return f"class {target}"
        if not 0 <= target < len(self.labels):
            raise BadRequest(
                f"there is no class {target}; the subject has {len(self.labels):,} labels"
            )
        return str(self.labels[target])

    def index(self, target: int | str) -> int:
        """The number of a class or token given by number or name."""
        if isinstance(target, int):
            return target
        if self.kind == "text" and self.labels is None:
            ids = self.tokenizer(target, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                raise BadRequest(
                    f"target {target!r} is {len(ids)} tokens; give one token (mind the leading "
                    "space), or its number"
                )
            return int(ids[0])
        if target.isdigit() and (self.labels is None or target not in self.labels):
            return int(target)
        if self.labels is None or target not in self.labels:
            raise BadRequest(
                f"no class is called {target!r}; give its number or one of "
                f"{self._some_labels(target)}"
            )
        return list(self.labels).index(target)

    def prepare(self, given: Any) -> Prepared:
        """A path, picture, text, row or tensor as the model wants it, and as a person sees it."""
        if self.kind == "image":
            return self._prepare_image(given)
        if self.kind == "text":
            return self._prepare_text(given)
        return self._prepare_row(given)

    def _prepare_image(self, given: Any) -> Prepared:
        if isinstance(given, Tensor) and given.is_floating_point():
            x = given if given.ndim > 3 else given[None]
            shown = None if self.picture is None else np.asarray(self.picture(x))
            return Prepared(x, shown, None)
        raw = read_image(given) if isinstance(given, str | Path) else np.asarray(given)
        if raw.dtype != np.uint8:
            raise BadRequest(
                "a picture must be uint8 (0 to 255), a prepared float tensor, or a path; got "
                f"{raw.dtype} {raw.shape}"
            )
        if self.preprocess is None:
            raise BadRequest(
                "the subject has no preprocess=, so it cannot read pictures: give "
                "Subject(preprocess=f), where f turns uint8 (height, width, 3) into a float tensor "
                "(1, channel, height, width), or such a tensor in place of the picture"
            )
        return Prepared(
            self.preprocess(raw), raw if raw.ndim == 3 else np.stack([raw] * 3, -1), None
        )

    def _prepare_text(self, given: Any) -> Prepared:
        if isinstance(given, Path):
            given = given.read_text(encoding="utf-8")
        if isinstance(given, str):
            if not given.strip():
                raise BadRequest("the text is empty; give at least one word")
            given = self.tokenizer(given, return_tensors="pt")["input_ids"]
        if not isinstance(given, Tensor) or given.ndim != 2:
            raise BadRequest(
                "a text subject takes a text or token ids (1, position); got "
                f"{type(given).__name__}"
            )
        return Prepared(given, None, self.tokenizer.decode(given[0].tolist()))

    def _prepare_row(self, given: Any) -> Prepared:
        # a network has float32 weights; a function, such as a forest, sees the numbers as given
        kind = np.float64 if self.kind == "function" else np.float32
        x = (
            torch.as_tensor(np.asarray(given, dtype=kind))
            if not isinstance(given, Tensor)
            else given
        )
        x = x if x.ndim > 1 else x[None]
        raw = x[0].tolist()
        if self.columns is not None and len(raw) != len(self.columns):
            raise BadRequest(
                f"the row has {len(raw)} values, the subject {len(self.columns)} columns"
            )
        return Prepared(
            self.preprocess(x) if self.preprocess is not None else x, None, None, tuple(raw)
        )

    def _some_labels(self, wanted: str) -> str:
        known = list(map(str, self.labels or []))
        near = difflib.get_close_matches(wanted, known, n=5, cutoff=0.5) or known[:5]
        return ", ".join(map(repr, near)) + (", ..." if len(known) > len(near) else "")


class Function(nn.Module):
    """A plain function of rows as a module, such as a classifier's predict_proba. Without
    gradients.
    """

    def __init__(self, f: Callable[[np.ndarray], Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, rows: Tensor) -> Tensor:
        scores = torch.as_tensor(np.asarray(self.f(rows.detach().cpu().numpy())))
        return scores[:, None] if scores.ndim == 1 else scores


@dataclass(frozen=True, eq=False)
class Prepared:
    """One input: as the model takes it, and as a person sees it."""

    x: Tensor
    picture: Any = None  # uint8 (height, width, 3)
    text: str | None = None
    row: tuple[float, ...] | None = None  # before scaling


OVERRIDES = tuple(f.name for f in fields(Subject) if f.name != "model")


def subject_of(given: Subject | nn.Module, input: Any, overrides: Mapping[str, Any]) -> Subject:
    """A subject from a subject or a bare model, with fields replaced; the kind of a bare model is
    told by its input.
    """
    wrong = [name for name in overrides if name not in OVERRIDES]
    if wrong:
        near = difflib.get_close_matches(wrong[0], [*OVERRIDES, "target", "budget", "seed"], n=1)
        hint = f"; did you mean {near[0]}=?" if near else ""
        raise BadRequest(
            f"why() has no option {wrong[0]!r}{hint} It takes target, budget, seed, value, and "
            f"{', '.join(OVERRIDES)}"
        )
    fields_given = {k: v for k, v in overrides.items() if v is not None}
    if isinstance(given, Subject):
        return replace(given, **fields_given)
    kind = fields_given.pop("kind", None) or _kind_of(input, fields_given)
    return Subject(given, kind, **{"name": type(given).__name__, **fields_given})


def _kind_of(input: Any, fields_given: Mapping[str, Any]) -> Kind:
    if "tokenizer" in fields_given:
        return "text"
    if isinstance(input, Tensor) and input.is_floating_point() and input.ndim in (1, 2):
        return "table"
    if "background" in fields_given and np.ndim(input) == 1 and not isinstance(input, str):
        return "table"  # a list or an array of numbers, beside rows like it
    if isinstance(input, Tensor) and input.is_floating_point():
        return "image"
    got = f"{input.dtype} {tuple(input.shape)}" if isinstance(input, Tensor) else str(type(input))
    raise BadRequest(
        f"cannot tell what kind of input {got} is; say so with why(..., kind='image', 'table' or "
        "'text' (with tokenizer=)), or pass a Subject"
    )


def read_image(path: str | Path) -> np.ndarray:
    """A picture file as uint8 (height, width, 3), turned upright."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as missing:
        raise BadRequest(
            "reading pictures needs Pillow: pip install 'apportion[vision]'"
        ) from missing
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as failure:
        raise BadRequest(
            f"cannot read {path} as a picture: {failure}; give a PNG or JPEG file"
        ) from failure
