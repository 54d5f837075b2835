"""Pretraining decided by experiments within the run, against natural and uniform at equal compute, and a sweep.

A 0.2M model; three objectives; two lengths, 1.6M and 8.2M tokens; sets of domains fixed beforehand (domain_sets.md):
`a`, which settings were chosen on, `b`, which confirms, and `c`, written down before any run.

    python benchmarks/pretraining.py [--sets a b] [--seeds 0 1 2 3 4] [--lengths short long] [--sweep] [--processes 2]

A seed of a set takes about 10 minutes of one core at the short length and 45 at the long one; a sweep of twelve
mixtures 15 and 80 minutes more. Interrupted, it goes on where it stopped: finished runs lie in runs/bench/. What was
not measured this time stays in the result file as it was; `--collect` only gathers what is finished.

Every mixture is judged on test text, which no decision has read. `uniform+compute` and `natural+compute` have what
deciding has cost as more tokens, and so has `weights+compute`: what the objective's weights say without any evidence
(uniform, where all count alike). That is where evermix starts, and `evermix from a uniform start` does not.
`experiments alone` goes through the experiments and stays with uniform: against uniform it tells what they lose.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import DomainSetUnderTest, Target
from simulator_fidelity import open_one_phase, to_the_decision, to_the_end, truth_mixtures

import evermix as em
from evermix.files import write_json
from evermix.objective import Objective
from evermix.recipe import Recipe
from evermix.results import DomainScore

Row = dict[str, Any]
LENGTHS = {"short": 1_600_000, "long": 8_192_000}
OBJECTIVES = ("clean", "all", "skewed")
BASELINES = {"clean": ("natural", "uniform", "weights"), "all": (), "skewed": ("weights",)}  # each where it is new
N_SWEEP = 12
ALONE = "experiments alone"
AGAINST = ("uniform+compute", "natural+compute", "weights+compute", "uniform", "natural", "weights", "best of sweep")
FROM_UNIFORM = "evermix from a uniform start"
KEPT = 1e9  # a pull to the start that no decision leaves
GOALS = {"short": (5.0, 2.5, 35.0), "long": (3.0, 1.0, 30.0)}


def asked(under_test: DomainSetUnderTest, objective: str) -> dict[str, Any]:
    """The objective as the recipe says it."""
    return {"quantity": "perplexity", "weights": under_test.objectives()[objective]}


def recipe_of(
    under_test: DomainSetUnderTest, seed: int, length: str, objective: str, *arms: str, **more: Any
) -> Recipe:
    """The recipe of some arms."""
    return under_test.recipe(
        seed,
        f"{under_test.label}-{seed}-{length}",
        tokens=LENGTHS[length],
        objective=asked(under_test, objective),
        arms=arms,
        **more,
    )


def scores(under_test: DomainSetUnderTest, per_domain: dict[str, DomainScore]) -> dict[str, float]:
    """Mean perplexity by each objective, and mean bits per byte of the clean domains."""
    names, losses = tuple(per_domain), np.array([one.loss_nats for one in per_domain.values()])
    row = {
        f"perplexity_{label}": float(Objective.from_dict(names, weights, "perplexity").value(losses))
        for label, weights in under_test.objectives().items()
    }
    row["bits_per_byte_clean"] = float(np.mean([per_domain[name].bits_per_byte for name in under_test.clean]))
    return row


def job(label: str, seed: int, length: str, with_sweep: bool, output: Path) -> None:
    """Every arm of one set, seed and length; `output` holds the rows so far."""
    under_test = DomainSetUnderTest.load(label)
    where, rows = {"set": label, "seed": seed, "length": length}, list[Row]()

    def add(row: Row) -> None:
        rows.append({**where, **row})
        write_json(output, rows)
        print({k: v for k, v in rows[-1].items() if k in ("set", "seed", "length", "arm", "objective")}, flush=True)

    for objective in OBJECTIVES:
        arms = ("evermix", *BASELINES[objective])
        for row in measured(under_test, recipe_of(under_test, seed, length, objective, *arms)):
            is_of_objective = row["arm"].partition("+")[0] in ("evermix", "weights")
            add({**row, **({"objective": objective} if is_of_objective else {})})
        if "weights" in arms:
            recipe = recipe_of(under_test, seed, length, objective, "evermix", start="uniform")
            for row in measured(under_test, recipe):
                add({**row, "arm": FROM_UNIFORM, "objective": objective})
    alone = recipe_of(under_test, seed, length, "all", "evermix", decision={"kl_weight": KEPT})
    for row in measured(under_test, alone):
        add({**row, "arm": ALONE})
    for row in sweep(under_test, seed, length) if with_sweep else ():
        add(row)


def measured(under_test: DomainSetUnderTest, recipe: Recipe) -> Iterator[Row]:
    """A row per arm, baselines at equal compute too."""
    for name, arm in em.run(recipe).arms.items():
        (phase,) = arm.last
        deciding = sum(one.compute.flops for one in phase.decisions)
        yield {
            "arm": name,
            **scores(under_test, phase.per_domain),
            "flops": phase.compute.flops,
            "decision_flops_part": deciding / (phase.compute.flops - deciding),
            "expected": [one.expected.model_dump() for one in phase.decisions if one.expected is not None],
            "loss_nats": {domain: round(score.loss_nats, 5) for domain, score in phase.per_domain.items()},
            "mixture": {domain: round(phase.mixture.get(domain, 0.0), 4) for domain in phase.per_domain},
        }


def sweep(under_test: DomainSetUnderTest, seed: int, length: str) -> Iterator[Row]:
    """Random mixtures from a third of the run on, scored on both sides' text: the near-oracle is the best by decision
    text, judged on test text."""
    recipe = recipe_of(under_test, seed, length, "all", "uniform", decision={"mode": "probe-law", "at": [1 / 3]})
    context, phase = open_one_phase(recipe)
    base, leaves = to_the_decision(context, phase), context.leaves(phase.domains)
    for number, mixture in enumerate(truth_mixtures(leaves, under_test.clean)[2 : 2 + N_SWEEP]):
        judged = to_the_end(context, base, mixture, "test")
        yield {
            "arm": f"sweep-{number}",
            **scores(under_test, judged),
            "on_decision_text": scores(under_test, to_the_end(context, base, mixture, "decision")),
            "loss_nats": {domain: round(score.loss_nats, 5) for domain, score in judged.items()},
            "mixture": {name: round(float(w), 4) for name, w in mixture.as_dict.items()},
        }


def run_jobs(options: argparse.Namespace) -> None:
    """Each set, seed and length in a process of its own, so many at a time."""
    todo = [(length, seed, label) for length in options.lengths for seed in options.seeds for label in options.sets]

    def work(item: tuple[str, int, str]) -> None:
        length, seed, label = item
        command = [sys.executable, "-W", "ignore", __file__, "--job", label, str(seed), length]
        subprocess.run([*command, *(["--sweep"] if options.sweep else [])], check=True)

    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(work, todo))


def output_of(label: str, seed: int, length: str) -> Path:
    return harness.RUNS / f"pretraining-{label}-{seed}-{length}.json"


def collected() -> list[Row]:
    """Rows of all finished jobs, beside the committed ones that were not measured anew."""
    found = [
        row for path in sorted(harness.RUNS.glob("pretraining-*-*-*.json")) for row in json.loads(path.read_text())
    ]
    anew = {place(row) for row in found}
    kept = [row for row in harness.load_results("pretraining")["rows"] if "length" in row and not row.get("summary")]
    return sorted([row for row in kept if place(row) not in anew] + found, key=lambda row: (place(row), row["arm"]))


def place(row: Row) -> tuple[str, str, int]:
    """Of which job a row is."""
    return row["set"], row["length"], row["seed"]


def gains(rows: list[Row], label: str, length: str, objective: str, against: str, ours: str = "evermix") -> list[float]:
    """Per seed, percent of mean perplexity of a row under the row `against` (`best of sweep`: by decision text)."""
    key, swept, found = f"perplexity_{objective}", against == "best of sweep", []
    for seed in sorted({row["seed"] for row in rows}):
        here = [row for row in rows if place(row) == (label, length, seed)]
        one = [r[key] for r in here if r["arm"] == ours and r.get("objective", objective) == objective]
        fit = [r for r in here if r.get("objective", objective) == objective]
        theirs = [r for r in fit if (r["arm"].startswith("sweep") if swept else r["arm"] == against)]
        if one and theirs:
            best = min(theirs, key=lambda r: r.get("on_decision_text", r)[key])
            found.append(100 * (1 - one[0] / best[key]))
    return found


def summary(rows: list[Row]) -> list[Row]:
    """Gains over every baseline, mean and standard error over seeds."""
    lines = []
    for label, length in sorted({(row["set"], row["length"]) for row in rows}):
        for objective in OBJECTIVES:
            line: Row = {"summary": True, "set": label, "length": length, "objective": objective}
            for against in AGAINST:
                line[f"percent_under_{against}"] = averaged(gains(rows, label, length, objective, against))
            line[FROM_UNIFORM] = averaged(gains(rows, label, length, objective, "uniform+compute", FROM_UNIFORM))
            line = {key: value for key, value in line.items() if value is not None}
            lines.append(line)
    return lines


def averaged(found: list[float]) -> dict[str, Any] | None:
    """Mean over seeds and its standard error, where there are several; None of nothing."""
    if not found:
        return None
    mean, error = harness.mean_and_error(found)
    return {"mean": mean, "standard_error": error if len(found) > 1 else None, "seeds": len(found)}


def targets(rows: list[Row], lines: list[Row]) -> list[Target]:
    """What the benchmark must show, per set and length."""
    found = []
    for line in lines:
        where = f"set {line['set']}, {line['length']}, {line['objective']}"
        goal = GOALS[line["length"]][OBJECTIVES.index(line["objective"])]
        gain = line.get("percent_under_uniform+compute")
        if gain is None:
            continue
        found.append(Target(f"{where}: under uniform at equal compute", gain["mean"], goal, "%"))
        if gain["seeds"] > 1:
            above = -gain["mean"] / max(gain["standard_error"], 1e-9)
            name = f"{where}: worse than uniform, in standard errors"
            found.append(Target(name, above, 2.0, "standard errors", at_least=False))
        natural = line["percent_under_natural+compute"]["mean"]
        found.append(Target(f"{where}: under natural at equal compute", natural, 18.0, "%"))
    for label, length in sorted({(line["set"], line["length"]) for line in lines}):
        here = [row for row in rows if (row["set"], row["length"]) == (label, length)]
        part = 100 * max(row["decision_flops_part"] for row in here if row["arm"] == "evermix")
        found.append(Target(f"set {label}, {length}: FLOPs of deciding", part, 1.0, "% of training", at_least=False))
        alone = gains(rows, label, length, "all", "uniform", ALONE)
        if not alone:
            continue
        loss, _ = harness.mean_and_error([-gain for gain in alone])
        found.append(Target(f"set {label}, {length}: lost by experimenting", loss, 0.5, "%", at_least=False))
    return found


def markdown_table(rows: list[Row]) -> str:
    """The table of docs/results.md, from the summary rows of the result file."""
    names = {"clean": "the clean domains", "all": "all domains", "skewed": "few domains, unequally"}
    shown = [row for row in rows if row.get("summary")]
    lines = [
        "| mean perplexity of | set | tokens | seeds "
        "| under uniform | under natural | under `weights` | from a uniform start |",
        "|---|---|---|---|---|---|---|---|",
    ]
    order = lambda row: (list(LENGTHS).index(row["length"]), OBJECTIVES.index(row["objective"]), row["set"])  # noqa: E731
    for row in sorted(shown, key=order):
        cells = [row.get(f"percent_under_{against}+compute") for against in ("uniform", "natural", "weights")]
        cells, length = [*cells, row.get(FROM_UNIFORM)], f"{LENGTHS[row['length']] / 1e6:.1f}M"
        seeds = max(cell["seeds"] for cell in cells if cell is not None)
        gained = " | ".join(quoted(cell, seeds) for cell in cells)
        lines.append(f"| {names[row['objective']]} | {row['set']} | {length} | {seeds} | {gained} |")
    return "\n".join(lines)


def quoted(cell: dict[str, Any] | None, seeds: int) -> str:
    """`5.1% ± 0.4`, or without an error where there is one seed; of how many, where not of all."""
    if cell is None:
        return "-"
    error, n = cell["standard_error"], cell["seeds"]
    text = f"{cell['mean']:.1f}%" if error is None else f"{cell['mean']:.1f}% ± {error:.1f}"
    return text if n == seeds else f"{text} ({n} seed{'s' * (n > 1)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["a", "b", "c"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--lengths", nargs="+", choices=list(LENGTHS), default=list(LENGTHS))
    parser.add_argument("--sweep", action="store_true", help="also train twelve random mixtures")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--collect", action="store_true", help="only gather the jobs that are finished")
    parser.add_argument("--job", nargs=3, metavar=("SET", "SEED", "LENGTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        label, seed, length = options.job
        job(label, int(seed), length, options.sweep, output_of(label, int(seed), length))
        return
    if not options.collect:
        run_jobs(options)
    rows = collected()
    lines = summary(rows)
    harness.write_results("pretraining", sorted({row["seed"] for row in rows}), [*lines, *rows], targets(rows, lines))
    print(markdown_table(lines))


if __name__ == "__main__":
    main()
