"""Where converted and trained models are kept between runs, and how they get there whole or not at
all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..types import BadRequest


def cache() -> Path:
    """APPORTION_CACHE, or `apportion` in the user's cache folder."""
    named = os.environ.get("APPORTION_CACHE")
    base = (
        Path(named)
        if named
        else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "apportion"
    )
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise BadRequest(
            f"cannot make the cache folder {base}: {failure}; set APPORTION_CACHE to a folder you "
            "may write to"
        ) from failure
    return base


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` in the cache; if it is missing, `make` fills it. An interrupted `make`
    leaves nothing behind.
    """
    folder = cache() / name
    if folder.exists():
        return folder
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        make(draft)
        try:
            draft.rename(folder)
        except OSError:
            # another process may have finished first, and its copy is as good
            if not folder.exists():
                raise
        return folder
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def needs(package: str, extra: str) -> BadRequest:
    """The error for a model whose package is not installed."""
    return BadRequest(f"this model needs the package {package}: {extra}")
