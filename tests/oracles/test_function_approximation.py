"""Eight methods as least squares: what the page composes is the minimum of its row, found directly
by quadrature or enumeration over the row's neighbourhood. [han2022]
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.small import close, mlp, normal, seeded

N, TARGET, SIGMA, WIDTH = 3, 1, 0.5, 1.5
# coordinates of size 1: masks and inputs are equally far apart
X = torch.tensor([[1.0, -1.0, 1.0]], dtype=torch.float64)
ADDITIVE = ("C-LIME", "SmoothGrad", "vanilla gradient")
SAMPLED = ("C-LIME", "SmoothGrad", "LIME")
PAGE = Path(__file__).parents[2] / "docs" / "function-approximation.md"


def network() -> nn.Module:
    return mlp(N, 8, 2)


def composed(model: nn.Module, x: Tensor = X, **options: float) -> dict[str, tuple]:
    """What the page's own code answers."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict = {}
    exec(code, scope)
    return scope["eight"](model, x, TARGET, sigma=SIGMA, width=WIDTH, **options)


def f(model: nn.Module, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return model(rows)[:, TARGET]


def slopes(model: nn.Module, rows: Tensor) -> Tensor:
    leaf = rows.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, TARGET].sum(), leaf)[0]


def noise(sigma: float, nodes: int = 24) -> tuple[Tensor, Tensor]:
    """A grid that integrates over N(0, sigma^2) in every coordinate, by Gauss and Hermite."""
    at, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / math.sqrt(2 * math.pi)
    places = torch.tensor(list(itertools.product(at * sigma, repeat=N)))
    weights = torch.tensor([math.prod(w) for w in itertools.product(weight, repeat=N)])
    return places, weights


def levels(low: float) -> tuple[Tensor, Tensor]:
    """One number for all coordinates, uniform between low and 1."""
    at, weight = np.polynomial.legendre.leggauss(40)
    place = torch.as_tensor(low + (1 - low) * (at + 1) / 2)
    return place[:, None].expand(-1, N), torch.as_tensor(weight / 2)


def coalitions() -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=N)), dtype=torch.float64)


def least_squares(inputs: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """argmin over w and b of sum of weights (values - b - inputs w)^2."""
    design = torch.cat([torch.ones(len(inputs), 1, dtype=torch.float64), inputs], 1)
    scale = weights.sqrt()[:, None]
    return torch.linalg.lstsq(scale * design, scale[:, 0] * values).solution[1:]


def matched(gradients: Tensor, weights: Tensor) -> Tensor:
    """argmin over w of sum of weights |gradients - w|^2, by its normal equations."""
    design = torch.eye(N, dtype=torch.float64).repeat(len(gradients), 1)
    scale = weights.sqrt().repeat_interleave(N)[:, None]
    return torch.linalg.lstsq(scale * design, scale[:, 0] * gradients.flatten()).solution


def shapley_kernel(model: nn.Module) -> Tensor:
    """The weighted fit with both ends as constraints, by its Lagrangian."""
    masks = coalitions()
    size = masks.sum(1)
    inner = (size > 0) & (size < N)
    weight = torch.tensor(
        [(N - 1) / (math.comb(N, int(s)) * s * (N - s)) for s in size[inner].tolist()],
        dtype=torch.float64,
    )
    base, full = f(model, torch.cat([0 * X, X]))
    z, y = masks[inner], f(model, masks[inner] * X) - base
    system = torch.zeros(N + 1, N + 1, dtype=torch.float64)
    system[:N, :N] = z.T @ (weight[:, None] * z)
    system[:N, N] = system[N, :N] = 1
    target = torch.cat([z.T @ (weight * y), (full - base)[None]])
    return torch.linalg.solve(system, target)[:N]


def lime_weights() -> Tensor:
    """exp(-|x - x_xi|^2 / width^2), the distance between inputs."""
    return torch.exp(-((X - coalitions() * X) ** 2).sum(1) / WIDTH**2)


def direct(name: str, model: nn.Module) -> Tensor:
    """The minimum of one row of the table."""
    if name in ADDITIVE:
        away, weights = noise(1e-4 if name == "vanilla gradient" else SIGMA)
        if name == "C-LIME":
            return least_squares(away, f(model, X + away), weights)
        return matched(slopes(model, X + away), weights)
    if name in ("integrated gradients", "gradient x input"):
        level, weights = levels(0.0 if name == "integrated gradients" else 1 - 1e-7)
        return matched(X * slopes(model, level * X), weights)
    if name == "LIME":
        return least_squares(coalitions(), f(model, coalitions() * X), lime_weights())
    if name == "kernel SHAP":
        return shapley_kernel(model)
    hot = torch.eye(N, dtype=torch.float64)
    change = f(model, X) - f(model, X * (1 - hot))
    return torch.linalg.lstsq(hot, change).solution


ROWS = [
    "C-LIME", "SmoothGrad", "vanilla gradient", "integrated gradients", "gradient x input",
    "LIME", "kernel SHAP", "occlusion",
]  # fmt: skip


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple]:
    return composed(network())


def test_the_page_has_all_eight(answers) -> None:
    assert list(answers) == ROWS
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| {name.replace(' x ', ' × ')} |" in text for name in ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_each_is_the_minimum_of_its_row(answers, name) -> None:
    credit, unit = answers[name]
    expected = direct(name, network())
    if name in SAMPLED:
        off = (credit.scores / unit - expected).abs() / (credit.error / unit)
        assert float(off.max()) < 4
        # precise enough to tell the rows apart
        assert float((credit.error / unit / expected.abs()).min()) < 0.02
    else:
        close(credit.scores / unit, expected, atol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_a_linear_model_is_recovered_exactly(name) -> None:
    """Rows that add noise give its weights, rows that take inputs away weights x input."""
    line, x = seeded(lambda: nn.Linear(N, 2)), normal(1, N, seed=4)
    credit, unit = composed(line, x, samples=64)[name]
    weight = line.weight[TARGET].detach()
    close(credit.scores / unit, weight if name in ADDITIVE else weight * x[0], atol=1e-9)


def test_least_squares_on_noise_is_the_mean_gradient() -> None:
    """Stein: the rows of C-LIME and SmoothGrad have one minimum."""
    close(direct("C-LIME", network()), direct("SmoothGrad", network()), atol=1e-9)


def losses(model: nn.Module, w: Tensor) -> dict[str, float]:
    """How far w is from the model in the neighbourhoods of C-LIME and of LIME, constant free."""
    away, weights = noise(SIGMA)
    masks, kernel = coalitions(), lime_weights() / lime_weights().sum()

    def loss(inputs: Tensor, values: Tensor, weight: Tensor) -> float:
        off = values - inputs @ w
        return float((weight * (off - (weight * off).sum()) ** 2).sum())

    return {
        "C-LIME": loss(away, f(model, X + away), weights),
        "LIME": loss(masks, f(model, masks * X), kernel),
    }


def test_each_wins_in_its_own_neighbourhood_and_none_in_both() -> None:
    model = network()
    found = {name: losses(model, direct(name, model)) for name in ROWS}
    for place in ("C-LIME", "LIME"):
        best = found[place][place]
        for name in ROWS:
            if name != place and {name, place} != {"C-LIME", "SmoothGrad"}:
                assert found[name][place] > best * (1 + 1e-3), (name, place)
