"""What every kind of task keeps to. A new kind adds its class to `TASK_KINDS` and an example here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from evermix.errors import TaskError
from evermix.recipe.measured import TaskKind, TaskRecipe
from evermix.tasks import TASK_KINDS, Task, open_tasks
from tests.tasks.models import ChatMarks, llama, word_tokenizer

Rows = list[dict[str, Any]]
_CAPITALS = ["Paris", "Rome", "4", "6"]
_PROMPTS = ["the capital of France is", "the capital of Italy is", "2 + 2 =", "3 + 3 ="]
_GOLD = [{"prompt": prompt, "answer": f" {answer}"} for prompt, answer in zip(_PROMPTS, _CAPITALS, strict=True)]
_YAML = """task: quiz
dataset_path: json
dataset_kwargs:
  data_files:
    test: items.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_target: 0
doc_to_choice: ["Paris", "Rome"]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""


def _jsonl(folder: Path, rows: Rows) -> None:
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _answer(folder: Path) -> dict[str, Any]:
    _jsonl(folder, _GOLD)
    return {"file": "items.jsonl"}


def _choice(folder: Path) -> dict[str, Any]:
    _jsonl(folder, [{**row, "choices": [f" {each}" for each in _CAPITALS]} for row in _GOLD])
    return {"file": "items.jsonl"}


def _exact(folder: Path) -> dict[str, Any]:
    return _answer(folder) | {"max_new_tokens": 4}


def _scorer(folder: Path) -> dict[str, Any]:
    (folder / "rules.py").write_text("def grade(item, answer):\n    return 0.5\n")
    return _exact(folder) | {"scorer": "rules.py:grade"}


def _harness(folder: Path) -> dict[str, Any]:
    _jsonl(folder, _GOLD)
    (folder / "quiz.yaml").write_text(_YAML)
    return {"folder": ".", "task": "quiz"}


EXAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "answer": _answer,
    "choice": _choice,
    "exact": _exact,
    "scorer": _scorer,
    "lm-eval": _harness,
}
"""Kind -> what writes a task of four items into a folder, and returns its keys in a recipe besides name and kind."""

pytestmark = pytest.mark.filterwarnings("default")  # lm_eval and its dependencies are not ours to keep free of them


class Opened:
    """The example of one kind in a folder of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.keys = EXAMPLES[kind](folder)

    def recipe(self, name: str = "quiz", **more: Any) -> TaskRecipe:
        return TaskRecipe(name=name, kind=self.kind, **{**self.keys, **more})  # type: ignore[arg-type]

    def task(self, name: str = "quiz", render: Any = None, **more: Any) -> Task:
        (task,) = open_tasks([self.recipe(name, **more)], self.folder, render)
        return task


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    if request.param == "lm-eval":
        if find_spec("lm_eval") is None:
            pytest.skip("lm_eval is not installed")
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return Opened(request.param, tmp_path)


def test_registry_recipe_and_examples_know_the_same_kinds() -> None:
    assert list(TASK_KINDS) == list(get_args(TaskKind)) == list(EXAMPLES)


def test_a_kind_opens_as_its_class(example: Opened) -> None:
    task = example.task()
    assert type(task) is TASK_KINDS[example.kind]  # type: ignore[index]
    assert task.name == "quiz"


def test_the_first_metric_has_the_task_s_name_and_further_ones_begin_with_it(example: Opened) -> None:
    first, *further = (metric.name for metric in example.task().metrics)
    assert first == "quiz"
    assert len(set(further)) == len(further)
    assert all(name.startswith("quiz:") for name in further)
    assert all(metric.unit for metric in example.task().metrics)
    accuracies = [metric for metric in example.task().metrics if metric.unit == "fraction"]
    assert all(metric.maximised and 0 <= (metric.chance or 0) < 1 for metric in accuracies)


def test_a_fingerprint_stands_for_the_content_and_not_for_the_name(example: Opened) -> None:
    fingerprint = example.task().fingerprint
    assert len(bytes.fromhex(fingerprint)) == 8
    assert example.task("other").fingerprint == fingerprint
    assert example.task(max_items=2).fingerprint != fingerprint
    items = example.folder / "items.jsonl"
    items.write_text(items.read_text().replace("Italy", "Spain"))
    assert example.task().fingerprint != fingerprint


def test_a_template_counts_where_it_renders_the_prompts(example: Opened) -> None:
    rendered = example.task(render=ChatMarks().render).fingerprint
    assert (rendered == example.task().fingerprint) is (example.kind == "lm-eval")


def test_scores_are_finite_and_the_same_each_time(example: Opened) -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size, seed=3)
    task = example.task()
    scores = task.score(model, tokenizer)
    assert list(scores) == [metric.name for metric in task.metrics]
    for metric in task.metrics:
        score = scores[metric.name]
        assert math.isfinite(score.value)
        assert score.n_items == 4
        assert score.standard_error is None or 0 <= score.standard_error < math.inf
        assert metric.unit != "fraction" or 0 <= score.value <= 1
    assert task.score(model, tokenizer) == scores
    assert 0 < example.task(max_items=2).n_tokens(tokenizer) < task.n_tokens(tokenizer)
    assert {score.n_items for score in example.task(max_items=2).score(model, tokenizer).values()} == {2}


def test_a_single_item_has_no_standard_error(example: Opened) -> None:
    tokenizer = word_tokenizer()
    scores = example.task(max_items=1).score(llama(tokenizer.vocab_size), tokenizer)
    assert [score.standard_error for score in scores.values()] == [None] * len(scores)


@pytest.mark.parametrize("training", [False, True])
def test_the_model_stays_as_it_is(example: Opened, training: bool) -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size).train(training)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    example.task().score(model, tokenizer)
    assert model.training is training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_what_is_not_there_is_named(example: Opened) -> None:
    missing = {"folder": "elsewhere"} if example.kind == "lm-eval" else {"file": "elsewhere.jsonl"}
    with pytest.raises(TaskError, match="elsewhere"):
        example.task(**missing)


def test_two_tasks_of_a_name_are_refused(example: Opened) -> None:
    with pytest.raises(TaskError, match="task names must be unique"):
        open_tasks([example.recipe(), example.recipe()], example.folder)
