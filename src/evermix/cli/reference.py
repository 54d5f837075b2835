"""The page docs/cli.md, made from the help texts: `python -m evermix.cli.reference docs/cli.md`."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from evermix.cli.app import PAGES, app

_WIDTH = 100


def help_text(*arguments: str) -> str:
    """What `evermix ARGUMENTS --help` prints, 100 columns wide and without colour."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        app([*arguments, "--help"], prog_name="evermix", terminal_width=_WIDTH)
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def markdown() -> str:
    """The whole page."""
    parts = [
        "# The command line",
        "Written by `make docs` from the help texts; a test compares the two.",
        f"```\n{help_text()}\n```",
    ]
    for page in PAGES:
        parts += [f"## evermix {page}", f"```\n{help_text(*page.split())}\n```"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
