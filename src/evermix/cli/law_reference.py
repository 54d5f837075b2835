"""The table of families in docs/laws.md, made from the laws: `python -m evermix.cli.law_reference docs/laws.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from evermix.laws import list_laws

BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"


def markdown() -> str:
    """The table between its marks."""
    lines = ["| law | formula | convex | gradient | std | runs needed | source |", "|---|---|---|---|---|---|---|"]
    for row in list_laws():
        flags = " | ".join("yes" if row[flag] else "" for flag in ("convex", "gradient", "std"))
        source = f"{row['source']}; `evermix[{row['extra']}]`" if row["extra"] else row["source"]
        formula = row["formula"].replace("|", "\\|")
        lines.append(f"| `{row['name']}` | {formula} | {flags} | {row['runs_needed']} | {source} |")
    return "\n".join([BEGIN, *lines, END])


def replaced(page: str) -> str:
    """`page` with its table made anew."""
    before, rest = page.split(BEGIN)
    return before + markdown() + rest.split(END)[1]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(replaced(path.read_text(encoding="utf-8")), encoding="utf-8")
