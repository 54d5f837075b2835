"""The plan of a run: steps, decisions and what they will cost, without reading any text."""

from __future__ import annotations

from typing import Any

from evermix.lifecycle.probing import needs_of, plan_probes
from evermix.lifecycle.workbench import check_steps, decision_steps
from evermix.models.ladder import counted_parameters
from evermix.recipe import Recipe


def plan(recipe: Recipe) -> dict[str, Any]:
    """What `evermix run` would do; FLOPs only for a model of the ladder with a tokenizer that will be trained."""
    check_steps(recipe)
    tokens_per_step = recipe.training.batch_sequences * recipe.corpus.sequence_length
    steps = recipe.training.tokens // tokens_per_step
    m = len(recipe.domains)
    probes = plan_probes(recipe.decision, needs_of(recipe, m, steps), recipe.corpus.heldout_sequences)
    planned: dict[str, Any] = {
        "project": recipe.project,
        "domains": [domain.name for domain in recipe.domains],
        "arms": list(recipe.arms),
        "total_tokens": steps * tokens_per_step,
        "total_steps": steps,
        "decision_steps": list(decision_steps(recipe.decision.at, steps)),
        "mode": recipe.decision.mode,
        "probes_per_decision": probes.n_probes,
        "steps_per_probe": probes.steps,
        "evaluation_sequences_per_domain": probes.evaluation_sequences,
    }
    if recipe.model.checkpoint is None and recipe.tokenizer.path is None:
        planned |= _flops(recipe, steps * tokens_per_step, probes.n_probes * probes.steps * tokens_per_step)
    return planned


def _flops(recipe: Recipe, n_tokens: int, n_probe_tokens: int) -> dict[str, float]:
    """6 N per token of training, 4 N per token of a probe."""
    counted = counted_parameters(recipe.model.rung, recipe.tokenizer.vocab_size)
    decisions = len(recipe.decision.at) if "evermix" in recipe.arms else 0
    return {
        "flops_training_per_arm": 6.0 * counted * n_tokens,
        "flops_probes": 4.0 * counted * n_probe_tokens * decisions,
    }
