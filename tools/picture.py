"""Draw the picture of the README: the top of the demo's report, photographed by Chromium. Run `make demo` first.

python tools/picture.py [project; runs/demo by default] [picture; docs/report.png by default]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import evermix as em

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1060, 895


def photograph(page: Path, picture: Path) -> None:
    """A PNG of the top of a page."""
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page.resolve().as_uri()], check=True)


if __name__ == "__main__":
    project = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "demo"
    photograph(em.report(project), Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "report.png")
