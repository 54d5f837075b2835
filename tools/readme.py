"""Run the console blocks of a page and write below each command what it prints today.

    python tools/readme.py [page; README.md by default]

A block is fenced as `console`; lines after `$ evermix` are run in an empty folder, one for all blocks of the page.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?<=```console\n).*?(?=```)", re.DOTALL)
COLUMNS = "88"


def printed(block: str, folder: Path) -> str:
    """The block with today's output; commands other than evermix are kept and not run."""
    lines = []
    for line in re.findall(r"^\$ .*$", block, flags=re.MULTILINE):
        program, *arguments = shlex.split(line[2:])
        lines.append(line)
        if program == "evermix":
            command = [sys.executable, "-m", "evermix", *arguments]
            environment = {**os.environ, "COLUMNS": COLUMNS, "PYTHONPATH": str(ROOT / "src")}
            ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
            lines += [each.rstrip() for each in ended.stdout.splitlines()]
    return "\n".join(lines) + "\n"


def rewritten(text: str, folder: Path) -> str:
    """A page with today's output in each of its console blocks."""
    return BLOCK.sub(lambda found: printed(found.group(), folder), text)


if __name__ == "__main__":
    page = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "README.md"
    with tempfile.TemporaryDirectory() as empty:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), Path(empty)), encoding="utf-8")
