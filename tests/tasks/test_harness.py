"""Tasks of lm-evaluation-harness on local JSON: the same numbers as our own tasks, and as the harness's own model."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError
from evermix.recipe.measured import TaskRecipe
from evermix.tasks import AnswerTask, ChoiceTask, Task, open_tasks
from evermix.tasks.likelihood_tasks import AnswerItem, ChoiceItem
from tests.tasks.models import llama, word_tokenizer

pytest.importorskip("lm_eval")
# lm_eval and its dependencies are not ours to keep free of warnings
pytestmark = pytest.mark.filterwarnings("default")

_QUIZ = [
    ("the capital of France is", ["Paris", "Rome and Paris", "Italy"], 0),
    ("the capital of Italy is", ["Paris", "Rome"], 1),
    ("2 + 2 =", ["6", "4", "4 and 3", "Rome"], 1),
    ("3 + 3 =", ["é", "6"], 1),
    ("the capital", ["of France", "and"], 0),
]
_YAML = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{gold}}}}"
target_delimiter: " "
metric_list:
{metrics}
metadata:
  version: 1
"""
_METRIC = "  - metric: {}\n    aggregation: {}\n    higher_is_better: {}\n"


def _metrics(*rows: tuple[str, str, str]) -> str:
    return "".join(_METRIC.format(*row) for row in rows)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three tasks and their data; the harness keeps its copies of the data there too."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "evaluation"
    place.mkdir()
    rows = [{"question": q, "choices": c, "gold": g, "text": f"{q} {c[g]}"} for q, c, g in _QUIZ]
    (place / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [row | {"gold": row["choices"][row["gold"]]} for row in rows]
    (place / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    accuracies = _metrics(*((name, "mean", "true") for name in ("acc", "acc_norm", "acc_bytes")))
    quiz = _YAML.format(name="quiz_a", file="quiz.jsonl", kind="multiple_choice", metrics=accuracies)
    (place / "quiz.yaml").write_text(quiz + 'doc_to_choice: "{{choices}}"\n')
    likelihood = _metrics(("perplexity", "perplexity", "false"), ("acc", "mean", "true"))
    text = _YAML.format(name="answers_a", file="answers.jsonl", kind="loglikelihood", metrics=likelihood)
    (place / "answers.yaml").write_text(text.replace('"{{gold}}"', '" {{gold}}"'))
    rolling = _metrics(("bits_per_byte", "bits_per_byte", "false"), ("word_perplexity", "weighted_perplexity", "false"))
    text = _YAML.format(name="text_a", file="quiz.jsonl", kind="loglikelihood_rolling", metrics=rolling)
    (place / "text.yaml").write_text(text.replace("{{question}}", "").replace("{{gold}}", "{{text}}"))
    return tmp_path


def _open(base: Path, name: str, own_name: str, **more: Any) -> Task:
    (task,) = open_tasks(
        [TaskRecipe(name=name, kind="lm-eval", folder="evaluation", task=own_name, **more)],
        base,
    )
    return task


def test_choices_score_as_our_own(folder: Path) -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size, seed=3)
    task = _open(folder, "quiz", "quiz_a")
    found = task.score(model, tokenizer)
    own = ChoiceTask("own", tuple(ChoiceItem(q, tuple(f" {x}" for x in c), g, "here") for q, c, g in _QUIZ))
    expected = own.score(model, tokenizer)
    assert found["quiz"] == expected["own"]
    assert task.n_tokens(tokenizer) == own.n_tokens(tokenizer)
    assert [metric.name for metric in task.metrics] == ["quiz", "quiz:acc", "quiz:acc_norm", "quiz:acc_bytes"]
    assert task.metrics[1].chance == pytest.approx(own.metrics[1].chance)
    assert list(found) == [metric.name for metric in task.metrics]
    assert found["quiz:acc"].standard_error is not None


def test_accuracy_per_byte_is_ours_where_the_bytes_are_the_same(folder: Path) -> None:
    """The harness leaves its delimiter out of a choice's bytes; without a delimiter the two rules are one."""
    yaml = (folder / "evaluation" / "quiz.yaml").read_text()
    (folder / "evaluation" / "quiz.yaml").write_text(yaml.replace('delimiter: " "', 'delimiter: ""'))
    tokenizer = word_tokenizer()
    own = ChoiceTask("own", tuple(ChoiceItem(q, tuple(c), g, "here") for q, c, g in _QUIZ))
    task = _open(folder, "quiz", "quiz_a")
    values = set()
    for seed in range(4):
        model = llama(tokenizer.vocab_size, seed=seed)
        found, expected = task.score(model, tokenizer), own.score(model, tokenizer)
        assert found["quiz:acc_bytes"] == expected["own:accuracy"]
        assert found["quiz"] == expected["own"]
        values.add(found["quiz:acc_bytes"].value)
    assert len(values) > 1


def test_answers_and_texts_score_as_our_own(folder: Path) -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size, seed=3)
    answers = tuple(AnswerItem(q, f" {c[g]}", "here") for q, c, g in _QUIZ)
    expected = AnswerTask("own", answers).score(model, tokenizer)["own"]
    assert _open(folder, "answers", "answers_a").score(model, tokenizer)["answers"] == expected
    texts = tuple(AnswerItem("", f"{q} {c[g]}", "here") for q, c, g in _QUIZ)
    expected = AnswerTask("own", texts).score(model, tokenizer)["own"]
    found = _open(folder, "text", "text_a").score(model, tokenizer)
    assert found["text"] == expected
    assert found["text:bits_per_byte"].value == pytest.approx(expected.value)
    assert found["text:bits_per_byte"].standard_error is None


def _harness_model(model: PreTrainedModel, tokenizer: TextTokenizer, begins_by_itself: bool) -> Any:
    """The harness's own reading of the model; it begins with the end token if told to."""
    from lm_eval.models.huggingface import HFLM

    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    end = "<|endoftext|>"
    if begins_by_itself:
        backend.post_processor = TemplateProcessing(single=f"{end} $A", special_tokens=[(end, tokenizer.end_id)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=end, eos_token=end, pad_token=end)
    return HFLM(pretrained=model, tokenizer=wrapped, add_bos_token=begins_by_itself, max_length=64, device="cpu")


@pytest.mark.parametrize(("own_name", "begins"), [("quiz_a", True), ("answers_a", True), ("text_a", False)])
def test_the_harness_s_own_model_gets_the_same_numbers(folder: Path, own_name: str, begins: bool) -> None:
    """HFLM puts the beginning before a whole text itself (text_a); before a context its tokenizer does."""
    from lm_eval.evaluator import evaluate

    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size, seed=3)
    task: Any = _open(folder, "mine", own_name)
    found = task.score(model, tokenizer)
    theirs = _harness_model(model, tokenizer, begins)
    report = evaluate(theirs, {"tasks": {own_name: task.task}, "groups": {}, "group_map": {}}, bootstrap_iters=0)
    for metric in task.metrics[1:]:
        value = report["results"][own_name][metric.name.replace("mine:", "") + ",none"]
        assert found[metric.name].value == pytest.approx(value, rel=1e-5), metric.name


def test_scoring_leaves_the_random_state_as_it_was(folder: Path) -> None:
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size)
    task = _open(folder, "quiz", "quiz_a")
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first = task.score(model, tokenizer)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert task.score(model, tokenizer) == first


def test_fingerprint_and_items(folder: Path) -> None:
    whole = _open(folder, "quiz", "quiz_a")
    assert _open(folder, "other", "quiz_a").fingerprint == whole.fingerprint
    part = _open(folder, "quiz", "quiz_a", max_items=2)
    assert part.fingerprint != whole.fingerprint
    tokenizer = word_tokenizer()
    assert {score.n_items for score in part.score(llama(tokenizer.vocab_size), tokenizer).values()} == {2}
    yaml = (folder / "evaluation" / "quiz.yaml").read_text()
    (folder / "evaluation" / "quiz.yaml").write_text(yaml + "num_fewshot: 0\ndescription: Answer.\n")
    assert _open(folder, "quiz", "quiz_a").fingerprint != whole.fingerprint


def test_examples_before_a_question_are_the_same_each_time(folder: Path) -> None:
    path = folder / "evaluation" / "quiz.yaml"
    path.write_text(path.read_text() + "num_fewshot: 2\nfewshot_split: test\n")
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size, context=256)
    task, again = _open(folder, "quiz", "quiz_a"), _open(folder, "quiz", "quiz_a")
    assert task.fingerprint == again.fingerprint
    first = task.score(model, tokenizer)
    assert task.score(model, tokenizer) == again.score(model, tokenizer) == first
    path.write_text(path.read_text().replace("num_fewshot: 2", "num_fewshot: 0"))
    assert _open(folder, "quiz", "quiz_a").score(model, tokenizer) != first


def test_choices_that_stand_in_the_prompt(folder: Path) -> None:
    """As in WinoGrande: one continuation after each of several contexts; the gold one is told by doc_to_text."""
    rows = [
        {"sentences": ["the capital of France", "the capital of Italy"], "gold": 0, "end": "is Paris"},
        {"sentences": ["2 + 2", "3 + 3"], "gold": 1, "end": "= 6"},
    ]
    (folder / "evaluation" / "ends.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    accuracy = _metrics(("acc", "mean", "true"))
    text = _YAML.format(name="ends", file="ends.jsonl", kind="multiple_choice", metrics=accuracy)
    text = text.replace('"{{question}}"', "gold").replace('"{{gold}}"', "end") + "doc_to_choice: sentences\n"
    (folder / "evaluation" / "ends.yaml").write_text(text)
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size, seed=3)
    found = _open(folder, "ends", "ends").score(model, tokenizer)
    gold = (AnswerItem("the capital of France", " is Paris", "1"), AnswerItem("3 + 3", " = 6", "2"))
    assert found["ends"] == AnswerTask("own", gold).score(model, tokenizer)["own"]


def test_metrics_of_python_functions_beside_the_yaml(folder: Path) -> None:
    path = folder / "evaluation" / "quiz.yaml"
    own = "process_results: !function own.spread\n"
    head, _, tail = path.read_text().partition("metric_list:\n")
    tail = tail[tail.index("metadata:") :]
    path.write_text(head + "metric_list:\n" + _METRIC.format("spread", "mean", "false") + tail + own)
    code = folder / "evaluation" / "own.py"
    code.write_text("def spread(doc, results):\n    return {'spread': max(results)[0] - min(results)[0]}\n")
    tokenizer = word_tokenizer()
    model = llama(tokenizer.vocab_size, seed=3)
    task = _open(folder, "quiz", "quiz_a")
    found = task.score(model, tokenizer)
    assert found["quiz:spread"].value > 0
    assert found["quiz:spread"].standard_error is not None
    code.write_text(code.read_text() + "# changed\n")
    assert _open(folder, "quiz", "quiz_a").fingerprint != task.fingerprint


def test_groups_are_refused(folder: Path) -> None:
    (folder / "evaluation" / "all.yaml").write_text("group: all_of_them\ntask:\n  - quiz_a\n  - text_a\n")
    with pytest.raises(TaskError, match=r"must be a single task of the folder, got 'all_of_them'.*found: answers_a"):
        _open(folder, "quiz", "all_of_them")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("multiple_choice", "generate_until"), "output_type: must ask for likelihoods.*'generate_until'"),
        (("task: quiz_a", "task: quiz_b"), "must be a single task of the folder, got 'quiz_a'.*answers_a, quiz_b"),
        (("quiz.jsonl", "none.jsonl"), "the harness must be able to open it"),
        (("{{gold}}", "{{7 if '3' in question else gold}}"), "document 3: doc_to_target: .* of the 2 choices, got 7"),
        (("{{question}}", "{{question"), "the harness must be able to open it"),
        (("test_split: test", "test_split: validation"), "the harness must be able to open it"),
    ],
)
def test_faults_are_one_line(folder: Path, change: tuple[str, str], message: str) -> None:
    path = folder / "evaluation" / "quiz.yaml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(TaskError, match=message) as error:
        _open(folder, "quiz", "quiz_a")
    assert "\n" not in str(error.value)
    assert "task 'quiz'" in str(error.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"must be a folder of YAML files, got .*evaluation"):
        _open(tmp_path, "quiz", "quiz_a")
