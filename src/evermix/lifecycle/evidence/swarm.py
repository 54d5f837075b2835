"""Evidence by a swarm (Olmix, arXiv 2602.12237): small proxies trained from scratch on designed mixtures.

The model itself is never asked. Proxies are jobs of their own in other processes, named by their content: one that is
finished is never trained again. Losses on decision text are told in nats per token, whatever the objective counts.

A project with one phase keeps its runs in a study, so that the domain set may be updated later and the law reused
(`StudySwarm`); a phase among several has a swarm of its own over its domains (`PhaseSwarm`). Both are decided from by
`deciding`: the law, the pull, the guards and the assessment that the recipe's `decision` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from evermix.deciding.fitting import fit
from evermix.deciding.next_runs import DesignRequest, first_design, runs_for
from evermix.deciding.proposing import propose
from evermix.lifecycle.components import MixtureComponents
from evermix.lifecycle.context import RunContext, by_label
from evermix.lifecycle.evidence.base import DecisionRequest, Evidence
from evermix.lifecycle.evidence.proxies import (
    all_failed,
    as_compute,
    left_out_runs,
    proxy_job,
    run_jobs,
    swarm_decision,
    swarm_record,
    try_tasks,
)
from evermix.lifecycle.evidence.study_swarm import StudySwarm, StudySwarmMeasured
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.swarm_project import study_recipe, swarm_of
from evermix.lifecycle.work import TRAINING, Work
from evermix.measure.swarm import MeasuredProxy, Proxy, Swarm
from evermix.mixture import Mixture
from evermix.models.ladder import counted_parameters
from evermix.observations import Observations
from evermix.recipe import Recipe
from evermix.recipe.decision import ConstraintRecipe, GroupRecipe, StudyRecipe
from evermix.recipe.phases import Phase, base_name
from evermix.results import Compute, Decision
from evermix.results.run_result import EvidenceName
from evermix.results.swarm import LeftOutRun, ProxyCompute


class SwarmEvidence(Evidence):
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
        recipe = context.recipe
        swarm = recipe.swarm.model_dump(mode="json", exclude={"workers", "checkpoints"})
        tasks = [task.model_dump(mode="json") for task in recipe.tasks]
        if context.swarm_project is not None:
            now = context.swarm_project.study.now()
            told = sorted((run.run_id, sorted(run.metrics)) for run in now.state.measured.values())
            return [now.version.number, told, swarm, tasks]
        phase_swarm = PhaseSwarm(context, request.phase)
        earlier = [phase.name for phase in request.earlier]
        return [[proxy.run_id for proxy in phase_swarm.proxies], earlier, swarm, tasks]

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


@dataclass(frozen=True)
class PhaseSwarm:
    """The proxies of a phase. Domains are in the order of the text, so that all orders of phases ask for the same."""

    context: RunContext
    phase: Phase

    @cached_property
    def swarm(self) -> Swarm:
        """What they share; the tasks that decide are scored, where tasks do."""
        context, recipe = self.context, self.context.recipe
        there = {None, *map(base_name, self.phase.domains)}
        decide = recipe.decision.by != "loss"
        tasks = tuple(task for task in recipe.tasks if decide and task.role == "fit" and task.domain in there)
        store = context.store.subset(self.phase.domains)
        asked = recipe.model_copy(update={"tasks": tasks})
        return swarm_of(asked, context.project, store, self.n_tokens)

    @property
    def n_tokens(self) -> int:
        """That the mixture is for: a row counts the most that it may have."""
        return self.phase.n_rows * self.context.store.sequence_length

    @property
    def names(self) -> tuple[str, ...]:
        """Domains, in the order of the text."""
        return self.swarm.store.domains.names

    @cached_property
    def asked(self) -> StudyRecipe:
        """What is asked of the runs: what the recipe says of the domains that the phase has."""
        context, names = self.context, self.names
        recipe = context.recipe.model_copy(update={"tasks": self.swarm.tasks})
        asked = study_recipe(recipe, {name: name for name in names}, self.swarm.store)
        there = set(map(base_name, names))
        changes: dict[str, Any] = {
            "tokens": None,
            "compare": {name: shares for name, shares in asked.compare.items() if there >= set(shares)},
            "design": asked.design.model_copy(update={"caps": by_label(asked.design.caps, names)}),
        }
        if recipe.decision.prior == "start":
            changes["prior"] = dict(context.named_mixture(self.phase).as_dict)
        if recipe.decision.by == "loss":
            weights = dict(zip(names, context.objective(names, "decision").weights, strict=True))
            objective = {"weights": weights, "groups": None, "group_weights": None}
            changes["objective"] = asked.objective.model_copy(update=objective)
        return asked.model_copy(update=changes)

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
        jobs = {proxy.run_id: proxy_job(f"proxy-{proxy.run_id}", proxy) for proxy in self.proxies}
        label = f"{self.phase.name}: {len(jobs)} proxies of {self.context.recipe.swarm.rung}"
        try_tasks(self.context, self.swarm, list(jobs.values()))
        failures = run_jobs(self.context, list(jobs.values()), label, "proxies", self.swarm.n_tokens)
        found = {proxy.run_id: proxy.result() for proxy in self.proxies if jobs[proxy.run_id].finished}
        if not found:
            raise all_failed(self.context, failures)
        paid = [PhaseSwarm(self.context, phase) for phase in earlier if len(phase.domains) > 1]
        return PhaseSwarmMeasured(self, found, tuple(left_out_runs(failures)), self._compute(found, paid))

    def observations(self, measured: Mapping[str, MeasuredProxy]) -> Observations:
        """The finished proxies as runs; losses in nats per token: bits per byte by those of one nat per token."""
        finished = [proxy for proxy in self.proxies if proxy.run_id in measured]
        metrics = tuple(name for metric in self.swarm.metrics for name in metric.names)
        nats = self.context.heldout(self.names, "decision", self.swarm.evaluation_sequences).bits_per_byte_factor
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
        return as_compute(self.proxies)

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """By the recipe's law, under the bounds that the history leaves."""
        names = self.swarm.names
        bounds = context.bounds(state.history, names, (), request.n_rows)
        rules = ConstraintRecipe(
            max_epochs=None,
            floors=dict(zip(names, bounds.lower.tolist(), strict=True)),
            caps=dict(zip(names, bounds.upper.tolist(), strict=True)),
            groups={
                group.name: GroupRecipe(
                    members=tuple(np.array(names)[group.members].tolist()), least=group.lower, greatest=group.upper
                )
                for group in bounds.groups
            },
        )
        asked = self.swarm.asked.model_copy(update={"constraints": rules})
        with context.reporter.part(
            "decision", f"deciding {request.label} by a swarm", asked.resamples or None
        ) as report:
            found = propose(fit(self.observations, asked), progress=lambda done, total: report(done))
        record = swarm_record(self.swarm.swarm, self.swarm.n_tokens, self.proxies, self.proxies, self.left_out)
        return swarm_decision(context, state, request, found, record, self.compute, {name: name for name in names})
