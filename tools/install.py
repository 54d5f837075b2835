"""Install packages with pip, and show in one line what it is at.

    python tools/install.py PYTHON ARGUMENTS-OF-PIP-INSTALL

Needs nothing but Python, for it runs before anything is installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

_WORTH_A_LINE = re.compile(r"\s*(Collecting|Downloading|Using cached|Building|Preparing|Installing|Successfully)\b.*")
_WIDTH = 78


def main(python: str, arguments: list[str]) -> int:
    """pip's exit status; all that it said is shown if it failed."""
    options = ["--progress-bar", "off", "--no-compile"]  # Python compiles what it imports: a small part of all this
    command = [python, "-u", "-m", "pip", "install", *options, *arguments]
    began, said = time.monotonic(), list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or ():
            said.append(line)
            if _WORTH_A_LINE.match(line):
                _show(f"{time.monotonic() - began:4.0f} s  {' '.join(line.split())}")
    _show("" if pip.returncode else f"{time.monotonic() - began:4.0f} s  installed", ends=True)
    if pip.returncode:
        sys.stderr.writelines(said)
    return pip.returncode


def _show(text: str, ends: bool = False) -> None:
    """On a terminal in the place of what was shown before, else on a line of its own."""
    if sys.stdout.isatty():
        print(f"\r{text[:_WIDTH]:<{_WIDTH}}", end="\n" if ends else "", flush=True)
    elif text:
        print(text if len(text) <= 2 * _WIDTH else f"{text[: 2 * _WIDTH]} ...", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
