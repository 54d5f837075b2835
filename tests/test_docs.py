"""README and docs: every relative link resolves, every `evermix ...` line parses, the examples run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import sqlite3
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml

import evermix as em
from evermix.cli.app import app
from evermix.ledger import Ledger
from tests.cli.called import evermix

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
ROOMS = {path.name for path in (ROOT / "src" / "evermix").iterdir() if path.is_dir()}
_PLACEHOLDERS = {"COMMAND", "..."}


def _commands(text: str) -> list[str]:
    """Command lines: indented, in fenced blocks, or in backticks; comments and prompts cut off."""
    indented = re.findall(r"^(?: {2,}|\$ |)(evermix [a-z-].*)$", text, flags=re.MULTILINE)
    inline = re.findall(r"`(evermix [^`\n]+)`", text)
    # Two or more spaces part a command from its explanation in help texts.
    return [re.split(r"\s+#|\s{2,}|\s>\s", line)[0] for line in (*indented, *inline)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    relative = [target.split("#")[0] for target in targets if "://" not in target]
    missing = [target for target in relative if target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page: Path) -> None:
    command = typer.main.get_command(app)
    verbs = command.commands  # type: ignore[attr-defined]
    for line in _commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line)[1:]
        if _PLACEHOLDERS & set(words) or words[0].startswith("-"):
            continue
        assert words[0] in verbs, line
        verb = verbs[words[0]]
        if hasattr(verb, "commands") and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in verb.commands, line
            verb = verb.commands[words[1]]
        options = {option for each in verb.params for option in (*each.opts, *each.secondary_opts)} | {"-h", "--help"}
        for word in words[1:]:
            assert not word.startswith("-") or word.split("=")[0] in options, line


def test_commands_are_found() -> None:
    """The search itself: it finds what stands in the README, and would see a wrong option."""
    found = _commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"evermix run recipe.yaml --dry-run", "evermix example swarm/"} <= set(found)
    assert len(found) >= 5


def _blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every block, fenced or indented, in order; "" for formulas and pictures of folders."""
    pattern = r"^```(\w*)\n(.*?)^```|((?:^ {4}[^\n]*\n(?:^\n)*)+)"
    found = re.finditer(pattern, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    blocks = [(fenced[1] or "", fenced[2] or textwrap.dedent(fenced[3])) for fenced in found]
    return [(language or _language(text), text) for language, text in blocks]


def _language(text: str) -> str:
    if re.match(r"(evermix|make|pip|python) ", text):
        return "sh"
    if text.startswith("{"):
        return "jsonl"
    if re.match(r"[a-z_]+:(?: [\w:-]+)?\n", text):
        return "yaml"
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return ""
    return "python" if any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes) else ""


def _trains(text: str) -> bool:
    return re.search(r"em\.(run|update|compare)\(", text) is not None


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has what the pages' examples name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    em.example(tmp_path / "swarm")
    (tmp_path / "my-data").mkdir()
    (tmp_path / "my-data" / "letters.txt").write_text("words and words\n\n" * 2000)
    return tmp_path


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_blocks_run(page: Path) -> None:
    """Of a block that trains the names are looked up only."""
    names: dict[str, object] = {}
    for language, text in _blocks(page):
        if language == "python" and not _trains(text):
            exec(compile(text, str(page), "exec"), names)
        elif language == "python":
            parts = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)]
            used = [node.attr for node in parts if isinstance(node.value, ast.Name) and node.value.id == "em"]
            assert [name for name in used if not hasattr(em, name)] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_data_blocks_are_data(page: Path) -> None:
    for language, text in _blocks(page):
        if language == "yaml":
            assert isinstance(yaml.safe_load(text), dict | list), text
        elif language == "jsonl":
            assert all(isinstance(json.loads(line), dict) for line in text.split("\n") if line.strip()), text


UNTRAINED = {"init", "example", "design", "fit", "propose", "what-if", "list-corpora", "list-laws"}
SHELL = {
    line: None for page in PAGES for language, text in _blocks(page) if language == "sh" for line in _commands(text)
}
FEW = ["--law", "power-link", "--resamples", "2"]
QUICK = {"fit": FEW[:2], "propose": FEW, "what-if": FEW}


@pytest.mark.parametrize("line", [line for line in SHELL if line.split()[1] in UNTRAINED])
def test_shell_lines_that_train_nothing_run(line: str, workplace: Path) -> None:
    """On the swarm that the package carries; published ones are not there."""
    words = shlex.split(line)[1:]
    if not (workplace / words[1]).exists() and words[0] not in ("example", "list-corpora", "list-laws"):
        assert words[1].split("/")[0] in ("regmix-1m", "olmix-dclm")
        return
    if words[0] == "example":
        shutil.rmtree(words[1])
    ended = evermix(*words, *QUICK.get(words[0], []))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out


def test_console_blocks_show_what_is_printed(tmp_path: Path) -> None:
    """Word for word, numbers within what another processor may make of them; `python tools/readme.py` writes them."""
    script = runpy.run_path(str(ROOT / "tools" / "readme.py"))
    shown = [text for page in PAGES for language, text in _blocks(page) if language == "console"]
    number = r"\d+(?:\.\d+)?"
    assert shown
    for text in shown:
        printed = script["printed"](text, tmp_path)
        assert re.sub(rf"{number}|\s+", "#", printed).split("#") == re.sub(rf"{number}|\s+", "#", text).split("#")
        values = [np.array(re.findall(number, each), float) for each in (printed, text)]
        np.testing.assert_allclose(*values, rtol=0.05, atol=0.5)


def test_queries_run(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for key, flops, seconds in (("a", 3.0, 1.0), ("b", 4.0, 2.0)):
        compute = {"by_part": {"training": {"flops": flops, "n_tokens": 8.0, "seconds": seconds}}}
        ledger.append("segment", key, {"phase": "base", "compute": compute})
    ledger.append("decision", "c", {"at_step": 5, "mixture": {"web": 0.25, "code": 0.75}})
    ledger.append("ask", "run-0000", {"version": 1})
    ledger.append("proxy", "run-0000", {"flops": 5.0})
    page = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    costs, mixtures, versions = re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)
    connection = sqlite3.connect(ledger.path)
    try:
        assert connection.execute(costs).fetchall() == [("base", 2, 7.0, 3.0)]
        assert connection.execute(mixtures).fetchall() == [(5, "code", 0.75), (5, "web", 0.25)]
        assert connection.execute(versions).fetchall() == [(1, 1, 5.0)]
    finally:
        connection.close()


def test_a_newcomer_opens_three_files_at_most() -> None:
    """The table of questions in docs/decisions.md: every file is there, and no question takes more than three."""
    page = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    table = page.split("| question | files |\n|---|---|\n")[1].split("\n\n")[0]
    questions = [re.findall(r"`([^`]+)`", line.strip("|").rpartition("|")[2]) for line in table.splitlines()]
    assert len(questions) == 10
    for files in questions:
        assert 1 <= len(files) <= 3
        for file in files:
            assert (ROOT / file).is_file() or (ROOT / "src" / "evermix" / file).is_file(), file


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent.name != "log"], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_named_modules_and_files_exist(page: Path) -> None:
    """`evermix.a.b`, `em.name` and `folder/file.py` in backticks; pages of the log keep the names of their day."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name in re.findall(r"`(?:em|evermix)((?:\.\w+)+)", text):
        found: object = em
        for part in name.split(".")[1:]:
            path = f"{getattr(found, '__name__', '')}.{part}"
            if hasattr(found, "__path__") and importlib.util.find_spec(path) is not None:
                found = importlib.import_module(path)
            else:
                assert hasattr(found, part), f"{path} in {name}"
                found = getattr(found, part)
    for file in re.findall(r"`([\w/.-]+/[\w.-]+\.(?:py|json|yaml|md))`", text):
        places = (ROOT, ROOT / "src" / "evermix", page.parent)
        if file.split("/")[0] in {"src", "tests", "docs", "benchmarks", "examples", "tools", *ROOMS}:
            assert any((place / file).exists() for place in places), file


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pages_name_an_install_that_works(page: Path) -> None:
    """Until an index has evermix, a checkout with an extra that there is."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"pip install ['\"]?evermix", text)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for named in re.findall(r"pip install -e '?\.\[([\w,]+)\]", text):
        assert set(named.split(",")) <= set(extras)


def test_hints_name_an_install_that_works() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install [^\n]*evermix", text), path
        for extra in re.findall(r"to_install\([\"'](\w+)", text):
            assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8"), path
