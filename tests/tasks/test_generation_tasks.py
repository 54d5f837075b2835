"""Exact match of written answers against a model that knows some of them by heart; a user's scorer and its faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from evermix.errors import TaskError
from evermix.recipe.measured import TaskRecipe
from evermix.tasks import AnswerTask, ExactTask, Generation, ScorerTask, Task, load_scorer, open_tasks, score_tasks
from evermix.tasks.generation_tasks import ExactItem, Scorer, ScorerItem, normalised
from evermix.tasks.likelihood_tasks import AnswerItem
from tests.tasks.models import ChatMarks, byte_tokenizer, llama, memorised

KNOWN = {"house": " casa", "the dog": "  il   cane", "gatto": "Cat"}


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """Knows KNOWN by heart, with a new line after each."""
    encode = byte_tokenizer().encode_batch
    return memorised([([0, *encode([q])[0]], encode([a + "\n"])[0]) for q, a in KNOWN.items()], 257)


def _items(*rows: tuple[str, ...]) -> tuple[ExactItem, ...]:
    return tuple(ExactItem(prompt, tuple(answers), f"t.jsonl:{k}") for k, (prompt, *answers) in enumerate(rows))


def test_accuracy_and_its_standard_error(model: PreTrainedModel) -> None:
    tokenizer = byte_tokenizer()
    items = _items(
        ("house", "casa"),
        ("the dog", " il cane "),
        ("gatto", "cat"),
        ("gatto", "kitten", "Cat"),
        ("house", "la casa", "casa mia"),
    )
    task = ExactTask("words", items)
    scores = task.score(model, tokenizer)
    assert scores["words:accuracy"].value == pytest.approx(3 / 5)
    assert scores["words:accuracy"].standard_error == pytest.approx(math.sqrt(0.6 * 0.4 / 4))
    assert scores["words:accuracy"].n_items == 5
    folded = ExactTask("words", items, ignore_case=True)
    assert folded.score(model, tokenizer)["words:accuracy"].value == pytest.approx(4 / 5)
    assert [metric.name for metric in task.metrics] == list(scores)
    assert [metric.maximised for metric in task.metrics] == [False, True]
    assert ExactTask("one", items[:1]).score(model, tokenizer)["one:accuracy"].standard_error is None


def test_bits_per_byte_are_those_of_the_first_answers(model: PreTrainedModel) -> None:
    tokenizer = byte_tokenizer()
    rows = [("house", " casa"), ("gatto", "Cat", "cat")]
    gold = AnswerTask("words", tuple(AnswerItem(row[0], row[1], "here") for row in rows))
    task = ExactTask("words", _items(*rows), Generation(max_new_tokens=10))
    assert task.score(model, tokenizer)["words"] == gold.score(model, tokenizer)["words"]
    assert task.score(model, tokenizer)["words"].value < 0.1
    assert task.n_tokens(tokenizer) == gold.n_tokens(tokenizer) + (1 + 5) + (1 + 5) + 2 * 10


def test_tasks_of_a_recipe(tmp_path: Path, model: PreTrainedModel) -> None:
    rows = [{"prompt": "house", "answer": "casa", "level": 3}, {"prompt": "gatto", "answer": "x", "answers": ["CAT"]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipes = [
        TaskRecipe(name="t", kind="exact", file="t.jsonl", ignore_case=True, stop=["\n"], max_new_tokens=8),
        TaskRecipe(name="first", kind="exact", file="t.jsonl", max_items=1),
    ]
    tasks = open_tasks(recipes, tmp_path)
    scores = score_tasks(tasks, model, byte_tokenizer())
    assert scores["t:accuracy"].value == scores["first:accuracy"].value == 1.0
    assert scores["t:accuracy"].n_items == 2


def test_a_template_goes_around_every_prompt(tmp_path: Path) -> None:
    chat = ChatMarks()
    (tmp_path / "t.jsonl").write_text('{"prompt": "house", "answer": "casa"}\n')
    recipe = TaskRecipe(name="t", kind="exact", file="t.jsonl", max_new_tokens=5)
    (task,) = open_tasks([recipe], tmp_path, chat.render)
    (plain,) = open_tasks([recipe], tmp_path)
    assert task.fingerprint != plain.fingerprint
    tokenizer = chat.tokenizer()
    rendered = len("user\nhouse\nassistant\n") + 3  # each mark is one token
    assert task.n_tokens(tokenizer) == (rendered + 4 - 1) + (rendered + 5)
    assert set(task.score(llama(259, context=96), tokenizer)) == {"t", "t:accuracy"}


def test_fingerprint_follows_what_decides_a_score() -> None:
    items = _items(("house", "casa", "una casa"))
    tasks = [
        ExactTask("t", items),
        ExactTask("t", items, ignore_case=True),
        ExactTask("t", items, Generation(8)),
        ExactTask("t", items, Generation(stop=("x",))),
        ExactTask("t", items, Generation(render=ChatMarks().render)),
        ExactTask("t", _items(("house", "casa"))),
        ExactTask("t", _items(("home", "casa", "una casa"))),
    ]
    assert len({task.fingerprint for task in tasks}) == len(tasks)
    assert ExactTask("other", items, Generation(stop=("\n",))).fingerprint == tasks[0].fingerprint


def test_an_answer_that_could_not_be_written_is_refused() -> None:
    rows = _items(("a", "one\n"), ("b", "one\ntwo"))
    with pytest.raises(TaskError, match=r"t\.jsonl:1: answer: .* hold a stop of the task.* got 'one\\ntwo'") as error:
        ExactTask("t", rows)
    assert "\n" not in str(error.value)
    assert ExactTask("t", rows, Generation(stop=())).items == rows
    assert ExactTask("t", _items(("b", "one\ntwo", "one"))).name == "t"


def test_a_long_answer_is_cut_and_wrong(model: PreTrainedModel) -> None:
    task = ExactTask("t", _items(("house", "casa")), Generation(max_new_tokens=4))
    assert task.score(model, byte_tokenizer())["t:accuracy"].value == 0.0


@given(st.text(max_size=20))
def test_normalisation(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once == normalised(f" \n{text}\t")
    assert normalised(text.replace(" ", " \n ")) == once
    assert normalised("STRASSE  x", ignore_case=True) == normalised(" straße x ", ignore_case=True)
    assert normalised("A") != normalised("a")


NUMERALS = {"two": "2", "three": "3", "four": "4"}
_FILE = "def grade(item, answer):\n    return 1 - abs(item['value'] - int(answer)) / 10\n"


def even(item: dict[str, Any], answer: str) -> float:
    """A scorer of an importable module."""
    return float(int(answer) % 2 == 0)


@pytest.fixture(scope="module")
def writer() -> PreTrainedModel:
    """Writes the digit of a numeral and a new line."""
    encode = byte_tokenizer().encode_batch
    return memorised([([0, *encode([q])[0]], encode([a + "\n"])[0]) for q, a in NUMERALS.items()], 257)


def _write(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _open(folder: Path, scorer: str = "rules.py:grade", **more: Any) -> Task:
    (task,) = open_tasks([TaskRecipe(name="t", kind="scorer", file="t.jsonl", scorer=scorer, **more)], folder)
    return task


def test_a_function_of_a_file_judges_every_answer(tmp_path: Path, writer: PreTrainedModel) -> None:
    (tmp_path / "rules.py").write_text(_FILE)
    _write(tmp_path, {"prompt": "two", "value": 2}, {"prompt": "three", "value": 7}, {"prompt": "four", "value": 6})
    task = _open(tmp_path)
    scores = task.score(writer, byte_tokenizer())
    credits = [1.0, 0.6, 0.8]
    assert scores["t"].value == pytest.approx(np.mean(credits))
    assert scores["t"].standard_error == pytest.approx(np.std(credits, ddof=1) / np.sqrt(3))
    assert [(metric.name, metric.maximised) for metric in task.metrics] == [("t", True)]
    assert task.n_tokens(byte_tokenizer()) == (1 + 3) + (1 + 5) + (1 + 4) + 3 * 32


def test_answers_put_bits_per_byte_first(tmp_path: Path, writer: PreTrainedModel) -> None:
    _write(tmp_path, {"prompt": "two", "answer": "2"}, {"prompt": "three", "answer": "3"})
    task = _open(tmp_path, f"{__name__}:even")
    scores = task.score(writer, byte_tokenizer())
    gold = AnswerTask("t", (AnswerItem("two", "2", "1"), AnswerItem("three", "3", "2")))
    assert scores["t"] == gold.score(writer, byte_tokenizer())["t"]
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


def test_a_function_that_raises_is_named_with_its_item(tmp_path: Path, writer: PreTrainedModel) -> None:
    (tmp_path / "rules.py").write_text(_FILE)
    _write(tmp_path, {"prompt": "two", "value": 2}, {"prompt": "three"})
    with pytest.raises(TaskError, match=r"t\.jsonl:2: scorer 'rules\.py:grade' .* raised KeyError: 'value'") as error:
        _open(tmp_path).score(writer, byte_tokenizer())
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


def test_the_answer_is_given_as_it_was_written(writer: PreTrainedModel) -> None:
    seen: list[str] = []

    def keep(item: dict[str, Any], answer: str) -> float:
        seen.append(answer)
        return 0.0

    item = ScorerItem("two", {"prompt": "two"}, None, "1")
    ScorerTask("t", (item,), _scorer(keep), Generation(4, stop=())).score(writer, byte_tokenizer())
    assert seen[0].startswith("2\n")
    ScorerTask("t", (item,), _scorer(keep), Generation(2)).score(llama(257), byte_tokenizer())
    assert len(seen) == 2
