"""Continual instruction tuning of SmolLM2-135M-Instruct: three tasks one after the other, five orders of them.

    python benchmarks/instruction_tuning.py              goes on where it stopped; stop it at any moment
    python benchmarks/instruction_tuning.py --collect    trains nothing: writes what there is
    python benchmarks/instruction_tuning.py --quick      a random model of 0.2M, to see that it works; writes no result

Languages, dates and spelling (instruction_questions.py), with few examples each, for this is made for one thread.
Every method first gets the best of three learning rates: on a development order, judged by questions of its own. Then
each of five other orders, judged by other questions again: the share of exactly right answers after every task, over
the tasks seen so far. Decisions see neither; they are by held-out examples, or by a third set of questions. Methods
answer the same questions in each order, so that their differences are paired; the intervals are Student's t over the
orders. Compute is in FLOPs, counted as METHODS 2 says, with every answer that self-distillation writes and its teacher
reads. SDFT is at the published 8 generations and teacher rate .01, and at one generation; no token is skipped, for
most answers have no more than four. Written down before the first judged run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, RUNS, Target, cost, mean_and_error, write_results
from instruction_questions import N_JUDGING, N_ORDERS, TASKS, write_questions
from scipy import stats

import evermix as em
from evermix.files import remove_tree, write_json
from evermix.ledger import content_hash
from evermix.recipe import Recipe
from evermix.results import PhaseResult

NAME = "instruction_tuning"
LEARNING_RATES = (3e-5, 1e-4, 3e-4)
DEVELOPMENT = N_ORDERS  # the order after the judged ones; its seed, too
BATCH = 8
FOLDER = RUNS / "instruction"
HOURS = """
how long: some {hours} hours on one thread of an AMD EPYC to itself (estimated: 110 tokens trained per second), a third
of it for SDFT at 8 generations; {cells} runs of three tasks, each kept in runs/bench once it is there, those of the
development order first, then order by order. `--methods` and `--seeds` do a part."""


@dataclass(frozen=True)
class Method:
    """What is compared: an arm of a recipe whose phases have this trainer, on this part of the examples.

    `by` is what its decisions are for: bits per byte of held-out answers, or accuracy on questions of their own.
    """

    arm: str
    trainer: str
    part: float = 1.0
    by: str = "loss"
    generations: int = 1


METHODS = {
    "sft naive": Method("naive", "sft"),
    "sft replay": Method("fixed-replay", "sft"),
    "op-mix+sft": Method("evermix", "sft"),
    "op-mix+sft few": Method("evermix", "sft", 0.25),
    "op-mix+sft by accuracy": Method("evermix", "sft", by="accuracy"),
    "sdft once": Method("naive", "sdft"),
    "op-mix+sdft once": Method("evermix", "sdft"),
    "sdft": Method("naive", "sdft", generations=8),
}
COMPARED = ("op-mix+sft", "op-mix+sft few")
AGAINST = ("sdft", "sdft once", "sft replay")


@dataclass(frozen=True)
class Size:
    """How much is trained and asked, and of which model."""

    examples: int
    questions: int
    model: tuple[str, str] = ("checkpoint", "registry:smollm2-135m-instruct")


FULL, QUICK = Size(128, N_JUDGING), Size(16, 4, ("rung", "0.2M"))


@dataclass(frozen=True)
class Cell:
    """One run: a method, an order and a learning rate; rows of it are kept in a file."""

    method: str
    order: int
    learning_rate: float

    @property
    def judged_by(self) -> str:
        """The part of the questions."""
        return "develop" if self.order == DEVELOPMENT else f"test-{self.order}"

    def rows(self, size: Size, train: bool) -> list[dict[str, Any]]:
        """One row per task learnt; trained now where they are not there, or none."""
        file = FOLDER / "rows" / f"{self._name(size)}.json"
        if not file.exists() and train:
            started = time.monotonic()
            rows = self._run(size)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"rows": rows})
            remove_tree(FOLDER / self._name(size))  # the weights of all runs would be a hundred gigabytes
            _say(self, rows, time.monotonic() - started)
        found: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
        return found

    def _name(self, size: Size) -> str:
        return f"{settings(self.method, size)}-{self.method.replace(' ', '-')}-{self.order}-{self.learning_rate:g}"

    def _run(self, size: Size) -> list[dict[str, Any]]:
        content = _content(self, size, FOLDER) | {"project": str(FOLDER / self._name(size))}
        result = em.run(Recipe.model_validate(content))
        untrained = {name: score.value for name, score in result.before.tasks.items()} if result.before else {}
        phases = result.arms[METHODS[self.method].arm].orders[0]
        return [self._row(size, phase, untrained) for phase in phases]

    def _row(self, size: Size, phase: PhaseResult, untrained: dict[str, float]) -> dict[str, Any]:
        return {
            **asdict(self),
            "seed": self.order,
            "settings": settings(self.method, size),
            "is_judged": self.order != DEVELOPMENT,
            "examples": size.examples,
            "generations": METHODS[self.method].generations,
            "accuracy": accuracy(phase),
            "stage": phase.phase,
            "number": phase.number,
            "n_rows": phase.n_rows,
            "new_share": phase.new_share,
            "mean_bits_per_byte": phase.means_over_all.bits_per_byte,
            "mean_forgetting_nats": phase.mean_forgetting_nats,
            "tasks": {name: score.value for name, score in phase.tasks.items()},
            "untrained": untrained,
            "mixture": phase.mixture,
            "cost": cost(phase.compute),
            "cumulative_cost": cost(phase.cumulative_compute),
        }


def settings(method: str, size: Size) -> str:
    """Of rows of a method that may stand in one table: all but order and rate."""
    return str(content_hash([_content(Cell(method, 0, 1.0), size, Path()), LEARNING_RATES]))[:8]


def _content(cell: Cell, size: Size, folder: Path) -> dict[str, Any]:
    """The recipe of a run as plain values, but for its project; questions and tokens are in `folder`."""
    method, order = METHODS[cell.method], orders()[cell.order]
    of_each = max(2 * BATCH, round(method.part * size.examples))
    questions = {cell.judged_by: "held-out"} | ({"fit": "fit"} if method.by == "accuracy" else {})
    distillation = {"distillation": {"generations": method.generations}} if method.trainer == "sdft" else {}
    return {
        "seed": cell.order,
        "model": dict([size.model]),
        "corpus": {
            "sequence_length": 96,
            "heldout_fraction": 0.06,
            "heldout_sequences": 48,
            "store": str(folder / "tokens"),
        },
        "training": {
            "tokens": 64_000,
            "batch_sequences": BATCH,
            "learning_rate": cell.learning_rate,
            "warmup_fraction": 0.1,
            "evaluations": 0,
            "checkpoints": 1,
            "precision": "bfloat16",
            "trunk": False,
        },
        "constraints": {"floor": 0.01},
        "phases": [
            {
                "name": task,
                "kind": "instruct",
                "add": [{"name": task, "files": str(folder / f"{task}-train.jsonl"), "format": "chat"}],
                "examples": of_each,
                "trainer": method.trainer,
                **distillation,
            }
            for task in order
        ],
        "tasks": [
            {
                "name": f"{task}-{part}",
                "kind": "exact",
                "domain": task,
                "file": str(folder / f"{task}-{part}.jsonl"),
                "max_new_tokens": 20,
                "max_items": size.questions,
                "role": role,
            }
            for part, role in questions.items()
            for task in TASKS
        ],
        "objective": {"quantity": "bits_per_byte"},
        "decision": {
            "always": True,
            "by": method.by,
            "probes": {"steps": max(2, of_each // BATCH // 4), "evaluation_sequences": 24},
        },
        "arms": [method.arm],
    }


def orders() -> list[tuple[str, ...]]:
    """All six, in an order drawn once: five are judged, the last is for learning rates."""
    every = list(permutations(TASKS))
    return [every[k] for k in np.random.default_rng(0).permutation(len(every))]


def accuracy(phase: PhaseResult) -> float:
    """Mean over the tasks seen so far, of questions that decided nothing."""
    scores = phase.tasks.items()
    return float(np.mean([score.value for name, score in scores if name.endswith(":accuracy") and "-fit:" not in name]))


def best_rate(method: str, rows: Iterable[dict[str, Any]]) -> float | None:
    """The learning rate of the greatest accuracy on the development order, the least of equals; None until all ran."""
    final = {row["learning_rate"]: row for row in rows if row["method"] == method and not row["is_judged"]}
    if set(final) != set(LEARNING_RATES):
        return None
    return max(sorted(final), key=lambda rate: final[rate]["accuracy"])


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the orders that judge."""
    return [row for row in rows if row.get("is_judged", True)]


def at_the_end(rows: list[dict[str, Any]], method: str) -> dict[int, dict[str, Any]]:
    """Order -> the row after the last task; of judged orders."""
    return {row["seed"]: row for row in judged(rows) if row["method"] == method}


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95% interval: Student's t over orders."""
    mean, error = mean_and_error(list(differences))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error if len(differences) > 1 else float("nan")
    return mean, mean - half, mean + half


def verdict(rows: list[dict[str, Any]]) -> list[Target]:
    """The issue's targets, over the orders that both methods have: at least two."""
    targets = []
    for ours in COMPARED:
        for theirs in AGAINST:
            a, b = at_the_end(rows, ours), at_the_end(rows, theirs)
            both = sorted(set(a) & set(b))
            if len(both) < 2:
                continue
            mean, low, high = interval([100 * (a[k]["accuracy"] - b[k]["accuracy"]) for k in both])
            what = f"accuracy of {ours} above {theirs}'s: {mean:.1f} points, 95% from {low:.1f} to {high:.1f}"
            targets.append(Target(f"{what}, {len(both)} orders; the lower end", low, 0.0, "points"))
            if theirs != "sft replay":
                saved = [1 - a[k]["cumulative_cost"]["flops"] / b[k]["cumulative_cost"]["flops"] for k in both]
                name = f"compute of {ours} saved against {theirs}"
                targets.append(Target(name, 100 * float(np.mean(saved)), 95.0, "%"))
    return targets


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The lines of docs/phases.md: accuracy, bits per byte and compute at the end of every method's life."""
    lines = ["| method | mean accuracy | mean bits per byte | cumulative compute |", "|---|---|---|---|"]
    for method in dict.fromkeys(row["method"] for row in judged(rows)):
        last = list(at_the_end(rows, method).values())
        right, wrong = mean_and_error([100 * row["accuracy"] for row in last])
        bits, spread = mean_and_error([row["mean_bits_per_byte"] for row in last])
        spent = np.mean([row["cumulative_cost"]["flops"] for row in last]) / 1e12
        lines.append(f"| {method} | {right:.0f}% ± {wrong:.0f} | {bits:.2f} ± {spread:.2f} | {spent:.0f} TFLOP |")
    return "\n".join(lines)


def _say(cell: Cell, rows: list[dict[str, Any]], seconds: float) -> None:
    shown = [(row["stage"], round(row["accuracy"], 3)) for row in rows]
    flops = rows[-1]["cumulative_cost"]["flops"]
    print(
        f"{cell.judged_by} {cell.method:22s} {cell.learning_rate:g}: accuracy after each task {shown}, "
        f"{flops:.3g} FLOPs, {seconds / 60:.1f} minutes",
        flush=True,
    )


def measured(size: Size, methods: Sequence[str], seeds: Sequence[int], train: bool) -> list[dict[str, Any]]:
    """Rows of the development order, and of the judged ones at every method's best rate."""
    rows: list[dict[str, Any]] = []
    for method in methods:
        for rate in LEARNING_RATES:
            rows += Cell(method, DEVELOPMENT, rate).rows(size, train)
    rates = {method: best_rate(method, rows) for method in methods}
    for seed in seeds:
        for method, rate in rates.items():
            if rate is not None:
                rows += Cell(method, seed, rate).rows(size, train)
    return rows


def merged(rows: list[dict[str, Any]], size: Size) -> list[dict[str, Any]]:
    """These, and what the committed file has besides, measured with the settings of today."""
    file = RESULTS / f"{NAME}.json"
    kept = json.loads(file.read_text())["rows"] if file.exists() else []
    today = {method: settings(method, size) for method in METHODS}
    of_each: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in [*(row for row in kept if today.get(row["method"]) == row.get("settings", "")), *rows]:
        of_each[row["seed"], list(METHODS).index(row["method"]), row["learning_rate"], row["number"]] = row
    return [of_each[key] for key in sorted(of_each)]


def _asked() -> argparse.Namespace:
    n_runs = len(METHODS) * (len(LEARNING_RATES) + N_ORDERS)
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=HOURS.format(hours=20, cells=n_runs),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", choices=range(N_ORDERS), default=list(range(N_ORDERS)))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--collect", action="store_true", help="train nothing; write what there is")
    parser.add_argument("--quick", action="store_true", help="16 examples, 4 questions, a random model; minutes")
    return parser.parse_args()


def main() -> None:
    """Train what is asked for and not there yet; write what there is."""
    asked = _asked()
    write_questions(FOLDER)
    size = QUICK if asked.quick else FULL
    rows = measured(size, asked.methods, asked.seeds, train=not asked.collect)
    if not asked.quick:
        rows = merged(rows, size)
    print(markdown_table(rows))
    if not judged(rows):
        print("no judged order is there yet: nothing is written")
    elif not asked.quick:
        write_results(NAME, sorted({row["seed"] for row in judged(rows)}), rows, verdict(rows))


if __name__ == "__main__":
    main()
