"""What is drawn is what was measured: positions are read back and compared with the numbers."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import apportion as ap
from apportion.evaluate import Score
from apportion.players import plain
from apportion.report.bars import bars
from apportion.report.checks import row, track
from apportion.report.components import components
from apportion.report.curves import BOTTOM, TOP, curves
from apportion.report.encode import palette, png
from apportion.report.picture import overlay, shape_of
from apportion.report.scale import Scale, around, marks, step, text
from apportion.report.text import pieces
from apportion.trust import Check
from tests.report import made
from tests.small import IDS, decoder, normal

finite = st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6)


@given(finite, finite)
def test_an_axis_holds_its_range_and_zero_between_round_ends(a: float, b: float) -> None:
    low, high = around(min(a, b), max(a, b))
    unseen = 1e-6 * (abs(a) + abs(b))  # a millionth of the axis is no width
    assert low <= min(a, b, 0.0) + unseen
    assert high >= max(a, b, 0.0) - unseen
    by = step(max(a, b, 0.0) - min(a, b, 0.0))
    assert all(abs(x / by - round(x / by)) < 1e-6 for x in (low, high))
    assert len(marks(low, high)) <= 8


@given(st.integers(-99999, 99999))
def test_round_numbers_lose_idle_zeros_only(k: int) -> None:
    written = text(k / 100)
    assert float(written.replace("\u2212", "-").replace(",", "")) == k / 100
    assert not re.search(r"\.\d*0$", written)
    assert "-" not in written


@pytest.mark.parametrize("n", [1, 2, 14, 40, 400])
def test_bars_and_whiskers_have_the_length_of_the_credit(n: int) -> None:
    credit = made.credit(plain(n))
    drawn = bars(credit)
    lines = [*drawn.first, *drawn.between, *drawn.last]
    scores = np.array([float(credit.scores[b.player]) for b in lines])
    width = np.array([b.width * (-1 if b.negative else 1) for b in lines])
    unit = width[np.abs(scores).argmax()] / scores[np.abs(scores).argmax()]
    assert np.allclose(width, unit * scores, atol=0.011)
    ends = np.array([b.left if b.negative else b.left + b.width for b in lines])
    assert np.allclose(ends, drawn.zero + unit * scores, atol=0.03)
    middles = np.array([b.whisker[0] + b.whisker[1] / 2 for b in lines])
    assert np.allclose(middles, ends, atol=0.03)
    assert np.allclose([b.whisker[1] for b in lines], 2 * 1.96 * 0.05 * unit, atol=0.02)
    assert all(b.whisker[0] >= -0.1 and b.whisker[0] + b.whisker[1] <= 100.1 for b in lines)
    assert [b.rank for b in lines] == sorted(b.rank for b in lines)


def test_listed_and_unlisted_credit_sum_to_the_total() -> None:
    credit = made.credit(plain(200))
    drawn = bars(credit)
    shown = sum(float(credit.scores[b.player]) for b in (*drawn.first, *drawn.last))
    rest = float(drawn.gap.rsplit(" ", 1)[1].replace("\u2212", "-"))
    assert shown + rest == pytest.approx(float(credit.sum()), abs=0.005)


def test_a_small_interval_is_never_written_as_zero() -> None:
    line = bars(made.credit(plain(3), error=1e-5)).first[0]
    assert line.error == "<0.01"


def test_credit_that_is_mostly_noise_is_called_so_and_loses_its_colours() -> None:
    credit = made.credit(plain(5), error=50.0)
    assert bars(credit).noise
    assert "ap-fragment" in credit._repr_html_()
    assert "Noise: the median credit" in made.Page(credit._repr_html_()).text


@pytest.mark.parametrize("value", [-1.2, 0.0, 0.2, 3.9])
def test_a_track_puts_number_and_band_on_one_axis(value: float) -> None:
    check = Check("insertion minus deletion", "decides", Score(
        value, "nats", chance=(-1.5, 1.5), p_value=0.5, random=40, error=0.3), "", "")  # fmt: skip
    drawn = track(check)
    low, high = (float(x.replace("\u2212", "-")) for x in (drawn.low, drawn.high))
    scale = Scale(low, high)
    assert drawn.tick == pytest.approx(scale.at(value), abs=0.01)
    assert drawn.band[0] == pytest.approx(scale.at(-1.5), abs=0.01)
    assert drawn.band[0] + drawn.band[1] == pytest.approx(scale.at(1.5), abs=0.02)
    inside = drawn.band[0] <= drawn.tick <= drawn.band[0] + drawn.band[1]
    assert inside == (check.passed is False)
    assert "\u22121.50 to +1.50" in drawn.sentence


@pytest.mark.parametrize(
    ("value", "wants", "shape"),
    [
        (5.0, "outside", "full"), (1.1, "outside", "half"), (0.0, "outside", "barred"),
        (0.0, "inside", "full"), (5.0, "inside", "barred"), (5.0, "nothing", "ring"),
    ],
)  # fmt: skip
def test_shapes_follow_the_outcome_and_its_direction(value: float, wants: str, shape: str) -> None:
    score = Score(value, "nats", chance=(-1.0, 1.0), error=0.5)
    assert row(Check("some", "required", score, "", "", wants=wants)).glyph == shape
    assert row(Check("some", "required", None, "", "", wants=wants)).glyph == "ring"


def test_curves_go_through_the_values_inside_the_drawing() -> None:
    credit = made.credit(plain(6))
    check = made.order_check(2.0, 6)
    first, second = curves(credit, check.score)
    assert [t.text for t in first.rows] == [t.text for t in second.rows]
    own = check.score.curves["insertion"].own.numpy()
    ys = np.array([y for _, y in first.dots])
    assert np.corrcoef(own, ys)[0, 1] == pytest.approx(-1.0, abs=1e-4)
    assert min(ys) >= TOP
    assert max(ys) <= BOTTOM
    rows = {float(t.text.replace("\u2212", "-")): t.at for t in first.rows}
    slope = (ys[-1] - ys[0]) / (own[-1] - own[0])
    for value, at in rows.items():
        assert at == pytest.approx(ys[0] + slope * (value - own[0]), abs=0.05)


def test_curve_captions_count_players_to_the_middle() -> None:
    first, second = curves(made.credit(plain(10)), made.order_check(2.0, 10).score)
    # own runs straight from -1 to 4 in ten steps; the band from 1.25 below to 0.5 above
    assert "reached with 5 players; random orders take 4 to 8" in first.caption
    assert "reached with 5 players; random orders take 3 to 6" in second.caption


@pytest.mark.parametrize("n", [12, 1280, 3000])
def test_sorted_areas_have_the_area_of_the_credit(n: int) -> None:
    credit = made.credit(plain(n, "channel"), error=None)
    layer = components(credit, ("", "")).layers[0]
    boxes = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)V", layer.above)
    xs = np.array(boxes, dtype=float)
    area = ((xs[:, 3] - xs[:, 0]) * (xs[:, 1] - xs[:, 2])).sum()
    high, low = float(credit.scores.max()), float(credit.scores.min())
    true = float(credit.scores.clamp(min=0).sum()) / n * 560 * 54 / (high - low)
    assert area == pytest.approx(true, rel=0.06)
    assert len(layer.above) + len(layer.below) < 40_000


def test_pictures_survive_their_encoding() -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    raw = base64.b64decode(png(pixels).partition(",")[2])
    assert (np.asarray(Image.open(io.BytesIO(raw))) == pixels).all()
    colours = rng.integers(0, 256, (9, 4), dtype=np.uint8)
    index = rng.integers(0, 9, (6, 4))
    raw = base64.b64decode(palette(index, colours).partition(",")[2])
    read = Image.open(io.BytesIO(raw)).convert("RGBA")
    assert (np.asarray(read) == colours[index]).all()


def test_rectangles_of_an_overlay_lie_where_their_players_are() -> None:
    credit = made.credit(ap.players.patches(normal(1, 1, 6, 8), 3))  # the last column is narrower
    view = overlay(credit, shape_of(credit), "Patches", size=(80.0, 60.0))
    assert [(r.x, r.y, r.width, r.height) for r in view.regions] == [
        (0, 0, 30, 30), (30, 0, 30, 30), (60, 0, 20, 30),
        (0, 30, 30, 30), (30, 30, 30, 30), (60, 30, 20, 30),
    ]  # fmt: skip
    shades = torch.tensor([r.opacity for r in view.regions], dtype=torch.float64)
    assert torch.allclose(shades, credit.scores.abs() / credit.scores.abs().max(), atol=1e-3)
    assert [r.negative for r in view.regions] == (credit.scores < 0).tolist()


def test_regions_of_any_form_become_a_picture() -> None:
    players = ap.players.patches(normal(1, 1, 6, 8), 3).merge([[0, 5], [1, 2], [3, 4]])
    credit = made.credit(players)
    assert overlay(credit, shape_of(credit), "Regions").image.startswith("data:image/png")


def test_pieces_join_to_the_text_and_unowned_tokens_carry_no_credit() -> None:
    words = ["The", " cat", " sat", "\n", " on", " it"]
    players = ap.players.tokens(decoder(), IDS, made.Letters(words), positions=[1, 2, 4])
    credit = made.credit(players)
    drawn = pieces(credit)
    joined = [p.text for p in drawn]
    shown = [words[int(i) % len(words)].strip() or "↵" for i in IDS[0]]
    assert "".join(joined).replace(" ", "") == "".join(shown)
    owned = [p for p in drawn if p.value]
    assert len(owned) == 3
    assert all(p.opacity == 0 for p in drawn if not p.value)
