"""The page in a real browser: it fits, it is silent, and its controls do something."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from apportion.report import report
from tests.conftest import missing
from tests.report import made

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom",
    "--enable-logging=stderr", "--v=0", "--disable-extensions",
)  # fmt: skip
WIDTHS = (1280, 390)
PROBE = (Path(__file__).parent / "probe.js").read_text(encoding="utf-8")
FRAME = '<!doctype html><body><pre id="out"></pre><script>got = {};</script>%s</body>'


def browser() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        missing("no Chromium was found")
    return found


def looked_at(folder: Path, *flags: str) -> tuple[dict[int, dict], list[str]]:
    """What the page says of itself at each width, and what the console heard."""
    asked = [made.image(), made.text([made.HOSTILE, " word"]), made.table(["x" * 90, "y"]),
             made.digit(value=0.1), made.plainly(3000)]  # fmt: skip
    page = report(asked, folder / "why.html").read_text(encoding="utf-8")
    probed = escape(page.replace("</body>", f"<script>{PROBE}</script></body>"))
    # written inside the frame, a page shares the origin of its parent and can report to it
    frames = "".join(
        f'<iframe srcdoc="{probed}" style="border:0;width:{w}px;height:900px"></iframe>'
        for w in WIDTHS
    )
    (folder / "frame.html").write_text(FRAME % frames, encoding="utf-8")
    where = f"--user-data-dir={folder / 'profile'}"
    command = [browser(), *FLAGS, where, *flags, (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    assert found[1], done.stderr
    heard = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {int(at): said for at, said in json.loads(found[1]).items()}, heard


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, dict], list[str]]:
    return looked_at(tmp_path_factory.mktemp("light"), "--blink-settings=preferredColorScheme=1")


def test_the_console_stays_silent(light: tuple[dict[int, dict], list[str]]) -> None:
    assert light[1] == []
    assert set(light[0]) == set(WIDTHS)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_scrolls_sideways(width: int, light: tuple[dict[int, dict], list[str]]) -> None:
    said = light[0][width]
    assert said["width"] == [width, width]
    assert said["wide"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_targets_are_large_and_no_text_is_tiny(
    width: int, light: tuple[dict[int, dict], list[str]]
) -> None:
    assert light[0][width]["low"] == 0
    assert light[0][width]["small"] == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_the_slider_and_the_views_change_the_picture(
    width: int, light: tuple[dict[int, dict], list[str]]
) -> None:
    said = light[0][width]
    assert said["before"] == pytest.approx(0.85)
    assert said["after"] == pytest.approx(0.3)
    assert said["second"] == pytest.approx([0, 0.3, 0])
    assert said["plain"] == [0, 0, 0]
    assert said["held"] == [True, "none"]
    assert said["absent"] == [0, 1]
    assert "grayscale" in said["grey"]


def test_the_phone_has_a_map_of_its_own(light: tuple[dict[int, dict], list[str]]) -> None:
    assert light[0][1280]["maps"] == [True, False]
    assert light[0][390]["maps"] == [False, True]


def contrast(a: str, b: str) -> float:
    def brightness(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((brightness(a), brightness(b)))
    return (high + 0.05) / (low + 0.05)


def test_dark_mode_uses_its_own_colours_and_both_are_readable(
    tmp_path: Path, light: tuple[dict[int, dict], list[str]]
) -> None:
    dark, heard = looked_at(tmp_path, "--blink-settings=preferredColorScheme=0")
    assert heard == []
    for said in (light[0][1280], dark[1280]):
        paper, ink, for_, against = said["colours"]
        assert contrast(paper, ink) > 12
        assert min(contrast(paper, for_), contrast(paper, against)) >= 4.5
        painted = [int(x) for x in re.findall(r"\d+", said["painted"])]
        assert painted == [int(paper[i : i + 2], 16) for i in (1, 3, 5)]
    assert dark[1280]["colours"][0] != light[0][1280]["colours"][0]
