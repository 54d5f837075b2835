"""What a recipe may say of a task."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evermix.errors import TaskError
from evermix.recipe.measured import TaskRecipe
from evermix.tasks import open_tasks


def test_defaults_and_amounts() -> None:
    recipe = TaskRecipe(name="sums", file="sums.jsonl", max_items="1.5k")
    assert (recipe.kind, recipe.role, recipe.weight, recipe.max_items) == ("answer", "fit", 1.0, 1500)
    assert TaskRecipe(name="arc_easy", kind="lm-eval").folder is None
    exact = TaskRecipe(name="words", kind="exact", file="words.jsonl", stop=["\n"], ignore_case=True)
    assert (exact.max_new_tokens, exact.stop, exact.ignore_case) == (None, ("\n",), True)
    assert TaskRecipe(**exact.model_dump()) == exact


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "a"}, "a task of kind answer must have a file"),
        ({"name": "a", "kind": "choice", "folder": "f"}, "a task of kind choice must have a file"),
        ({"name": "a", "file": "f", "task": "t"}, "a task of kind answer has no task"),
        ({"name": "a", "file": "f", "kind": "lm-eval"}, "a task of kind lm-eval has no file"),
        ({"name": "a", "kind": "exact"}, "a task of kind exact must have a file"),
        ({"name": "a", "kind": "scorer", "file": "f"}, "a task of kind scorer must have a scorer"),
        ({"name": "a", "kind": "exact", "file": "f", "scorer": "m:f"}, "a task of kind exact has no scorer"),
        ({"name": "a", "kind": "scorer", "file": "f", "scorer": "m:f", "ignore_case": True}, "has no ignore_case"),
        ({"name": "a", "file": "f", "max_new_tokens": 8}, "a task of kind answer has no max_new_tokens"),
        ({"name": "a", "kind": "lm-eval", "stop": []}, "a task of kind lm-eval has no stop"),
        ({"name": "a", "kind": "exact", "file": "f", "stop": [""]}, "at least 1 character"),
        ({"name": "a", "kind": "exact", "file": "f", "max_new_tokens": 0}, "greater than 0"),
        ({"name": "a:b", "file": "f"}, "without colons"),
        ({"name": "", "file": "f"}, "must be a name"),
        ({"name": "a\nb", "file": "f"}, "on one line"),
        ({"name": " a", "file": "f"}, "outer blanks"),
        ({"name": "a", "file": "f", "weight": -1}, "greater than or equal to 0"),
        ({"name": "a", "file": "f", "weight": float("nan")}, "greater than or equal to 0|finite"),
        ({"name": "a", "file": "f", "max_items": 0}, "greater than 0"),
        ({"name": "a", "file": "f", "role": "train"}, "'fit' or 'held-out'"),
        ({"name": "a", "file": "f", "extra": 1}, "not permitted"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskRecipe(**keys)


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm_eval is installed")
def test_the_harness_is_an_extra(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"task 'arc': .*pip install -e '\.\[eval\]'"):
        open_tasks([TaskRecipe(name="arc", kind="lm-eval")], tmp_path)
