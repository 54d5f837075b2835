"""Swarm: many small proxies, each trained on one mixture and scored on every metric (Olmix, arXiv 2602.12237).

A proxy is a job of its own, named by its content: the text that it is trained on, the model, the settings and the seed.
Its weights are kept, so that a metric that appears later (a new domain's decision text, a new task) costs an evaluation
and no training. Layout of `runs/proxy-<id>/`:
    config.json           what is trained, for people
    weights/              safetensors; `done.json` beside them is written last and holds their hashes
    scores/<metric>/      one metric's values, named by the metric's content
    measured-<metrics>/   all wanted metrics together; its `done.json` is what an executor waits for

Before the first of them is trained, tasks are tried on an untrained proxy (`runs/untrained-<tasks>/`): a scorer that
fails does so before anything is paid for.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedModel

from evermix.corpus.store import TokenStore
from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import CorpusError, RecipeError, TaskError
from evermix.executors.job import CachedJob
from evermix.files import remove_tree, write_json
from evermix.ledger import content_hash
from evermix.mixture import Mixture
from evermix.models.ladder import ModelSize, build_model
from evermix.models.loading import load_to_score
from evermix.recipe.measured import ProxyTraining, TaskRecipe
from evermix.schedule import MixtureSchedule
from evermix.tasks import Task, open_tasks
from evermix.training.evaluation import HeldoutText, evaluate
from evermix.training.segment import LearningRate, Optimisation, Segment, full_disk_named, spread_steps, train_segment
from evermix.version import TRAINING_VERSION

# ---- metrics: what a proxy is scored on


class Metric(Protocol):
    """Something that a model is scored on.

    Attributes:
        key: hash of its content; a score is kept under it.
        names: of the values that it gives.
        maximised: those of them where higher is better.
        n_tokens: tokens that one scoring reads, for counting FLOPs.
    """

    @property
    def key(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def maximised(self) -> frozenset[str]: ...

    @property
    def n_tokens(self) -> int: ...

    def score(self, model: PreTrainedModel) -> Mapping[str, float]:
        """Names and values, in the metrics' own units."""
        ...


@dataclass(frozen=True)
class DecisionTextMetric:
    """Bits per byte of one domain's decision text; named as the domain."""

    store: TokenStore
    domain: str
    most: int

    @cached_property
    def _text(self) -> HeldoutText:
        return HeldoutText.from_store(self.store.subset((self.domain,)), "decision", self.most)

    @property
    def key(self) -> str:
        """Depends on the domain's text, the tokenizer and the number of sequences."""
        return content_hash([self.store.subset((self.domain,)).manifest, self.most])

    @property
    def names(self) -> tuple[str, ...]:
        """The domain's name."""
        return (self.domain,)

    @property
    def maximised(self) -> frozenset[str]:
        """None: fewer bits are better."""
        return frozenset()

    @property
    def n_tokens(self) -> int:
        """Tokens read."""
        return self._text.n_tokens

    def score(self, model: PreTrainedModel) -> Mapping[str, float]:
        """{domain: bits per byte}."""
        return {self.domain: float(evaluate(model, self._text).bits_per_byte[0])}


@dataclass(frozen=True)
class TaskMetric:
    """All metrics of one task."""

    task: Task
    tokenizer: TextTokenizer

    @property
    def key(self) -> str:
        """Depends on the task's items and on the tokenizer."""
        return content_hash([self.task.name, self.task.fingerprint, self.tokenizer.fingerprint])

    @property
    def names(self) -> tuple[str, ...]:
        """The task's metrics."""
        return tuple(metric.name for metric in self.task.metrics)

    @property
    def maximised(self) -> frozenset[str]:
        """Accuracies and their like."""
        return frozenset(metric.name for metric in self.task.metrics if metric.maximised)

    @property
    def n_tokens(self) -> int:
        """Tokens read."""
        return self.task.n_tokens(self.tokenizer)

    def score(self, model: PreTrainedModel) -> Mapping[str, float]:
        """The task's metrics."""
        return {name: score.value for name, score in self.task.score(model, self.tokenizer).items()}


def open_metrics(store: TokenStore, most: int, tasks: Sequence[TaskRecipe], base: Path) -> tuple[Metric, ...]:
    """Decision text of every domain of `store`, at most `most` sequences each, then tasks.

    Raises:
        RecipeError: if a task has the name of a domain.
        TaskError: if a task's file is bad.
    """
    for task in tasks:
        if task.name in store.domains:
            raise RecipeError(
                "a task must not have the name of a domain: both name a metric", received=task.name, hint="rename it"
            )
    heldout = [DecisionTextMetric(store, name, most) for name in store.domains.names]
    return (*heldout, *(TaskMetric(task, store.tokenizer) for task in open_tasks(tasks, base)))


# ---- proxies

JOB, TRIAL = "evermix.measure.swarm:measure_proxy", "evermix.measure.swarm:try_tasks"
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Swarm:
    """What the proxies of a swarm share.

    Attributes:
        store: the text of all domains; shrunk where epochs are simulated.
        training: model, steps, optimiser.
        seed: of initial weights and of the order of the sequences; alike in all proxies (common random numbers).
        evaluation_sequences: sequences of decision text per domain that a proxy is scored on.
        tasks: further metrics; `base` is the folder that their files are relative to.
        runs: folder of the runs.
    """

    store: TokenStore
    training: ProxyTraining
    steps: int
    seed: int
    evaluation_sequences: int
    tasks: tuple[TaskRecipe, ...]
    base: Path
    runs: Path

    @property
    def n_tokens(self) -> int:
        """Tokens that one proxy is trained on."""
        return self.steps * self.training.batch_sequences * self.store.sequence_length

    def size(self) -> ModelSize:
        """Parameters of a proxy."""
        return ModelSize.of(self.build())

    def build(self) -> Any:
        """A proxy before training."""
        store = self.store
        return build_model(self.training.rung, store.vocab_size, store.sequence_length, store.end_id, self.seed)

    @functools.cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Everything a proxy is scored on: decision text of every domain, then tasks."""
        return open_metrics(self.store, self.evaluation_sequences, self.tasks, self.base)

    @property
    def tasks_tried(self) -> CachedJob:
        """The scoring of an untrained proxy on every task."""
        tasks = [metric.key for metric in self.metrics if isinstance(metric, TaskMetric)]
        model = [self.training.rung, self.store.vocab_size, self.store.sequence_length, self.store.end_id, self.seed]
        return CachedJob(self.runs / f"untrained-{content_hash([TRAINING_VERSION, model, tasks])}", ("metrics",))

    @property
    def arguments(self) -> dict[str, Any]:
        """What a worker needs, as JSON."""
        return {
            "store": {"folder": str(self.store.folder), **self.store.manifest, "limits": self.store.train_limits},
            "training": self.training.model_dump(mode="json"),
            "steps": self.steps,
            "seed": self.seed,
            "evaluation_sequences": self.evaluation_sequences,
            "tasks": [task.model_dump(mode="json") for task in self.tasks],
            "base": str(self.base),
            "runs": str(self.runs),
        }

    def proxy(self, mixture: Mixture) -> Proxy:
        """The proxy of one mixture over the store's domains.

        Raises:
            CorpusError: if the mixture is over other domains.
        """
        if mixture.domains.names != self.store.domains.names:
            raise CorpusError(
                "a proxy's mixture must be over the domains of the store, in order", received=mixture.domains.names
            )
        shares = {name: share for name, share in mixture.as_dict.items() if share > 0}
        return Proxy(self, shares)


@dataclass(frozen=True)
class Proxy:
    """One proxy: a swarm's settings and the shares it is trained on (zeros left out).

    Attributes:
        kept_as: run id of a proxy that was trained earlier, perhaps on text that is gone since: it can only be scored.
    """

    swarm: Swarm
    shares: Mapping[str, float]
    kept_as: str | None = None

    @functools.cached_property
    def _store(self) -> TokenStore:
        return self.swarm.store.subset(tuple(self.shares))

    @functools.cached_property
    def run_id(self) -> str:
        """Hash of all that decides its weights; domains without a share decide nothing."""
        if self.kept_as is not None:
            return self.kept_as
        swarm = self.swarm
        return content_hash(
            {
                "version": TRAINING_VERSION,
                "store": self._store.manifest,
                "limits": self._store.train_limits,
                "shares": [self.shares[name].hex() for name in self._store.domains.names],
                "training": swarm.training.model_dump(mode="json", exclude={"checkpoints"}),
                "steps": swarm.steps,
                "seed": swarm.seed,
            }
        )

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.swarm.runs / f"proxy-{self.run_id}"

    @property
    def weights(self) -> CachedJob:
        """Its training, gone on with where it was killed."""
        return CachedJob(self.folder, ("seconds",))

    @property
    def measurement(self) -> CachedJob:
        """All metrics of the swarm together: done if and only if it is trained and scored on every one."""
        wanted = content_hash([metric.key for metric in self.swarm.metrics])
        return CachedJob(self.folder / f"measured-{wanted}", ("metrics", "n_tokens", "flops", "seconds"))

    def scores(self, metric: Metric) -> CachedJob:
        """The scoring on one metric."""
        return CachedJob(self.folder / "scores" / metric.key, ("values", "seconds"))

    @property
    def marker(self) -> Path:
        """What an executor waits for."""
        return self.measurement.marker

    @property
    def is_trained(self) -> bool:
        """Whether its weights are there and whole."""
        return self.weights.is_whole()

    @property
    def arguments(self) -> dict[str, Any]:
        """What a worker needs, as JSON."""
        return {"shares": dict(self.shares), "kept_as": self.kept_as, **self.swarm.arguments}

    def result(self) -> MeasuredProxy:
        """The finished proxy.

        Raises:
            FileNotFoundError: if it is not finished.
            ProjectError: if its record is damaged.
        """
        record = self.measurement.record()
        return MeasuredProxy(self.run_id, record["metrics"], record["n_tokens"], record["flops"], record["seconds"])


@dataclass(frozen=True)
class MeasuredProxy:
    """A finished proxy: metric -> value, tokens trained on, FLOPs and seconds of training and evaluation."""

    run_id: str
    metrics: dict[str, float]
    n_tokens: int
    flops: float
    seconds: float


def measure_proxy(arguments: Mapping[str, Any], report: Report) -> None:
    """Train a proxy unless its weights are there, score what is not scored yet, write the marker; a worker's job."""
    swarm = _swarm(json.dumps({k: v for k, v in arguments.items() if k not in ("shares", "kept_as")}))
    proxy = Proxy(swarm, arguments["shares"], arguments["kept_as"])
    proxy.measurement.run(lambda _: _measure(proxy, report))


def try_tasks(arguments: Mapping[str, Any], report: Report) -> None:
    """Score an untrained proxy on every task, unless that was done; a worker's job.

    Raises:
        TaskError: a task cannot be scored, or gives what is no finite number.
    """
    swarm = _swarm(json.dumps(arguments))
    swarm.tasks_tried.run(lambda folder: _try(swarm, folder, report))


def _try(swarm: Swarm, folder: Path, report: Report) -> dict[str, Any]:
    weights = folder / "weights"
    with full_disk_named(folder):
        swarm.build().save_pretrained(weights)
    model, values = load_to_score(weights), dict[str, float]()
    tasks = [metric for metric in swarm.metrics if isinstance(metric, TaskMetric)]
    for done, metric in enumerate(tasks):
        report(done, len(tasks))
        values |= metric.score(model)
    for name, value in values.items():
        if not math.isfinite(value):
            raise TaskError(
                f"metric '{name}' must be a finite number of any model, an untrained one too", received=value
            )
    remove_tree(weights)
    return {"metrics": values}


def _measure(proxy: Proxy, report: Report) -> dict[str, Any]:
    """The record of a proxy that is trained and scored; what is there already is read."""
    if proxy.kept_as is not None and not proxy.is_trained:
        raise CorpusError("an earlier proxy's weights must be there to be scored anew", received=str(proxy.folder))
    trained = proxy.weights.run(lambda folder: _train(proxy, folder, report), resumable=True)
    swarm, model = proxy.swarm, _Loaded(proxy.folder / "weights")
    records = [proxy.scores(metric).run(functools.partial(_score, metric, model)) for metric in swarm.metrics]
    size, n_scored = swarm.size(), sum(metric.n_tokens for metric in swarm.metrics)
    return {
        "metrics": {name: value for record in records for name, value in record["values"].items()},
        "n_tokens": swarm.n_tokens,
        "flops": size.training(swarm.n_tokens) + size.evaluation(n_scored),
        "seconds": trained["seconds"] + sum(record["seconds"] for record in records),
    }


@dataclass(frozen=True)
class _Loaded:
    """A trained model, loaded when it is first asked for."""

    weights: Path

    @functools.cached_property
    def model(self) -> Any:
        return load_to_score(self.weights)


def _score(metric: Metric, loaded: _Loaded, _: Path) -> dict[str, Any]:
    model = loaded.model
    started = time.monotonic()
    return {"values": metric.score(model), "seconds": time.monotonic() - started}


@functools.lru_cache(maxsize=4)
def _swarm(described: str) -> Swarm:
    """The swarm of a job; a worker opens text and tasks once, not for every job."""
    told = json.loads(described)
    store = TokenStore.from_manifest(Path(told["store"]["folder"]), told["store"])
    if told["store"]["limits"] is not None:
        store = store.limited(told["store"]["limits"])
    return Swarm(
        store,
        ProxyTraining.model_validate(told["training"]),
        told["steps"],
        told["seed"],
        told["evaluation_sequences"],
        tuple(TaskRecipe.model_validate(task) for task in told["tasks"]),
        Path(told["base"]),
        Path(told["runs"]),
    )


def _train(proxy: Proxy, folder: Path, report: Report) -> dict[str, Any]:
    """Train a proxy into `folder`, from the checkpoint that a killed attempt left if there is one."""
    swarm = proxy.swarm
    settings = swarm.training.model_dump(mode="json")
    write_json(folder / "config.json", {"shares": proxy.shares, "steps": swarm.steps, **settings})
    model = swarm.build()
    started = time.monotonic()
    progress = train_segment(
        model, proxy._store, _segment(proxy), folder, report=lambda step: report(step, swarm.steps)
    )
    with full_disk_named(folder):
        model.save_pretrained(folder / "weights")
    seconds = max(progress.seconds, time.monotonic() - started)
    for checkpoint in folder.glob("checkpoint-*"):
        remove_tree(checkpoint)
    return {"seconds": seconds}


def _segment(proxy: Proxy) -> Segment:
    swarm, training, steps = proxy.swarm, proxy.swarm.training, proxy.swarm.steps
    domains = proxy._store.domains
    schedule = LearningRate(
        training.schedule, steps, round(training.warmup_fraction * steps), round(training.decay_fraction * steps)
    )
    optimisation = Optimisation(
        training.learning_rate,
        schedule,
        training.batch_sequences,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
    )
    checkpoints = [step for step in spread_steps(0, steps, steps, training.checkpoints) if step < steps]
    mixture = Mixture.from_dict(domains, proxy.shares)
    schedule_of_mixtures = MixtureSchedule.constant(mixture)
    key = "swarm.learning_rate"
    return Segment(schedule_of_mixtures, steps, optimisation, swarm.seed, (), tuple(checkpoints), learning_rate_key=key)
