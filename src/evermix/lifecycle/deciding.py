"""One decision: probes of the current checkpoint, the chosen mode, cross-checks, and its entry in the ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from evermix.constraints import Bounds
from evermix.errors import ConvergenceError
from evermix.ledger import content_hash
from evermix.lifecycle.decision import DEFAULT_KL, MODES, ModeOutcome, Problem
from evermix.lifecycle.probing import Evidence, candidate_count, gather_evidence
from evermix.lifecycle.segments import TrainedTo
from evermix.lifecycle.workbench import Workbench
from evermix.mixture import Mixture


@dataclass(frozen=True)
class Decision:
    """A decision as the ledger keeps it: `record` is JSON-able, see `docs/ledger.md`."""

    mixture: Mixture
    record: dict[str, Any]


def decide(bench: Workbench, base: TrainedTo) -> Decision:
    """Decide the mixture from `base` on, or read the decision if it was made before."""
    settings = bench.recipe.decision.model_dump(mode="json")
    key = content_hash(
        {
            "base": base.run_id,
            "decision": settings,
            "objective": [bench.objective.quantity, list(bench.objective.weights)],
            "constraints": bench.recipe.constraints.model_dump(mode="json"),
        }
    )
    kept = bench.project.ledger.find("decision", key)
    if kept is None:
        evidence = gather_evidence(bench, base)
        with bench.reporter.part("decision", f"deciding by {bench.recipe.decision.mode}", None):
            record = _decide(bench, base, evidence)
        bench.project.ledger.append("decision", key, record)
        kept = bench.project.ledger.find("decision", key)
    assert kept is not None  # it was appended a line above
    return Decision(Mixture.from_dict(bench.domains, kept.payload["mixture"]), kept.payload)


def build_problem(bench: Workbench, base: TrainedTo, evidence: Evidence, mode: str) -> Problem:
    """What `mode` has to solve after `base`."""
    settings = bench.recipe.decision
    return Problem(
        evidence,
        bench.objective,
        remaining_bounds(bench, base),
        bench.mixture_named(settings.prior),
        DEFAULT_KL[mode] if settings.given_kl is None else settings.given_kl,
        candidate_count(settings, len(bench.domains)),
        settings.gradient_evaluations,
        bench.recipe.seed + base.step,
        tuple(range(len(bench.domains))),
    )


def _decide(bench: Workbench, base: TrainedTo, evidence: Evidence) -> dict[str, Any]:
    settings = bench.recipe.decision
    problems = {name: build_problem(bench, base, evidence, name) for name in MODES}
    names = [settings.mode, *(name for name in MODES if settings.cross_checks and name != settings.mode)]
    outcomes, failures, seconds = dict[str, ModeOutcome](), dict[str, str](), dict[str, float]()
    for name in names:
        started = time.monotonic()
        try:
            outcomes[name] = MODES[name](problems[name])
        except ConvergenceError as error:
            if name == settings.mode:
                raise
            failures[name] = f"failed: {error}"
        seconds[name] = time.monotonic() - started
    flops = {name: _mode_flops(bench, outcome) for name, outcome in outcomes.items()}
    record = _record(bench, base, problems[settings.mode], outcomes)
    record["modes"] |= {name: {"mixture": None, "status": status} for name, status in failures.items()}
    return record | {
        "flops_by_part": {
            "probes": evidence.flops_training,
            "evaluation": evidence.flops_evaluation + flops[settings.mode],
            "cross_checks": sum(value for name, value in flops.items() if name != settings.mode),
        },
        "flops": evidence.flops_training + evidence.flops_evaluation + sum(flops.values()),
        "seconds": evidence.seconds + sum(seconds.values()),
        "seconds_by_part": {"probes": evidence.seconds, **seconds},
    }


def remaining_bounds(bench: Workbench, base: TrainedTo) -> Bounds:
    """What the rest of the run may use: caps count the epochs spent so far."""
    tokens = bench.store.sequence_length
    spent = base.schedule.sequences_spent(base.step * bench.batch_sequences) * tokens
    return bench.constraints.bounds(bench.domains, (bench.total_steps - base.step) * bench.tokens_per_step, spent)


def _mode_flops(bench: Workbench, outcome: ModeOutcome) -> float:
    return bench.size.evaluation(outcome.n_forward_tokens) + bench.size.training(outcome.n_backward_tokens)


def _record(bench: Workbench, base: TrainedTo, problem: Problem, outcomes: dict[str, ModeOutcome]) -> dict[str, Any]:
    mode = bench.recipe.decision.mode
    chosen = outcomes[mode].proposal
    names = bench.domains.names
    references = {
        "chosen": chosen.mixture,
        "start": bench.start,
        "natural": Mixture.natural(bench.domains),
        "uniform": Mixture.uniform(bench.domains),
    }
    losses = outcomes[mode].predict(np.array([mixture.weights for mixture in references.values()]))
    values = problem.objective.value(losses)
    return {
        "arm": "evermix",
        "at_step": base.step,
        "at_token": base.step * bench.tokens_per_step,
        "at_fraction": base.step / bench.total_steps,
        "mode": mode,
        "prior": dict(problem.prior.as_dict),
        "old": dict(problem.evidence.old.as_dict),
        "mixture": dict(chosen.mixture.as_dict),
        "kl_weight": chosen.kl_weight,
        "binding": list(chosen.binding),
        "base_loss_nats": dict(zip(names, problem.evidence.base_loss_nats.tolist(), strict=True)),
        "probes": {
            probe.component.name: dict(zip(names, probe.loss_nats.tolist(), strict=True))
            for probe in problem.evidence.probes
        },
        "prediction_horizon_tokens": problem.evidence.probes[0].n_tokens,
        "predicted_loss_nats": dict(zip(names, map(float, chosen.predicted), strict=True)),
        "predicted_objective": {
            name: float(value) if np.isfinite(value) else None for name, value in zip(references, values, strict=True)
        },
        "modes": {name: _mode_record(names, outcome) for name, outcome in outcomes.items()},
    }


def _mode_record(names: tuple[str, ...], outcome: ModeOutcome) -> dict[str, Any]:
    proposal = outcome.proposal
    return {
        "mixture": dict(proposal.mixture.as_dict),
        "predicted_loss_nats": dict(zip(names, map(float, proposal.predicted), strict=True)),
        "objective_value": proposal.objective_value,
        "status": proposal.status,
    }
