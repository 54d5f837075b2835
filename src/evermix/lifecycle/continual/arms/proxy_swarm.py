"""Arm `proxy-swarm` (OlmixBase, arXiv 2602.12237): at every stage a swarm of small proxies decides the mixture.

Each proxy is trained from scratch on a mixture of the stage's domains, drawn around the natural one, for the swarm's
own budget; a power-link law of the losses on held-out text (nats per token) is fitted to them, and the recipe's
objective is minimised under its constraints, epochs spent before counted. The model itself is never asked. Proxies are
jobs of their own in other processes, named by their content: one that is finished is never trained again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.deciding.fitting import fit
from evermix.deciding.next_runs import DesignRequest, first_design
from evermix.deciding.proposing import AssessedProposal, propose
from evermix.errors import ProjectError
from evermix.executors import Failure, Job, JobEvent, LocalProcesses
from evermix.files import read_record, write_json
from evermix.ledger import content_hash
from evermix.lifecycle.continual.arms.base import Outcome, on_mixture, on_start
from evermix.lifecycle.continual.arms.noting import note_decision
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Cost, Learner
from evermix.lifecycle.olmix.workshop import build_swarm
from evermix.measure.swarm import JOB, Measured, Proxy, Swarm
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.recipe.decision import ConstraintRecipe, StudyRecipe
from evermix.recipe.timeline import Phase

Floats = npt.NDArray[np.float64]
LAW = "power-link"


def proxy_swarm(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Decide the last stage's mixture by a swarm, then train the stage on it."""
    stage = stages[-1]
    if len(stage.domains) < 2:
        return on_start(bench, learner, stage)
    decision = _Decision(bench, stage, _StageSwarm(bench, stage), learner)
    record = decision.record([_StageSwarm(bench, earlier) for earlier in stages[:-1] if len(earlier.domains) > 1])
    mixture, cost = Mixture.from_dict(bench.rows, record["mixture"]), Cost(**record["cost"])
    note_decision(bench, learner, stage, "proxy-swarm", mixture, cost)
    outcome = on_mixture(bench, learner, stage, mixture)
    return replace(outcome, costs=(cost, *outcome.costs), record=record)


@dataclass(frozen=True)
class _StageSwarm:
    """The proxies of a stage. Domains are in the order of the text, so that all orders of phases ask for the same."""

    bench: LifeBench
    stage: Phase

    @cached_property
    def swarm(self) -> Swarm:
        """What they share; tasks are not scored, for the objective is over domains."""
        recipe, store = self.bench.recipe, self.bench.store.subset(self.stage.domains)
        training = self.stage.training.model_copy(update={"tokens": self.stage.n_rows * store.sequence_length})
        return build_swarm(recipe.model_copy(update={"training": training, "tasks": ()}), self.bench.project, store)

    @property
    def names(self) -> tuple[str, ...]:
        return self.swarm.store.domains.names

    @property
    def study(self) -> StudyRecipe:
        return StudyRecipe(law=LAW, prior="natural", resamples=0, seed=self.bench.recipe.seed)

    @cached_property
    def proxies(self) -> tuple[Proxy, ...]:
        """One per mixture of the design: as many as the recipe says, or as the law wants."""
        asked = DesignRequest(self.bench.leaves(self.names), self.bench.recipe.swarm.runs)
        domains = self.swarm.store.domains
        return tuple(self.swarm.proxy(Mixture(domains, m.weights)) for m in first_design(asked, self.study))

    def measure(self) -> tuple[dict[str, Measured], list[Failure]]:
        """Train what is not finished; run id -> what was measured, and the proxies that failed twice.

        Raises:
            ProjectError: if none at all could be measured.
        """
        jobs = {p.run_id: Job(f"proxy-{p.run_id}", JOB, p.arguments, p.marker) for p in self.proxies}
        project, recipe = self.bench.project, self.bench.recipe.swarm
        executor = LocalProcesses(recipe.workers, logs=project.folder / "logs")
        label = f"{self.stage.name}: {len(jobs)} proxies of {recipe.rung}"
        with self.bench.reporter.part("proxies", label, len(jobs), self.swarm.n_tokens) as report:
            failures = executor.run(list(jobs.values()), _Counter(report))
        found = {p.run_id: p.result() for p in self.proxies if jobs[p.run_id].finished}
        if not found:
            raise ProjectError(
                f"{project.folder}: at least one proxy must finish; all {len(jobs)} failed",
                received=failures[0].reason,
                hint=f"the whole trace: {failures[0].log}",
            )
        return found, failures

    def cost(self, measured: Mapping[str, Measured], earlier: Sequence[_StageSwarm]) -> Cost:
        """Training and scoring of the measured proxies, but for what the `earlier` stages of the life have paid for."""
        paid: dict[str, set[str]] = {}
        for each in earlier:
            for proxy in each.proxies:
                paid.setdefault(proxy.run_id, set()).update(metric.key for metric in each.swarm.metrics)
        rows, size = self.swarm.steps * self.swarm.training.batch_sequences, self.swarm.size()
        lengths = dict(zip(self.names, self.swarm.store.mean_lengths.tolist(), strict=True))
        trained, scored, seconds = 0.0, 0, 0.0
        for proxy in (proxy for proxy in self.proxies if proxy.run_id in measured):
            known = paid.get(proxy.run_id, set())
            new = [metric for metric in self.swarm.metrics if metric.key not in known]
            scored += sum(metric.n_tokens for metric in new)
            if known:
                seconds += sum(proxy.scores(metric).record()["seconds"] for metric in new)
            else:
                trained += rows * sum(share * lengths[name] for name, share in proxy.shares.items())
                seconds += measured[proxy.run_id].seconds
        return Cost("proxies", size.training(trained) + size.evaluation(scored), trained + scored, seconds)


@dataclass(frozen=True)
class _Decision:
    """A stage's mixture from its swarm; kept, so that it is made once."""

    bench: LifeBench
    stage: Phase
    swarm: _StageSwarm
    learner: Learner

    def record(self, earlier: Sequence[_StageSwarm]) -> dict[str, Any]:
        """The decision; what `earlier` stages have asked for costs nothing."""
        marker = self.bench.project.run_folder(f"swarm-{self._key(earlier)}") / "done.json"
        if not marker.exists():
            write_json(marker, self._decide(earlier))
        return read_record(marker, "mixture", "cost")

    @cached_property
    def _bounds(self) -> Bounds:
        return self.bench.bounds(self.learner.life, self.swarm.names, (), self.stage.n_rows)

    def _key(self, earlier: Sequence[_StageSwarm]) -> str:
        return content_hash(
            {
                "stage": self.stage.name,
                "proxies": [str(proxy.marker.relative_to(proxy.folder.parent)) for proxy in self.swarm.proxies],
                "earlier": [each.stage.name for each in earlier],
                "objective": self.bench.recipe.objective.model_dump(mode="json"),
                "bounds": [
                    [bound.hex() for bound in side.tolist()] for side in (self._bounds.lower, self._bounds.upper)
                ],
                "study": self.swarm.study.model_dump(mode="json"),
            }
        )

    def _decide(self, earlier: Sequence[_StageSwarm]) -> dict[str, Any]:
        measured, failures = self.swarm.measure()
        observations = self._observations(measured)
        with self.bench.reporter.part("decision", f"deciding {self.stage.name} by a swarm", None):
            found = self._proposed(observations)
        names, proposal = self.swarm.names, found.proposal
        predicted = found.fitted.predict(found.mixture)
        return {
            "law": found.fitted.law_name,
            "mixture": {name: share for name, share in found.mixture.as_dict.items() if share > 0},
            "kl": found.kl.source,
            "binding": list(proposal.binding),
            "status": proposal.status,
            "predicted_loss_nats": dict(zip(found.fitted.observations.metrics, predicted.tolist(), strict=True)),
            "proxies": {
                proxy.run_id: {"shares": dict(proxy.shares), "loss_nats": dict(zip(names, row, strict=True))}
                for proxy, row in zip(self._finished(measured), observations.values.tolist(), strict=True)
            },
            "left_out": {failure.job.key: failure.reason for failure in failures},
            "cost": vars(self.swarm.cost(measured, earlier)),
        }

    def _finished(self, measured: Mapping[str, Measured]) -> list[Proxy]:
        return [proxy for proxy in self.swarm.proxies if proxy.run_id in measured]

    def _observations(self, measured: Mapping[str, Measured]) -> Observations:
        """Losses in nats per token: bits per byte, over the bits per byte of one nat per token."""
        names, proxies = self.swarm.names, self._finished(measured)
        factor = self.bench.heldout(names, self.swarm.swarm.evaluation_sequences).bits_per_byte_factor
        bits = np.array([[measured[proxy.run_id].metrics[name] for name in names] for proxy in proxies])
        weights = np.array([[proxy.shares.get(name, 0.0) for name in names] for proxy in proxies])
        return Observations(self.bench.leaves(names), weights, names, bits / factor)

    def _proposed(self, observations: Observations) -> AssessedProposal:
        """The study's fit and proposal, with the life's objective and bounds in the place of a study's."""
        fitted = fit(observations, self.swarm.study)
        fitted = replace(fitted, objective=self.bench.objective(fitted.observations.metrics))
        floors, caps = (
            dict(zip(self.swarm.names, side.tolist(), strict=True)) for side in (self._bounds.lower, self._bounds.upper)
        )
        rules = ConstraintRecipe(max_epochs=None, floors=floors, caps=caps)
        return propose(fitted, self.swarm.study.model_copy(update={"constraints": rules}))


@dataclass
class _Counter:
    """Follows jobs: the bar counts finished ones."""

    report: Any
    done: int = 0

    def __call__(self, event: JobEvent) -> None:
        if event.kind in ("finished", "skipped"):
            self.done += 1
            self.report(self.done)
