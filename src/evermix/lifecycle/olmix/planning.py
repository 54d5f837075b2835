"""The plan of a swarm: how many proxies, of what size, and what they will cost, without reading any text."""

from __future__ import annotations

from typing import Any

from evermix.deciding.next_runs import runs_for
from evermix.models.ladder import counted_parameters
from evermix.recipe import Recipe


def plan(recipe: Recipe) -> dict[str, Any]:
    """What `evermix run` would do for a recipe of method olmix.

    With a tokenizer that is not trained the vocabulary is unknown before it is read: then no parameters and FLOPs.
    """
    settings, m = recipe.swarm, len(recipe.domains)
    n_runs = settings.runs or runs_for(m, recipe.decision)
    reason = "as the recipe says" if settings.runs else f"what law {recipe.decision.law} needs for {m} domains"
    tokens_per_step = settings.batch_sequences * recipe.corpus.sequence_length
    planned: dict[str, Any] = {
        "project": recipe.project,
        "method": "olmix",
        "domains": [domain.name for domain in recipe.domains],
        "tasks": {task.name: task.role for task in recipe.tasks},
        "law": recipe.decision.law,
        "n_runs": n_runs,
        "n_runs_reason": reason,
        "rung": settings.rung,
        "arms": list(recipe.arms),
        "target_tokens": recipe.training.tokens if recipe.arms else 0,
    }
    if recipe.tokenizer.path is not None or recipe.model.checkpoint is not None:
        return planned
    counted = counted_parameters(settings.rung, recipe.tokenizer.vocab_size)
    steps = settings.n_tokens(counted) // tokens_per_step
    target = 0.0
    if recipe.arms:
        target = 6.0 * counted_parameters(recipe.model.rung, recipe.tokenizer.vocab_size) * recipe.training.tokens
    return planned | {
        "n_parameters": counted,
        "steps_per_proxy": steps,
        "tokens_per_proxy": steps * tokens_per_step,
        "chinchilla": steps * tokens_per_step / (20 * counted),
        "flops_swarm": 6.0 * counted * steps * tokens_per_step * n_runs,
        "flops_training_per_arm": target,
    }
