"""Exact match of written answers against a model that knows some of them by heart."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from evermix.errors import TaskError
from evermix.recipe.tasks import TaskRecipe
from evermix.tasks import AnswerTask, ExactTask, Generation, open_tasks, score_tasks
from evermix.tasks.exact import normalised
from evermix.tasks.items import AnswerItem, ExactItem
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
