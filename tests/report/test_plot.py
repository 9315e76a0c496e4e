"""Figures: what they show is read back from them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

import apportion as ap
from apportion.explanation import Explanation
from apportion.players import plain
from tests.report import made
from tests.small import IDS, normal

pytest.importorskip("matplotlib")

KINDS: dict[str, Callable[..., Explanation]] = {
    "image": made.image, "text": made.text, "table": made.table, "function": made.plainly,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(KINDS))
def test_bars_have_the_length_of_the_largest_credits(kind: str) -> None:
    credit = KINDS[kind]().features
    ax = credit.plot(top=4).axes[-1]
    drawn = {
        label.get_text(): bar.get_width()
        for label, bar in zip(ax.get_yticklabels(), ax.patches, strict=True)
    }
    assert drawn == pytest.approx({c.name: c.score for c in credit.top(4)})
    spans = [s for c in ax.collections for s in c.get_segments()]
    wide = sorted(float(s[1][0] - s[0][0]) for s in spans)
    assert np.allclose(wide, 2 * 1.96 * 0.05, rtol=1e-3)


def test_the_overlay_shows_every_pixels_owner() -> None:
    credit = made.credit(ap.players.patches(normal(1, 1, 6, 6), 3))
    grey, overlay = credit.plot().axes[0].images
    alpha = np.asarray(overlay.get_array())[..., 3]
    shares = (credit.scores.abs() / credit.scores.abs().max()).reshape(2, 2).numpy()
    assert np.allclose(alpha, 0.85 * np.kron(shares, np.ones((3, 3))))
    assert np.asarray(grey.get_array()).shape == (6, 6)


def test_words_stand_in_reading_order() -> None:
    asked = made.text(["a", " $x$", " c_1^2"])
    drawn = asked.features.plot().axes[0].texts
    words = [["a", "$x$", "c_1^2"][int(i) % 3] for i in IDS[0]]
    assert [t.get_text() for t in drawn] == words
    places = [(-t.get_position()[1], t.get_position()[0]) for t in drawn]
    assert places == sorted(places)


def test_a_given_axis_is_drawn_on() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    assert made.plainly().features.plot(ax=ax) is figure
    assert len(ax.patches) == 5


def test_figures_are_kept_by_nobody() -> None:
    from matplotlib import pyplot

    made.plainly().features.plot()
    assert pyplot.get_fignums() == []


def test_several_outputs_misspelt_options_and_no_bars_are_refused() -> None:
    credit = made.credit(plain(4))
    double = ap.Attribution(credit.scores.repeat(2, 1), credit.players)
    with pytest.raises(ap.BadRequest, match="pick"):
        double.plot()
    with pytest.raises(TypeError):
        credit.plot(tops=3)
    with pytest.raises(ap.BadRequest, match="at least one"):
        credit.plot(top=0)


def test_a_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ap.BadRequest, match=r"apportion\[app\]"):
        made.plainly().features.plot()
