"""The same game as retraining, with a gradient that no retraining is needed for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backward.response.base import Response
from ..players import Players
from ..players.rows import ROW
from ..training.run import TrainingRun
from ..types import BadRequest, Work
from .base import Description, Domain, admit
from .refit import RefitGame
from .wrap import averaged


@dataclass(frozen=True, eq=False)
class ImplicitGame:
    """A `RefitGame` whose derivative at weights 1 comes from a response: `ap.Gradient()` on it is
    influence, TRAK, TracIn, SOURCE or the metagradient, by the response.

        d v / d g_i at g = 1,   of loss weights (reweighted), averaged over the runs

    Values at g = 1 are those of the recorded runs; other values train, as the RefitGame does.
    """

    game: RefitGame
    response: Response
    runs: Sequence[TrainingRun] = ()  # recorded with independent seeds; () = the game's run

    def __post_init__(self) -> None:
        if not self.runs:
            if not isinstance(self.game.run, TrainingRun):
                raise BadRequest(
                    "the game has no recorded run to differentiate; use estimators that ask "
                    "only for values, or record a run: training.record(model, rows, ...)"
                )
            object.__setattr__(self, "runs", (self.game.run,))
        if isinstance(self.response, type) or not isinstance(self.response, Response):
            raise BadRequest(
                f"ImplicitGame(response={self.response!r}) is no response; give one, such as "
                "backward.response.Influence()"
            )
        digests = {run.recipe.rows.digest for run in self.runs}
        if len(digests) > 1:
            raise BadRequest("the runs were trained on different rows; give runs of one recipe")

    @property
    def players(self) -> Players:
        return self.game.players

    @property
    def domain(self) -> Domain:
        return self.game.domain

    @property
    def draws(self) -> int | None:
        return 1

    @property
    def price(self) -> Work:
        return self.game.price * (self.game.draws or 1)

    @property
    def grad_price(self) -> Work | None:
        """In passes over one row, as every other price."""
        passes = sum(self.response.passes(run) * run.recipe.rows.n for run in self.runs)
        return Work(passes, passes)

    @property
    def exact(self) -> bool:
        return self.response.exact

    @property
    def batch_key(self) -> object | None:
        return None

    @property
    def setup(self) -> Work:
        return Work(0)

    def value(self, gates: Tensor, draw: Tensor | None = None) -> Tensor:
        admit(self, gates, draw)
        if bool((gates == 1).all()):
            return self._recorded().expand(len(gates), *self._recorded().shape)
        return averaged(self.game).value(gates)

    def grad(self, gates: Tensor, draw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        admit(self, gates, draw)
        if not bool((gates == 1).all()):
            raise BadRequest(
                "the derivative of a training is known at weights 1 only, where the run was "
                "recorded: ask ap.Gradient(). Estimators of other points need trainings: ask "
                "LinearSurrogate or PermutationShapley of a RefitGame"
            )
        credit = self.response(self.runs, self.game.queries)
        owner = self.players.owner[ROW]
        held = credit.new_zeros(len(credit), self.players.n + 1)
        held.index_add_(1, torch.where(owner < 0, self.players.n, owner), credit)
        slopes = held[:, : self.players.n]
        slopes = slopes[0] if self.game.queries.n == 1 else slopes
        return self.value(gates), slopes.expand(len(gates), *slopes.shape)

    def _recorded(self) -> Tensor:
        """The queries' values under the recorded runs, averaged."""
        q = self.game.queries
        with torch.no_grad():
            each = [q.measure(run.net(run.final, q.input), q.labels) for run in self.runs]
        mean = torch.stack(each).mean(0)
        return mean[0] if q.n == 1 else mean

    def describe(self) -> Description:
        own = self.game.describe()
        runs = f"{len(self.runs)} recorded run{'s' if len(self.runs) > 1 else ''}"
        return Description(
            own.players, own.value, own.unit,
            f"reweighted: derivative by the row's loss weight at weights 1 ({runs})",
            own.model, repr(self.response), self.response.notes(self.runs),
            cites=self.response.cites,
        )  # fmt: skip
