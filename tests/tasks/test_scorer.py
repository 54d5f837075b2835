"""A user's scorer: what it sees, what it may return, and how its faults are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedModel

from evermix.errors import TaskError
from evermix.recipe.tasks import TaskRecipe
from evermix.tasks import AnswerTask, Generation, ScorerTask, Task, load_scorer, open_tasks
from evermix.tasks.items import AnswerItem, ScorerItem
from evermix.tasks.scorer import Scorer
from tests.tasks.models import byte_tokenizer, llama, memorised

KNOWN = {"two": "2", "three": "3", "four": "4"}
_FILE = "def grade(item, answer):\n    return 1 - abs(item['value'] - int(answer)) / 10\n"


def even(item: dict[str, Any], answer: str) -> float:
    """A scorer of an importable module."""
    return float(int(answer) % 2 == 0)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """Writes the digit of a numeral and a new line."""
    encode = byte_tokenizer().encode_batch
    return memorised([([0, *encode([q])[0]], encode([a + "\n"])[0]) for q, a in KNOWN.items()], 257)


def _write(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _open(folder: Path, scorer: str = "rules.py:grade", **more: Any) -> Task:
    (task,) = open_tasks([TaskRecipe(name="t", kind="scorer", file="t.jsonl", scorer=scorer, **more)], folder)
    return task


def test_a_function_of_a_file_judges_every_answer(tmp_path: Path, model: PreTrainedModel) -> None:
    (tmp_path / "rules.py").write_text(_FILE)
    _write(tmp_path, {"prompt": "two", "value": 2}, {"prompt": "three", "value": 7}, {"prompt": "four", "value": 6})
    task = _open(tmp_path)
    scores = task.score(model, byte_tokenizer())
    credits = [1.0, 0.6, 0.8]
    assert scores["t"].value == pytest.approx(np.mean(credits))
    assert scores["t"].standard_error == pytest.approx(np.std(credits, ddof=1) / np.sqrt(3))
    assert [(metric.name, metric.maximised) for metric in task.metrics] == [("t", True)]
    assert task.n_tokens(byte_tokenizer()) == (1 + 3) + (1 + 5) + (1 + 4) + 3 * 32


def test_answers_put_bits_per_byte_first(tmp_path: Path, model: PreTrainedModel) -> None:
    _write(tmp_path, {"prompt": "two", "answer": "2"}, {"prompt": "three", "answer": "3"})
    task = _open(tmp_path, f"{__name__}:even")
    scores = task.score(model, byte_tokenizer())
    gold = AnswerTask("t", (AnswerItem("two", "2", "1"), AnswerItem("three", "3", "2")))
    assert scores["t"] == gold.score(model, byte_tokenizer())["t"]
    assert scores["t:score"].value == 0.5
    assert [(metric.name, metric.maximised) for metric in task.metrics] == [("t", False), ("t:score", True)]
    assert task.n_tokens(byte_tokenizer()) == gold.n_tokens(byte_tokenizer()) + (1 + 3) + (1 + 5) + 2 * 32


def test_some_items_with_answers_and_some_without(tmp_path: Path) -> None:
    _write(tmp_path, {"prompt": "two", "answer": "2"}, {"prompt": "three", "answer": 3})
    with pytest.raises(TaskError, match=r"t\.jsonl:2: answer: either every item .* or none, got 3. Hint: .*:1 has one"):
        _open(tmp_path, f"{__name__}:even")
    _write(tmp_path, {"prompt": "two", "answer": 2}, {"prompt": "three"})
    assert [metric.name for metric in _open(tmp_path, f"{__name__}:even").metrics] == ["t"]


def _scorer(function: Callable[[dict[str, Any], str], Any]) -> Scorer:
    return Scorer("rules.py:grade", function, "")


_ITEM = ScorerItem("p", {"prompt": "p", "parts": [1, 2]}, None, "t.jsonl:7")


@pytest.mark.parametrize("value", [0, 1, True, 0.25, np.float32(0.5), np.True_, np.int64(1)])
def test_numbers_that_count(value: Any) -> None:
    assert _scorer(lambda item, answer: value)(_ITEM, "x") == float(value)


@pytest.mark.parametrize("value", [None, "1", 1.5, -0.1, float("nan"), float("inf"), [1.0], 1j, "x" * 500])
def test_what_is_no_number_in_0_1(value: Any) -> None:
    with pytest.raises(TaskError, match=r"t\.jsonl:7: scorer 'rules\.py:grade' must return a number in \[0, 1\]") as e:
        _scorer(lambda item, answer: value)(_ITEM, "x")
    assert len(str(e.value)) < 300


def test_a_function_that_raises_is_named_with_its_item(tmp_path: Path, model: PreTrainedModel) -> None:
    (tmp_path / "rules.py").write_text(_FILE)
    _write(tmp_path, {"prompt": "two", "value": 2}, {"prompt": "three"})
    with pytest.raises(TaskError, match=r"t\.jsonl:2: scorer 'rules\.py:grade' .* raised KeyError: 'value'") as error:
        _open(tmp_path).score(model, byte_tokenizer())
    assert isinstance(error.value.__cause__, KeyError)


def test_a_function_cannot_change_its_item() -> None:
    def clear(item: dict[str, Any], answer: str) -> float:
        item["parts"].clear()
        return float(len(item.pop("prompt")))

    assert [_scorer(clear)(_ITEM, "x") for _ in range(2)] == [1.0, 1.0]
    assert _ITEM.record == {"prompt": "p", "parts": [1, 2]}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("grade", "must be module:function or file.py:function, got 'grade'"),
        ("rules.py:", "must be module:function"),
        ("rules.py:a.b", "must be module:function"),
        ("gone.py:grade", r"'gone\.py:grade': its file must exist, got '.*gone\.py'"),
        ("rules.py:judge", r"must be a function 'judge'. Hint: found: grade"),
        ("broken.py:grade", r"broken\.py must run, it raised SyntaxError"),
        ("raising.py:grade", r"raising\.py must run, it raised ZeroDivisionError: division by zero"),
        (
            "no_such_module:grade",
            r"no_such_module must be importable, it raised ModuleNotFoundError.*Hint: give a file",
        ),
        ("math:pi", "must be a function 'pi'"),
        ("math:sqrt", "must be a function written in Python"),
    ],
)
def test_scorers_that_cannot_be_loaded(tmp_path: Path, label: str, message: str) -> None:
    (tmp_path / "rules.py").write_text(_FILE)
    (tmp_path / "broken.py").write_text("def grade(:\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    with pytest.raises(TaskError, match=message) as error:
        load_scorer(label, tmp_path)
    assert "\n" not in str(error.value)


def test_fingerprint_follows_the_source(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(_FILE)
    _write(tmp_path, {"prompt": "two", "value": 2})
    first = _open(tmp_path)
    assert _open(tmp_path).fingerprint == first.fingerprint
    assert _open(tmp_path, max_new_tokens=4).fingerprint != first.fingerprint
    assert _open(tmp_path, f"{__name__}:even").fingerprint != first.fingerprint
    (tmp_path / "rules.py").write_text(_FILE.replace("10", "20"))
    second = _open(tmp_path)
    assert second.fingerprint != first.fingerprint
    assert isinstance(second, ScorerTask)
    assert second.scorer.function({"value": 2}, "4") == pytest.approx(0.9)  # the new text ran, of the same length
    _write(tmp_path, {"prompt": "two", "value": 3})
    assert _open(tmp_path).fingerprint != second.fingerprint


def test_a_file_may_define_dataclasses(tmp_path: Path) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass Rule:\n    x: int\n"
    )
    (tmp_path / "rules.py").write_text(text + "\ndef grade(item, answer):\n    return Rule(1).x\n")
    assert load_scorer("rules.py:grade", tmp_path)(_ITEM, "x") == 1.0


def test_the_answer_is_given_as_it_was_written(model: PreTrainedModel) -> None:
    seen: list[str] = []

    def keep(item: dict[str, Any], answer: str) -> float:
        seen.append(answer)
        return 0.0

    item = ScorerItem("two", {"prompt": "two"}, None, "1")
    ScorerTask("t", (item,), _scorer(keep), Generation(4, stop=())).score(model, byte_tokenizer())
    assert seen[0].startswith("2\n")
    ScorerTask("t", (item,), _scorer(keep), Generation(2)).score(llama(257), byte_tokenizer())
    assert len(seen) == 2
