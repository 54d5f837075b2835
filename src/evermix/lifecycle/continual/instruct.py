"""Instruction tuning in a life: what trains a phase, and what that costs.

    plain   HF Trainer on the answers
    sft     TRL's SFTTrainer on the same rows
    sdft    the model, shown the demonstration, teaches itself on what it writes without (training/sdft.py)

With N as in models/ladder.py, sdft costs 6 N per token that the student is trained on (its prompts and what it wrote),
2 N per token read or written to write it (part `generation`), and 2 N per token that the teacher reads (`evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from typing import Any

from evermix.errors import RecipeError
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.cost import Cost
from evermix.lifecycle.text import chat_template
from evermix.recipe import Recipe
from evermix.recipe.phases import TrainerKind
from evermix.tasks.prompts import PromptEncoder
from evermix.training.sdft import SelfDistillation, TeacherPrompt, sdft_trainer
from evermix.training.segment import MakeTrainer, plain_trainer


def check_trainers(recipe: Recipe) -> None:
    """Nothing, if the packages of every phase's trainer are there.

    Raises:
        RecipeError: TRL is not installed.
    """
    for phase in recipe.phases:
        if phase.trainer == "sft" and find_spec("trl") is None:
            raise RecipeError(
                f"phase '{phase.name}': trainer sft must have TRL",
                hint="install it: pip install 'evermix[trl]'; trainer plain learns the same without it",
            )


def trainer_of(bench: LifeBench, kind: TrainerKind) -> MakeTrainer:
    """What makes the trainer of a phase."""
    if kind == "plain":
        return plain_trainer
    if kind == "sft":
        from evermix.training.sft import sft_trainer

        return sft_trainer
    return partial(sdft_trainer, how=self_distillation(bench))


def trainer_identity(bench: LifeBench, kind: TrainerKind) -> dict[str, Any]:
    """What a trainer adds to the identity of a run: nothing, if it is the plain one."""
    if kind == "plain":
        return {}
    return {"trainer": kind, **(asdict(self_distillation(bench)) if kind == "sdft" else {})}


def self_distillation(bench: LifeBench) -> SelfDistillation:
    """How a model of this life teaches itself: by the chat template of its conversations."""
    template = chat_template(bench.recipe)
    tokenizer = bench.store.tokenizer
    ends = [tokenizer.end_id]
    if template.source is not None:
        end_of_turn = PromptEncoder(tokenizer, partial(template.render, generate=True)).end_of_turn
        ends += [] if end_of_turn is None else [end_of_turn]
    return SelfDistillation(TeacherPrompt.of(tokenizer, template), tuple(sorted(set(ends))))


def training_cost(bench: LifeBench, part: str, n_tokens: float, record: Mapping[str, Any]) -> Cost:
    """What a training cost.

    Args:
        part: under which it is booked.
        n_tokens: expected of its rows.
        record: of the finished training: its seconds, and with trainer sdft its counts.
    """
    counts, size = record.get("counts"), bench.size
    if not counts:
        return Cost(part, size.training(n_tokens), n_tokens, record["seconds"])
    learnt, written, taught = (counts[f"n_{name}_tokens"] for name in ("student", "generation", "teacher"))
    writing, teaching = counts["generation_seconds"], counts["teacher_seconds"]
    besides = (
        Cost("generation", size.evaluation(written), written, writing),
        Cost("evaluation", size.evaluation(taught), taught, teaching),
    )
    return Cost(part, size.training(learnt), learnt, max(record["seconds"] - writing - teaching, 0.0), besides)
