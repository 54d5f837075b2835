"""Adaptive design against the Dirichlet swarm: runs needed for a choice equally good, picking from runs that exist.

Two real swarms and a planted world (another one per seed). The arms `random` (what a Dirichlet swarm is), `exploit`
(the best predicted runs) and `adaptive` start with the same m // 3 random runs, `adaptive from even` with as many that
stand evenly for a random half of the pool; all add batches of max(2, m // 8). After each batch the power-link law is
fitted to the runs picked, and the run with the best predicted mean objective among all is chosen; regret is its
measured objective minus the best measured.

    runs needed = the least K from which on the mean regret over seeds stays at or below that of random runs at K_ref
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from harness import RESULTS, Target, load_results, write_results
from scipy.stats import spearmanr
from swarms import dclm, regmix

from evermix.designs.adaptive import choose_next
from evermix.designs.space_filling import representative
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs

ARMS = ("random", "exploit", "adaptive", "adaptive from even")
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Swarm:
    """Runs that exist: mixtures (runs, domains), costs (runs, metrics)."""

    mixtures: Floats
    costs: Floats

    @property
    def objective(self) -> Floats:
        """Mean cost, shape (runs,)."""
        return value(self.costs)


def value(costs: Floats) -> Floats:
    """The objective: the mean over metrics, shape (..., metrics) -> (...)."""
    mean: Floats = costs.mean(axis=-1)
    return mean


def regmix_runs(seed: int) -> Swarm:
    runs = regmix()
    return Swarm(runs.weights, runs.costs)


def dclm_runs(seed: int) -> Swarm:
    runs = dclm()
    return Swarm(runs.weights, runs.costs)


def planted(seed: int, m: int = 20, n: int = 10, runs: int = 400) -> Swarm:
    """A world that no law here contains: a log-linear part, a saturating part, interactions of two domains, noise."""
    rng = np.random.default_rng(10_000 + seed)
    prior = rng.dirichlet(np.full(m, 2.0))
    P = np.array([rng.dirichlet(m * prior * np.exp(rng.uniform(np.log(0.02), np.log(1.0)))) for _ in range(runs)])
    P = np.where(P < 0.002, 0.0, P)
    P /= P.sum(axis=1, keepdims=True)
    linear = np.exp(-(P @ rng.gamma(0.5, 2.0, (m, n))))
    saturating = 0.3 / (0.05 + P @ rng.gamma(0.3, 1.0, (m, n))) ** 0.4
    pairs = rng.integers(m, size=(2, n))
    together = 0.3 * np.sqrt(P[:, pairs[0]] * P[:, pairs[1]])
    costs = 1.0 + linear + saturating - together
    return Swarm(P, costs + 0.02 * costs.std(axis=0) * rng.standard_normal(costs.shape))


WORLDS: dict[str, Callable[[int], Swarm]] = {"regmix-1m": regmix_runs, "olmix-dclm": dclm_runs, "planted": planted}


def sizes(m: int) -> list[int]:
    """K after each batch, from m // 3 to 2 (m + 1), through m + 1."""
    return sorted({*range(m // 3, 2 * (m + 1), max(2, m // 8)), m + 1, 2 * (m + 1)})


def add(arm: str, swarm: Swarm, law: PowerLinkLaw, done: list[int], n: int, rng: np.random.Generator) -> list[int]:
    """Positions of the next n runs."""
    rest = np.setdiff1d(np.arange(len(swarm.mixtures)), done)
    if arm == "random":
        return list(rng.choice(rest, n, replace=False))
    if arm == "exploit":
        return list(rest[np.argsort(value(law.predict(swarm.mixtures[rest])))[:n]])
    known = Runs(swarm.mixtures[done], swarm.costs[done])
    return list(rest[choose_next(law, known, value, swarm.mixtures[rest], n, rng).positions])


def trajectory(arm: str, swarm: Swarm, seed: int) -> list[dict[str, float]]:
    """What the law chooses after each batch."""
    rng = np.random.default_rng(seed)
    m = swarm.mixtures.shape[1]
    done = [int(k) for k in rng.choice(len(swarm.mixtures), m // 3, replace=False)]
    if arm == "adaptive from even":
        half = rng.choice(len(swarm.mixtures), len(swarm.mixtures) // 2, replace=False)
        done = [int(half[k]) for k in representative(swarm.mixtures[half], m // 3)]
    rows = []
    for k, following in zip(sizes(m), [*sizes(m)[1:], 0], strict=True):
        start = time.process_time()
        law = PowerLinkLaw().fit(Runs.of(swarm.mixtures[done], swarm.costs[done]))
        predicted = value(law.predict(swarm.mixtures))
        rest = np.setdiff1d(np.arange(len(predicted)), done)
        rows.append(
            {
                "runs": k,
                "regret": float(swarm.objective[predicted.argmin()] - swarm.objective.min()),
                "best_seen": float(swarm.objective[done].min() - swarm.objective.min()),
                "spearman_rest": float(spearmanr(predicted[rest], swarm.objective[rest])[0]),
            }
        )
        if following:
            done += [int(x) for x in add(arm, swarm, law, done, following - k, rng)]
        rows[-1]["cpu_s"] = time.process_time() - start
    return rows


def all_arms(world: str, seed: int) -> dict[str, list[dict[str, float]]]:
    """Every arm on one swarm from one seed."""
    swarm = WORLDS[world](seed)
    found = {arm: trajectory(arm, swarm, seed) for arm in ARMS}
    print(world, seed, flush=True)
    return found


def runs_needed(curve: dict[int, float], level: float) -> float:
    """The least K from which on regret stays at or below the level; infinite if it never does."""
    needed = float("inf")
    for k in sorted(curve, reverse=True):
        if curve[k] > level + 1e-12:
            break
        needed = k
    return needed


def summary(world: str, found: dict[str, list[list[dict[str, float]]]], m: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    curves: dict[tuple[str, str], dict[int, float]] = {}
    for arm, seeds in found.items():
        for at in range(len(seeds[0])):
            cells = {key: np.array([seed[at][key] for seed in seeds]) for key in seeds[0][0]}
            k = int(cells["runs"][0])
            row = {"swarm": world, "arm": arm, "runs": k}
            for name, cell in cells.items():
                row[f"{name}_mean"] = float(cell.mean())
            regret = cells["regret"]
            row |= {"regret_median": float(np.median(regret)), "regret_sd": float(regret.std(ddof=1))}
            curves.setdefault((arm, "mean"), {})[k] = row["regret_mean"]
            curves.setdefault((arm, "median"), {})[k] = row["regret_median"]
            rows.append(row)
    for statistic in ("mean", "median"):
        for reference in (m + 1, 2 * (m + 1)):
            level = curves["random", statistic][reference]
            for arm in found:
                needed = runs_needed(curves[arm, statistic], level)
                rows.append(
                    {
                        "swarm": world,
                        "arm": arm,
                        "statistic": statistic,
                        "reference_runs": reference,
                        "regret_of_random": level,
                        "runs_needed": needed if np.isfinite(needed) else None,
                        "ratio": needed / reference if np.isfinite(needed) else None,
                    }
                )
    return rows


def with_other_worlds(
    worlds: list[str], rows: list[dict[str, Any]], targets: list[Target]
) -> tuple[list[dict[str, Any]], list[Target]]:
    """The committed rows and targets of worlds that were not run this time, and these."""
    if set(worlds) >= set(WORLDS) or not (RESULTS / "adaptive.json").exists():
        return rows, targets
    before = load_results("adaptive")
    kept = [Target(t["name"], t["value"], t["goal"], t["unit"], at_least=False) for t in before["targets"]]
    return (
        [row for row in before["rows"] if row["swarm"] not in worlds] + rows,
        [t for t in kept if t.name.split(":")[0] not in worlds] + targets,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS))
    options = parser.parse_args()
    rows, targets = [], []
    for world in options.worlds:
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            seeds = pool.starmap(all_arms, [(world, seed) for seed in range(options.seeds)], chunksize=1)
        found = {arm: [seed[arm] for seed in seeds] for arm in ARMS}
        m = WORLDS[world](0).mixtures.shape[1]
        rows += summary(world, found, m)
        for row in rows:
            if row["swarm"] == world and row["arm"] == "adaptive" and row.get("statistic") == "mean":
                name = f"{world}: runs for the mean regret of {row['reference_runs']} random runs, relative"
                ratio = row["ratio"] if row["ratio"] is not None else float("inf")
                targets.append(Target(name, ratio, 0.6, "of the runs", at_least=False))
        for row in rows:
            if row["swarm"] == world:
                print(row, flush=True)
    rows, targets = with_other_worlds(options.worlds, rows, targets)
    write_results("adaptive", list(range(options.seeds)), rows, targets)


if __name__ == "__main__":
    main()
