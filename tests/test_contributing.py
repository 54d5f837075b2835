"""docs/contributing.md to the letter: its files are written, its lines changed and its commands run, in a copy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
SECTIONS = {
    title: BLOCK.findall(text)
    for title, text in re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}


def write(text: str, root: Path) -> Path:
    """A block of Python into the file that its first line names, which is new."""
    name, _, content = text.partition("\n")
    path = root / name.removeprefix("# ")
    assert path.parent.is_dir()
    assert not path.exists()
    path.write_text(content, encoding="utf-8")
    return path


def change(text: str, root: Path) -> None:
    """A block of changes: after `--- file`, hunks that begin with `@@`, of lines kept, taken away and added."""
    for name, hunks in re.findall(r"^--- (.+?)\n(.*?)(?=^--- |\Z)", text, re.DOTALL | re.MULTILINE):
        path = root / name
        content = path.read_text(encoding="utf-8")
        for hunk in hunks.split("@@\n")[1:]:
            lines = hunk.splitlines(keepends=True)
            assert {line[0] for line in lines} <= set(" +-")
            before = "".join(line[1:] for line in lines if line[0] != "+")
            assert content.count(before) == 1, f"{name}: {before}"
            content = content.replace(before, "".join(line[1:] for line in lines if line[0] != "-"))
        path.write_text(content, encoding="utf-8")


def run(command: str, root: Path) -> str:
    """A command line in the copy; `python` is this one."""
    python, *words = shlex.split(command)
    assert python == "python"
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-4000:]}{ended.stderr[-4000:]}"
    return ended.stdout


@pytest.mark.parametrize("title", SECTIONS)
def test_the_steps_are_followed_to_the_letter(title: str, tmp_path: Path) -> None:
    blocks = SECTIONS[title]
    if title == "An export":
        assert blocks == []
        assert '"(exports)"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert not (ROOT / "src" / "evermix" / "exports").exists()
        return
    assert {kind for kind, _ in blocks} == {"python", "diff", "sh"}
    for name in ("src", "tests", "docs"):
        # with the bytecode that is there, but for files that another process is writing
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc.*", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    written = [write(text, tmp_path) for kind, text in blocks if kind == "python"]
    for kind, text in blocks:
        if kind == "diff":
            change(text, tmp_path)
    for command in "".join(text for kind, text in blocks if kind == "sh").splitlines():
        printed = run(command, tmp_path)
        if "pytest" in command:
            assert re.search(r"^[.s]*\.[.s]*", printed), "no test was run"
    for tool in ("check", "format --check"):
        run(f"python -m ruff {tool} {' '.join(str(path.relative_to(tmp_path)) for path in written)}", tmp_path)


def test_the_walk_names_files_that_exist() -> None:
    named = re.findall(r"`((?:lifecycle|tests|tools|docs)/[\w/.]*)`", PAGE)
    assert len(named) >= 8
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "src" / "evermix" / name).exists(), name
