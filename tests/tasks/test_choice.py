"""Accuracy and bits per byte of choices against planted models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from evermix.recipe.tasks import TaskRecipe
from evermix.tasks import AnswerTask, ChoiceTask, open_tasks
from evermix.tasks.items import AnswerItem, ChoiceItem
from tests.tasks.models import byte_tokenizer, llama, unigram, word_tokenizer


def test_the_likelier_choice_per_byte_wins_however_long() -> None:
    tokenizer = byte_tokenizer()
    probabilities = torch.full((257,), 0.4 / 255)
    a, b = tokenizer.encode_batch(["ab"])[0]
    probabilities[a], probabilities[b] = 0.4, 0.2
    items = (
        ChoiceItem("x", ("aaaaaa", "b"), 0, "1"),  # in sum "b" is likelier, per byte "aaaaaa" is
        ChoiceItem("x", ("ab", "aab", "zz"), 0, "2"),  # "aab" is chosen
        ChoiceItem("x", ("ab", "ba"), 1, "3"),  # a tie
        ChoiceItem("x", ("b", "z", "aaa", "bb"), 2, "4"),
    )
    task = ChoiceTask("quiz", items)
    scores = task.score(unigram(probabilities.log()), tokenizer)
    credits = [1.0, 0.0, 0.5, 1.0]
    assert scores["quiz:accuracy"].value == pytest.approx(np.mean(credits))
    assert scores["quiz:accuracy"].standard_error == pytest.approx(np.std(credits, ddof=1) / 2)
    bits = -(6 + 1 + 1 + 3) * math.log2(0.4) - 2 * math.log2(0.2)
    assert scores["quiz"].value == pytest.approx(bits / 13, rel=1e-5)
    assert task.metrics[1].chance == pytest.approx((1 / 2 + 1 / 3 + 1 / 2 + 1 / 4) / 4)
    assert [metric.maximised for metric in task.metrics] == [False, True]
    assert [metric.name for metric in task.metrics] == list(scores)


def test_a_model_that_knows_nothing_gets_chance() -> None:
    tokenizer = byte_tokenizer()
    items = tuple(ChoiceItem("?", ("yes", "no", "it may be", "é"), k % 4, str(k)) for k in range(8))
    task = ChoiceTask("quiz", items)
    scores = task.score(unigram(torch.zeros(257)), tokenizer)
    assert scores["quiz:accuracy"].value == pytest.approx(task.metrics[1].chance)
    assert scores["quiz"].value == pytest.approx(math.log2(257))


def test_bits_per_byte_is_that_of_the_answers_alone(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size)
    path = tmp_path / "quiz.jsonl"
    path.write_text(
        '{"prompt": "the capital of France is", "choices": [" Rome", " Paris"], "answer": " Paris"}\n'
        '{"prompt": "2 + 2 =", "choices": [" 4", " 6", " five"], "answer": 0}\n'
    )
    (task,) = open_tasks([TaskRecipe(name="quiz", kind="choice", file="quiz.jsonl")], tmp_path)
    gold = (AnswerItem("the capital of France is", " Paris", "1"), AnswerItem("2 + 2 =", " 4", "2"))
    answers = AnswerTask("quiz", gold).score(model, tokenizer)["quiz"]
    found = task.score(model, tokenizer)["quiz"]
    assert found.value == pytest.approx(answers.value, rel=1e-6)
    assert found.standard_error == pytest.approx(answers.standard_error, rel=1e-5)
    assert task.n_tokens(tokenizer) > AnswerTask("quiz", gold).n_tokens(tokenizer)
    assert task.fingerprint != AnswerTask("quiz", gold).fingerprint
