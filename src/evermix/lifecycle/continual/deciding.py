"""The decision of a stage: how much of its rows go to the new domains and how much to those learnt before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.ledger import content_hash
from evermix.lifecycle.continual.answering import CountedTask, counted_tasks, with_answers
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Cost, Learner
from evermix.lifecycle.continual.sharing import Sharing
from evermix.lifecycle.decision import DEFAULT_KL, MODES, ModeOutcome, Problem
from evermix.lifecycle.probing import (
    Evidence,
    Probed,
    ProbeNeeds,
    ProbeSet,
    candidate_count,
    plan_probes,
    probe_all,
    probe_settings,
)
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.recipe.timeline import Phase, base_name

Floats = npt.NDArray[np.float64]
_RELEASE_WORTH = 1e-3  # of the predicted objective: what the release of one domain must gain to be made


@dataclass(frozen=True)
class StageDecision:
    """A decided mixture over all texts of the life, what it cost, and its record in the ledger."""

    mixture: Mixture
    costs: tuple[Cost, ...]
    record: dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What is to be decided.

    Attributes:
        stage: in which.
        sharing: among which components.
        n_rows: that the answer is for.
        purities: of the probes.
        prior: what KL pulls towards, over the leaves.
        label: for the reader.
        own_probes: whether released domains have probes of their own.
        n_decisions: of the stage, which share the budget of probes.
        horizon: how many times as far as a probe the training moves a loss.
        tasks: whose accuracy it is for; none: it is for the objective.
    """

    stage: Phase
    sharing: Sharing
    n_rows: int
    purities: tuple[float, ...]
    prior: Mixture
    label: str
    own_probes: bool
    n_decisions: int = 1
    horizon: float = 1.0
    tasks: tuple[CountedTask, ...] = ()

    @property
    def own(self) -> tuple[int | None, ...]:
        """Per metric, the position of its component: those of the domains, then of the tasks' domains, if any."""
        own = self.sharing.own
        by_domain = dict(zip(map(base_name, self.stage.domains), own, strict=True))
        return (*own, *(by_domain.get(each.recipe.domain or "") for each in self.tasks))


def decide_stage(bench: LifeBench, learner: Learner, stage: Phase) -> StageDecision | None:
    """Decide the mixture of a stage by probes of the model; None where nothing learnt before is left to mix in."""
    replay = bench.recipe.replay
    sharing = Sharing.of(bench, learner.life, stage, _released(replay.release, stage))
    if sharing is None or not stage.new:
        return None
    decision = bench.recipe.decision
    prior, own_probes = start_mixture(bench, stage, decision.prior), decision.mode != "probe-law"
    question = Question(
        stage,
        sharing,
        stage.n_rows,
        replay.purities,
        prior,
        f"before {stage.name}",
        own_probes,
        horizon=replay.horizon,
        tasks=counted_tasks(bench, stage),
    )
    return decide(bench, learner, question)


def _released(release: str | tuple[str, ...], stage: Phase) -> tuple[str, ...]:
    """The domains learnt before that are released from the beginning."""
    if isinstance(release, tuple):
        return tuple(name for name in stage.known if base_name(name) in release)
    return stage.known if release == "all" else ()


def decide_on_the_way(bench: LifeBench, learner: Learner, stage: Phase) -> StageDecision:
    """Decide the mixture of the rest of a pretraining, every domain's share anew."""
    decision = bench.recipe.decision
    sharing = Sharing.of_all(bench, learner.life, stage.domains)
    assert sharing is not None  # the pretraining has begun
    prior = start_mixture(bench, stage, decision.prior)
    n_rows = stage.n_rows - learner.step * stage.batch_rows
    label = f"in {stage.name} at step {learner.step}"
    purities = decision.probes.purities
    counted = counted_tasks(bench, stage)
    question = Question(stage, sharing, n_rows, purities, prior, label, True, len(decision.at), tasks=counted)
    return decide(bench, learner, question)


def start_mixture(bench: LifeBench, stage: Phase, named: str | dict[str, float] = "start") -> Mixture:
    """The recipe's start (or natural, uniform) over a stage's domains; shares by name hold for the first stage only."""
    start = bench.recipe.start if named in ("auto", "start") else named
    leaves = bench.leaves(stage.domains)
    if isinstance(start, dict) and not stage.number:
        return Mixture.from_dict(leaves, start)
    return Mixture.natural(leaves) if start == "natural" else Mixture.uniform(leaves)


def decide(bench: LifeBench, learner: Learner, question: Question) -> StageDecision:
    """Answer a question by probes of the learner, or read the answer that was given before."""
    recipe, stage, sharing = bench.recipe, question.stage, question.sharing
    parts = ("decision", "replay", "retention", "objective", "constraints")
    key = content_hash(
        {
            "base": learner.run_id,
            "stage": [stage.name, list(stage.domains), list(stage.new), stage.n_steps, question.n_rows],
            "training": stage.training.model_dump(mode="json"),
            "texts": [[domain.name, domain.fingerprint] for domain in sharing.leaves],
            "prior": dict(question.prior.as_dict),
            "tasks": [[each.task.fingerprint, each.recipe.weight] for each in question.tasks],
            **{part: getattr(recipe, part).model_dump(mode="json") for part in parts},
        }
    )
    kept = bench.project.ledger.find("stage-decision", key)
    if kept is None:
        bench.project.ledger.append("stage-decision", key, _decide(bench, learner, question))
        kept = bench.project.ledger.find("stage-decision", key)
    assert kept is not None  # it was appended a line above
    costs = tuple(Cost(**cost) for cost in kept.payload["costs"])
    return StageDecision(Mixture.from_dict(bench.rows, kept.payload["mixture"]), costs, kept.payload)


def _decide(bench: LifeBench, learner: Learner, question: Question) -> dict[str, Any]:
    mode = bench.recipe.decision.mode
    evidence, answering = _probe(bench, learner, question), list[Cost]()
    if question.tasks:
        evidence, answering = with_answers(bench, evidence, question.tasks)
    started = time.monotonic()
    with bench.reporter.part("decision", f"deciding {question.label} by {mode}", None):
        question, evidence = _with_released(bench, learner, question, evidence)
        problem = _problem(bench, learner, question, evidence)
        outcome = MODES[mode](problem)
    costs = [*_costs(bench, evidence, outcome, time.monotonic() - started), *answering]
    return _record(bench, question, problem, outcome) | {"costs": [vars(cost) for cost in costs]}


def _with_released(
    bench: LifeBench, learner: Learner, question: Question, evidence: Evidence
) -> tuple[Question, Evidence]:
    """With release auto: the question with those domains released that alone lower the predicted objective enough."""
    if bench.recipe.replay.release != "auto" or question.sharing.space is None:
        return question, evidence
    if bench.recipe.decision.mode != "probe-law":
        return question, evidence  # they would need probes of their own

    def released(names: Sequence[str]) -> tuple[Question, Evidence]:
        sharing = Sharing.of(bench, learner.life, question.stage, names)
        assert sharing is not None  # it was not without a release
        return replace(question, sharing=sharing), _seen_through(sharing, evidence)

    def promise(names: Sequence[str]) -> float:
        asked, seen = released(names)
        return MODES["probe-law"](_problem(bench, learner, asked, seen)).proposal.objective_value

    kept = promise(())
    worth = [name for name in question.sharing.space.frozen if promise((name,)) < (1 - _RELEASE_WORTH) * kept]
    return released(worth)


def _seen_through(sharing: Sharing, evidence: Evidence) -> Evidence:
    """The same probes, with their shares of other components."""
    leaves = sharing.leaves
    probes = []
    for probe in evidence.probes:
        mixture = Mixture.from_dict(leaves, {n: probe.component.trained_on[n] for n in leaves.names})
        probes.append(replace(probe, component=replace(probe.component, shares=sharing.shares_of(mixture))))
    return replace(evidence, old=sharing.old_shares, probes=tuple(probes))


def _probe(bench: LifeBench, learner: Learner, question: Question) -> Evidence:
    decision, stage, sharing = bench.recipe.decision, question.stage, question.sharing
    parts = sharing.parts(question.purities, own_probes=question.own_probes)
    everything = bench.heldout(stage.domains)
    needs = ProbeNeeds(
        len(parts),
        candidate_count(decision, len(sharing.components)),
        len(stage.domains),
        stage.batch_rows,
        stage.n_steps,
        question.n_decisions,
    )
    plan = plan_probes(decision, needs, min(len(ids) for ids in everything.sequences))
    settings = probe_settings(decision.probes, plan.steps, stage.training, bench.recipe.seed)
    heldout = bench.heldout(stage.domains, plan.evaluation_sequences)
    over_all = tuple(replace(part, trained_on=bench.over_all(part.trained_on)) for part in parts)
    asked = ProbeSet(sharing.old_shares, over_all, settings, heldout)
    assert learner.checkpoint is not None  # something was learnt before
    return probe_all(bench, Probed(learner.run_id, learner.checkpoint), asked, f"probing {question.label}")


def _problem(bench: LifeBench, learner: Learner, question: Question, evidence: Evidence) -> Problem:
    decision, stage, sharing = bench.recipe.decision, question.stage, question.sharing
    return Problem(
        evidence,
        _objective(bench, question),
        sharing.bounds(bench, learner.life, question.n_rows),
        sharing.prior(question.prior),
        DEFAULT_KL[decision.mode] if decision.given_kl is None else decision.given_kl,
        candidate_count(decision, len(sharing.components)),
        decision.gradient_evaluations,
        bench.recipe.seed + stage.number,
        question.own,
        _ceilings(bench, stage, evidence),
        question.horizon,
    )


def _objective(bench: LifeBench, question: Question) -> Objective:
    """The recipe's over the stage's domains, or the weighted mean of error rates; over all metrics of the evidence."""
    names = question.stage.domains
    if not question.tasks:
        return bench.objective(names)
    weights = {each.task.name: each.recipe.weight for each in question.tasks}
    return Objective.from_dict((*names, *weights), weights, "metric")


def _ceilings(bench: LifeBench, stage: Phase, evidence: Evidence) -> Floats | None:
    """Retention: no domain learnt before may be predicted to be worse than now by more than so many nats."""
    most = bench.recipe.retention.max_rise
    if most is None:
        return None
    known = np.array([name in stage.known for name in stage.domains])
    ceilings = np.full(len(evidence.metrics), np.inf)
    ceilings[: len(known)] = np.where(known, evidence.base_loss_nats + most, np.inf)
    return ceilings


def _costs(bench: LifeBench, evidence: Evidence, outcome: ModeOutcome, seconds: float) -> list[Cost]:
    probe_tokens = sum(probe.n_tokens for probe in evidence.probes)
    read = evidence.heldout.n_tokens * (len(evidence.probes) + 1)
    forward, backward = outcome.n_forward_tokens, outcome.n_backward_tokens
    evaluation = evidence.flops_evaluation + bench.size.evaluation(forward) + bench.size.training(backward)
    return [
        Cost("probes", evidence.flops_training, probe_tokens, evidence.seconds),
        Cost("evaluation", evaluation, read + forward + backward, seconds),
    ]


def _record(bench: LifeBench, question: Question, problem: Problem, outcome: ModeOutcome) -> dict[str, Any]:
    stage, sharing = question.stage, question.sharing
    names, proposal = stage.domains, outcome.proposal
    leaves = sharing.expand(proposal.mixture)
    predicted = outcome.predict(proposal.mixture.weights)
    losses = predicted[: len(names)]
    return {
        "stage": stage.name,
        "label": question.label,
        "mode": bench.recipe.decision.mode,
        "new": list(stage.new),
        "released": list(sharing.released),
        "shares": dict(proposal.mixture.as_dict),
        "new_share": float(sum(leaves[name] for name in stage.new)),
        "mixture": {name: share for name, share in leaves.as_dict.items() if share > 0},
        "old": dict(sharing.old.as_dict),
        "prior": dict(problem.prior.as_dict),
        "kl_weight": proposal.kl_weight,
        "binding": list(proposal.binding),
        "status": proposal.status,
        "base_loss_nats": dict(zip(names, problem.evidence.base_loss_nats.tolist(), strict=True)),
        "probes": {
            probe.component.name: {
                "shares": dict(probe.component.shares.as_dict),
                "loss_nats": dict(zip(names, probe.loss_nats.tolist(), strict=True)),
            }
            for probe in problem.evidence.probes
        },
        "probe_tokens": problem.evidence.probes[0].n_tokens,
        "predicted_loss_nats": dict(zip(names, map(float, losses), strict=True)),
        "predicted_objective": float(problem.objective.value(predicted)),
        "ceilings": None if problem.ceilings is None else _finite(names, problem.ceilings[: len(names)]),
        **_error_rates(problem.evidence, predicted[len(names) :]),
    }


def _error_rates(evidence: Evidence, predicted: Floats) -> dict[str, Any]:
    """What a decision by accuracy saw and foretells, per task."""
    tasks = evidence.tasks
    if tasks is None:
        return {}
    rows = zip(evidence.probes, tasks.probes, strict=True)
    probes = {probe.component.name: dict(zip(tasks.names, row.tolist(), strict=True)) for probe, row in rows}
    return {
        "error_rates": {
            "base": dict(zip(tasks.names, tasks.base.tolist(), strict=True)),
            "probes": probes,
            "predicted": dict(zip(tasks.names, predicted.tolist(), strict=True)),
        }
    }


def _finite(names: tuple[str, ...], ceilings: Floats) -> dict[str, float]:
    return {name: float(most) for name, most in zip(names, ceilings, strict=True) if np.isfinite(most)}
