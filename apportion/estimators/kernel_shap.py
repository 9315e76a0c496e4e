"""Shapley values as the best additive fit under the Shapley kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..attribution import Attribution
from ..games.base import Game, Need
from ..types import Axiom, BadRequest, Cost
from ._designs import KernelDesign, Sizes
from ._moments import FIRST, PIECE, Until, ceiling_note
from ._options import choice, counts, precision
from ._regress import shapley_from_pairs, stratified_error

MOST_PLAYERS = 4000  # the fit solves an n x n system


@dataclass(frozen=True, kw_only=True)
class KernelShap:
    """Shapley value by weighted least squares on coalitions and their complements.

        scores = argmin_phi sum_S k(S) [ v(S) - v(none) - sum_{i in S} phi_i ]^2
        with sum_i phi_i = v(all) - v(none)  and  k(S) = (n - 1) / ( C(n,|S|) |S| (n - |S|) )

    Small coalition sizes are exhausted first, the others drawn without replacement, each with its
    complement. Exact as soon as samples >= 2^n. Always adds up, which is no evidence of precision:
    read `error`, a jackknife over pairs.
    """

    samples: int = 2048  # evaluations in all, both ends included (with `until`: at most)
    until: Until | None = None  # stop earlier, at StandardError(x) or TopK(k)
    # how often each size is drawn: KERNEL, as the kernel weighs it, or LEVERAGE, all as often
    sizes: Sizes = Sizes.KERNEL

    needs: ClassVar[Need] = "hard"
    axioms: ClassVar[frozenset[Axiom]] = frozenset(
        {Axiom.ADDITIVE, Axiom.EFFICIENCY, Axiom.LINEARITY}
    )
    cites: ClassVar[tuple[str, ...]] = ("lundberg2017", "covert2021", "musco2025")
    own_draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        counts(self.samples, "KernelShap", "samples")
        precision(self.until, "KernelShap", "until")
        choice(self.sizes, Sizes, "KernelShap", "sizes")

    def cost(self, n: int) -> Cost:
        """`samples`, or all 2^n coalitions if that is less. Pairs leave an odd one unused."""
        if n > MOST_PLAYERS:
            raise BadRequest(
                f"KernelShap solves an n x n system, too large for {n:,} players; coarsen them "
                "with players.merge(...) or larger patches, or use PermutationShapley"
            )
        least = 2 if n == 1 else min(2 * n, 2**n)
        if self.samples < least:
            raise BadRequest(
                f"KernelShap(samples={self.samples}) cannot determine {n} scores; the minimum is "
                f"{least}, and {4 * n + 2} for errors"
            )
        return Cost(evaluations=2 + 2 * self._pairs(n))

    def _pairs(self, n: int) -> int:
        most = (self.samples - 2) // 2
        return min(most, 2 ** (n - 1) - 1) if n <= PIECE.bit_length() else most

    def __call__(self, game: Game, rng: Generator) -> Attribution:
        n = game.players.n
        ends = torch.zeros(2, n, dtype=torch.bool)
        ends[1] = True
        none, full = game.value(ends)
        total = (full.double() - none.double()).reshape(-1)
        if n == 1:
            scores = (full.double() - none.double())[..., None]
            return Attribution.of(
                game, scores, error=torch.zeros_like(scores), none=none, full=full
            )
        design, sides, odd = KernelDesign(n, rng, self.sizes), [], []
        scores = error = None
        stopped = False
        for pairs in self._looks(n):
            side = design.grow(pairs)
            sides.append(side)
            odd.append(_odd_part(game, side))
            scores, error = self._fit(design, torch.cat(sides), torch.cat(odd), total)
            stopped = self.until is not None and error is not None and self.until(scores, error)
            if stopped or len(design.size_class) >= design.pairs:
                break
        shape = (*full.shape, n)
        notes = (
            ()
            if error is not None and float(error.max()) == 0
            else ceiling_note(self.until, stopped, f"{self.samples} samples", error)
        )
        reason = (
            ""
            if error is not None
            else f"too few pairs for a jackknife; ask for at least {4 * n + 2} samples"
        )
        shaped = None if error is None else error.reshape(shape)
        return Attribution.of(
            game,
            scores.reshape(shape),
            error=shaped,
            freedom=max(len(design.size_class) - n, 1),
            none=none,
            full=full,
            error_note=reason,
            notes=notes,
        )

    def _looks(self, n: int) -> list[int]:
        """Numbers of pairs at which the fit is made: only at the end, or growing by half where a
        precision is asked.
        """
        most = self._pairs(n)
        if self.until is None:
            return [most]
        looks = [min(most, 2 * n + FIRST)]
        while looks[-1] < most:
            looks.append(min(most, looks[-1] + looks[-1] // 2))
        return looks

    def _fit(
        self, design: KernelDesign, sides: Tensor, odd: Tensor, total: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        signs = 2.0 * sides.double() - 1
        weights, left_out = design.weights(), design.sampled()
        fit = shapley_from_pairs(signs, odd, weights, total)
        if fit is None:
            raise BadRequest(
                f"KernelShap(samples={self.samples}): the {len(sides)} coalitions drawn cannot "
                f"tell {sides.shape[1]} players apart; ask for more samples, at least "
                f"{4 * sides.shape[1]}"
            )
        scores, influence = fit
        if len(sides) == design.pairs:
            return scores, torch.zeros_like(scores)
        if len(sides) < 2 * sides.shape[1]:  # too few besides the single players to tell a spread
            return scores, None
        return scores, stratified_error(influence, left_out, torch.tensor(design.size_class))


def _odd_part(game: Game, side: Tensor) -> Tensor:
    """v(S) - v(complement of S) per pair, (pair, out)."""
    values = game.value(torch.stack([side, ~side], 1).flatten(0, 1)).double()
    pairs = values.unflatten(0, (len(side), 2))
    return (pairs[:, 0] - pairs[:, 1]).reshape(len(side), -1)
