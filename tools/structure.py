"""The shape of a source tree in numbers: files, lines, functions, and modules that import each other in a circle.

    python tools/structure.py [folder that holds the package evermix; src by default]

An import is an edge from the module that makes it to the module that is loaded: `from evermix.x import name` leads to
`evermix.x.name` if that is a module, else to `evermix.x`. Imports inside functions, under `TYPE_CHECKING` and by a
literal `import_module("evermix.x")` count like all others: who reads one module must know the other. That Python runs
`evermix/x/__init__.py` before `evermix.x.name` is no edge, or every module that its package names would be in a circle;
importing a name from the package is one. The package `evermix` itself, which names everything, is the public door:
nothing within may import from it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

PACKAGE = "evermix"
SOURCE = Path(__file__).parents[1] / "src"


def syntax_trees(source: Path) -> dict[str, ast.Module]:
    """Name -> syntax tree of every module of the package in the folder `source`."""
    trees = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return trees


def imports(source: Path) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, wherever in its text.

    Raises:
        ValueError: for a relative import, which the package does not use.
    """
    trees = syntax_trees(source)
    return {name: (set(_imported(tree, trees.keys())) & trees.keys()) - {name} for name, tree in trees.items()}


def circles(graph: Mapping[str, Set[str]]) -> set[tuple[str, ...]]:
    """Largest sets of two or more modules each of which reaches every other one along imports; each sorted."""
    reached = {name: _reached(name, graph) for name in graph}
    together = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph}
    return {members for members in together if len(members) > 1}


def structure(source: Path) -> dict[str, float]:
    """Files, lines, files per 1,000 lines, functions (methods and inner ones too), and circles of imports."""
    texts = [path.read_text(encoding="utf-8") for path in (source / PACKAGE).rglob("*.py")]
    lines = sum(len(text.splitlines()) for text in texts)
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    return {
        "files": len(texts),
        "lines": lines,
        "files per 1,000 lines": round(1000 * len(texts) / lines, 1),
        "functions": sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        "circles": len(circles(imports(source))),
    }


def _imported(tree: ast.Module, known: Set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: imports must be absolute")
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "import_module":
            yield from (each.value for each in node.args if isinstance(each, ast.Constant))


def _reached(start: str, graph: Mapping[str, Set[str]]) -> set[str]:
    """Modules that `start` imports, or they, or those in turn; itself if it is in a circle."""
    found: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left += new
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    for title, amount in structure(folder).items():
        print(f"{title}: {amount:,}")
    for circle in sorted(circles(imports(folder))):
        print("circle:", ", ".join(circle))
