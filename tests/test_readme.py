"""Measured tables of the README and the pages are those that the committed results give."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_readme_is_short_and_begins_with_a_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) < 800
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert text.index(picture) < text.index("\n## ")
    assert (ROOT / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_numbers_of_the_readme_are_those_of_the_tables() -> None:
    """Every measured gain that it claims stands in a table of docs/results.md, which the results are compared with."""
    claimed = re.findall(r"\d+\.\d% ± \d\.\d", (ROOT / "README.md").read_text(encoding="utf-8"))
    tables = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert [gain for gain in claimed if f"| {gain} |" not in tables] == []


MEASURED = {
    "pretraining": "docs/results.md",
    "laws": "docs/results.md",
    "reuse": "docs/results.md",
    "midtraining": "docs/phases.md",
    "instruction_tuning": "docs/phases.md",
}


@pytest.fixture(scope="module")
def tables() -> dict[str, str]:
    """The table of every benchmark, by one process that imports them all: they are no package."""
    program = f"""import importlib, json, sys; sys.path.insert(0, 'benchmarks')
rows = lambda name: json.load(open(f'benchmarks/results/{{name}}.json'))['rows']
print(json.dumps({{name: importlib.import_module(name).markdown_table(rows(name)) for name in {list(MEASURED)}}}))"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(("name", "page"), MEASURED.items())
def test_measured_tables_are_those_of_the_results(name: str, page: str, tables: dict[str, str]) -> None:
    assert tables[name].strip()
    assert tables[name].strip() in (ROOT / page).read_text(encoding="utf-8")


def test_every_result_names_machine_seeds_rows_and_targets() -> None:
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert {"machine", "seeds", "rows", "targets"} <= set(content), path.name
        assert content["rows"], path.name
        for target in content["targets"]:
            assert set(target) == {"name", "value", "goal", "unit", "met"}, path.name
