"""Architecture: no two modules import each other, directly or around a corner."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.map import draw, layers
from tools.structure import SOURCE, circles, imports, structure

ROOT = Path(__file__).parents[1]


def test_no_circles_of_imports() -> None:
    """Also lazy ones and those for types only; the rule of what counts is told in tools/structure.py."""
    assert circles(imports(SOURCE)) == set()


def _package(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = folder.joinpath("evermix", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()
    return folder


@pytest.mark.parametrize(
    "back",
    [
        "from evermix import a",
        "from evermix.a import x",
        "import evermix.a",
        "def f():\n    from evermix.a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from evermix.a import x",
        "import importlib\nimportlib.import_module('evermix.a')",
        "import evermix.room.c",
    ],
)
def test_every_way_to_import_counts(tmp_path: Path, back: str) -> None:
    source = _package(tmp_path, a="from evermix.b import y", b=back, room__c="from evermix.a import x")
    (circle,) = circles(imports(source))
    assert {"evermix.a", "evermix.b"} <= set(circle)


def test_a_package_is_in_a_circle_only_with_modules_that_import_from_it(tmp_path: Path) -> None:
    source = _package(tmp_path, room__a="from evermix.room.b import y", room__b="", d="from evermix.room import x")
    (source / "evermix" / "room" / "__init__.py").write_text("from evermix.room.a import x")
    assert circles(imports(source)) == set()
    (source / "evermix" / "room" / "b.py").write_text("from evermix.room import x")
    assert circles(imports(source)) == {("evermix.room", "evermix.room.a", "evermix.room.b")}


def test_relative_imports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absolute"):
        imports(_package(tmp_path, a="from . import b"))


def test_numbers(tmp_path: Path) -> None:
    source = _package(
        tmp_path, a="def f():\n    def g(): ...\n", b="import evermix.a\n\n\nclass C:\n    def h(self): ...\n"
    )
    assert structure(source) == {
        "files": 3,
        "lines": 7,
        "files per 1,000 lines": 428.6,
        "functions": 3,
        "circles": 0,
    }


def test_the_map_of_the_rooms_is_up_to_date() -> None:
    """If not: python tools/map.py."""
    assert (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8") == draw()
    rooms = {room for row in layers() for room in row}
    there = {path.stem for path in (SOURCE / "evermix").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms == {name for name in there if not name.startswith("__")}


def test_the_walk_of_a_recipe_only_goes_down() -> None:
    """The chain of docs/contributing.md: no step imports one above it."""
    chain = [
        "planning running",
        "assembling",
        "arms",
        "deciding",
        "evidence",
        "components course scoring state",
        "context",
    ]
    step = {f"evermix.lifecycle.{name}": k for k, names in enumerate(chain) for name in names.split()}

    def place(module: str) -> int | None:
        return next((step[name] for name in step if module == name or module.startswith(f"{name}.")), None)

    for module, imported in imports(SOURCE).items():
        for other in imported:
            above, below = place(module), place(other)
            assert above is None or below is None or above <= below, f"{module} imports {other}"
