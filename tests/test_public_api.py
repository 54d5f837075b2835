"""Library and command line are one design with two surfaces: the same names, documented, side by side in docs."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import evermix as em
from evermix.cli.app import VERBS

PAGE = Path(__file__).parents[1] / "docs" / "index.md"
FUNCTIONS = [name for name in em.__all__ if inspect.isfunction(getattr(em, name))]


def rows() -> list[tuple[str, str]]:
    """(command, Python) of each row of the page's table."""
    section = PAGE.read_text(encoding="utf-8").split("## Command and function")[1].split("\n## ")[0]
    return re.findall(r"^\| `evermix ([^`]+)` \| `([^`]+)`", section, flags=re.MULTILINE)


@pytest.mark.parametrize("verb", ["update", *VERBS])
def test_every_verb_has_its_function(verb: str) -> None:
    assert verb.replace("-", "_") in FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_returns_and_raises(name: str) -> None:
    function = getattr(em, name)
    text = inspect.getdoc(function) or ""
    assert text[0].isupper()
    assert inspect.signature(function).return_annotation is not inspect.Signature.empty
    if inspect.signature(function).parameters and name != "plan":
        assert "Raises:" in text


@pytest.mark.parametrize(("command", "python"), rows())
def test_the_table_names_real_functions_and_arguments(command: str, python: str) -> None:
    """Each call of `em.NAME(...)` binds to the function's signature; the verb of a plain row is the function's name."""
    called = []
    for call in (node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)):
        match call.func:
            case ast.Attribute(value=ast.Name(id="em"), attr=name):
                keywords = {str(keyword.arg): ... for keyword in call.keywords}
                inspect.signature(getattr(em, name)).bind(*[...] * len(call.args), **keywords)
                called.append(name)
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="em"), attr=owner), attr=method):
                assert callable(getattr(getattr(em, owner), method))
            case ast.Attribute(value=ast.Call(func=ast.Attribute(attr=owner)), attr=method):
                assert callable(getattr(getattr(em, owner), method))
    variant = re.search(r"--dry-run|--graph|--at|update undo", command)
    assert variant or command.split()[0].replace("-", "_") in called


def test_the_table_is_complete() -> None:
    shown = {command.split()[0] for command, _ in rows()}
    assert shown == {"update", *VERBS}
    used = {name for _, python in rows() for name in re.findall(r"em\.(\w+)", python)}
    assert set(FUNCTIONS) - used <= {"draft_recipe"}
