"""Tasks of lm-evaluation-harness (extra `eval`), scored with our likelihoods and the harness's own metrics.

First metric: bits per byte of the gold continuations, the harness's delimiter included, as of kind `answer`. Further
ones: `name:metric` for each of the task's `metric_list`, computed by the harness. A task must ask for likelihoods:
output types multiple_choice, loglikelihood and loglikelihood_rolling. A YAML file may name Python functions, which are
run: such a folder is code, to be trusted like code.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError, to_install
from evermix.files import placed
from evermix.recipe.measured import TaskRecipe
from evermix.tasks.base import MetricInfo, Render, Score, evenly_spaced, task_fingerprint
from evermix.tasks.likelihood import Continuation, Likelihoods, count_tokens, log_likelihoods
from evermix.tasks.likelihood_tasks import bits_per_byte, mean_score

FEWSHOT_SEED = 1234
"""The harness's own default: the same examples stand before a question each time."""
_UNITS = {"bits_per_byte": "bits per byte", "byte_perplexity": "per byte", "word_perplexity": "per word"}
_OUTPUT_TYPES = ("multiple_choice", "loglikelihood", "loglikelihood_rolling")


@dataclass(frozen=True, eq=False)
class HarnessTask:
    """One task of the harness.

    Attributes:
        name: its name in the recipe.
        fingerprint: 16 hex digits over requests, gold answers, metrics and the harness's version.
        metrics: bits per byte of the gold answers, then the harness's own.
        task: the harness's object.
        gold: for each document, in order, which of its requests holds the gold answer.
        documents: positions of the documents that are scored; None: all.
    """

    name: str
    fingerprint: str
    metrics: tuple[MetricInfo, ...]
    task: Any
    gold: tuple[int, ...]
    documents: tuple[int, ...] | None

    @classmethod
    def open(cls, recipe: TaskRecipe, base: Path, render: Render | None) -> Self:
        """A task of the harness by its name in a folder of YAML files, or among those that come with the harness.

        `data_files` of a YAML file are found from its own folder; prompts stay as the harness writes them.

        Raises:
            TaskError: evermix[eval] is not installed; there is no such task; its data cannot be read; it asks for
                written text; or a document has no gold answer among its choices.
        """
        if find_spec("lm_eval") is None:
            raise TaskError(
                f"task '{recipe.name}': kind lm-eval must have lm-evaluation-harness",
                hint=to_install("eval"),
            )
        own_name = recipe.task or recipe.name
        with _faults_of(recipe.name), _harness_manners():
            task = _load(recipe, own_name, None if recipe.folder is None else placed(recipe.folder, base))
            return cls(recipe.name, *_opened(recipe, task))

    def n_tokens(self, tokenizer: TextTokenizer) -> int:
        """Tokens that a model reads for one scoring if all texts fit into its context."""
        return count_tokens(tokenizer, [_continuation_of(request.args, self.name) for request in self.task.instances])

    def score(self, model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
        """Every metric under `model`; the standard error of a harness metric is None unless it is a mean over items.

        Raises:
            TaskError: an answer has no tokens or no finite likelihood.
            TokenizerError: the model does not know every token.
        """
        lm = _harness_model(model, tokenizer, f"task '{self.name}'")
        with _harness_manners():
            own_name = str(self.task.task_name)
            self.task.set_fewshot_seed(FEWSHOT_SEED)
            report = import_module("lm_eval.evaluator").evaluate(
                lm,
                {"tasks": {own_name: self.task}, "groups": {}, "group_map": {}},
                samples=None if self.documents is None else {own_name: list(self.documents)},
                bootstrap_iters=0,
            )
        samples = report["samples"][own_name]
        first_filter = samples[0]["filter"]
        samples = [sample for sample in samples if sample["filter"] == first_filter]
        scores = {self.name: self._bits_per_byte(samples)}
        for metric in self.metrics[1:]:
            key = metric.name.removeprefix(f"{self.name}:")
            value = float(report["results"][own_name][f"{key},{first_filter}"])
            scores[metric.name] = Score(value, _standard_error(samples, key, value), len(samples))
        return scores

    def _bits_per_byte(self, samples: Sequence[Any]) -> Score:
        nats, n_bytes = [], []
        for sample, gold in zip(samples, self.gold, strict=True):
            response = sample["resps"][gold][0]
            nats.append(response[0] if isinstance(response, tuple | list) else response)
            n_bytes.append(_continuation_of(sample["arguments"][gold], self.name).n_bytes)
        return bits_per_byte(np.array(nats), np.array(n_bytes, dtype=np.float64))


@contextlib.contextmanager
def _harness_manners() -> Iterator[None]:
    """No progress bars of the harness, and Python's random state as it was: it draws names for its tasks from it."""
    state = random.getstate()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        random.setstate(state)


def _continuation_of(arguments: Sequence[str], place: str) -> Continuation:
    """What a request asks for: (context, continuation), or (text,) where all of it is scored."""
    prompt, answer = arguments[:2] if len(arguments) > 1 else ("", arguments[0])
    return Continuation(prompt, answer, place)


def _standard_error(samples: Sequence[Any], key: str, value: float) -> float | None:
    """That of the mean over documents, if the metric is one; else None."""
    values = [sample[key] for sample in samples if isinstance(sample.get(key), Real)]
    if len(values) < len(samples):
        return None
    mean = mean_score(np.array(values, dtype=np.float64))
    return mean.standard_error if abs(mean.value - value) <= 1e-9 * max(1.0, abs(value)) else None


class _LikelihoodAnswers:
    """What the harness asks of a model, by our scoring; requests are its `Instance`s, whose `args` are texts."""

    def __init__(self, model: PreTrainedModel, tokenizer: TextTokenizer, place: str) -> None:
        super().__init__()
        self.model, self.tokenizer, self.place = model, tokenizer, place

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """(ln p of the continuation after its context, whether greedy decoding writes it) of each request."""
        found = self._scored(requests)
        return list(zip(found.nats.tolist(), found.is_greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """ln p of each whole text; one longer than the context slides through it by half a context."""
        return [float(nats) for nats in self._scored(requests).nats]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: TaskError."""
        raise TaskError(f"{self.place}: a task must ask for likelihoods, not for written text")

    def _scored(self, requests: Sequence[Any]) -> Likelihoods:
        asked = [_continuation_of(r.args, f"{self.place}, document {r.doc_id}") for r in requests]
        return log_likelihoods(self.model, self.tokenizer, asked)


def _harness_model(model: PreTrainedModel, tokenizer: TextTokenizer, place: str) -> Any:
    """A model as the harness sees it: an instance of its class `LM`, which only evermix[eval] has."""
    lm: Any = import_module("lm_eval.api.model").LM

    class HarnessModel(_LikelihoodAnswers, lm):
        """Answers of `_LikelihoodAnswers`, all else by the harness."""

    return HarnessModel(model, tokenizer, place)


_Opened = tuple[str, tuple[MetricInfo, ...], Any, tuple[int, ...], tuple[int, ...] | None]


def _opened(recipe: TaskRecipe, task: Any) -> _Opened:
    """The fields of a `HarnessTask` after its name, in order."""
    if task.OUTPUT_TYPE not in _OUTPUT_TYPES:
        raise TaskError(
            f"task '{recipe.name}': output_type: must ask for likelihoods ({', '.join(_OUTPUT_TYPES)})",
            received=task.OUTPUT_TYPE,
        )
    documents = tuple(evenly_spaced(range(len(task.eval_docs)), recipe.max_items)) if recipe.max_items else None
    task.set_fewshot_seed(FEWSHOT_SEED)
    task.build_all_requests(samples=None if documents is None else list(documents), rank=0, world_size=1)
    by_document = [list(group) for _, group in groupby(task.instances, key=lambda request: request.doc_id)]
    gold = tuple(_gold(recipe.name, task, requests) for requests in by_document)
    metrics = (MetricInfo(recipe.name, "bits per byte", maximised=False), *_metrics(recipe.name, task, by_document))
    content = [
        version("lm_eval"),
        [[list(map(str, request.args)) for request in requests] for requests in by_document],
        gold,
        [[metric.name.removeprefix(recipe.name), metric.maximised] for metric in metrics],
        _code_beside(task),
    ]
    return task_fingerprint("lm-eval", content), metrics, task, gold, documents


def _load(recipe: TaskRecipe, own_name: str, folder: Path | None) -> Any:
    """The harness's task object."""
    if folder is not None and not folder.is_dir():
        raise TaskError(f"task '{recipe.name}': folder: must be a folder of YAML files", received=str(folder))
    manager = _own_manager() if folder is None else _manager(include_path=str(folder), include_defaults=False)
    entry = manager.task_index.get(own_name)
    if entry is None or entry.kind.name not in ("TASK", "PY_TASK"):
        known = manager.all_subtasks if folder is not None else get_close_matches(own_name, manager.all_subtasks)
        raise TaskError(
            f"task '{recipe.name}': task: must be a single task of the {'harness' if folder is None else 'folder'}",
            received=own_name,
            hint=f"found: {', '.join(known[:20]) or 'none of that name'}",
        )
    given = (entry.cfg or {}).get("dataset_kwargs") or {}
    overrides: dict[str, Any] = {"task": own_name}
    if folder is not None and "data_files" in given:
        place = entry.yaml_path.parent
        overrides["dataset_kwargs"] = {**given, "data_files": _from_folder(given["data_files"], place)}
    # A group of one: the public way to load a task of the index with changed keys.
    return manager.load({"group": f"evermix {own_name}", "task": [overrides]})["tasks"][own_name]


def _manager(include_path: str | None, include_defaults: bool) -> Any:
    """The harness's index of tasks."""
    return import_module("lm_eval.tasks").TaskManager(include_path=include_path, include_defaults=include_defaults)


@cache
def _own_manager() -> Any:
    """The tasks that come with the harness; reading thousands of files takes half a minute, so once in a process."""
    return _manager(include_path=None, include_defaults=True)


def _code_beside(task: Any) -> list[str]:
    """The Python files beside the task's YAML file, which may hold functions that it names."""
    source = (task.get_config("metadata") or {}).get("config_source")
    folder = Path(source).parent if source and Path(source).is_file() else None
    return [file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))] if folder else []


def _from_folder(files: Any, folder: Path) -> Any:
    """`data_files` with every path that exists below `folder` made absolute."""
    if isinstance(files, Mapping):
        return {split: _from_folder(part, folder) for split, part in files.items()}
    if isinstance(files, list):
        return [_from_folder(part, folder) for part in files]
    return str((folder / files).resolve()) if any(folder.glob(files)) else files


def _gold(name: str, task: Any, requests: Sequence[Any]) -> int:
    """Which of a document's requests holds the gold answer; the first one if several are right."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0
    document = requests[0].doc
    target = task.doc_to_text(document) if getattr(task, "multiple_input", 0) else task.doc_to_target(document)
    choices = task.doc_to_choice(document)
    if isinstance(target, list | tuple) and target:
        target = target[0]
    position = choices.index(target) if isinstance(target, str) and target in choices else target
    if isinstance(position, bool) or not isinstance(position, int) or not 0 <= position < len(choices):
        raise TaskError(
            f"task '{name}', document {requests[0].doc_id}: doc_to_target: must be one of the {len(choices)} choices",
            received=target,
        )
    return int(position)


def _metrics(name: str, task: Any, by_document: Sequence[Sequence[Any]]) -> Iterator[MetricInfo]:
    """The harness's own metrics; accuracies of choices have a chance level."""
    better = task.higher_is_better()
    for metric in task.aggregation():
        chance = None
        if metric.startswith("acc") and task.OUTPUT_TYPE == "multiple_choice":
            chance = sum(1 / len(task.doc_to_choice(requests[0].doc)) for requests in by_document) / len(by_document)
        unit = "fraction" if metric.startswith(("acc", "exact_match")) else _UNITS.get(metric, metric)
        yield MetricInfo(f"{name}:{metric}", unit, bool(better[metric]), chance)


@contextlib.contextmanager
def _faults_of(name: str) -> Iterator[None]:
    """What the harness, its data reader and its templates raise, as one line."""
    kinds: tuple[type[Exception], ...] = (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        import_module("jinja2").TemplateError,
        import_module("datasets").exceptions.DatasetsError,
    )
    try:
        yield
    except kinds as error:
        reason = " ".join(str(error).split())[:300]
        raise TaskError(
            f"task '{name}': the harness must be able to open it ({type(error).__name__}: {reason})"
        ) from error
