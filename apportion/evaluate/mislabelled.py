"""Does a score of the training rows find those with a wrong label?"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from ..types import BadRequest
from .agreement import ranks
from .score import Score, band, p_value, seeded, undefined

SHUFFLES = 999


def mislabel_detection(
    suspicion: Float[Tensor, "row"],
    wrong: Tensor,  # (row,), true where the label is wrong
    rng: Generator | None = None,
) -> Score:
    """Area under the ROC curve of finding the wrongly labelled rows by their suspicion, such as
    `Influence().self_influence(run)`: the chance that a wrong row is more suspicious than a right
    one. 0.5 = chance. Costs no evaluations.
    """
    if suspicion.shape != wrong.shape or suspicion.ndim != 1:
        raise BadRequest(
            f"suspicion {tuple(suspicion.shape)} and wrong {tuple(wrong.shape)} must be one number "
            "and one truth per training row"
        )
    if bool(suspicion.isnan().any()):
        raise BadRequest("the suspicion of some rows is NaN, which has no rank")
    rng, unit, wrong = seeded(rng), "area under the ROC curve", wrong.bool()
    count = int(wrong.sum())
    if not 0 < count < len(wrong):
        return undefined(unit, f"{count} of {len(wrong)} rows are wrong: nothing to tell apart")
    place = ranks(suspicion.detach().double().cpu()[None])[0]
    value = _area(place, wrong)
    random = torch.stack([
        _area(place, wrong[torch.randperm(len(wrong), generator=rng)]) for _ in range(SHUFFLES)
    ])  # fmt: skip
    return Score(
        float(value), unit, chance=band(random), p_value=p_value(float(value), random), best=1.0,
        random=SHUFFLES,
    )  # fmt: skip


def _area(place: Float[Tensor, "row"], wrong: Bool[Tensor, "row"]) -> Tensor:
    """From the ranks of the wrong rows (the statistic of Mann and Whitney)."""
    a = wrong.sum().double()
    b = len(wrong) - a
    return (place[wrong].sum() - a * (a - 1) / 2) / (a * b)
