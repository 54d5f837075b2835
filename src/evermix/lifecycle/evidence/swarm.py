"""Evidence by a swarm (Olmix, arXiv 2602.12237): small proxies trained from scratch on designed mixtures.

The model itself is never asked. Proxies are jobs of their own in other processes, named by their content: one that is
finished is never trained again. Losses on held-out text are told in nats per token, whatever the objective counts.

A project with one phase keeps its runs in a study, so that the domain set may be updated later and the law reused
(`StudySwarm`); a phase among several has a swarm of its own over its domains (`PhaseSwarm`). Both are decided from by
`deciding`: the law, the pull, the guards and the assessment that the recipe's `decision` asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from evermix.deciding.fitting import fit
from evermix.deciding.next_runs import DesignRequest, first_design, runs_for
from evermix.deciding.proposing import AssessedProposal, propose
from evermix.errors import ConstraintError, ConvergenceError, ObservationError, ProjectError
from evermix.executors import Failure, Job, JobEvent, LocalProcesses
from evermix.ledger import content_hash
from evermix.lifecycle.components import MixtureComponents
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.base import DecisionRequest, finite, positive
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.swarm_project import SwarmProject, held_out_tasks, study_recipe, swarm_of
from evermix.lifecycle.work import TRAINING, Work
from evermix.measure.swarm import JOB, MeasuredProxy, Metric, Proxy, Swarm
from evermix.mixture import Mixture
from evermix.models.ladder import counted_parameters
from evermix.observations import Observations
from evermix.recipe import Recipe
from evermix.recipe.decision import ConstraintRecipe, StudyRecipe
from evermix.recipe.phases import Phase
from evermix.results import Compute, Decision
from evermix.results.run_result import EvidenceName
from evermix.results.swarm import Agreement, DiagnosisView, LeftOutRun, ProxyCompute, SwarmRecord
from evermix.study import Asked, Diagnosis
from evermix.trust.references import run_objective
from evermix.version import TRAINING_VERSION

Floats = npt.NDArray[np.float64]
_FEWEST = 4  # runs that a rank correlation is told for
_CARRIED = "the mixture was carried over without runs: a removal renormalises it"


class SwarmEvidence:
    """A swarm of small proxies, before a phase begins."""

    name: EvidenceName = "swarm"

    def request(
        self, context: RunContext, state: ModelState, phases: Sequence[Phase], arm: str
    ) -> DecisionRequest | None:
        """The share of every domain of the phase, by itself."""
        phase = phases[-1]
        if len(phase.domains) < 2:
            return None
        components = MixtureComponents.of_all(context, state.history, phase.domains)
        prior = context.named_mixture(phase, "start")
        label = f"before {phase.name}"
        return DecisionRequest(arm, phase, components, phase.n_rows, prior, label, earlier=tuple(phases[:-1]))

    def identity(self, context: RunContext, state: ModelState, request: DecisionRequest) -> list[Any]:
        """What the study knows, or which proxies the phase's swarm has."""
        swarm = context.recipe.swarm.model_dump(mode="json", exclude={"workers", "checkpoints"})
        if context.swarm_project is not None:
            now = context.swarm_project.study.now()
            told = sorted((run.run_id, sorted(run.metrics)) for run in now.state.told.values())
            return ["study", TRAINING_VERSION, now.era.number, told, swarm]
        phase_swarm = PhaseSwarm(context, request.phase)
        earlier = [phase.name for phase in request.earlier]
        return ["swarm", TRAINING_VERSION, [proxy.run_id for proxy in phase_swarm.proxies], earlier, swarm]

    def is_complete(self, context: RunContext, request: DecisionRequest) -> bool:
        """Not while a run that was asked for is missing: it failed, and is tried again."""
        if context.swarm_project is not None:
            study = context.swarm_project.study
            return not study.remaining and not study.pending()
        return all(proxy.marker.exists() for proxy in PhaseSwarm(context, request.phase).proxies)

    def measure(
        self, context: RunContext, state: ModelState, request: DecisionRequest
    ) -> StudySwarmMeasured | PhaseSwarmMeasured:
        """Train and score every proxy that is not there yet.

        Raises:
            ProjectError: if none at all could be measured.
        """
        if context.swarm_project is not None:
            return StudySwarm(context, context.swarm_project).measure()
        return PhaseSwarm(context, request.phase).measure(request.earlier)

    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """So many proxies for their budget; nothing over a single domain."""
        if len(phase.domains) < 2:
            return []
        size = counted_parameters(recipe.swarm.rung, recipe.tokenizer.vocab_size)
        n_runs = planned_runs(recipe, len(phase.domains))
        return [Work("proxies", n_runs * recipe.swarm.n_tokens(size), TRAINING, size)]


def planned_runs(recipe: Recipe, n_domains: int) -> int:
    """Proxies of a first swarm: the recipe's number, or what its law wants."""
    return recipe.swarm.runs or runs_for(n_domains, recipe.decision)


# A phase among several


@dataclass(frozen=True)
class PhaseSwarm:
    """The proxies of a phase. Domains are in the order of the text, so that all orders of phases ask for the same."""

    context: RunContext
    phase: Phase

    @cached_property
    def swarm(self) -> Swarm:
        """What they share; tasks are scored where they decide."""
        context, recipe = self.context, self.context.recipe
        there = {None, *(name for name in self.phase.domains)}
        tasks = tuple(t for t in recipe.tasks if recipe.decision.by != "loss" and t.domain in there)
        store = context.store.subset(self.phase.domains)
        asked = recipe.model_copy(update={"tasks": tasks})
        return swarm_of(asked, context.project, store, self.phase.n_rows * store.sequence_length)

    @property
    def names(self) -> tuple[str, ...]:
        """Domains, in the order of the text."""
        return self.swarm.store.domains.names

    @cached_property
    def asked(self) -> StudyRecipe:
        """What is asked of the runs."""
        names = {name: name for name in self.names}
        recipe = self.context.recipe.model_copy(update={"tasks": self.swarm.tasks})
        asked = study_recipe(recipe, names, self.swarm.store)
        return asked.model_copy(update={"tokens": None})

    @cached_property
    def proxies(self) -> tuple[Proxy, ...]:
        """One per mixture of the design: as many as the recipe says, or as the law wants."""
        request = DesignRequest(self.context.leaves(self.names), self.context.recipe.swarm.runs)
        domains = self.swarm.store.domains
        return tuple(self.swarm.proxy(Mixture(domains, m.weights)) for m in first_design(request, self.asked))

    def measure(self, earlier: Sequence[Phase]) -> PhaseSwarmMeasured:
        """Train what is not finished.

        Raises:
            ProjectError: if none at all could be measured.
        """
        jobs = {proxy.run_id: _job(f"proxy-{proxy.run_id}", proxy) for proxy in self.proxies}
        label = f"{self.phase.name}: {len(jobs)} proxies of {self.context.recipe.swarm.rung}"
        failures = _run(self.context, list(jobs.values()), label, "proxies", self.swarm.n_tokens)
        found = {proxy.run_id: proxy.result() for proxy in self.proxies if jobs[proxy.run_id].finished}
        if not found:
            raise _all_failed(self.context, failures)
        paid = [PhaseSwarm(self.context, phase) for phase in earlier if len(phase.domains) > 1]
        return PhaseSwarmMeasured(self, found, tuple(_left_out(failures)), self._compute(found, paid))

    def observations(self, measured: Mapping[str, MeasuredProxy]) -> Observations:
        """The finished proxies as runs; losses in nats per token: bits per byte by those of one nat per token."""
        finished = [proxy for proxy in self.proxies if proxy.run_id in measured]
        metrics = tuple(name for metric in self.swarm.metrics for name in metric.names)
        nats = self.context.heldout(self.names, self.swarm.evaluation_sequences).bits_per_byte_factor
        per_metric = dict.fromkeys(metrics, 1.0) | dict(zip(self.names, nats.tolist(), strict=True))
        values = [[measured[p.run_id].metrics[name] / per_metric[name] for name in metrics] for p in finished]
        weights = [[proxy.shares.get(name, 0.0) for name in self.names] for proxy in finished]
        maximise = self.asked.objective.maximised(metrics)
        run_ids = tuple(proxy.run_id for proxy in finished)
        return Observations(
            self.context.leaves(self.names),
            np.array(weights),
            metrics,
            np.array(values),
            maximised=maximise,
            run_ids=run_ids,
        )

    def _compute(self, measured: Mapping[str, MeasuredProxy], earlier: Sequence[PhaseSwarm]) -> ProxyCompute:
        """Training and scoring of the measured proxies, but for what the `earlier` phases have paid for."""
        paid: dict[str, set[str]] = {}
        for each in earlier:
            for proxy in each.proxies:
                paid.setdefault(proxy.run_id, set()).update(metric.key for metric in each.swarm.metrics)
        rows, size = self.swarm.steps * self.swarm.training.batch_sequences, self.swarm.size()
        lengths = dict(zip(self.names, self.swarm.store.mean_lengths.tolist(), strict=True))
        trained, scored, seconds, n_trained = 0.0, 0, 0.0, 0
        finished = [proxy for proxy in self.proxies if proxy.run_id in measured]
        for proxy in finished:
            known = paid.get(proxy.run_id, set())
            new = [metric for metric in self.swarm.metrics if metric.key not in known]
            scored += sum(metric.n_tokens for metric in new)
            if known:
                seconds += sum(proxy.scores(metric).record()["seconds"] for metric in new)
            else:
                n_trained += 1
                trained += rows * sum(share * lengths[name] for name, share in proxy.shares.items())
                seconds += measured[proxy.run_id].seconds
        flops = size.training(trained) + size.evaluation(scored)
        return ProxyCompute(
            n_runs=len(finished), n_trained=n_trained, n_tokens=trained + scored, flops=flops, seconds=seconds
        )


@dataclass(frozen=True)
class PhaseSwarmMeasured:
    """A phase's finished proxies."""

    swarm: PhaseSwarm
    measured: Mapping[str, MeasuredProxy]
    left_out: tuple[LeftOutRun, ...]
    proxies: ProxyCompute

    @cached_property
    def observations(self) -> Observations:
        """The finished proxies as runs."""
        return self.swarm.observations(self.measured)

    @property
    def compute(self) -> Compute:
        """Of the proxies that no earlier phase has paid for."""
        return _as_compute(self.proxies)

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """By the recipe's law, under the bounds that the history leaves."""
        names = self.swarm.names
        bounds = context.bounds(state.history, names, (), request.n_rows)
        rules = ConstraintRecipe(
            max_epochs=None,
            floors=dict(zip(names, bounds.lower.tolist(), strict=True)),
            caps=dict(zip(names, bounds.upper.tolist(), strict=True)),
            groups=context.recipe.constraints.groups,
        )
        asked = self.swarm.asked.model_copy(update={"constraints": rules})
        with context.reporter.part(
            "decision", f"deciding {request.label} by a swarm", asked.resamples or None
        ) as report:
            found = propose(fit(self.observations, asked), progress=lambda done, total: report(done))
        record = _swarm_record(self.swarm.swarm, self.proxies, self.proxies, self.left_out)
        return _decision(context, state, request, found, record, self.compute, {name: name for name in names})


# A project of one phase, whose domain set may be updated


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
            ProjectError: if no proxy could be measured.
        """
        study = self.project.study
        left_out = self._score_earlier() if study.era.number else ()
        if study.era.carried is None:
            left_out += self._measure_design()
            if self._recompute_what_pays():
                left_out += self._measure_design()
        return StudySwarmMeasured(self, left_out)

    def _measure_design(self) -> tuple[LeftOutRun, ...]:
        """Train and score every proxy that the study still waits for; those that failed twice."""
        study = self.project.study
        if study.remaining:
            study.ask(study.remaining)
        asked = study.pending()
        if not asked:
            return ()
        failures = self._train(asked, f"{len(asked)} proxies of {self.project.swarm.training.rung}")
        if failures and len(failures) == len(asked):
            raise _all_failed(self.context, failures)
        return tuple(_left_out(failures))

    def _train(self, asked: Sequence[Asked], detail: str) -> list[Failure]:
        """The asked runs as jobs; each is told as soon as it is finished."""
        proxies = {run.run_id: self.project.swarm.proxy(run.mixture) for run in asked}
        by_marker: dict[str, list[str]] = {}
        for run_id, proxy in proxies.items():
            by_marker.setdefault(str(proxy.marker), []).append(run_id)

        def finished(job: Job) -> None:
            for run_id in by_marker[str(job.marker)]:
                self._tell(run_id, proxies[run_id].result())

        jobs = _distinct([_job(run_id, proxy) for run_id, proxy in proxies.items()])
        failures = _run(self.context, jobs, detail, "swarm", self.project.swarm.n_tokens, finished)
        for failure in failures:
            record = {"run": failure.job.key, "reason": failure.reason, "log": str(failure.log)}
            self._ledger.append("failure", content_hash([failure.job.key, record]), record)
        return failures

    def _score_earlier(self) -> tuple[LeftOutRun, ...]:
        """Score earlier proxies on the metrics that came with an update; their weights are kept, nothing is trained.

        Only of runs that count today, and only where a metric's name is new: a removal scores nothing.
        """
        names = {name for metric in self.project.swarm.metrics for name in self._names(metric)}
        told, proxies, jobs = self.project.study.now().state.told, {}, []
        known = self._known_metrics()
        for entry in self._ledger.entries("proxy"):
            proxy = Proxy(self.project.swarm, {}, kept_as=entry.payload["proxy"])
            if entry.key in told and not names <= known[entry.key] and proxy.is_trained:
                proxies[entry.key] = proxy
                jobs.append(_job(entry.key, proxy))
        if not jobs:
            return ()
        failures = _run(self.context, _distinct(jobs), "scoring earlier proxies on what is new", "swarm")
        failed = {failure.job.marker for failure in failures}
        for run_id, proxy in proxies.items():
            if proxy.marker not in failed:
                self._tell_more(run_id, known[run_id], proxy.result())
        return tuple(_left_out(failures))

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
        self.project.study.tell(run_id, self._fitted(metrics), n_tokens=measured.n_tokens)

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
        """By the names that tell a revised domain's text from what it was, held-out text in nats per token."""
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
        if study.era.strategy != "auto" or study.era.is_release or study.space is None:
            return ()
        try:
            with reporter.part("decision", "judging what to recompute", None):
                names = study.release()
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
        rescored = sum(entry.payload["flops"] for entry in entries if entry.kind == "rescore")
        now = self.project.study.now()
        numbers = {now.era.number} | ({now.era.parent} if now.era.is_release else set())
        here = [run_id for run_id, told in now.state.told.items() if told.era in numbers]
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
    def _ledger(self) -> Any:
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
        return _as_compute(self.swarm.compute()[0])

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """What the study proposes, which its ledger keeps; or the mixture that a removal carried over."""
        study, swarm = self.swarm.project.study, self.swarm
        resamples = context.recipe.decision.resamples or None
        if study.era.carried is not None:
            return self._carried(context, state, request, study.era.carried)
        with context.reporter.part("decision", "proposing a mixture", resamples) as report:
            found = study.propose(progress=lambda done, total: report(done))
        diagnosis = swarm.diagnosis()
        record = self._record(diagnosis, swarm.agreements(found))
        names = self.swarm.project.metric_names
        return _decision(context, state, request, found, record, self.compute, names)

    def _record(self, diagnosis: Diagnosis | None, agreements: dict[str, Agreement]) -> SwarmRecord:
        study = self.swarm.project.study
        here, everywhere = self.swarm.compute()
        record = _swarm_record(self.swarm.project.swarm, here, everywhere, self.left_out)
        return record.model_copy(
            update={
                "simulated_epoching": self.swarm.project.recipe.swarm.simulated_epoching,
                "version": study.era.number,
                "strategy": study.era.strategy,
                "recomputed": tuple(study.era.released),
                "diagnosis": None if diagnosis is None else _diagnosis_view(diagnosis),
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


# What both share


def _decision(
    context: RunContext,
    state: ModelState,
    request: DecisionRequest,
    found: AssessedProposal,
    record: SwarmRecord,
    compute: Compute,
    metric_names: Mapping[str, str],
) -> Decision:
    """The record of a proposal from runs."""
    fitted, proposal = found.fitted, found.proposal
    predicted = dict(zip(fitted.observations.metrics, fitted.predict(found.mixture).tolist(), strict=True))
    shares = Mixture.from_dict(request.components.components, found.mixture.as_dict)
    losses = {name: predicted[metric] for name, metric in metric_names.items() if metric in predicted}
    rows = {row.name: row for row in found.comparison.rows}
    return Decision(
        **request.describe(context, state, shares),
        evidence="swarm",
        mode=fitted.law_name,
        prior=positive(fitted.prior.mixture),
        kl_weight=found.kl.weight,
        kl_source=found.kl.source,
        binding=proposal.binding,
        status=proposal.status,
        predicted_loss_nats={name: losses[name] for name in request.phase.domains if name in losses},
        predicted_objective={
            ("chosen" if name == "proposal" else name): finite(row.objective_value) for name, row in rows.items()
        },
        assessment_absent=None if found.bootstrap is not None else "no resamples were asked for",
        proposal=found.view,
        swarm=record,
        compute=compute,
    )


def _swarm_record(
    swarm: Swarm, here: ProxyCompute, everywhere: ProxyCompute, left_out: Sequence[LeftOutRun]
) -> SwarmRecord:
    size = swarm.size()
    return SwarmRecord(
        rung=swarm.training.rung,
        non_embedding=size.non_embedding,
        output_projection=size.output_projection,
        steps=swarm.steps,
        tokens_per_proxy=swarm.n_tokens,
        simulated_epoching=False,
        metrics=tuple(name for metric in swarm.metrics for name in metric.names),
        this_version=here,
        all_versions=everywhere,
        left_out=tuple(left_out),
    )


def _diagnosis_view(diagnosis: Diagnosis) -> DiagnosisView:
    content = diagnosis.as_dict
    return DiagnosisView.model_validate(
        {k: v for k, v in content.items() if k != "release"} | {"recompute": content["release"]}
    )


def _proxy_compute(proxies: Sequence[Mapping[str, Any]], rescored: float = 0.0) -> ProxyCompute:
    """Runs, tokens, FLOPs and seconds, each distinct training once; and FLOPs of scoring old runs anew."""
    distinct = {proxy["proxy"]: proxy for proxy in proxies}.values()
    return ProxyCompute(
        n_runs=len(proxies),
        n_trained=len(distinct),
        n_tokens=sum(proxy["n_tokens"] for proxy in distinct),
        flops=sum(proxy["flops"] for proxy in distinct) + rescored,
        seconds=sum(proxy["seconds"] for proxy in distinct),
    )


def _as_compute(proxies: ProxyCompute) -> Compute:
    return Compute.of("proxies", proxies.flops, proxies.n_tokens, proxies.seconds)


def _run(
    context: RunContext,
    jobs: Sequence[Job],
    label: str,
    part: str,
    n_tokens: int = 0,
    finished: Callable[[Job], None] | None = None,
) -> list[Failure]:
    """Run jobs on the processes of this machine, as many at once as the recipe says."""
    executor = LocalProcesses(context.recipe.swarm.workers, logs=context.project.folder / "logs")
    with context.reporter.part(part, label, len(jobs), n_tokens) as report:
        return executor.run(jobs, _Counter(report, {}, finished))


@dataclass
class _Counter:
    """Follows jobs: the bar counts finished ones and the finished parts of those at work."""

    report: Any
    parts: dict[str, float]
    finished: Callable[[Job], None] | None = None
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


def _all_failed(context: RunContext, failures: Sequence[Failure]) -> ProjectError:
    return ProjectError(
        f"{context.project.folder}: at least one proxy must finish; all {len(failures)} failed",
        received=failures[0].reason,
        hint=f"the whole trace: {failures[0].log}",
    )


def _left_out(failures: Sequence[Failure]) -> list[LeftOutRun]:
    return [LeftOutRun(run_id=f.job.key, reason=f.reason, log=str(f.log)) for f in failures]


def _task_of(metric: str, tasks: frozenset[str]) -> str:
    return metric if metric in tasks else metric.rpartition(":")[0]


def _job(run_id: str, proxy: Proxy) -> Job:
    return Job(run_id, JOB, proxy.arguments, proxy.marker)


def _distinct(jobs: Sequence[Job]) -> list[Job]:
    """One job per marker: the same mixture asked for twice is one proxy."""
    return list({str(job.marker): job for job in reversed(jobs)}.values())[::-1]
