"""Draw the picture of the README: the top of the page that its first commands write, photographed by Chromium.

python tools/picture.py [page; of the sample swarm by default] [picture; docs/report.png by default]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import evermix as em
from evermix.reports.page import write_proposal

PICTURE = Path(__file__).parents[1] / "docs" / "report.png"
WIDTH, HEIGHT = 1060, 710


def sample_page(folder: Path) -> Path:
    """`evermix propose swarm --tokens 10M --report swarm.html`."""
    runs = em.read_observations(em.example(folder / "swarm")).observations
    page = folder / "swarm.html"
    write_proposal(em.propose(em.fit(runs, em.StudyRecipe(tokens="10M"))).view, page)
    return page


def photograph(page: Path, picture: Path) -> None:
    """A PNG of the top of a page."""
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page.resolve().as_uri()], check=True)


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE
    with tempfile.TemporaryDirectory() as folder:
        photograph(Path(sys.argv[1]) if len(sys.argv) > 1 else sample_page(Path(folder)), target)
