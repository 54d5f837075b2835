"""Draw the rooms of the package as a picture, out of the import contracts and what each room says of itself.

    python tools/map.py [file; docs/rooms.svg by default]

Every row is a layer of the contract "Rooms import only down the chain" in pyproject.toml: a room may import from the
rows below its own, and from no other. Rooms that stand side by side may not import each other. The text beside a name
is the first paragraph of the room's docstring. Rooms with a coloured edge may import training libraries.
"""

from __future__ import annotations

import ast
import sys
import textwrap
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "evermix"
WIDTH, NAME_WIDTH, MARGIN, LINE, GAP = 1000, 150, 16, 18, 6
PIXELS_PER_LETTER = 6.9


def layers(root: Path = ROOT) -> list[list[str]]:
    """Rows of rooms that exist, top first, as the contract of layers has them."""
    (contract,) = (each for each in _contracts(root) if each["type"] == "layers")
    rows = [[name.strip().strip("()") for name in row.split("|")] for row in contract["layers"]]
    there = [[name for name in row if _file(name) is not None] for row in rows]
    return [row for row in there if row]


def says(room: str) -> str:
    """What a room is, in its own words: the first paragraph of its docstring, without its name before the colon."""
    file = _file(room)
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file else None
    first = " ".join((text or "").split("\n\n")[0].split())
    name, colon, rest = first.partition(": ")
    return rest if colon and name.lower().replace(" ", "_") == room else first


def draw(root: Path = ROOT) -> str:
    """The picture, as the text of an SVG."""
    trained = {room for row in layers(root) for room in row} - _without_training(root)
    y, parts = MARGIN, list[str]()
    for row in layers(root):
        width = (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
        texts = [textwrap.wrap(says(room), int((width - NAME_WIDTH - 20) / PIXELS_PER_LETTER)) for room in row]
        height = LINE * max(map(len, texts)) + 12
        for k, (room, lines) in enumerate(zip(row, texts, strict=True)):
            x = MARGIN + k * (width + GAP)
            edge = "#d55e00" if room in trained else "#7a8794"
            parts += [
                f'<rect x="{x:g}" y="{y}" width="{width:g}" height="{height}" rx="4" fill="#f4f6f8"/>',
                f'<rect x="{x:g}" y="{y}" width="5" height="{height}" fill="{edge}"/>',
                f'<text x="{x + 16:g}" y="{y + 19}" font-weight="bold">{escape(room)}</text>',
            ]
            parts += [
                f'<text x="{x + NAME_WIDTH:g}" y="{y + 19 + LINE * n}">{escape(line)}</text>'
                for n, line in enumerate(lines)
            ]
        y += height + GAP
    size = f'width="{WIDTH}" height="{y + MARGIN - GAP}" viewBox="0 0 {WIDTH} {y + MARGIN - GAP}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" fill="#1d252c">'
    title = "<title>Rooms of evermix: each imports only from rows below its own</title>"
    paper = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, title, paper, *parts, "</svg>"]) + "\n"


def _contracts(root: Path) -> list[dict[str, list[str]]]:
    content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts: list[dict[str, list[str]]] = content["tool"]["importlinter"]["contracts"]
    return contracts


def _without_training(root: Path) -> set[str]:
    (contract,) = (each for each in _contracts(root) if "torch" in each.get("forbidden_modules", ()))
    return {name.removeprefix("evermix.") for name in contract["source_modules"]}


def _file(room: str) -> Path | None:
    found = [path for path in (PACKAGE / f"{room}.py", PACKAGE / room / "__init__.py") if path.is_file()]
    return found[0] if found else None


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "rooms.svg"
    target.write_text(draw(), encoding="utf-8")
