"""The swarm of a project with one phase: its runs are told to a study, so that the domain set may be updated later."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from evermix.deciding.proposing import AssessedProposal
from evermix.errors import ConstraintError, ConvergenceError, ObservationError, ProjectError
from evermix.executors import Failure, Job
from evermix.ledger import Ledger, content_hash
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.base import DecisionRequest
from evermix.lifecycle.evidence.proxies import (
    all_failed,
    as_compute,
    distinct_jobs,
    left_out_runs,
    proxy_job,
    run_jobs,
    swarm_decision,
    swarm_record,
    try_tasks,
)
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.swarm_project import SwarmProject, held_out_tasks
from evermix.measure.swarm import MeasuredProxy, Metric, Proxy
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.results import Compute, Decision
from evermix.results.swarm import Agreement, DiagnosisView, LeftOutRun, ProxyCompute, SwarmRecord
from evermix.study import Diagnosis, Trial
from evermix.trust.references import run_objective

_FEWEST = 4  # runs that a rank correlation is told for
_CARRIED = "the mixture was carried over without runs: a removal renormalises it"


@dataclass(frozen=True)
class StudySwarm:
    """The study asks, proxies are trained as independent jobs, the study is told.

    What is on disk counts: a proxy whose marker is there is told without being trained, so that a killed run goes on
    where it stopped and a mixture that was measured for an earlier version, or another strategy, costs nothing.
    """

    context: RunContext
    project: SwarmProject

    def measure(self) -> StudySwarmMeasured:
        """Measure what the study's version needs; what was done before is not done again.

        Raises:
            ProjectError: if no proxy could be measured, or those measured before are of another size or budget.
        """
        study = self.project.study
        self._check_one_budget()
        left_out = self._score_earlier() if study.version.number else ()
        if study.version.carried is None:
            left_out += self._measure_design()
            if self._recompute_what_pays():
                left_out += self._measure_design()
        return StudySwarmMeasured(self, left_out)

    def _check_one_budget(self) -> None:
        """ProjectError if proxies that count are of another size or budget than those that would now be trained."""
        size, n_tokens = self.project.proxy_size.counted, self.project.swarm.n_tokens
        for run, _ in self.project.study.now().state.carried.rows:
            if run.n_parameters not in (None, size) or run.n_tokens not in (None, n_tokens):
                raise ProjectError(
                    f"proxies must be of one size and budget, that of run {run.run_id}: {run.n_parameters:,} "
                    f"parameters and {run.n_tokens:,} tokens",
                    received=f"{size:,} parameters and {n_tokens:,} tokens",
                    hint="put the keys of `swarm` back, or choose another `project:`",
                )

    def _measure_design(self) -> tuple[LeftOutRun, ...]:
        """Train and score every proxy that the study still waits for; those that failed."""
        study = self.project.study
        if study.remaining:
            study.ask(study.remaining)
        asked = study.pending()
        if not asked:
            return ()
        failures = self._train(asked, f"{len(asked)} proxies of {self.project.swarm.training.rung}")
        if failures and len(failures) == len(asked):
            raise all_failed(self.context, failures)
        return tuple(left_out_runs(failures))

    def _train(self, asked: Sequence[Trial], detail: str) -> list[Failure]:
        """The asked runs as jobs; each is told as soon as it is finished."""
        proxies = {run.run_id: self.project.swarm.proxy(run.mixture) for run in asked}
        by_marker: dict[str, list[str]] = {}
        for run_id, proxy in proxies.items():
            by_marker.setdefault(str(proxy.marker), []).append(run_id)

        def finished(job: Job) -> None:
            for run_id in by_marker[str(job.marker)]:
                self._tell(run_id, proxies[run_id].result())

        jobs = distinct_jobs([proxy_job(run_id, proxy) for run_id, proxy in proxies.items()])
        try_tasks(self.context, self.project.swarm, jobs)
        failures = run_jobs(self.context, jobs, detail, "swarm", self.project.swarm.n_tokens, finished)
        for failure in failures:
            record = {"run": failure.job.key, "reason": failure.reason, "log": str(failure.log)}
            self._ledger.append("failure", content_hash([failure.job.key, record]), record)
        return failures

    def _score_earlier(self) -> tuple[LeftOutRun, ...]:
        """Score earlier proxies on the metrics that came with an update; their weights are kept, nothing is trained.

        Only of runs that count today, and only where a metric's name is new: a removal scores nothing.
        """
        names = {name for metric in self.project.swarm.metrics for name in self._names(metric)}
        told, proxies, jobs = self.project.study.now().state.measured, {}, []
        known = self._known_metrics()
        for entry in self._ledger.entries("proxy"):
            proxy = Proxy(self.project.swarm, {}, kept_as=entry.payload["proxy"])
            if entry.key in told and not names <= known[entry.key] and proxy.is_trained:
                proxies[entry.key] = proxy
                jobs.append(proxy_job(entry.key, proxy))
        if not jobs:
            return ()
        try_tasks(self.context, self.project.swarm, jobs)
        failures = run_jobs(self.context, distinct_jobs(jobs), "scoring earlier proxies on what is new", "swarm")
        failed = {failure.job.marker for failure in failures}
        for run_id, proxy in proxies.items():
            if proxy.marker not in failed:
                self._tell_more(run_id, known[run_id], proxy.result())
        return tuple(left_out_runs(failures))

    def _known_metrics(self) -> dict[str, set[str]]:
        """Run id -> metrics that its proxy was scored on so far."""
        entries = self._ledger.entries()
        known = {entry.key: set(entry.payload["metrics"]) for entry in entries if entry.kind == "proxy"}
        for entry in entries:
            if entry.kind == "rescore":
                known[entry.key.rpartition(":")[0]] |= set(entry.payload["metrics"])
        return known

    def _tell(self, run_id: str, measured: MeasuredProxy) -> None:
        """Tell the study what is fitted; the ledger keeps all of it, with its cost."""
        metrics = self._named(measured.metrics)
        record = {
            "proxy": measured.run_id,
            "metrics": metrics,
            "n_tokens": measured.n_tokens,
            "flops": measured.flops,
            "seconds": measured.seconds,
        }
        self._ledger.append("proxy", run_id, record)
        size = self.project.proxy_size.counted
        self.project.study.tell(run_id, self._fitted(metrics), n_tokens=measured.n_tokens, n_parameters=size)

    def _tell_more(self, run_id: str, known: Collection[str], measured: MeasuredProxy) -> None:
        """Told before it is recorded as done, so that a kill in between loses nothing: telling twice is harmless."""
        new = {name: value for name, value in self._named(measured.metrics).items() if name not in known}
        scored = [metric for metric in self.project.swarm.metrics if not self._names(metric) <= set(known)]
        if fitted := self._fitted(new):
            self.project.study.tell(run_id, fitted)
        flops = self.project.proxy_size.evaluation(sum(metric.n_tokens for metric in scored))
        key = f"{run_id}:{content_hash([metric.key for metric in self.project.swarm.metrics])}"
        self._ledger.append("rescore", key, {"metrics": new, "flops": flops})

    def _named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By the names that tell a revised domain's text from what it was, decision text in nats per token."""
        nats, names = self.project.nats_per_bit, self.project.metric_names
        return {names.get(name, name): value * nats.get(name, 1.0) for name, value in metrics.items()}

    def _names(self, metric: Metric) -> set[str]:
        """The names of the metrics that one scoring gives."""
        return {self.project.metric_names.get(name, name) for name in metric.names}

    def _fitted(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Without the tasks that only the report sees."""
        hidden = held_out_tasks(self.project.recipe)
        return {name: value for name, value in metrics.items() if _task_of(name, hidden) not in hidden}

    def _recompute_what_pays(self) -> tuple[str, ...]:
        """With strategy auto, once per update: take out of the bundle what is worth its runs; those domains.

        Where the runs cannot tell (too few, or no law can be fitted to all of them), nothing is.
        """
        study, reporter = self.project.study, self.context.reporter
        if study.version.strategy != "auto" or study.version.is_recomputation or study.space is None:
            return ()
        try:
            with reporter.part("decision", "judging what to recompute", None):
                names = study.recompute()
        except (ObservationError, ConvergenceError, ConstraintError) as error:
            reporter.say(f"nothing is recomputed, for what it is worth is unknown: {error}")
            return ()
        if names:
            reporter.say(f"recomputed, because it is worth its runs: {', '.join(names)}")
        return names

    def diagnosis(self) -> Diagnosis | None:
        """What keeping fixed ratios cost, as far as the runs can tell."""
        reporter = self.context.reporter
        if self.project.study.space is None:
            return None
        try:
            with reporter.part("decision", "diagnosing reuse", None):
                return self.project.study.diagnose()
        except (ObservationError, ConvergenceError, ConstraintError) as error:
            reporter.say(f"no diagnosis of reuse: {error}")
            return None

    def compute(self) -> tuple[ProxyCompute, ProxyCompute]:
        """What the proxies of today's version cost, and those of all versions."""
        entries = self._ledger.entries()
        proxies = {entry.key: entry.payload for entry in entries if entry.kind == "proxy"}
        rescored = math.fsum(entry.payload["flops"] for entry in entries if entry.kind == "rescore")
        now = self.project.study.now()
        numbers = {now.version.number} | ({now.version.parent} if now.version.is_recomputation else set())
        here = [run_id for run_id, told in now.state.measured.items() if told.version in numbers]
        return _proxy_compute([proxies[key] for key in here if key in proxies]), _proxy_compute(
            list(proxies.values()), rescored
        )

    def agreements(self, found: AssessedProposal) -> dict[str, Agreement]:
        """Per metric of a held-out task: how its ranking of the runs agrees with the fitted objective (Spearman)."""
        hidden = held_out_tasks(self.project.recipe)
        if not hidden:
            return {}
        fitted = found.fitted
        observations = fitted.observations
        objective = run_objective(observations, fitted.objective, fitted.law.predict(observations.weights))
        proxies = {entry.key: entry.payload for entry in self._ledger.entries() if entry.kind == "proxy"}
        rows = [
            (value, proxies[run_id]["metrics"])
            for run_id, value in zip(observations.run_ids or (), objective.values.tolist(), strict=True)
            if run_id in proxies
        ]
        names = [name for name in dict.fromkeys(n for _, m in rows for n in m) if name.split(":")[0] in hidden]
        maximised = {name for metric in self.project.swarm.metrics for name in metric.maximised}
        agreements = {}
        for name in names:
            pairs = np.array([(value, metrics[name]) for value, metrics in rows if name in metrics])
            if len(pairs) >= _FEWEST and np.ptp(pairs[:, 1]) > 0:
                rank = float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
                agreements[name] = Agreement(agreement=-rank if name in maximised else rank, n_runs=len(pairs))
        return agreements

    @property
    def _ledger(self) -> Ledger:
        return self.context.project.ledger


@dataclass(frozen=True)
class StudySwarmMeasured:
    """A study whose runs are told."""

    swarm: StudySwarm
    left_out: tuple[LeftOutRun, ...]

    @property
    def observations(self) -> Observations:
        """The told runs that count today."""
        return self.swarm.project.study.observations()[0]

    @property
    def compute(self) -> Compute:
        """Of today's version of the domain set."""
        return as_compute(self.swarm.compute()[0])

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """What the study proposes, which its ledger keeps; or the mixture that a removal carried over."""
        study, swarm = self.swarm.project.study, self.swarm
        resamples = context.recipe.decision.resamples or None
        if study.version.carried is not None:
            return self._carried(context, state, request, study.version.carried)
        with context.reporter.part("decision", "proposing a mixture", resamples) as report:
            found = study.propose(progress=lambda done, total: report(done))
        diagnosis = swarm.diagnosis()
        record = self._record(diagnosis, swarm.agreements(found))
        names = self.swarm.project.metric_names
        return swarm_decision(context, state, request, found, record, self.compute, names)

    def _record(self, diagnosis: Diagnosis | None, agreements: dict[str, Agreement]) -> SwarmRecord:
        study = self.swarm.project.study
        here, everywhere = self.swarm.compute()
        project = self.swarm.project
        record = swarm_record(project.swarm, project.recipe.training.tokens, here, everywhere, self.left_out)
        return record.model_copy(
            update={
                "version": study.version.number,
                "strategy": study.version.strategy,
                "recomputed": tuple(study.version.recomputed),
                "diagnosis": None if diagnosis is None else DiagnosisView.model_validate(diagnosis.as_dict),
                "held_out_tasks": agreements,
            }
        )

    def _carried(self, context: RunContext, state: ModelState, request: DecisionRequest, mixture: Mixture) -> Decision:
        shares = Mixture.from_dict(request.components.components, mixture.as_dict)
        return Decision(
            **request.describe(context, state, shares),
            evidence="swarm",
            mode="carried over",
            status="carried over",
            assessment_absent=_CARRIED,
            swarm=self._record(None, {}),
            compute=self.compute,
        )


def _proxy_compute(proxies: Sequence[Mapping[str, Any]], rescored: float = 0.0) -> ProxyCompute:
    """Runs, tokens, FLOPs and seconds, each distinct training once; and FLOPs of scoring old runs anew.

    In whatever order workers finished: the sums are exact.
    """
    distinct = {proxy["proxy"]: proxy for proxy in proxies}.values()
    return ProxyCompute(
        n_runs=len(proxies),
        n_trained=len(distinct),
        n_tokens=sum(proxy["n_tokens"] for proxy in distinct),
        flops=math.fsum(proxy["flops"] for proxy in distinct) + rescored,
        seconds=math.fsum(proxy["seconds"] for proxy in distinct),
    )


def _task_of(metric: str, tasks: frozenset[str]) -> str:
    return metric if metric in tasks else metric.rpartition(":")[0]
