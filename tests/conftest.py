"""Shapes and types are checked at every call while tests run; nothing may touch the global random
state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401 - the hook finds it by name

install_import_hook("apportion", "tests.typecheck.check")

import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
REQUIRED = os.environ.get("APPORTION_REQUIRE_ALL") == "1"


def missing(reason: str) -> None:
    """Skips on a user's machine; fails where everything is installed and nothing may be skipped."""
    if REQUIRED:
        pytest.fail(f"{reason}, and this run may skip nothing")
    pytest.skip(reason)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def global_random_state_untouched() -> Iterator[None]:
    """Everything random is an argument: the global generators of torch and numpy stay as they
    were.
    """
    import numpy as np

    before, before_np = torch.get_rng_state(), np.random.get_state()[1].copy()
    yield
    assert torch.equal(before, torch.get_rng_state()), "torch's global random state was used"
    assert (before_np == np.random.get_state()[1]).all(), "numpy's global random state was used"
