"""What results of single players and of sets have in common, as functions of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .types import Axiom, BadRequest, Cost, whole
from .wording import bare, decimals, signed

Row = tuple[str, float, float | None]  # name, score, standard error


@runtime_checkable
class Scored(Protocol):
    """Scores (*out, who), the values at both ends, and how all that came about."""

    @property
    def scores(self) -> Tensor: ...

    @property
    def none(self) -> Tensor | None: ...

    @property
    def full(self) -> Tensor | None: ...

    @property
    def error(self) -> Tensor | None: ...

    @property
    def cost(self) -> Cost: ...

    @property
    def provenance(self) -> Any: ...

    @property
    def reach(self) -> float: ...


def gap(result: Scored) -> Tensor | None:
    """Full - none - sum of scores, (*out); None where nothing claims to add up."""
    about = result.provenance
    if Axiom.EFFICIENCY.value not in about.claims or not about.exact:
        return None
    if result.none is None or result.full is None:
        return None
    return result.full.double() - result.none.double() - result.scores.double().sum(-1)


def noise(result: Scored) -> bool:
    """Whether the median score is smaller than its standard error."""
    if result.error is None or not result.scores.numel():
        return False
    return bool(result.scores.abs().median() < result.error.median())


def one_of(result: Scored, index: Sequence[int], called: str) -> dict[str, Tensor | None]:
    """The fields of one output of several."""
    outputs = tuple(result.scores.shape[:-1])
    for i in index:
        if isinstance(i, bool) or not isinstance(i, int):
            raise BadRequest(
                f"{called}.pick({i!r}): an output is a whole number, this is a {type(i).__name__}; "
                f"write {called}.pick(2)"
            )
    deep = len(index) > len(outputs)
    if deep or any(not -n <= i < n for i, n in zip(index, outputs, strict=False)):
        if not outputs:
            raise BadRequest(f"{called}.pick{tuple(index)}: there is one output, nothing to pick")
        raise BadRequest(f"{called} has outputs of shape {outputs}; there is no {tuple(index)}")
    at = tuple(index)
    ends = {"none": result.none, "full": result.full, "error": result.error}
    return {"scores": result.scores[at], **{k: v if v is None else v[at] for k, v in ends.items()}}


def single(result: Scored, what: str, called: str) -> Tensor:
    """The scores of a result that has one output."""
    if result.scores.ndim != 1:
        raise BadRequest(
            f"{what} needs one output, here they have shape {tuple(result.scores.shape[:-1])}; "
            f"choose with {called}.pick(...)"
        )
    return result.scores


def admit_top(k: object, called: str) -> None:
    """How many of the largest: at least one."""
    if whole(k, "k", f"{called}.top", 5) < 1:
        raise BadRequest(f"{called}.top({k}): ask for at least one; write {called}.top(5)")


def frame(columns: Mapping[str, Any]) -> Any:
    """A pandas DataFrame."""
    try:
        import pandas
    except ImportError as missing:
        raise BadRequest("to_frame needs pandas: pip install 'apportion[app]'") from missing
    return pandas.DataFrame(columns)


def text(result: Scored, what: str, called: str, top: Sequence[Row]) -> str:
    """A result on a few lines: its largest scores, the ends, the cost and the notes."""
    game = result.provenance.game
    measure = result.provenance.measure
    unit = f" {measure}" if measure else ""
    head = what + (f" for {game.value}" if game is not None else "")
    if result.scores.ndim > 1:
        return f"{head}, outputs {tuple(result.scores.shape[:-1])}; see {called}.pick(...)"
    width = max((len(name) for name, _, _ in top), default=0)
    places = decimals(abs(top[0][1])) if top else 2
    lines = [head]
    for name, score, error in top:
        between = "" if error is None else f" \u00b1 {bare(result.reach * error, places)}"
        lines.append(f"  {name:<{width}}  {signed(score, places)}{unit}{between}")
    if result.full is not None:
        missed = gap(result)
        ends = [f"v(all) {signed(float(result.full), places)}"]
        ends += [] if result.none is None else [f"v(none) {signed(float(result.none), places)}"]
        ends += [] if missed is None else [f"gap {signed(float(missed), places)}"]
        lines.append(f"  {', '.join(ends)}; {result.cost}")
    if noise(result):
        lines.append("  noise: the median score is below its standard error; ask for more samples")
    return "\n".join([*lines, *(f"  note: {note}" for note in result.provenance.notes)])
