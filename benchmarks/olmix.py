"""A swarm of proxies decides the mixture of a target, on real text: 22 leaf domains in two to three levels.

    python benchmarks/olmix.py [--seeds 0 1 2]       goes on where it stopped; trained runs are kept

Per seed: 69 proxies (0.05M parameters, 262k tokens) on mixtures around the natural one; a law; the proposed mixture;
the target (0.2M, 1.6M tokens) on it, on the natural and uniform ones and on the best mixture that a proxy saw. Two
laws: power-link with the published lambda, and everything at evermix's defaults. With the first seed the target is
trained on eight further mixtures of the swarm, evenly spaced from the best to the worst by their proxies: does the
proxies' order hold? The wall time is that of a part of the swarm on two fresh worker processes.
"""

from __future__ import annotations

import argparse
import shutil
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from case_study import MAX_EPOCHS, TARGET_TOKENS, full_design, one_thread, proxies
from harness import RUNS, Target, mean_and_error, write_results
from reuse import Bench, target_scores, train_targets
from scipy.stats import spearmanr

from evermix.deciding import fit, propose
from evermix.executors import Job, LocalProcesses
from evermix.measure.swarm import JOB
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.recipe.decision import StudyRecipe

Floats = npt.NDArray[np.float64]
LAST = 5
N_RANKED, N_TIMED = 8, 12
DEFAULTS: dict[str, Any] = {"tokens": TARGET_TOKENS, "constraints": {"max_epochs": MAX_EPOCHS}, "resamples": 0}


def swarm_of(bench: Bench) -> Observations:
    """The measured swarm over the last domain set."""
    design = full_design(bench.stages[LAST], bench.seed)
    swarm = bench.swarm(LAST)
    found = bench.measure([swarm.proxy(mixture) for mixture in design])
    values = np.array([list(one.metrics.values()) for one in found])
    weights = np.array([mixture.weights for mixture in design])
    return Observations(bench.stores[LAST].domains, weights, tuple(bench.named(LAST, found[0].metrics)), values)


def arms_of(bench: Bench, observations: Observations) -> dict[str, Mixture]:
    """The mixtures that the target is trained on."""
    domains = observations.domains
    published = bench.recipe(LAST, "power-link")
    defaults = StudyRecipe.model_validate({**DEFAULTS, "seed": bench.seed})
    best = int(observations.values.mean(axis=1).argmin())
    return {
        "natural": Mixture.natural(domains),
        "uniform": Mixture.uniform(domains),
        "best observed": Mixture(domains, observations.weights[best]),
        "power-link, published lambda": propose(fit(observations, published)).mixture,
        "evermix defaults": propose(fit(observations, defaults)).mixture,
    }


def order_kept(bench: Bench, observations: Observations) -> dict[str, Any]:
    """Rank correlation of proxies and targets over mixtures of the swarm, evenly spaced by the proxies' order."""
    by_value = observations.values.mean(axis=1).argsort()
    chosen = by_value[np.linspace(0, len(by_value) - 1, N_RANKED).round().astype(int)]
    mixtures = {f"run {k}": Mixture(observations.domains, observations.weights[k]) for k in chosen}
    bits = target_scores(bench, mixtures)
    target = np.array([bits[name] for name in mixtures])
    proxy = observations.values[chosen]
    per_metric = [float(spearmanr(proxy[:, i], target[:, i]).statistic) for i in range(proxy.shape[1])]
    return {
        "seed": bench.seed,
        "n_mixtures": len(chosen),
        "spearman_of_the_mean": float(spearmanr(proxy.mean(axis=1), target.mean(axis=1)).statistic),
        "spearman_per_metric_mean": float(np.mean(per_metric)),
        "proxy_mean_bits_per_byte": proxy.mean(axis=1).tolist(),
        "target_mean_bits_per_byte": target.mean(axis=1).tolist(),
    }


def timed(bench: Bench) -> dict[str, Any]:
    """Wall seconds of some proxies of a seed that was never trained, on two worker processes."""
    folder = RUNS / "olmix-timed"
    shutil.rmtree(folder, ignore_errors=True)
    swarm = proxies(bench.stores[LAST], 99, folder)
    jobs = []
    for k, mixture in enumerate(full_design(bench.stages[LAST], 99)[:N_TIMED]):
        proxy = swarm.proxy(mixture)
        jobs.append(Job(f"proxy-{k}", JOB, proxy.arguments, proxy.marker))
    started = time.monotonic()
    failures = LocalProcesses(2, logs=folder / "logs").run(jobs)
    assert not failures, failures[0].reason
    seconds = time.monotonic() - started
    n_whole = len(full_design(bench.stages[LAST], 99))
    return {"n_timed": N_TIMED, "wall_seconds": seconds, "wall_seconds_whole_swarm": seconds * n_whole / N_TIMED}


def main() -> None:
    """Run every seed and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    one_thread()
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        bench = Bench(seed)
        observations = swarm_of(bench)
        arms = arms_of(bench, observations)
        bits = train_targets(bench, arms)
        for arm, mixture in arms.items():
            gain = 100 * (1 - bits[arm] / bits["natural"])
            row = {"seed": seed, "arm": arm, "bits_per_byte": bits[arm], "gain_percent": gain}
            rows.append(row | {"n_domains": len(mixture.domains), "mixture": mixture.as_dict})
            print(f"seed {seed} {arm:30s} {bits[arm]:.4f} bits per byte, {gain:+.2f}% against natural", flush=True)
        if seed == asked.seeds[0]:
            rows += [{"order": order_kept(bench, observations)}, {"time": timed(bench)}]
            print(rows[-2:], flush=True)
    write_results("olmix", asked.seeds, rows, verdict(rows))


def verdict(rows: list[dict[str, Any]]) -> list[Target]:
    """No thresholds are set but these: no loss against any rival, and the published rank correlation of 1M proxies."""
    found = []

    def bits(arm: str) -> Floats:
        return np.array([row["bits_per_byte"] for row in rows if row.get("arm") == arm])

    for rival in ("natural", "uniform", "best observed"):
        for arm in ("power-link, published lambda", "evermix defaults"):
            gain, _ = mean_and_error((100 * (1 - bits(arm) / bits(rival))).tolist())
            found.append(Target(f"{arm} against {rival}: gain in mean bits per byte", gain, 0.0, "%"))
    order = next(row["order"] for row in rows if "order" in row)
    found.append(Target("rank correlation of proxies and targets", order["spearman_of_the_mean"], 0.73, "Spearman"))
    return found


if __name__ == "__main__":
    main()
