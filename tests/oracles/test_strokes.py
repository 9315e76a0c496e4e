"""Strokes as players: gradients of an explicit gated composition, and leaving strokes out."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

import apportion as ap
from apportion.players import Canvas, Overlap, drawn, strokes
from tests.contracts.made import Plainly, asking, tiny
from tests.small import close, cnn, normal

SIZE = (12, 10)
LINES = [
    torch.tensor([[1.0, 1.0], [8.0, 1.0], [8.0, 5.0]]).double(),
    torch.tensor([[2.0, 8.0], [7.0, 10.0]]).double(),
    torch.tensor([[4.0, 5.0]]).double(),
]


def test_ink_is_a_soft_threshold_of_the_distance_to_the_line() -> None:
    """Pixel by pixel, segment by segment."""
    canvases = drawn(LINES, SIZE, radius=1.3, softness=0.4)
    for line, canvas in zip(LINES, canvases, strict=True):
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                p = np.array([column, row], float)
                points = line.numpy()
                near = min(
                    np.linalg.norm(p - (a + t * (b - a)))
                    for a, b in zip(points, points[1:] if len(points) > 1 else points, strict=False)
                    for t in [np.clip((p - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)]
                )
                ink = 1 / (1 + np.exp(-(1.3 - near) / 0.4))
                assert float(canvas[row, column]) == pytest.approx(ink, abs=1e-5)


@pytest.mark.parametrize("overlap", list(Overlap))
def test_the_gradient_is_that_of_the_explicit_composition(overlap) -> None:
    x = drawn(LINES, (8, 8))[None, :, None].expand(-1, -1, 2, -1, -1)
    model = cnn()
    game = asking(Canvas(model, overlap), x, players=strokes(x))
    w = torch.ones(3).double().requires_grad_()
    gated = w[:, None, None, None] * x[0]
    ink = gated.sum(0) if overlap is Overlap.SUM else gated.amax(0)
    (slope,) = torch.autograd.grad(model(ink[None])[0, 0], w)
    credit = ap.attribute(game, ap.Gradient())
    close(credit.scores, slope, atol=1e-12)


def test_a_linear_model_gives_strokes_what_leaving_them_out_takes() -> None:
    x = drawn(LINES, SIZE)[None]
    w = normal(*SIZE)
    game = asking(Canvas(Plainly(lambda t: (t * w).sum((1, 2))[:, None])), x, players=strokes(x))
    gradient, left_out, path = (
        ap.attribute(game, e).scores
        for e in (ap.Gradient(), ap.LeaveOneOut(), ap.PathIntegral(steps=4))
    )
    close(gradient, (x[0] * w).sum((1, 2)), atol=1e-12)
    close(left_out, gradient, atol=1e-12)
    close(path, gradient, atol=1e-12)


def test_the_path_integral_sums_to_the_difference_from_the_blank_canvas() -> None:
    x = drawn(LINES, (8, 8))[None, :, None].expand(-1, -1, 2, -1, -1)
    model = tiny(lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.Tanh(), nn.Linear(4, 1)))
    game = asking(Canvas(model), x, players=strokes(x))
    credit = ap.attribute(game, ap.PathIntegral(steps=40))
    with torch.no_grad():
        close(credit.sum(), (model(x.sum(1)) - model(0 * x.sum(1)))[0, 0], atol=1e-9)


def test_partial_strokes_sum_to_their_stroke() -> None:
    """Segments drawn each on its own canvas, added up: gates of a stroke and of its segments."""
    segments = [LINES[0][i : i + 2] for i in range(2)] + [LINES[1]]
    x = drawn(segments, SIZE)[None]
    fine = strokes(x, ["first, 1", "first, 2", "second"])
    whole = fine.grouped(["first", "first", "second"])
    w = normal(*SIZE)
    model = Canvas(Plainly(lambda t: (t.sin() * w).sum((1, 2))[:, None]))
    each, both = (
        ap.attribute(asking(model, x, players=p), ap.Gradient()).scores for p in (fine, whole)
    )
    close(both, torch.stack([each[:2].sum(), each[2]]), atol=1e-12)


def test_ink_has_derivatives_by_the_points() -> None:
    points = LINES[0].clone().requires_grad_()
    ink = drawn([points], SIZE)
    (slope,) = torch.autograd.grad((ink * normal(*SIZE)).sum(), points)
    assert slope.isfinite().all() and bool((slope != 0).all())


# -- a network that looks for one shape among others

SIDE = 20


def sketch(seed: int, *, circle: bool) -> list[Tensor]:
    """Two straight strokes, and a third that is a circle or straight as well."""
    rng = np.random.default_rng(seed)
    lines = [torch.tensor(rng.uniform(2, SIDE - 2, (2, 2))) for _ in range(3)]
    if circle:
        angle = np.linspace(0, 2 * np.pi, 13)[:, None]
        middle, radius = rng.uniform(6, SIDE - 6, 2), rng.uniform(3, 4.5)
        lines[2] = torch.tensor(middle + radius * np.hstack([np.cos(angle), np.sin(angle)]))
    return lines


@cache
def looking() -> nn.Module:
    model = tiny(
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.Flatten(),
            nn.Linear(256, 2),
        ),
        torch.float32,
    )  # fmt: skip
    x = torch.stack([drawn(sketch(i, circle=bool(i % 2)), (SIDE, SIDE)).sum(0) for i in range(600)])
    x, label = x.float()[:, None], torch.arange(600) % 2
    optimiser, order = torch.optim.Adam(model.parameters(), lr=2e-3), Generator().manual_seed(0)
    for _ in range(30):
        for rows in torch.randperm(600, generator=order).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), label[rows]).backward()
            optimiser.step()
    return model.requires_grad_(False)


def test_the_stroke_a_network_looks_for_earns_the_most() -> None:
    model, hits, agree = looking(), 0, []
    for seed in range(1001, 1041, 2):
        x = drawn(sketch(seed, circle=True), (SIDE, SIDE))[None, :, None].float()
        value = ap.values.Contrast(1, 0)
        game = asking(Canvas(model), x, players=strokes(x), value=value)
        path, left = (
            ap.attribute(game, e).scores
            for e in (ap.PathIntegral(steps=32, tolerance=None), ap.LeaveOneOut())
        )
        hits += int(path.argmax()) == 2
        agree.append(float(torch.corrcoef(torch.stack([path, left]))[0, 1]))
    assert hits >= 18  # of 20; a stroke at random is the circle in 7
    assert float(np.median(agree)) > 0.9


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: strokes(normal(1, 3, 4)), r"x\[None\]"),
        (lambda: strokes(normal(1, 3, 4, 4), ["a"]), "1 names for 3 strokes"),
        (lambda: drawn([], SIZE), "no players"),
        (lambda: drawn([normal(3)], SIZE), "line 0 has shape"),
        (lambda: drawn([normal(3, 3)], SIZE), "x before y"),
        (lambda: drawn(LINES, SIZE, radius=0.0), "positive"),
        (lambda: drawn(LINES, (0, 4)), "positive"),
    ],
)
def test_sketches_that_are_none_are_refused_with_a_remedy(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()
