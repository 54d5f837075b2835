"""Mixture reuse on planted worlds: does its gap follow kappa, and does auto release the domain that it should?

    python benchmarks/reuse_theory.py [--part PART ...] [--collect]

Theory (log-linear truth, domains added, laws known): the gap of full reuse against kappa, the reuse gap and the bound
of reuse/coupling.py, over worlds, and within worlds as the coupling of one domain grows. Auto (noisy swarms of
3 (m + 1) old runs and 3 (|D_comp| + 1) new ones): how often diagnose releases the planted domain, and another, in
worlds with one coupled domain and with none; and the same where the truth is a power-link law, fitted by either
family, and in larger worlds. A coupled world counts as planted where its release is truly worth >= 2% of the mixture's
gain over its prior; the others are told apart. Rows of a part are kept in runs/bench/reuse_theory and not made twice.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness  # noqa: F401  sets OMP_NUM_THREADS before numpy is loaded
import numpy as np
from harness import RUNS, Target, write_results
from planted_reuse import PlantedLaw, World, WorldOptions
from scipy.stats import spearmanr

from evermix.domain_updates import CollapsedSpace, effective_prior
from evermix.domain_updates.coupling import centred, interaction, kappa, mask, reuse_gap
from evermix.files import write_json
from evermix.laws.mapped import on_expanded
from evermix.laws.registry import law_class
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve
from evermix.study.partial_reuse import DiagnosisOptions, diagnose

CELLS = RUNS / "reuse_theory"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
MATERIAL = 0.02
RESOLVED = 1e-5  # share of the gain; gaps below it are the rounding of two optima


@dataclass(frozen=True)
class Part:
    """Worlds of one kind: how many planted ones are wanted, and the law fitted to their runs."""

    options: WorldOptions
    law: str
    n_worlds: int


LARGE = {"n_old": (22, 30), "n_metrics": (25, 40)}
PARTS = {
    "coupled": Part(WorldOptions(), "log-linear", 200),
    "uncoupled": Part(WorldOptions(coupled=False), "log-linear", 80),
    "coupled, power-link truth and law": Part(WorldOptions("power-link"), "power-link", 40),
    "uncoupled, power-link truth and law": Part(WorldOptions("power-link", coupled=False), "power-link", 30),
    "coupled, power-link truth, log-linear law": Part(WorldOptions("power-link"), "log-linear", 40),
    "coupled, larger": Part(WorldOptions(**LARGE), "log-linear", 20),
    "coupled, noise doubled": Part(WorldOptions(noise=(0.2, 0.4)), "log-linear", 40),
}


class Truth:
    """Optima of a world's true programme."""

    def __init__(self, world: World) -> None:
        self.problem = world.problem(world.prior)
        self.best = solve(self.problem).mixture.weights
        self.least = self.problem.total(self.best)
        self.gain = self.problem.total(world.prior.weights) - self.least

    def least_in(self, space: CollapsedSpace) -> float:
        """Least true total over a space."""
        prior = effective_prior(self.problem.prior, space.components, [space.virtual])
        bounds = space.component_bounds(self.problem.bounds)
        law = on_expanded(self.problem.law, space)
        inner = MixtureProblem(law, self.problem.objective, bounds, prior, self.problem.kl_weight)
        return self.problem.total(space.expand(solve(inner).mixture.weights))


def widened(world: World, space: CollapsedSpace) -> CollapsedSpace:
    """The space over the world's universe, in which retired domains are free leaves without tokens."""
    return CollapsedSpace(world.universe, space.virtual, space.unused)


def theory_row(seed: int, strength: float, computed: float = 1.0) -> dict[str, Any]:
    """Gap of full reuse from the true old optimum, and what the theory says of it."""
    world = World(seed, WorldOptions(revise=False, strength=strength, computed=computed))
    truth = Truth(world)
    old = solve(world.problem(world.old_prior)).mixture
    space = world.fixed_from(old)
    best, names = truth.best, world.universe.names
    fixed, free = mask(names, space.fixed_ratio), mask(names, space.free)
    rho = float(best[fixed].sum())
    gap = reuse_gap(space.ptilde, np.where(fixed, best, 0.0))
    law = truth.problem.law
    assert isinstance(law, PlantedLaw)
    raw = np.log(law.size)[:, None] - law.B
    A = centred(raw, fixed | free)
    kept = np.where(fixed, rho * space.ptilde, best)
    before, best_before = space.ptilde, np.where(fixed, best, 0.0) / rho
    reducible = np.max([law.predict(p) - law.floor for p in (before, kept, best, best_before)], axis=0)
    C = float(np.linalg.norm(np.array(world.objective.weights) * reducible))
    shared, coupling = interaction(A, fixed, free), kappa(A, fixed, free)
    return {
        "seed": seed,
        "strength": strength,
        "computed": computed,
        "gap": truth.least_in(space) - truth.least,
        "gap_share": (truth.least_in(space) - truth.least) / truth.gain,
        "kappa": coupling,
        "kappa_raw": kappa(raw, fixed, free),
        "one_minus_rho": 1 - rho,
        "reuse_gap": gap.euclidean,
        "reuse_gap_tv": gap.total_variation,
        "bound_of_gap": C * rho * (1 - rho) * coupling * gap.euclidean,
        "sharp_bound_of_gap": C * rho * (1 - rho) * shared * gap.euclidean,
        "bound_of_reuse_gap": C / truth.problem.kl_weight * (1 - rho) * coupling,
    }


def auto_row(seed: int, part: Part) -> dict[str, Any]:
    """What diagnose says after an update, from noisy swarms, beside the truth."""
    started = time.process_time()
    world = World(seed, part.options)
    law = law_class(part.law)()
    old_runs, old_values, sigma = world.old_swarm()
    space = world.fixed_from(world.old_proposal(old_runs, old_values, law))
    new_runs, new_values = world.collapsed_swarm(space, sigma)
    evidence = world.fitted(np.vstack([old_runs, new_runs]), np.vstack([old_values, new_values]), world.prior, part.law)
    found = diagnose(evidence, space, options=DiagnosisOptions(runs_per_component=3))
    seconds = time.process_time() - started
    truth, whole = Truth(world), widened(world, space)
    kept = truth.least_in(whole)
    released = [each.domain for each in found.recompute]
    alone = {
        name: (kept - truth.least_in(whole.recomputed([name]))) / truth.gain
        for name in {*released, *planted_domain(world)}
    }
    after = truth.least_in(whole.recomputed(released)) if released else kept
    n_components, n_leaves = len(space.components), len(world.new)
    return {
        "seed": seed,
        "coupled": world.coupled,
        "released": released,
        "true_loss": (kept - truth.least) / truth.gain,
        "true_loss_after": (after - truth.least) / truth.gain,
        "predicted_loss": [
            x / truth.gain for x in (found.predicted_loss.value, found.predicted_loss.low, found.predicted_loss.high)
        ],
        "true_worth": alone,
        "runs_full": 3 * (n_leaves + 1),
        "runs_auto": 3 * (n_components + len(released)),
        "runs_reuse": 3 * n_components,
        "seconds": seconds,
    }


def planted_domain(world: World) -> tuple[str, ...]:
    """The planted domain, if there is one."""
    return () if world.coupled is None else (world.coupled,)


def is_planted(row: dict[str, Any]) -> bool:
    """Whether a world counts: its planted release is truly worth it, or none is planted."""
    return row["coupled"] is None or row["true_worth"][row["coupled"]] >= MATERIAL


def path_of(name: str) -> Path:
    """Where the rows of a part are kept."""
    return CELLS / f"{name.replace(', ', '-').replace(' ', '-')}.json"


def make(name: str) -> None:
    """Rows of a part, kept as they come."""
    path = path_of(name)
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    if name == "theory":
        for seed in range(60 if not rows else 0):
            rows += [theory_row(seed, strength) for strength in STRENGTHS]
            rows += [theory_row(seed, 1.0, computed) for computed in STRENGTHS[:-1]]
        write_json(path, rows)
        return
    part = PARTS[name]
    while sum(is_planted(row) for row in rows) < part.n_worlds:
        rows.append(auto_row(len(rows), part))
        if len(rows) % 10 == 0:
            write_json(path, rows)
            print(name, len(rows), flush=True)
    write_json(path, rows)


def load(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path_of(name).read_text())
    return rows


def rank(rows: list[dict[str, Any]], x: str, y: str) -> float:
    """Spearman over rows."""
    return float(spearmanr([row[x] for row in rows], [row[y] for row in rows]).statistic)


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Median, 95th percentile and greatest."""
    return dict(zip(("median", "p95", "max"), np.percentile(values, [50, 95, 100]).tolist(), strict=True))


def within_worlds(worlds: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Mean over worlds of Spearman's correlation with the gap along a series; worlds where the gap moves."""
    moving = [world for world in worlds if max(row["gap_share"] for row in world) >= MATERIAL]
    means = {x: float(np.mean([rank(world, x, "gap") for world in moving])) for x in ("kappa", "reuse_gap")}
    return {"n_worlds": len(moving), **means}


def theory_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [dict(row, product=row["kappa"] * row["one_minus_rho"]) for row in rows]
    whole = [row for row in rows if row["strength"] == row["computed"] == 1.0]
    seeds = sorted({row["seed"] for row in rows})
    as_shared = [[row for row in rows if row["seed"] == seed and row["computed"] == 1.0] for seed in seeds]
    as_computed = [[row for row in rows if row["seed"] == seed and row["strength"] == 1.0] for seed in seeds]
    ratios = np.array([row["gap"] / max(row["bound_of_gap"], 1e-300) for row in rows if row["gap_share"] > RESOLVED])
    sharp = np.array(
        [row["gap"] / max(row["sharp_bound_of_gap"], 1e-300) for row in rows if row["gap_share"] > RESOLVED]
    )
    constants = np.array([row["gap"] / (row["kappa"] * row["reuse_gap"]) for row in rows if row["reuse_gap"] > 1e-6])
    reuse = np.array([row["reuse_gap"] / row["bound_of_reuse_gap"] for row in rows])
    columns = ("kappa", "kappa_raw", "reuse_gap", "reuse_gap_tv", "one_minus_rho", "bound_of_gap", "sharp_bound_of_gap")
    return {
        "part": "theory",
        "n": len(rows),
        "spearman_gap_all": {x: rank(rows, x, "gap") for x in columns},
        "spearman_gap_full_strength": {x: rank(whole, x, "gap") for x in columns},
        "spearman_reuse_gap_with_kappa_times_1_minus_rho": rank(rows, "product", "reuse_gap"),
        "within_worlds_as_computed_domains_grow": within_worlds(as_computed),
        "within_worlds_as_the_coupled_domain_grows": within_worlds(as_shared),
        "gap_over_bound": dict(
            zip(("median", "p95", "max"), np.percentile(ratios, [50, 95, 100]).tolist(), strict=True)
        ),
        "gap_over_sharp_bound": dict(
            zip(("median", "p95", "max"), np.percentile(sharp, [50, 95, 100]).tolist(), strict=True)
        ),
        "gap_over_kappa_times_reuse_gap": quantiles(constants),
        "reuse_gap_over_bound_max": float(reuse.max()),
    }


def auto_summary(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    planted = [row for row in rows if is_planted(row)]
    rest = [row for row in rows if not is_planted(row)]
    others = [[d for d in row["released"] if d != row["coupled"]] for row in planted]
    idle = [[d for d in names if row["true_worth"][d] < MATERIAL] for names, row in zip(others, planted, strict=True)]
    inside = [row["predicted_loss"][1] <= row["true_loss"] <= row["predicted_loss"][2] for row in planted]

    def mean(key: str) -> float:
        return float(np.mean([row[key] for row in planted]))

    return {
        "part": name,
        "law": PARTS[name].law,
        "n_worlds": len(planted),
        "planted_released": float(np.mean([row["coupled"] in row["released"] for row in planted])),
        "only_planted_released": float(np.mean([row["released"] == [row["coupled"]] for row in planted])),
        "another_released": float(np.mean([bool(names) for names in others])),
        "another_released_of_worth_below_2_percent": float(np.mean([bool(names) for names in idle])),
        "releases_per_world": float(np.mean([len(row["released"]) for row in planted])),
        "n_not_planted": len(rest),
        "released_where_not_planted": float(np.mean([row["coupled"] in row["released"] for row in rest]))
        if rest
        else 0.0,
        "true_loss_of_full_reuse": mean("true_loss"),
        "true_loss_after_release": mean("true_loss_after"),
        "predicted_loss": float(np.mean([row["predicted_loss"][0] for row in planted])),
        "spearman_predicted_true_loss": float(
            spearmanr([r["predicted_loss"][0] for r in planted], [r["true_loss"] for r in planted]).statistic
        ),
        "interval_coverage": float(np.mean(inside)),
        "runs_share_of_full": float(
            np.sum([r["runs_auto"] for r in planted]) / np.sum([r["runs_full"] for r in planted])
        ),
        "runs_share_of_full_reuse": float(
            np.sum([r["runs_reuse"] for r in planted]) / np.sum([r["runs_full"] for r in planted])
        ),
        "cpu_seconds_per_world": mean("seconds"),
    }


def collect() -> None:
    """results/reuse_theory.json from what is there."""
    theory = theory_summary(load("theory"))
    parts = {name: auto_summary(name, load(name)) for name in PARTS if path_of(name).exists()}
    within, over = theory["within_worlds_as_computed_domains_grow"], theory["spearman_gap_all"]
    targets = [
        Target("gap with kappa, within worlds (rank correlation)", within["kappa"], 0.9, "Spearman"),
        Target("gap with reuse gap, within worlds (rank correlation)", within["reuse_gap"], 0.9, "Spearman"),
        Target("gap with kappa, over worlds (rank correlation)", over["kappa"], 0.5, "Spearman"),
        Target("gap with reuse gap, over worlds (rank correlation)", over["reuse_gap"], 0.5, "Spearman"),
        Target("gap over its bound, worst world", theory["gap_over_bound"]["max"], 1.0, "of the bound", at_least=False),
        *(
            Target(f"planted domain released: {n}", p["planted_released"], 0.95, "of worlds")
            for n, p in parts.items()
            if PARTS[n].options.coupled
        ),
    ]
    write_results("reuse_theory", [0], [theory, *parts.values()], targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="*", default=["theory", *PARTS], choices=["theory", *PARTS])
    parser.add_argument("--collect", action="store_true")
    chosen = parser.parse_args()
    if not chosen.collect:
        CELLS.mkdir(parents=True, exist_ok=True)
        for name in chosen.part:
            make(name)
    if chosen.collect or set(chosen.part) == {"theory", *PARTS}:
        collect()


if __name__ == "__main__":
    main()
