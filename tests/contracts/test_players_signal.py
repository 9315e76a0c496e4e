"""Players of a signal: windows, bins and bands, wavelet cells; their names and where they end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import apportion as ap
from apportion.players import Grain
from apportion.report.bars import bars
from apportion.report.picture import overlay, picture, shape_of
from tests.contracts.made import Plainly, asking, some
from tests.report import made
from tests.small import close, normal

SIGNAL = normal(1, 3, 10)
PICTURE = normal(1, 2, 8, 8)
INPUT = ap.Site("", "in")


def owner(players: ap.players.Players) -> torch.Tensor:
    return players.owner[INPUT]


def test_windows_hold_neighbouring_steps_and_the_last_may_be_shorter() -> None:
    players = ap.players.time_steps(SIGNAL, 4)
    assert players.names == ("steps 0 to 3", "steps 4 to 7", "steps 8 to 9")
    assert owner(players).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert (players.kinds[0], players.grid) == ("window", (3,))
    timed = ap.players.time_steps(SIGNAL, 4, sampling_rate=20.0)
    assert timed.names == ("0 to 0.2 s", "0.2 to 0.4 s", "0.4 to 0.5 s")
    own = ap.players.time_steps(SIGNAL, 5, ["early", "late"])
    assert own.names == ("early", "late")
    alone = ap.players.time_steps(SIGNAL, 9)
    assert alone.names == ("steps 0 to 8", "step 9")


@pytest.mark.parametrize("build", [ap.players.time_steps, ap.players.frequencies])
def test_the_axis_of_time_may_stand_anywhere(build) -> None:
    """Turning the tensor and the axis together changes nothing."""
    weights = normal(3, 10, seed=2)
    last = asking(Plainly(lambda t: ((t * weights).sum(1)).sin()), SIGNAL, players=build(SIGNAL))
    turned = SIGNAL.movedim(-1, 1)
    first = asking(
        Plainly(lambda t: ((t.movedim(1, -1) * weights).sum(1)).sin()),
        turned,
        players=build(turned, axis=1),
    )
    gates = some(last.players.n)
    close(last.value(gates), first.value(gates), atol=1e-12)


def test_bins_are_named_by_number_or_in_hertz() -> None:
    assert ap.players.frequencies(SIGNAL).names[:2] == ("bin 0", "bin 1")
    hertz = ap.players.frequencies(SIGNAL, sampling_rate=25.0)
    assert hertz.names == ("0 Hz", "2.5 Hz", "5 Hz", "7.5 Hz", "10 Hz", "12.5 Hz")
    assert ap.players.frequencies(normal(1, 11)).n == 6
    assert str(hertz) == "6 frequencies"


def test_bands_hold_bins_by_count_or_between_edges() -> None:
    three = ap.players.frequencies(SIGNAL, 3)
    assert owner(three).tolist() == [0, 0, 1, 1, 2, 2]
    assert three.names == ("bins 0 to 1", "bins 2 to 3", "bins 4 to 5")
    counted = ap.players.frequencies(SIGNAL, 2, 25.0)
    assert counted.names == ("0 to 5 Hz", "7.5 to 12.5 Hz")
    edges = ap.players.frequencies(SIGNAL, [2.5, 7.5, 10.0], 25.0)
    assert owner(edges).tolist() == [-1, 0, 0, 1, 1, -1]  # the last edge belongs to the last band
    assert edges.names == ("2.5 to 7.5 Hz", "7.5 to 10 Hz")
    assert edges.kinds[0] == "frequency band"


def test_cells_are_named_after_their_band_and_numbered_in_the_layout() -> None:
    players = ap.players.wavelets(PICTURE, levels=2, grid=4)
    assert players.names[0] == "approximation, r1 c1"
    assert players.names[1] == "vertical 2, r1 c2"
    assert players.names[4] == "horizontal 2, r2 c1"
    assert players.names[-1] == "diagonal 1, r4 c4"
    assert players.grid == (4, 4)
    coarse = ap.players.wavelets(PICTURE, levels=2, grid=2)
    assert coarse.names[0] == "several bands, r1 c1"
    line = ap.players.wavelets(normal(1, 1, 16), levels=3, grid=8)
    assert line.names[:3] == ("approximation, place 1", "details 3, place 2", "details 2, place 3")
    every = ap.players.wavelets(normal(1, 1, 16), Grain.COEFFICIENTS, levels=3)
    assert every.n == 16 and every.kinds[0] == "wavelet coefficient"


def test_without_the_approximation_only_details_play() -> None:
    players = ap.players.wavelets(PICTURE, Grain.LEVELS, levels=2, approximation=False)
    assert players.names == ("level 2", "level 1")
    assert int((owner(players) < 0).sum()) == 4
    fine = ap.players.wavelets(PICTURE, levels=2, grid=4, approximation=False)
    assert fine.n == 15 and fine.grid is None and "approximation" not in " ".join(fine.names)


def test_credit_of_wavelets_lies_over_the_picture_of_its_coefficients() -> None:
    credit = made.credit(ap.players.wavelets(PICTURE, levels=2, grid=4))
    shape = shape_of(credit)
    view = overlay(credit, shape, "cells", size=(80.0, 80.0))
    assert [(r.x, r.y) for r in view.regions[:5]] == [(0, 0), (20, 0), (40, 0), (60, 0), (0, 20)]
    size = credit.players.views[INPUT].analysis(PICTURE)[0].abs().mean(0)
    seen = shape.picture[..., 0].double()
    close(seen / 255, (size / size.max()) ** 0.5, atol=0.5 / 255 + 1e-9)
    words = [v.caption for v in picture(credit, list(range(16))).views]
    assert any("wavelet transform of the picture" in w for w in words)
    assert "Wavelet transform" in [v.label for v in picture(credit, list(range(16))).views]
    assert bars(credit).first


def test_curves_are_drawn_under_the_colours_of_credit() -> None:
    pytest.importorskip("matplotlib")
    for players in (
        ap.players.time_steps(SIGNAL, 4, sampling_rate=20.0),
        ap.players.frequencies(SIGNAL, [2.5, 7.5, 10.0], 25.0),
        ap.players.wavelets(normal(1, 1, 16), levels=3),
    ):
        credit = made.credit(players)
        ax = credit.plot().axes[0]
        (trace,) = (g.trace for g in players.geometry.values())
        (line,) = ax.lines
        assert np.allclose(line.get_xydata(), trace.T)
        # a stripe per run of places with one owner, as dark as its credit
        owners = owner(players).flatten().tolist()
        runs = [p for p, before in zip(owners, [None, *owners], strict=False) if p != before]
        runs = [p for p in runs if p >= 0]
        assert len(ax.patches) == len(runs)
        top = float(credit.scores.abs().max())
        for patch, player in zip(ax.patches, runs, strict=True):
            assert patch.get_alpha() == pytest.approx(
                0.85 * abs(float(credit.scores[player])) / top
            )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ap.players.time_steps(SIGNAL, 11), "choose 1 to 10"),
        (lambda: ap.players.time_steps(SIGNAL, 0), "choose 1 to 10"),
        (lambda: ap.players.time_steps(SIGNAL, 5, ["a"]), "1 names for 2 windows"),
        (lambda: ap.players.time_steps(SIGNAL[0, 0]), r"x\[None\]"),
        (lambda: ap.players.time_steps(SIGNAL, axis=0), "axis=-1 for"),
        (lambda: ap.players.time_steps(SIGNAL, axis=3), "axis=-1 for"),
        (lambda: ap.players.time_steps(SIGNAL, sampling_rate=0.0), "positive number"),
        (lambda: ap.players.time_steps(SIGNAL[..., :0]), "no players"),
        (lambda: ap.players.frequencies(SIGNAL.long()), r"x\.float\(\)"),
        (lambda: ap.players.frequencies(SIGNAL + 0j), "real signal"),
        (lambda: ap.players.frequencies(SIGNAL, 7), "choose 1 to 6"),
        (lambda: ap.players.frequencies(SIGNAL, 0), "choose 1 to 6"),
        (lambda: ap.players.frequencies(SIGNAL, [3.0]), "two at least"),
        (lambda: ap.players.frequencies(SIGNAL, [3.0, 3.0]), "edges rise"),
        (lambda: ap.players.frequencies(SIGNAL, [0, 3, 4], 25.0), "between 3 and 4 Hz.*2.5 Hz"),
        (lambda: ap.players.frequencies(SIGNAL, sampling_rate=-1.0), "positive number"),
        (lambda: ap.players.wavelets(PICTURE, levels=4), "at most 3 fit"),
        (lambda: ap.players.wavelets(PICTURE[..., 1:], levels=1), "none fits; crop or pad"),
        (lambda: ap.players.wavelets(PICTURE, levels=0), "at most 3"),
        (lambda: ap.players.wavelets(PICTURE, grid=9), "grid=1 to 8"),
        (lambda: ap.players.wavelets(PICTURE, wavelet="bior2.2"), "orthonormal"),
        (lambda: ap.players.wavelets(PICTURE, Grain.PLACES, levels=2), "grid=1 to 2, or fewer"),
        (lambda: ap.players.wavelets(PICTURE, axes=(1, 2, 3), levels=1), "two of a picture"),
        (lambda: ap.players.wavelets(PICTURE, axes=(-1, 3)), "two of a picture"),
        (lambda: ap.players.wavelets(PICTURE.long()), r"x\.float\(\)"),
        (
            lambda: ap.players.wavelets(normal(1, 1, 8), Grain.ORIENTATIONS),
            r"no orientations; use Grain\.LEVELS",
        ),
    ],
)
def test_requests_that_make_no_players_are_refused_with_a_remedy(build, message) -> None:
    with pytest.raises(ap.BadRequest, match=message):
        build()
