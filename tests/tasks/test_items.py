"""Every fault of a task's file is told with file, line and field."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import TaskError
from evermix.tasks.generation_tasks import read_exact_items, read_scorer_items
from evermix.tasks.likelihood_tasks import read_answer_items, read_choice_items

_GOOD = '{"prompt": "p", "answer": "a"}\n'
_QUIZ = '{"prompt": "p", "choices": ["a", "b"], "answer": %s}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must have at least one item"),
        (b"\n  \n", "must have at least one item"),
        (b"{prompt", r":1 must be valid JSON"),
        (b"[1]\n", r" record 1 must be a JSON object, got 'int'"),
        (_GOOD.encode() + b'{"prompt": "p"}\n', r":2: answer: an item must have this field.*found: prompt"),
        (b'{"answer": "a", "question": "p"}\n', r":1: prompt: .*found: answer, question"),
        (b'{"prompt": 3, "answer": "a"}\n', r":1: prompt: must be a text, got 3"),
        (b'{"prompt": "p", "answer": ""}\n', r":1: answer: must hold more than blanks, got ''"),
        (b'{"prompt": "p", "answer": " \\n"}\n', r":1: answer: must hold more than blanks"),
        (b'{"prompt": "p", "answer": "\\ud800"}\n', r":1: answer: .*lone surrogate"),
        (b'{"prompt": "p", "answer": "a\xff"}\n', r"must be UTF-8 text, but byte 28 is not.*`file` of the task"),
        (_QUIZ.encode() % b"0", r":1: choices: an item of kind answer has no choices. Hint: set kind: choice"),
        (b'{"id": 1, "prompt": "p", "answer": "a"}\n' * 2, r":2: id: ids must be unique, \S+:1 has it too, got 1"),
        (b'{"id": [1], "prompt": "p", "answer": "a"}\n', r":1: id: an id must be a text or an integer, got \[1\]"),
    ],
)
def test_faults_of_answers(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=message) as error:
        read_answer_items(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (_GOOD, ":1: choices: an item must have this field"),
        (_QUIZ % 2, ":1: answer: an index must be from 0 to 1, got 2"),
        (_QUIZ % -1, ":1: answer: an index must be from 0 to 1, got -1"),
        (_QUIZ % "true", ":1: answer: must be the index of a choice"),
        (_QUIZ % '"c"', ":1: answer: must be the index of a choice, from 0, or the text of one, got 'c'"),
        (_QUIZ % "0.0", ":1: answer: must be the index"),
        ('{"prompt": "p", "choices": ["a"], "answer": 0}', ":1: choices: must be a list of at least two texts"),
        ('{"prompt": "p", "choices": "ab", "answer": 0}', ":1: choices: must be a list of at least two texts"),
        ('{"prompt": "p", "choices": ["a", 1], "answer": 0}', r":1: choices\[1\]: must be a text, got 1"),
        ('{"prompt": "p", "choices": ["a", "a"], "answer": 0}', r":1: choices\[1\]: choices must differ"),
        ('{"prompt": "p", "choices": ["a", " "], "answer": 0}', r":1: choices\[1\]: must hold more than blanks"),
    ],
)
def test_faults_of_choices(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "quiz.jsonl"
    path.write_text(line)
    with pytest.raises(TaskError, match=message):
        read_choice_items(path)


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"must exist, got .*none\.jsonl"):
        read_answer_items(tmp_path / "none.jsonl")
    with pytest.raises(TaskError, match="must be readable"):
        read_answer_items(tmp_path)


def test_index_and_text_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "quiz.jsonl"
    path.write_text(_QUIZ % 1 + _QUIZ % '"b"')
    assert [item.gold for item in read_choice_items(path)] == [1, 1]


@given(st.integers(1, 50), st.integers(1, 60))
def test_at_most_so_many_evenly_spaced(tmp_path_factory: pytest.TempPathFactory, n: int, most: int) -> None:
    path = tmp_path_factory.mktemp("items") / "qa.jsonl.gz"
    path.write_bytes(
        gzip.compress("".join(json.dumps({"prompt": str(k), "answer": "a"}) + "\n" for k in range(n)).encode())
    )
    kept = [int(item.prompt) for item in read_answer_items(path, most)]
    assert len(kept) == min(n, most)
    gaps = {b - a for a, b in pairwise(kept)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_items_with_several_right_answers(tmp_path: Path) -> None:
    path = tmp_path / "exact.jsonl"
    path.write_text('{"prompt": "p", "answer": "a", "answers": ["b", "a", "c"]}\n' + _GOOD)
    first, second = read_exact_items(path)
    assert (first.answer, first.answers, second.answers) == ("a", ("a", "b", "c"), ("a",))
    assert second.place == f"{path}:2"
    for given_answers, message in [
        ("b", "answers: must be a list of texts, got 'b'"),
        (["b", 3], r"answers\[1\]: must"),
    ]:
        path.write_text(json.dumps({"prompt": "p", "answer": "a", "answers": given_answers}))
        with pytest.raises(TaskError, match=f":1: {message}"):
            read_exact_items(path)


def test_items_of_a_scorer_keep_every_field(tmp_path: Path) -> None:
    path = tmp_path / "scorer.jsonl"
    path.write_text('{"prompt": "", "id": "x", "limits": [1, {"a": null}]}\n{"prompt": "q"}\n')
    first, second = read_scorer_items(path)
    assert first.record == {"prompt": "", "id": "x", "limits": [1, {"a": None}]}
    assert (first.answer, second.answer) == (None, None)
    assert len(read_scorer_items(path, 1)) == 1
    path.write_text('{"limits": 3}\n')
    with pytest.raises(TaskError, match=":1: prompt: an item must have this field"):
        read_scorer_items(path)
    path.write_text('{"prompt": "p", "answer": " "}\n')
    with pytest.raises(TaskError, match=":1: answer: must hold more than blanks"):
        read_scorer_items(path)
