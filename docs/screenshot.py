"""Takes the picture of the README: the head of a real report, in headless Chromium.

python docs/screenshot.py        writes docs/report.png
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import apportion as ap

WIDE, HIGH = 1180, 1190


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("this needs Chromium: apt-get install chromium")
    subject = ap.zoo.load("efficientnet-lite0")
    answer = ap.why(subject, ap.zoo.samples.sample("cat"))
    target = Path(__file__).with_name("report.png")
    with tempfile.TemporaryDirectory() as folder:
        page = answer.report(Path(folder) / "why.html")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}/user",
            f"--window-size={WIDE},{HIGH}", f"--screenshot={folder}/shot.png", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        shot = Image.open(f"{folder}/shot.png").convert("RGB")
        shot.quantize(255, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
