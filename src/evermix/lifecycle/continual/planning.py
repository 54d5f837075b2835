"""The plan of a life: its stages in every order, and what every arm will cost by part, without reading any text.

Estimates are in FLOPs, counted as everywhere (METHODS 2): with N parameters 6 N per token of training, 4 N per token of
an adapter's, 2 N per token read. A row counts `corpus.sequence_length` tokens, the most that a conversation has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evermix.designs import recommended_runs
from evermix.lifecycle.continual.arms.mergemix import N_CANDIDATES
from evermix.lifecycle.continual.arms.oracle import SHARES
from evermix.lifecycle.probing import ProbeNeeds, candidate_count, plan_probes
from evermix.lifecycle.workbench import decision_steps
from evermix.models.ladder import counted_parameters
from evermix.recipe import Recipe
from evermix.recipe.timeline import Phase, base_name

_TRAINING, _ADAPTER, _READING = 6.0, 4.0, 2.0


@dataclass(frozen=True)
class Piece:
    """A piece of an arm's work.

    Attributes:
        part: under which it is booked.
        n_tokens: gone through by a model.
        flops_per_parameter_token: 6, 4 or 2.
        n_parameters: of a model that is not the recipe's; None for the recipe's.
    """

    part: str
    n_tokens: float
    flops_per_parameter_token: float
    n_parameters: int | None = None

    def flops(self, n_parameters: int) -> float:
        """With the recipe's model of that size."""
        own = n_parameters if self.n_parameters is None else self.n_parameters
        return self.flops_per_parameter_token * own * self.n_tokens


Pieces = list[Piece]
Estimate = Callable[[Recipe, Sequence[Phase]], Pieces]
"""(recipe, stages so far) -> what the arm will do in the last one."""


def plan(recipe: Recipe) -> dict[str, Any]:
    """What `run` would do: stages of every order, arms with tokens and, where the model's size is known, FLOPs by part.

    The size is known before any text is read for a model of the ladder with a tokenizer that will be trained.
    """
    orders = [recipe.timeline(order) for order in recipe.phase_orders]
    counted = None
    if recipe.model.checkpoint is None and recipe.tokenizer.path is None:
        counted = counted_parameters(recipe.model.rung, recipe.tokenizer.vocab_size)
    return {
        "project": recipe.project,
        "model": recipe.model.checkpoint or recipe.model.rung,
        "n_parameters": counted,
        "mode": recipe.decision.mode,
        "orders": [[stage.name for stage in stages] for stages in orders],
        "stages": [[_stage(recipe, stage) for stage in stages] for stages in orders],
        "arms": {arm: _cost(recipe, arm, orders, counted) for arm in recipe.arms},
        "not_estimated": _not_estimated(recipe),
    }


def _stage(recipe: Recipe, stage: Phase) -> dict[str, Any]:
    probed = _probes(recipe, stage) if "evermix" in recipe.arms else None
    return {
        "number": stage.number,
        "stage": stage.name,
        "kind": stage.recipe.kind,
        "trainer": stage.recipe.trainer,
        "domains": list(stage.domains),
        "new": list(stage.new),
        "n_steps": stage.n_steps,
        "n_tokens": stage.n_rows * recipe.corpus.sequence_length,
        "n_probes": probed.n_probes if probed else 0,
        "steps_per_probe": probed.steps if probed else 0,
    }


def _cost(recipe: Recipe, arm: str, orders: Sequence[Sequence[Phase]], counted: int | None) -> dict[str, Any]:
    """Tokens and FLOPs by part over a whole life, means over orders."""
    each = [
        [piece for k in range(len(stages)) for piece in _ESTIMATES[arm](recipe, stages[: k + 1])] for stages in orders
    ]
    parts = dict.fromkeys(piece.part for pieces in each for piece in pieces)

    def over_orders(measure: Callable[[Piece], float]) -> dict[str, float]:
        sums = {part: [sum(measure(p) for p in pieces if p.part == part) for pieces in each] for part in parts}
        return {part: float(np.mean(values)) for part, values in sums.items()}

    tokens = over_orders(lambda piece: piece.n_tokens)
    found: dict[str, Any] = {"n_tokens": sum(tokens.values()), "tokens_by_part": tokens}
    if counted is not None:
        flops = over_orders(lambda piece: piece.flops(counted))
        found |= {"flops": sum(flops.values()), "flops_by_part": flops}
    return found


def _not_estimated(recipe: Recipe) -> list[str]:
    """What will cost something that the plan does not hold."""
    found = []
    if any(phase.trainer == "sdft" for phase in recipe.phases):
        found.append("generation: what the model writes in trainer sdft")
    if recipe.decision.by == "accuracy" and "evermix" in recipe.arms:
        found.append("evaluation: what base and probes (or candidates) answer to the tasks before every decision")
    return found


def _trained(recipe: Recipe, stage: Phase, part: str | None = None) -> Piece:
    tokens = stage.n_rows * recipe.corpus.sequence_length
    return Piece(part or ("training" if stage.number else "prefix"), tokens, _TRAINING)


def _once(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    """Arms that train every stage once on a mixture that costs nothing to choose."""
    return [_trained(recipe, stages[-1])]


def _retrain(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    """All stages so far, from the first weights."""
    last = stages[-1]
    n_steps = sum(stage.n_rows for stage in stages) // last.batch_rows
    return [_trained(recipe, replace(last, n_steps=n_steps))]


@dataclass(frozen=True)
class _Probes:
    """Probes of all decisions of a stage: how many for each, how long, and the tokens that they and their mode read."""

    n_probes: int
    steps: int
    n_tokens: float
    read: float
    read_with_gradient: float


def _decided_at(recipe: Recipe, stage: Phase) -> tuple[float, ...]:
    """Points of the stage at which `evermix` decides: on the way of a pretraining, at the beginning of what follows."""
    if stage.recipe.kind == "pretrain":
        return recipe.decision.at if len(stage.domains) > 1 else ()
    return (0.0,) if _decides(stage) else ()


def _released(recipe: Recipe, stage: Phase) -> tuple[str, ...]:
    """Domains learnt before whose shares are decided one by one; those that `auto` releases need no more probes."""
    release = recipe.replay.release
    if isinstance(release, tuple):
        return tuple(name for name in stage.known if base_name(name) in release)
    return stage.known if release == "all" else ()


def _decides(stage: Phase) -> bool:
    return bool(stage.number and stage.new and stage.known)


def _probes(recipe: Recipe, stage: Phase) -> _Probes | None:
    """The probes of a stage; None where nothing is decided.

    A single domain that is probed has a probe per purity; several have one each, beside one of what was learnt before.
    """
    decision, n_decisions = recipe.decision, len(_decided_at(recipe, stage))
    if not n_decisions:
        return None
    released = _released(recipe, stage)
    m = len(stage.new) + len(released) + (len(released) < len(stage.known))
    own_probes = decision.mode != "probe-law" or stage.recipe.kind == "pretrain"
    n_probed = len(stage.new) + (len(released) if own_probes else 0)
    n_probes = 1 + n_probed if n_probed > 1 else len(recipe.replay.purities)
    candidates = candidate_count(decision, m)
    needs = ProbeNeeds(n_probes, candidates, len(stage.domains), stage.batch_rows, stage.n_steps, n_decisions)
    planned = plan_probes(decision, needs, recipe.corpus.heldout_sequences)
    length = recipe.corpus.sequence_length
    reading = n_decisions * planned.evaluation_sequences * len(stage.domains) * length
    return _Probes(
        n_probes,
        planned.steps,
        n_decisions * n_probes * planned.steps * stage.batch_rows * length,
        (n_probes + 1 + (candidates if decision.mode == "interpolation" else 0)) * reading,
        (decision.gradient_evaluations if decision.mode == "gradient" else 0) * reading,
    )


def _deciding(recipe: Recipe, stage: Phase) -> Pieces:
    probes = _probes(recipe, stage)
    if probes is None:
        return []
    return [
        Piece("probes", probes.n_tokens, _ADAPTER),
        Piece("evaluation", probes.read, _READING),
        Piece("evaluation", probes.read_with_gradient, _TRAINING),
    ]


def _evermix(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    stage = stages[-1]
    whole, at = _trained(recipe, stage), _decided_at(recipe, stage)
    if stage.recipe.kind != "pretrain" or not at:
        return [*_deciding(recipe, stage), whole]
    first = decision_steps(at, stage.n_steps)[0] / stage.n_steps
    before = replace(whole, n_tokens=first * whole.n_tokens)
    after = replace(whole, part="training", n_tokens=(1 - first) * whole.n_tokens)
    return [before, *_deciding(recipe, stage), after]


def _lora_merge(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    """The probes are the training, where there are any before a stage."""
    return _deciding(recipe, stages[-1]) if _decides(stages[-1]) else _evermix(recipe, stages)


def _scoring(recipe: Recipe, stage: Phase, n_models: int, most: int | None = None) -> Piece:
    """Reading at most so many held-out sequences of every domain, by default all."""
    sequences = min(recipe.corpus.heldout_sequences, most or recipe.corpus.heldout_sequences) * len(stage.domains)
    return Piece("evaluation", n_models * sequences * recipe.corpus.sequence_length, _READING)


def _oracle(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    """The stage at every share, and every model scored."""
    stage = stages[-1]
    if not _decides(stage):
        return [_trained(recipe, stage)]
    return [*[_trained(recipe, stage)] * len(SHARES), _scoring(recipe, stage, len(SHARES))]


def _mergemix(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    """One model per component, merged candidates, then the stage."""
    stage = stages[-1]
    if not _decides(stage):
        return [_trained(recipe, stage)]
    specialists = [_trained(recipe, stage, "specialists")] * (1 + len(stage.new))
    merges = _scoring(recipe, stage, N_CANDIDATES, recipe.decision.probes.evaluation_sequences)
    return [*specialists, merges, _trained(recipe, stage)]


def _wsd_restart(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    """The trunk, and a branch that decays at the end of the stage."""
    stage = stages[-1]
    trunk = _trained(recipe, stage)
    decay = round(stage.training.decay_fraction * stage.n_steps) / stage.n_steps
    return [trunk, replace(trunk, part="decay", n_tokens=decay * trunk.n_tokens)]


def _proxy_swarm(recipe: Recipe, stages: Sequence[Phase]) -> Pieces:
    """A swarm of proxies over the stage's domains, then the stage."""
    stage, swarm = stages[-1], recipe.swarm
    if len(stage.domains) < 2:
        return [_trained(recipe, stage)]
    size = counted_parameters(swarm.rung, recipe.tokenizer.vocab_size)
    n_runs = swarm.runs or recommended_runs(len(stage.domains), "power-link")
    return [Piece("proxies", n_runs * swarm.n_tokens(size), _TRAINING, size), _trained(recipe, stage)]


_ESTIMATES: dict[str, Estimate] = {
    "evermix": _evermix,
    "natural": _once,
    "uniform": _once,
    "naive": _once,
    "fixed-replay": _once,
    "retrain": _retrain,
    "mergemix": _mergemix,
    "proxy-swarm": _proxy_swarm,
    "lora-merge": _lora_merge,
    "wsd-restart": _wsd_restart,
    "oracle": _oracle,
}
