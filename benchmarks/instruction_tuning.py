"""Continual instruction tuning of SmolLM2-135M-Instruct: three tasks one after the other, each seed another order.

    python benchmarks/instruction_tuning.py [--seeds 0 1 2] [--examples 96]      goes on where it stopped

Spelling, translation from German and pronunciation, out of package registries, with few examples each, for this is
made for two cores; `--examples 4096` is for a GPU. Judged after every stage on questions that were never trained on,
which the model answers: the share of right answers (spelling) or the right part of them (translation, by letters;
pronunciation, by sounds), averaged over the tasks seen so far; and compute in FLOPs counted as METHODS 2 says, with
what self-distillation writes and its teacher reads. "op-mix+sft few" has a quarter of the examples. Written down
before the first run; learning rate and number of examples were chosen on seed 100 with arm naive.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
from harness import HERE, RUNS, Target, cost, mean_and_error, write_results

import evermix as em
from evermix.corpora import prepare
from evermix.recipe import Recipe
from evermix.results import PhaseResult

TASKS: dict[str, dict[str, str]] = {
    "spelling": {"kind": "exact"},
    "translation": {"kind": "scorer", "scorer": f"{HERE / 'answer_scorers.py'}:right_letters"},
    "pronunciation": {"kind": "scorer", "scorer": f"{HERE / 'answer_scorers.py'}:right_sounds"},
}
N_TEST, N_TRAIN, N_ITEMS = 300, 20_000, 50
BATCH = 8
FOLDER = RUNS / "questions"


@dataclass(frozen=True)
class Method:
    """What is compared: an arm of a recipe whose phases have this trainer, on this part of the examples.

    `by` is what its decisions are for: bits per byte of held-out answers, or accuracy on questions of their own.
    """

    arm: str
    trainer: str
    part: float = 1.0
    by: str = "loss"


METHODS = {
    "sft naive": Method("naive", "sft"),
    "sft replay": Method("fixed-replay", "sft"),
    "op-mix+sft": Method("evermix", "sft"),
    "op-mix+sft few": Method("evermix", "sft", 0.25),
    "op-mix+sft by accuracy": Method("evermix", "sft", by="accuracy"),
    "sdft": Method("naive", "sdft"),
    "op-mix+sdft": Method("evermix", "sdft"),
}


def write_questions() -> None:
    """The questions of every task; the first of each file are for testing."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        lines = prepare(f"{task}-questions").read_text(encoding="utf-8").splitlines(keepends=True)
        last = N_TEST + N_TRAIN
        parts = {"test": lines[:N_TEST], "train": lines[N_TEST:last], "fit": lines[last : last + N_TEST]}
        for part, kept in parts.items():
            file = FOLDER / f"{task}-{part}.jsonl"
            if not file.exists():
                file.write_text("".join(kept), encoding="utf-8")


def recipe(seed: int, method: Method, examples: int) -> Recipe:
    """The recipe of one seed, from which the order of the tasks is drawn."""
    order = np.random.default_rng(seed).permutation(list(TASKS)).tolist()
    of_each = max(BATCH, round(method.part * examples))
    suffix = "-by-accuracy" if method.by == "accuracy" else ""
    asked = {"test": "held-out", "fit": "fit"} if method.by == "accuracy" else {"test": "fit"}
    return Recipe.model_validate(
        {
            "project": str(RUNS / f"instruction-{seed}-{method.trainer}-{of_each}{suffix}"),
            "seed": seed,
            "model": {"checkpoint": "registry:smollm2-135m-instruct"},
            "corpus": {
                "sequence_length": 64,
                "heldout_fraction": 0.02,
                "heldout_sequences": 48,
            },
            "training": {
                "tokens": 64_000,
                "batch_sequences": BATCH,
                "learning_rate": 2e-4,
                "warmup_fraction": 0.1,
                "evaluations": 0,
                "checkpoints": 0,
                "precision": "bfloat16",
                "trunk": False,  # as it was measured
            },
            "constraints": {"floor": 0.01},
            "phases": [
                {
                    "name": task,
                    "kind": "instruct",
                    "add": [{"name": task, "files": str(FOLDER / f"{task}-train.jsonl"), "format": "chat"}],
                    "examples": of_each,
                    "trainer": method.trainer,
                }
                for task in order
            ],
            "tasks": [
                {
                    "name": f"{task}-{part}",
                    "domain": task,
                    "file": str(FOLDER / f"{task}-{part}.jsonl"),
                    "max_items": N_ITEMS,
                    "role": role,
                }
                | how
                for part, role in asked.items()
                for task, how in TASKS.items()
            ],
            "objective": {"quantity": "bits_per_byte"},
            "decision": {
                "by": method.by,
                "probes": {"steps": max(2, of_each // BATCH // 4), "evaluation_sequences": 24},
            },
            "arms": [method.arm],
        }
    )


def rows_of(seed: int, name: str, examples: int) -> list[dict[str, Any]]:
    """One row per stage, trained now where it was not yet."""
    method = METHODS[name]
    phases = em.run(recipe(seed, method, examples)).arms[method.arm].orders[0]
    return [
        {
            "seed": seed,
            "method": name,
            "accuracy": accuracy(phase),
            "stage": phase.phase,
            "number": phase.number,
            "n_rows": phase.n_rows,
            "new_share": phase.new_share,
            "mean_bits_per_byte": phase.means_over_all.bits_per_byte,
            "mean_forgetting_nats": phase.mean_forgetting_nats,
            "tasks": {metric: score.value for metric, score in phase.tasks.items()},
            "mixture": phase.mixture,
            "cost": cost(phase.compute),
            "cumulative_cost": cost(phase.cumulative_compute),
        }
        for phase in phases
    ]


def accuracy(phase: PhaseResult) -> float:
    """Mean over the tests of the tasks seen so far."""
    return float(np.mean([score.value for name, score in phase.tasks.items() if "-test:" in name]))


def at_the_end(rows: list[dict[str, Any]], method: str, seed: int) -> dict[str, Any]:
    """The row after the last task."""
    return [row for row in rows if row["method"] == method and row["seed"] == seed][-1]


def verdict(rows: list[dict[str, Any]], seeds: list[int]) -> list[Target]:
    """The issue's targets, for all examples and for a quarter of them."""
    targets = []
    for method in ("op-mix+sft", "op-mix+sft few"):
        pairs = [(at_the_end(rows, method, seed), at_the_end(rows, "sdft", seed)) for seed in seeds]
        above = [100 * (ours["accuracy"] - theirs["accuracy"]) for ours, theirs in pairs]
        saved = [
            100 * (1 - ours["cumulative_cost"]["flops"] / theirs["cumulative_cost"]["flops"]) for ours, theirs in pairs
        ]
        mean, error = mean_and_error(above)
        what = f"accuracy of {method} above SDFT's after three tasks"
        targets.append(Target(f"{what} (standard error {error:.1f})", mean, 0.0, "points"))
        targets.append(Target(f"compute of {method} saved against SDFT", float(np.mean(saved)), 95.0, "%"))
    return targets


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The lines of docs/phases.md: accuracy, bits per byte and compute at the end of every method's life."""
    seeds = sorted({row["seed"] for row in rows})
    lines = ["| method | mean accuracy | mean bits per byte | cumulative compute |", "|---|---|---|---|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        last = [at_the_end(rows, method, seed) for seed in seeds]
        right, wrong = mean_and_error([100 * row["accuracy"] for row in last])
        bits, spread = mean_and_error([row["mean_bits_per_byte"] for row in last])
        spent = np.mean([row["cumulative_cost"]["flops"] for row in last]) / 1e12
        lines.append(f"| {method} | {right:.0f}% ± {wrong:.0f} | {bits:.2f} ± {spread:.2f} | {spent:.0f} TFLOP |")
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for; write the result once every method is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--examples", type=int, default=96, help="of each task")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    asked = parser.parse_args()
    write_questions()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        for name in asked.methods:
            found = rows_of(seed, name, asked.examples)
            shown = [(row["stage"], round(row["accuracy"], 3)) for row in found]
            flops = found[-1]["cumulative_cost"]["flops"]
            print(f"seed {seed} {name:16s} accuracy after each stage: {shown}, {flops:.3g} FLOPs", flush=True)
            rows += found
    if set(METHODS) <= set(asked.methods):
        write_results("instruction_tuning", asked.seeds, rows, verdict(rows, asked.seeds))


if __name__ == "__main__":
    main()
