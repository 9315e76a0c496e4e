"""The verdict comes out each way where the answer is planted, and each check knows its place."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, nn

import apportion as ap
from apportion.attribution import Attribution
from apportion.evaluate.score import Score
from apportion.games import toy
from apportion.trust import Absence, Check, Plan, decide, examine
from tests.small import mlp, normal, seeded

GENEROUS = ap.PermutationShapley(orders=64)


def seed(k: int) -> Generator:
    return Generator().manual_seed(k)


def score(value: float | None, low: float = -1.0, high: float = 1.0, **more: object) -> Score:
    return Score(value, "nats", chance=(low, high), **more)


def check(role: str, value: float | None, **more: object) -> Check:
    return Check(f"{role} {value}", role, score(value), "", "", **more)


# -- the rule


def test_supported_needs_the_decider_and_every_required_check() -> None:
    trust = decide([check("decides", 2.0), check("required", 3.0), check("informs", 0.0)])
    assert (trust.verdict, trust.decided_by) == ("supported", "decides 2.0")


def test_the_decider_inside_its_band_is_not_supported_whatever_else_says() -> None:
    trust = decide([check("decides", 0.5), check("required", 3.0)])
    assert (trust.verdict, trust.decided_by) == ("not supported", "decides 0.5")


def test_a_required_check_inside_its_band_makes_it_weak_and_decides() -> None:
    trust = decide([check("decides", 2.0), check("required", 0.5), check("required", 3.0)])
    assert (trust.verdict, trust.decided_by) == ("weak", "required 0.5")


def test_winning_by_less_than_its_own_error_makes_it_weak() -> None:
    close = Check("close", "required", score(1.2, error=0.5), "", "")
    assert close.state == "just outside"
    assert decide([check("decides", 2.0), close]).decided_by == "close"


def test_a_required_check_that_was_not_asked_makes_it_weak() -> None:
    missing = Check("missing", "required", None, "", "")
    assert decide([check("decides", 2.0), missing]).verdict == "weak"


def test_a_check_without_room_is_listed_and_makes_it_weak() -> None:
    game = toy.moebius(12, 2, seed(0))
    plan = Plan(again=ap.KernelShap(samples=600), unasked=("shuffled weights",))
    trust = examine(ap.attribute(game, GENEROUS), game, plan)
    assert (trust.verdict, trust.decided_by) == ("weak", "shuffled weights")
    assert trust["shuffled weights"].state == "not asked"


def test_a_broken_check_that_must_hold_overrules_the_decider() -> None:
    broken = check("must hold", 7.0, wants="inside")
    trust = decide([check("decides", 2.0), broken])
    assert (trust.verdict, trust.decided_by) == ("not supported", broken.name)


def test_direction_matters_inside_is_right_for_shuffled_weights() -> None:
    assert check("required", 0.5, wants="inside").passed
    assert not check("required", 2.0, wants="inside").passed
    assert check("required", 0.5, wants="inside").state == "inside, as it should be"


def test_checks_that_say_nothing_decide_nothing() -> None:
    silent = Check("silent", "required", score(0.5), "", "", wants="nothing")
    undefined = Check("undefined", "informs", Score(None, "nats"), "", "")
    assert decide([check("decides", 2.0), silent, undefined]).verdict == "supported"


def test_no_verdict_without_the_comparison_with_chance() -> None:
    with pytest.raises(ap.BadRequest, match="random orders"):
        decide([check("required", 2.0)])


# -- toy games


def test_a_clear_game_is_supported() -> None:
    game = toy.moebius(12, 2, seed(0))
    credit = ap.attribute(game, GENEROUS)
    trust = examine(credit, game, Plan(again=ap.KernelShap(samples=600)))
    assert trust.verdict == "supported"
    assert trust.decided_by == "insertion minus deletion"


def test_random_credit_on_the_same_game_is_not_supported() -> None:
    game = toy.moebius(12, 2, seed(0))
    verdicts = []
    for k in range(20):
        credit = Attribution.of(game, normal(12, seed=k))
        verdicts.append(examine(credit, game, Plan(), seed=k).verdict)
    # each passes the deciding check with probability 1/20 at most: 5 of 20 has p < .003
    assert sum(v != "not supported" for v in verdicts) < 5


def test_a_constant_game_has_zero_credit_and_is_not_supported() -> None:
    game = ap.FunctionGame(lambda g: torch.full((len(g),), 3.0), 8)
    for estimator in (ap.LeaveOneOut(), GENEROUS, ap.KernelShap(samples=100)):
        credit = ap.attribute(game, estimator)
        assert not credit.scores.any()
        trust = examine(credit, game, Plan(again=ap.KernelShap(samples=60)))
        assert trust.verdict == "not supported"
        assert "nothing to credit" in trust.reason


def test_too_few_samples_are_weak_or_worse_and_say_so() -> None:
    # pairs of opposite sign: hard to order with four orders, easy with many
    game = toy.moebius(24, 3, seed(2))
    poor = ap.attribute(game, ap.PermutationShapley(orders=2, paired=False))
    trust = examine(poor, game, Plan(again=ap.PermutationShapley(orders=2, paired=False)))
    rich = ap.attribute(game, ap.PermutationShapley(orders=400))
    better = examine(rich, game, Plan(again=ap.PermutationShapley(orders=400)))
    first, second = (t["same answer twice"].score.value for t in (trust, better))
    assert first < second
    assert better.verdict == "supported"


def test_a_path_over_a_jump_breaks_the_sum_and_is_not_supported() -> None:
    """A steep step of all gates together: the quadrature misses it, and the gap tells."""

    def cliff(gates: torch.Tensor) -> torch.Tensor:
        gates = gates.double()
        slope = gates @ torch.arange(6, dtype=torch.float64)
        return 10 * torch.sigmoid(4000 * (gates.mean(-1) - 0.3137)) + slope

    game = ap.FunctionGame(cliff, 6, domain="unit", differentiable=True)
    credit = ap.attribute(game, ap.PathIntegral(steps=8))
    trust = examine(credit, game, Plan(samples=0))
    assert trust.verdict == "not supported"
    assert trust.decided_by == "adds up"


def test_other_quantities_are_shown_and_never_decide() -> None:
    # leave-one-out sees nothing in a game where any one of the players suffices
    game = ap.FunctionGame(lambda g: 5 * g[:, :4].any(-1).double() + 2 * g[:, 4].double(), 12)
    credit = ap.attribute(game, GENEROUS)
    trust = examine(credit, game, Plan(beside={"leave-one-out": (ap.LeaveOneOut(), None)}))
    assert trust["leave-one-out"].role == "informs"
    assert trust.decided_by != "leave-one-out"


# -- small models with a planted answer


def planted_linear(weights: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """A network that is exactly linear with known weights, through a hidden layer."""
    n = len(weights)
    model = seeded(lambda: nn.Sequential(nn.Linear(n, n, bias=False), nn.Linear(n, 1, bias=False)))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(n, dtype=torch.float64))
        model[1].weight.copy_(weights[None])
    return model, torch.ones(1, n, dtype=torch.float64)


def test_a_planted_linear_model_is_supported_and_insensitive_to_the_removal() -> None:
    weights = torch.linspace(-2, 3, 14, dtype=torch.float64)
    model, x = planted_linear(weights)
    game = ap.ModelGame(
        model, x, ap.values.Logit(0), ap.players.columns(x), ap.Blend(ap.removals.zeros())
    )
    credit = ap.attribute(game, GENEROUS)
    other = Absence("minus one", ap.Blend(ap.removals.constant(-1.0)))
    trust = examine(
        credit,
        game,
        Plan(again=ap.KernelShap(samples=200), changed=GENEROUS, absence=other, shuffled=True),
    )
    assert torch.allclose(credit.scores.double(), weights)
    assert trust["another kind of absence"].score.value == pytest.approx(1.0)
    # shuffled weights leave no trace of the planted order, except by chance (1 in 20)
    assert trust["shuffled weights"].score.chance[0] < 0 < trust["shuffled weights"].score.chance[1]
    assert trust["insertion minus deletion"].passed
    assert trust.verdict in ("supported", "weak")
    assert trust.decided_by in ("insertion minus deletion", "shuffled weights")


def test_a_removal_that_turns_the_answer_around_makes_it_weak() -> None:
    """With absent = 2, the credit of every column of ones changes sign."""
    weights = torch.linspace(-2, 3, 14, dtype=torch.float64)
    model, x = planted_linear(weights)
    game = ap.ModelGame(
        model, x, ap.values.Logit(0), ap.players.columns(x), ap.Blend(ap.removals.zeros())
    )
    other = Absence("two", ap.Blend(ap.removals.constant(2.0)))
    trust = examine(ap.attribute(game, GENEROUS), game, Plan(changed=GENEROUS, absence=other))
    assert trust["another kind of absence"].score.value == pytest.approx(-1.0)
    assert (trust.verdict, trust.decided_by) == ("weak", "another kind of absence")


def test_an_answer_that_ignores_the_weights_is_caught() -> None:
    """A model whose output hardly depends on its weights: shuffling them changes nothing."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scale.mean() * (x * torch.arange(12.0, dtype=torch.float64)).sum(
                -1, keepdim=True
            )

    model, x = Fixed().eval(), torch.ones(1, 12, dtype=torch.float64)
    game = ap.ModelGame(
        model, x, ap.values.Logit(0), ap.players.columns(x), ap.Blend(ap.removals.zeros())
    )
    trust = examine(ap.attribute(game, GENEROUS), game, Plan(changed=GENEROUS, shuffled=True))
    assert (trust.verdict, trust.decided_by) == ("weak", "shuffled weights")


def test_a_check_that_cannot_be_asked_says_so_and_stops_nothing() -> None:
    x = normal(1, 6, seed=1)
    game = ap.ModelGame(
        mlp(), x, ap.values.Logit(1), ap.players.columns(x), ap.Blend(ap.removals.zeros())
    )
    same = Absence("the input itself", ap.Blend(ap.removals.counterfactual(x)))
    trust = examine(ap.attribute(game, GENEROUS), game, Plan(changed=GENEROUS, absence=same))
    asked = trust["another kind of absence"]
    assert asked.passed is None
    assert "equals the input" in asked.can


def test_by_chance_bound_is_the_binomial_quantile() -> None:
    from scipy.stats import binom

    from apportion.checks import _by_chance

    for n in (1, 5, 49, 300, 3000):
        assert _by_chance(n) == binom.ppf(0.95, n, 0.05)
