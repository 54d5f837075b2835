"""Measured tables of the README and the pages are those that the committed results give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evermix.lifecycle import plan

ROOT = Path(__file__).parents[1]


def test_length() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_python_example_is_a_recipe_that_plans() -> None:
    """All but the training itself, which takes an hour."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(compile(example.split("result = ")[0], "README.md", "exec"), names)
    planned = plan(names["recipe"])
    ((phase,),) = planned.phases
    assert phase.domains == ("code", "manuals", "chat")
    assert phase.decided_at == (round(0.4 * phase.n_steps),)


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("pretraining", "README.md"),
        ("laws", "README.md"),
        ("reuse", "README.md"),
        ("midtraining", "docs/phases.md"),
        ("instruction_tuning", "docs/phases.md"),
    ],
)
def test_measured_tables_are_those_of_the_results(name: str, page: str) -> None:
    program = (
        f"import json, sys; sys.path.insert(0, 'benchmarks'); import {name}\n"
        f"print({name}.markdown_table(json.load(open('benchmarks/results/{name}.json'))['rows']))"
    )
    table = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert table.stdout.strip() in (ROOT / page).read_text(encoding="utf-8")


def test_every_result_names_machine_seeds_rows_and_targets() -> None:
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert {"machine", "seeds", "rows", "targets"} <= set(content), path.name
        assert content["rows"], path.name
        for target in content["targets"]:
            assert set(target) == {"name", "value", "goal", "unit", "met"}, path.name
