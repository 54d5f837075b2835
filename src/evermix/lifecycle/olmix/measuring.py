"""Measuring: the study asks, proxies are trained as independent jobs, the study is told.

What is on disk counts: a proxy whose marker is there is told without being trained, so that a killed run goes on where
it stopped and a mixture that was measured in an earlier era, or for another strategy, costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evermix.errors import ProjectError
from evermix.executors import Executor, Job, JobEvent
from evermix.ledger import content_hash
from evermix.lifecycle.olmix.workshop import Workshop, held_out_metrics
from evermix.measure.swarm import JOB, Measured, Metric, Proxy
from evermix.study import Asked


@dataclass(frozen=True)
class LeftOutRun:
    """A proxy that failed twice: its mixture goes unmeasured, and the law is fitted without it."""

    run_id: str
    reason: str
    log: str


def measure_design(shop: Workshop, executor: Executor) -> tuple[LeftOutRun, ...]:
    """Train and score every proxy that the study still waits for; those that failed twice.

    Raises:
        ProjectError: if none at all could be measured.
    """
    if shop.study.remaining:
        shop.study.ask(shop.study.remaining)
    asked = shop.study.pending()
    jobs = _Jobs(shop, asked)
    left_out = jobs.run(executor, f"{len(asked)} proxies of {shop.swarm.training.rung}") if asked else ()
    if left_out and len(left_out) == len(asked):
        raise ProjectError(
            f"{shop.project.folder}: at least one proxy must finish; all {len(asked)} failed",
            received=left_out[0].reason,
            hint=f"the whole trace: {left_out[0].log}",
        )
    return left_out


def score_earlier(shop: Workshop, executor: Executor) -> tuple[LeftOutRun, ...]:
    """Score earlier proxies on the metrics that came with an update; their weights are kept, nothing is trained.

    Only of runs that count in the current era, and only where a metric's name is new: a removal scores nothing.
    """
    names = {name for metric in shop.swarm.metrics for name in _names(shop, metric)}
    told, proxies, jobs = shop.study.now().state.told, {}, []
    known = _known_metrics(shop)
    for entry in shop.project.ledger.entries("proxy"):
        proxy = Proxy(shop.swarm, {}, kept_as=entry.payload["proxy"])
        if entry.key in told and not names <= known[entry.key] and proxy.is_trained:
            proxies[entry.key] = proxy
            jobs.append(_job(entry.key, proxy))
    if not jobs:
        return ()
    with shop.reporter.part("swarm", "scoring earlier proxies on what is new", len(jobs)) as report:
        failures = executor.run(_distinct(jobs), _Counter(report, {}))
    failed = {failure.job.marker for failure in failures}
    for run_id, proxy in proxies.items():
        if proxy.marker not in failed:
            _tell_more(shop, run_id, known[run_id], proxy.result())
    return tuple(LeftOutRun(f.job.key, f.reason, str(f.log)) for f in failures)


def _known_metrics(shop: Workshop) -> dict[str, set[str]]:
    """Run id -> metrics that its proxy was scored on so far."""
    entries = shop.project.ledger.entries()
    known = {entry.key: set(entry.payload["metrics"]) for entry in entries if entry.kind == "proxy"}
    for entry in entries:
        if entry.kind == "rescore":
            known[entry.key.rpartition(":")[0]] |= set(entry.payload["metrics"])
    return known


@dataclass(frozen=True)
class _Jobs:
    """The asked runs as jobs; each is told as soon as it is finished."""

    shop: Workshop
    asked: Sequence[Asked]

    def run(self, executor: Executor, detail: str) -> tuple[LeftOutRun, ...]:
        proxies = {run.run_id: self.shop.swarm.proxy(run.mixture) for run in self.asked}
        by_marker: dict[str, list[str]] = {}
        for run_id, proxy in proxies.items():
            by_marker.setdefault(str(proxy.marker), []).append(run_id)

        def finished(job: Job) -> None:
            for run_id in by_marker[str(job.marker)]:
                tell(self.shop, run_id, proxies[run_id].result())

        with self.shop.reporter.part("swarm", detail, len(by_marker), self.shop.swarm.n_tokens) as report:
            jobs = _distinct([_job(run_id, proxy) for run_id, proxy in proxies.items()])
            failures = executor.run(jobs, _Counter(report, {}, finished))
        for failure in failures:
            record = {"run": failure.job.key, "reason": failure.reason, "log": str(failure.log)}
            self.shop.project.ledger.append("failure", content_hash([failure.job.key, record]), record)
        return tuple(LeftOutRun(f.job.key, f.reason, str(f.log)) for f in failures)


@dataclass
class _Counter:
    """Follows jobs: the bar counts finished ones and the finished parts of those at work."""

    report: Any
    parts: dict[str, float]
    finished: Any = None
    done: int = 0

    def __call__(self, event: JobEvent) -> None:
        if event.kind in ("finished", "skipped"):
            self.parts.pop(event.job.key, None)
            self.done += 1
            if self.finished is not None:
                self.finished(event.job)
        elif event.kind == "progress" and event.total:
            self.parts[event.job.key] = event.done / event.total
        elif event.kind in ("retried", "failed"):
            self.parts.pop(event.job.key, None)
        self.report(self.done + sum(self.parts.values()))


def tell(shop: Workshop, run_id: str, measured: Measured) -> None:
    """Tell the study what is fitted; the ledger keeps all of it, with its cost."""
    metrics = _named(shop, measured.metrics)
    record = {
        "proxy": measured.run_id,
        "metrics": metrics,
        "n_tokens": measured.n_tokens,
        "flops": measured.flops,
        "seconds": measured.seconds,
    }
    shop.project.ledger.append("proxy", run_id, record)
    shop.study.tell(run_id, _fitted(shop, metrics), n_tokens=measured.n_tokens)


def _tell_more(shop: Workshop, run_id: str, known: Collection[str], measured: Measured) -> None:
    """Told before it is recorded as done, so that a kill in between loses nothing: telling twice is harmless."""
    new = {name: value for name, value in _named(shop, measured.metrics).items() if name not in known}
    scored = [metric for metric in shop.swarm.metrics if not _names(shop, metric) <= set(known)]
    if fitted := _fitted(shop, new):
        shop.study.tell(run_id, fitted)
    flops = shop.proxy_size.evaluation(sum(metric.n_tokens for metric in scored))
    key = f"{run_id}:{content_hash([metric.key for metric in shop.swarm.metrics])}"
    shop.project.ledger.append("rescore", key, {"metrics": new, "flops": flops})


def _named(shop: Workshop, metrics: Mapping[str, float]) -> dict[str, float]:
    """By the names that tell a revised domain's text from what it was."""
    return {shop.metric_names.get(name, name): value for name, value in metrics.items()}


def _names(shop: Workshop, metric: Metric) -> set[str]:
    """The same for the metrics that one scoring gives."""
    return {shop.metric_names.get(name, name) for name in metric.names}


def _fitted(shop: Workshop, metrics: Mapping[str, float]) -> dict[str, float]:
    """Without the tasks that only the report sees."""
    hidden = held_out_metrics(shop.recipe)
    return {name: value for name, value in metrics.items() if _task_of(name, hidden) not in hidden}


def _task_of(metric: str, tasks: frozenset[str]) -> str:
    return metric if metric in tasks else metric.rpartition(":")[0]


def _job(run_id: str, proxy: Proxy) -> Job:
    return Job(run_id, JOB, proxy.arguments, proxy.marker)


def _distinct(jobs: Sequence[Job]) -> list[Job]:
    """One job per marker: the same mixture asked for twice is one proxy."""
    return list({str(job.marker): job for job in reversed(jobs)}.values())[::-1]
