"""How well does each decision mode foretell real training? >= 20 mixtures trained from one checkpoint, for each mode:
Spearman correlation of the predicted with the true mean loss and per domain, and the slope of true against predicted.

    python benchmarks/simulator_fidelity.py [--sets a] [--seeds 0] [--bases uniform natural]
"""

from __future__ import annotations

import argparse
from typing import Any

import harness
import numpy as np
from rich.console import Console
from scipy.stats import spearmanr

from evermix.designs.dirichlet import dirichlet_candidates
from evermix.ledger import Project
from evermix.lifecycle.deciding import build_problem
from evermix.lifecycle.decision import MODES
from evermix.lifecycle.probing import gather_evidence
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.segments import train_to
from evermix.lifecycle.workbench import Workbench, open_workbench
from evermix.mixture import Mixture
from evermix.schedule import MixtureSchedule

N_MIXTURES = 20


def truth_mixtures(bench: Workbench, clean: list[str]) -> list[Mixture]:
    """Uniform, natural, uniform over the clean domains, and random ones with a floor of 1% (seeded, as the set)."""
    domains = bench.domains
    uniform = Mixture.uniform(domains)
    tidy = Mixture.normalised(domains, [1.0 if d.name in clean else 0.05 for d in domains])
    rng = np.random.default_rng(20261121)
    drawn = dirichlet_candidates(uniform, N_MIXTURES - 3, rng, strength=(0.7, 4.0), minimum_weight=0.0)
    floor = 0.01 * len(domains)
    return [uniform, Mixture.natural(domains), tidy, *(m.blend(uniform, floor) for m in drawn)]


def open_bench(set_under_test: harness.DomainSetUnderTest, seed: int, start: str, objective: str) -> Workbench:
    recipe = set_under_test.recipe(
        seed,
        f"{set_under_test.label}-{seed}",
        start=start,
        objective={"quantity": "loss_nats", "weights": set_under_test.objectives()[objective]},
    )
    project = Project(recipe.project_folder)
    return open_workbench(recipe, project, Reporter(project, Console(force_terminal=False, quiet=True)))


def measure(set_under_test: harness.DomainSetUnderTest, seed: int, start: str) -> list[dict[str, Any]]:
    bench = open_bench(set_under_test, seed, start, "all")
    base = train_to(bench, "base", None, MixtureSchedule.constant(bench.start), bench.decision_steps[0])
    evidence = gather_evidence(bench, base)
    mixtures = truth_mixtures(bench, set_under_test.clean)
    true = []
    for number, mixture in enumerate(mixtures):
        schedule = base.schedule.then(base.step * bench.batch_sequences, mixture)
        reached = train_to(bench, f"truth-{number}", base, schedule, bench.total_steps)
        true.append([reached.scores[name]["loss_nats"] for name in bench.domains.names])
        print(set_under_test.label, seed, start, "truth", number, flush=True)
    points = np.array([mixture.weights for mixture in mixtures])
    rows = []
    for mode, decide in MODES.items():
        outcome = decide(build_problem(bench, base, evidence, mode))
        rows.append(
            {
                "set": set_under_test.label,
                "seed": seed,
                "base": start,
                "mode": mode,
                **compare(outcome.predict(points), np.array(true), bench, set_under_test.clean),
            }
        )
        print(rows[-1], flush=True)
    return rows


def compare(predicted: np.ndarray, true: np.ndarray, bench: Workbench, clean: list[str]) -> dict[str, Any]:
    chosen = [bench.domains.index(name) for name in clean]
    per_domain = [float(spearmanr(predicted[:, j], true[:, j]).statistic) for j in range(true.shape[1])]
    means = predicted.mean(axis=1), true.mean(axis=1)
    return {
        "spearman_mean_loss": float(spearmanr(*means).statistic),
        "spearman_clean_loss": float(
            spearmanr(predicted[:, chosen].mean(axis=1), true[:, chosen].mean(axis=1)).statistic
        ),
        "spearman_mean_perplexity": float(
            spearmanr(np.exp(predicted).mean(axis=1), np.exp(true).mean(axis=1)).statistic
        ),
        "spearman_per_domain_mean": float(np.mean(per_domain)),
        "spearman_per_domain": dict(zip(bench.domains.names, per_domain, strict=True)),
        "slope_true_over_predicted": float(np.polyfit(means[0], means[1], 1)[0]),
        "true_spread_nats": float(means[1].std()),
        "predicted_spread_nats": float(means[0].std()),
        "n_mixtures": len(true),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["a"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--bases", nargs="+", default=["uniform", "natural"])
    parser.add_argument("--no-write", action="store_true")
    options = parser.parse_args()
    rows = [
        row
        for label in options.sets
        for seed in options.seeds
        for base in options.bases
        for row in measure(harness.DomainSetUnderTest.load(label), seed, base)
    ]
    default = [row for row in rows if row["mode"] == "probe-law"]
    worst = min(row["spearman_mean_loss"] for row in default)
    per_domain = min(row["spearman_per_domain_mean"] for row in default)
    targets = [
        harness.Target("probe-law: Spearman of the mean loss, worst base", worst, 0.95, "rank correlation"),
        harness.Target("probe-law: mean Spearman per domain, worst base", per_domain, 0.9, "rank correlation"),
    ]
    if not options.no_write:
        harness.write_results("simulator_fidelity", options.seeds, rows, targets)


if __name__ == "__main__":
    main()
