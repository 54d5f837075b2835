"""OP-Mix pretraining against no mixing: natural, uniform, evermix in each mode, and a sweep of random mixtures.

A 0.2M model, 1.6M tokens, one decision at 50% of the steps from a uniform start; three objectives; two domain sets
fixed beforehand (domain_sets.md): `a`, which settings were chosen on (with other seeds), and `b`, which confirms.

    python benchmarks/pretraining.py [--sets a b] [--seeds 0 1 2 3 4] [--processes 2]

Interrupted, it goes on where it stopped: finished runs lie in runs/bench/.
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
from evermix.recipe import DecisionRecipe, Recipe
from evermix.results import DomainScore

MODES = ("probe-law", "interpolation", "gradient")
DEFAULT = DecisionRecipe().mode
N_SWEEP = 12
BASELINES = ("natural", "uniform")


def asked(under_test: DomainSetUnderTest, objective: str) -> dict[str, Any]:
    """The objective as the recipe says it."""
    return {"quantity": "perplexity", "weights": under_test.objectives()[objective]}


def recipe_of(under_test: DomainSetUnderTest, seed: int, objective: str, mode: str, *arms: str) -> Recipe:
    """The recipe of some arms."""
    changes = {"decision": {"mode": mode}, "objective": asked(under_test, objective), "arms": arms}
    return under_test.recipe(seed, f"{under_test.label}-{seed}", **changes)


def scores(under_test: DomainSetUnderTest, per_domain: dict[str, DomainScore]) -> dict[str, float]:
    """Mean perplexity by each objective, and mean bits per byte of the clean domains."""
    names, losses = tuple(per_domain), np.array([one.loss_nats for one in per_domain.values()])
    row = {
        f"perplexity_{label}": float(Objective.from_dict(names, weights, "perplexity").value(losses))
        for label, weights in under_test.objectives().items()
    }
    row["bits_per_byte_clean"] = float(np.mean([per_domain[name].bits_per_byte for name in under_test.clean]))
    return row


def job(label: str, seed: int, output: Path) -> None:
    """Every arm of one set and seed, baselines at equal compute too; `output` holds the rows so far."""
    under_test = DomainSetUnderTest.load(label)
    rows: list[dict[str, Any]] = []

    def add(recipe: Recipe, **of_evermix: Any) -> None:
        for name, arm in em.run(recipe).arms.items():
            (phase,) = arm.last
            rows.append(
                {
                    "set": label,
                    "seed": seed,
                    "arm": name,
                    **(of_evermix if name == "evermix" else {}),
                    **scores(under_test, phase.per_domain),
                    "flops": phase.compute.flops,
                    "decision_flops_part": sum(one.compute.flops for one in phase.decisions)
                    / (phase.compute.flops - sum(one.compute.flops for one in phase.decisions)),
                    "mixture": {domain: round(phase.mixture.get(domain, 0.0), 4) for domain in phase.per_domain},
                }
            )
            write_json(output, rows)
            print({k: v for k, v in rows[-1].items() if k != "mixture"}, flush=True)

    for mode in MODES if label == "a" else (DEFAULT,):
        for objective in under_test.objectives():
            baselines = BASELINES if (mode, objective) == (DEFAULT, "all") else ()
            add(recipe_of(under_test, seed, objective, mode, *baselines, "evermix"), mode=mode, objective=objective)
    if label == "a":
        for row in sweep(under_test, seed):
            rows.append(row)
            write_json(output, rows)


def sweep(under_test: DomainSetUnderTest, seed: int) -> Iterator[dict[str, Any]]:
    """Random mixtures from the same checkpoint on, scored on both sides' text: the near-oracle is the best by decision
    text, judged on test text."""
    context, phase = open_one_phase(under_test, seed, "uniform", asked(under_test, "all"))
    base, leaves = to_the_decision(context, phase), context.leaves(phase.domains)
    for number, mixture in enumerate(truth_mixtures(leaves, under_test.clean)[2 : 2 + N_SWEEP]):
        yield {
            "set": under_test.label,
            "seed": seed,
            "arm": f"sweep-{number}",
            **scores(under_test, to_the_end(context, base, mixture, "test")),
            "on_decision_text": scores(under_test, to_the_end(context, base, mixture, "decision")),
            "mixture": {name: round(float(w), 4) for name, w in mixture.as_dict.items()},
        }


def run_jobs(sets: list[str], seeds: list[int], processes: int) -> list[dict[str, Any]]:
    """Each (set, seed) in a process of its own, `processes` at a time."""
    todo = [(label, seed) for seed in seeds for label in sets]

    def work(item: tuple[str, int]) -> Path:
        output = harness.RUNS / f"pretraining-{item[0]}-{item[1]}.json"
        command = [sys.executable, "-W", "ignore", __file__, "--job", item[0], str(item[1]), str(output)]
        subprocess.run(command, check=True)
        return output

    with ThreadPoolExecutor(processes) as pool:
        return [row for path in pool.map(work, todo) for row in json.loads(path.read_text())]


def collect(sets: list[str]) -> list[dict[str, Any]]:
    """Rows of the finished jobs of these sets."""
    paths = sorted(path for label in sets for path in harness.RUNS.glob(f"pretraining-{label}-*.json"))
    return [row for path in paths for row in json.loads(path.read_text())]


def gains(rows: list[dict[str, Any]], label: str, objective: str, mode: str, against: str) -> list[float]:
    """Per seed, percent of mean perplexity under the row `against` (`best of sweep`: the least on decision text)."""
    key = f"perplexity_{objective}"
    found = []
    for seed in sorted({row["seed"] for row in rows if row["set"] == label}):
        here = [row for row in rows if row["set"] == label and row["seed"] == seed]
        ours = [r[key] for r in here if r.get("mode") == mode and r.get("objective") == objective]
        swept = against == "best of sweep"
        theirs = [r for r in here if (r["arm"].startswith("sweep") if swept else r["arm"] == against)]
        if ours and theirs:
            best = min(theirs, key=lambda r: r.get("on_decision_text", r)[key])
            found.append(100 * (1 - ours[0] / best[key]))
    return found


def targets(rows: list[dict[str, Any]], label: str) -> list[Target]:
    mode, where = DEFAULT, f"set {label}, {DEFAULT}"
    natural, uniform = (harness.quoted_row(arm, [row["arm"] for row in rows]) for arm in BASELINES)
    found = []
    for objective, against, goal in (
        ("clean", uniform, 3.0),
        ("clean", natural, 10.0),
        ("skewed", uniform, 15.0),
    ):
        mean, _ = harness.mean_and_error(gains(rows, label, objective, mode, against))
        found.append(Target(f"{where}: {objective} mean perplexity under {against}", mean, goal, "%"))
    mean, _ = harness.mean_and_error(gains(rows, label, "clean", mode, uniform))
    found.append(Target(f"{where}: clean mean perplexity under {uniform} (stretch)", mean, 6.3, "%"))
    for against in (uniform, natural):
        mean, error = harness.mean_and_error(gains(rows, label, "all", mode, against))
        found.append(
            Target(f"{where}: all domains under {against}, in standard errors", mean / error, 2.0, "standard errors")
        )
    if any(row["arm"].startswith("sweep") for row in rows if row["set"] == label):
        for objective in ("clean", "all", "skewed"):
            mean, _ = harness.mean_and_error(gains(rows, label, objective, mode, "best of sweep"))
            found.append(
                Target(f"{where}: {objective} regret to the best of the sweep", -mean, 0.5, "%", at_least=False)
            )
    parts = [row["decision_flops_part"] for row in rows if row["set"] == label and row.get("mode") == mode]
    found.append(Target(f"{where}: FLOPs of the decision", 100 * max(parts), 15.0, "% of training", at_least=False))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gain of every mode over both rows of uniform and natural, mean and standard error over seeds."""
    lines, names = [], [row["arm"] for row in rows]
    baselines = [name for arm in reversed(BASELINES) for name in harness.both_rows(arm, names)]
    for label in sorted({row["set"] for row in rows}):
        for mode in sorted({row["mode"] for row in rows if row["set"] == label and "mode" in row}):
            for objective in ("clean", "all", "skewed"):
                line: dict[str, Any] = {"summary": True, "set": label, "mode": mode, "objective": objective}
                for against in baselines:
                    mean, error = harness.mean_and_error(gains(rows, label, objective, mode, against))
                    line |= {f"gain_over_{against}_percent": mean, f"standard_error_{against}_percent": error}
                lines.append(line)
                print(line)
    return lines


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The table of docs/results.md, from the summary rows of the result file: default mode only."""
    found = {(r["set"], r["objective"]): r for r in rows if r.get("summary") and r["mode"] == DEFAULT}
    gained = [key for row in found.values() for key in row if key.startswith("gain_over_")]
    baselines = [key.removeprefix("gain_over_").removesuffix("_percent") for key in dict.fromkeys(gained)]
    heads = " | ".join(f"under {against}" for against in baselines)
    lines = [f"| mean perplexity of | set | {heads} |", "|---" * (2 + len(baselines)) + "|"]
    names = {"clean": "the clean domains", "all": "all domains", "skewed": "three domains, .5 / .3 / .2"}
    for (label, objective), row in sorted(found.items(), key=lambda item: (list(names).index(item[0][1]), item[0][0])):
        cells = [
            f"{row[f'gain_over_{against}_percent']:.1f}% ± {row[f'standard_error_{against}_percent']:.1f}"
            for against in baselines
        ]
        lines.append(f"| {names[objective]} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["a", "b"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--collect", action="store_true", help="only gather the jobs that are finished")
    parser.add_argument("--job", nargs=3, metavar=("SET", "SEED", "OUTPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        label, seed, output = options.job
        job(label, int(seed), Path(output))
        return
    rows = collect(options.sets) if options.collect else run_jobs(options.sets, options.seeds, options.processes)
    found = [target for label in options.sets for target in targets(rows, label)]
    lines = summary(rows)
    seeds = sorted({row["seed"] for row in rows})
    harness.write_results("pretraining", seeds, [*lines, *rows], found)
    print(markdown_table(lines))


if __name__ == "__main__":
    main()
