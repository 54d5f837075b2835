"""Answers and choices against hand-computed values, the model's own loss, planted models, and resampling."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from evermix.errors import TaskError, TokenizerError
from evermix.recipe.measured import TaskRecipe
from evermix.tasks import AnswerTask, ChoiceTask, open_tasks, score_tasks
from evermix.tasks.likelihood_tasks import AnswerItem, ChoiceItem, bits_per_byte
from tests.tasks.models import byte_tokenizer, gpt2, llama, unigram, word_tokenizer


def _task(*pairs: tuple[str, str]) -> AnswerTask:
    return AnswerTask(
        "qa", tuple(AnswerItem(prompt, answer, f"qa.jsonl:{k}") for k, (prompt, answer) in enumerate(pairs))
    )


def test_a_unigram_model_scores_the_entropy_written_down_by_hand() -> None:
    tokenizer = byte_tokenizer()
    probabilities = torch.full((257,), 0.5 / 255)
    a, b = tokenizer.encode_batch(["ab"])[0]
    probabilities[a], probabilities[b] = 0.375, 0.125
    model = unigram(probabilities.log())
    task = _task(("any prompt", "ab"), ("", "aab"), ("x", "é"))
    assert task.n_tokens(tokenizer) == (10 + 2) + 3 + (1 + 2)  # the last token of each is only predicted
    score = task.score(model, tokenizer)["qa"]
    bits = -(3 * math.log2(0.375) + 2 * math.log2(0.125) + 2 * math.log2(0.5 / 255))
    assert score.value == pytest.approx(bits / 7, rel=1e-5)  # 2 + 3 + 2 bytes
    assert score.n_items == 3


@pytest.mark.parametrize("make", [llama, gpt2])
def test_it_is_the_model_s_own_loss_over_the_answer(make: object) -> None:
    tokenizer = word_tokenizer()
    model = make(tokenizer.vocab_size)  # type: ignore[operator]
    pairs = [("the capital of France is", " Paris"), ("2 + 2 =", " 4 and 3"), ("", "the capital"), ("the", " the")]
    nats = []
    for prompt, answer in pairs:
        before, after = tokenizer.encode_batch([prompt, answer])
        ids = torch.tensor([[0, *before, *after]])
        labels = ids.clone()
        labels[:, : len(before) + 1] = -100
        with torch.no_grad():
            nats.append(float(model(input_ids=ids, labels=labels).loss) * len(after))
    n_bytes = sum(len(answer.encode()) for _, answer in pairs)
    model.train()
    score = _task(*pairs).score(model, tokenizer)["qa"]
    assert model.training
    assert score.value == pytest.approx(sum(nats) / math.log(2) / n_bytes, rel=1e-5)


def test_the_standard_error_is_that_of_resampled_items() -> None:
    rng = np.random.default_rng(0)
    n_bytes = rng.integers(1, 30, size=400).astype(float)
    nats = -n_bytes * rng.gamma(4.0, 0.25, size=400)
    score = bits_per_byte(nats, n_bytes)
    draws = rng.integers(0, 400, size=(4000, 400))
    ratios = (-nats[draws] / math.log(2)).sum(axis=1) / n_bytes[draws].sum(axis=1)
    assert score.standard_error == pytest.approx(ratios.std(), rel=0.05)
    assert bits_per_byte(nats[:1], n_bytes[:1]).standard_error is None


def test_fingerprint_follows_content_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": "d", "id": 7}\n')
    one = AnswerTask.from_file("one", path)
    assert AnswerTask.from_file("two", path).fingerprint == one.fingerprint
    assert AnswerTask.from_file("one", path, max_items=1).fingerprint != one.fingerprint
    path.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "c", "answer": "e"}\n')
    assert AnswerTask.from_file("one", path).fingerprint != one.fingerprint


def test_tasks_of_a_recipe_open_and_score(tmp_path: Path) -> None:
    (tmp_path / "qa.jsonl").write_text(json.dumps({"prompt": "2 + 2 =", "answer": " 4"}) + "\n")
    tasks = open_tasks([TaskRecipe(name=name, file="qa.jsonl") for name in ("sums", "again")], tmp_path)
    tokenizer = word_tokenizer()
    scores = score_tasks(tasks, llama(tokenizer.vocab_size), tokenizer)
    assert scores["sums"] == scores["again"]
    assert [m.name for task in tasks for m in task.metrics] == ["sums", "again"]
    with pytest.raises(TaskError, match="unique, got 'sums'"):
        open_tasks([TaskRecipe(name="sums", file="qa.jsonl")] * 2, tmp_path)


def test_a_model_that_cannot_score_is_named() -> None:
    tokenizer = word_tokenizer()
    with pytest.raises(TokenizerError, match="it embeds 260, not 2"):
        _task(("a", "b")).score(llama(260), tokenizer)
    broken = llama(tokenizer.vocab_size)
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TaskError, match=r"qa\.jsonl:0: .* finite"):
        _task(("a", "b")).score(broken, tokenizer)


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
