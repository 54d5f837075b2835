"""Swarm: many small proxies, each trained on one mixture and scored on every metric (Olmix, arXiv 2602.12237).

A proxy is a job of its own, named by its content: the text that it is trained on, the model, the settings and the seed.
Its weights are kept, so that a metric that appears later (a new domain's held-out text, a new task) costs an evaluation
and no training. Layout of `runs/proxy-<id>/`:
    config.json               what is trained, for people
    weights/                  safetensors; `trained.json` beside them is written last
    scores/<metric>.json      one metric's values, named by the metric's content
    measured-<metrics>.json   the marker: all wanted metrics together
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evermix.corpus.store import TokenStore
from evermix.errors import CorpusError
from evermix.files import read_record, remove_tree, write_json
from evermix.ledger import content_hash
from evermix.measure.metrics import Metric, open_metrics
from evermix.mixture import Mixture
from evermix.models.ladder import build_model
from evermix.models.loading import load_to_score
from evermix.recipe.swarm import ProxyTraining
from evermix.recipe.tasks import TaskRecipe
from evermix.schedule import MixtureSchedule
from evermix.training.checkpoints import full_disk_named
from evermix.training.flops import ModelSize
from evermix.training.learning_rate import LearningRate
from evermix.training.segment import Optimisation, Segment, spread_steps, train_segment

_VERSION = 1  # raise it when the same configuration would give other weights
_TRAINED = "trained.json"
JOB = "evermix.measure.swarm:measure_proxy"
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Swarm:
    """What the proxies of a swarm share.

    Attributes:
        store: the text of all domains; shrunk where epochs are simulated.
        training: model, steps, optimiser.
        seed: of initial weights and of the order of the sequences; alike in all proxies (common random numbers).
        evaluation_sequences: held-out sequences per domain that a proxy is scored on.
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
        """Everything a proxy is scored on: held-out text of every domain, then tasks."""
        return open_metrics(self.store, self.evaluation_sequences, self.tasks, self.base)

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
                "version": _VERSION,
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
    def marker(self) -> Path:
        """There if and only if it is trained and scored on every metric of the swarm."""
        wanted = content_hash([metric.key for metric in self.swarm.metrics])
        return self.folder / f"measured-{wanted}.json"

    @property
    def is_trained(self) -> bool:
        """Whether its weights are there."""
        return (self.folder / _TRAINED).exists()

    @property
    def arguments(self) -> dict[str, Any]:
        """What a worker needs, as JSON."""
        swarm = self.swarm
        return {
            "shares": dict(self.shares),
            "kept_as": self.kept_as,
            "store": {"folder": str(swarm.store.folder), **swarm.store.manifest, "limits": swarm.store.train_limits},
            "training": swarm.training.model_dump(mode="json"),
            "steps": swarm.steps,
            "seed": swarm.seed,
            "evaluation_sequences": swarm.evaluation_sequences,
            "tasks": [task.model_dump(mode="json") for task in swarm.tasks],
            "base": str(swarm.base),
            "runs": str(swarm.runs),
        }

    def result(self) -> Measured:
        """The finished proxy.

        Raises:
            FileNotFoundError: if it is not finished.
            ProjectError: if its record is damaged.
        """
        record = read_record(self.marker, "metrics", "n_tokens", "flops", "seconds")
        return Measured(self.run_id, record["metrics"], record["n_tokens"], record["flops"], record["seconds"])


@dataclass(frozen=True)
class Measured:
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
    trained = _trained(proxy, report)
    scores: dict[str, float] = {}
    scoring_seconds, model = 0.0, None
    for metric in swarm.metrics:
        kept = proxy.folder / "scores" / f"{metric.key}.json"
        if not kept.exists():
            model = model or load_to_score(proxy.folder / "weights")
            started = time.monotonic()
            values = metric.score(model)
            write_json(kept, {"values": values, "seconds": time.monotonic() - started})
        record = read_record(kept, "values", "seconds")
        scores |= record["values"]
        scoring_seconds += record["seconds"]
    size, n_scored = swarm.size(), sum(metric.n_tokens for metric in swarm.metrics)
    write_json(
        proxy.marker,
        {
            "metrics": scores,
            "n_tokens": swarm.n_tokens,
            "flops": size.training(swarm.n_tokens) + size.evaluation(n_scored),
            "seconds": trained["seconds"] + scoring_seconds,
        },
    )


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


def _trained(proxy: Proxy, report: Report) -> dict[str, Any]:
    """The record of the trained proxy; trains it if it is not there."""
    marker = proxy.folder / _TRAINED
    if not marker.exists():
        if proxy.kept_as is not None:
            raise CorpusError("an earlier proxy's weights must be there to be scored anew", received=str(proxy.folder))
        proxy.folder.mkdir(parents=True, exist_ok=True)
        settings = proxy.swarm.training.model_dump(mode="json")
        write_json(proxy.folder / "config.json", {"shares": proxy.shares, "steps": proxy.swarm.steps, **settings})
        model = proxy.swarm.build()
        started = time.monotonic()
        progress = train_segment(
            model, proxy._store, _segment(proxy), proxy.folder, report=lambda step: report(step, proxy.swarm.steps)
        )
        with full_disk_named(proxy.folder):
            model.save_pretrained(proxy.folder / "weights")
        write_json(marker, {"seconds": max(progress.seconds, time.monotonic() - started)})
        for checkpoint in proxy.folder.glob("checkpoint-*"):
            remove_tree(checkpoint)
    return read_record(marker, "seconds")


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
    return Segment(MixtureSchedule.constant(mixture), steps, optimisation, swarm.seed, (), tuple(checkpoints))
