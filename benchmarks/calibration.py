"""Do the promises hold? Intervals and probabilities of the bootstrap against outcomes that are known.

    python benchmarks/calibration.py [--worlds 30] [--splits 20] [--resamples 60]

Planted worlds: a power-link truth over 8 domains and 5 metrics, K runs with noise of a third of the metrics' spread;
a law (auto, and power-link, whose prior on a does not hold there) is fitted, the mixture proposed, the runs resampled.
How often do 90% intervals hold the true gain over natural, the true objective and the truth's own best weights? How
much bias of the apparent gain does the correction take off?

Real runs: of RegMix's 768 runs, K random ones are fitted, and the proposal is the best of all other runs by the law,
so that its outcome is measured. Promised is the chance that it measures below the best of the K; kept is whether it
does. Mean promise against frequency kept, the Brier score against that of always promising the frequency, and how
often the 90% predictive interval of its objective (law, optimism and held-out error together) holds the measurement.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
from harness import Target, write_results
from scipy.stats import norm
from swarms import SWARMS, regmix

from evermix.constraints import Bounds
from evermix.domains import Domain, DomainSet
from evermix.laws.automatic import AutoLaw
from evermix.laws.base import MixingLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.observations.runs import Runs
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve
from evermix.trust import BootstrapOptions, bootstrap, calibrate
from evermix.trust.resampling import choose, resamples

LawType = Callable[[], MixingLaw]
M, N = 8, 5
KL = 0.05


LAWS: dict[str, LawType] = {"auto": lambda: AutoLaw(convex=True), "power-link": PowerLinkLaw}


def truth(rng: np.random.Generator) -> PowerLinkLaw:
    """A power-link law with random parameters, as if fitted."""
    law = PowerLinkLaw()
    law.b_, law.c_ = rng.uniform(1, 2, N), rng.uniform(0.5, 1, N)
    law.a_, law.tau_ = rng.uniform(0.3, 0.8, N), np.exp(rng.normal(-1, 1, (N, M)))
    law.n_domains_, law.n_metrics_ = M, N
    return law


def planted(seed: int, n_runs: int, n_resamples: int, law_type: LawType) -> dict[str, float]:
    """One world: what was promised, and what is true."""
    rng = np.random.default_rng(seed)
    law = truth(rng)
    domains = DomainSet([Domain(f"d{j}", 1000 * (j + 1)) for j in range(M)])
    P = rng.dirichlet(np.ones(M), n_runs)
    exact = law.predict(P)
    noise = law.predict(rng.dirichlet(np.ones(M), 2000)).std(axis=0) / 3
    metrics = tuple(f"m{i}" for i in range(N))
    runs = Observations(domains, P, metrics, exact + noise * rng.standard_normal(exact.shape))
    goal = Objective.from_dict(metrics)
    bounds = Bounds(np.zeros(M), np.ones(M), ("",) * M)
    prior = Mixture.natural(domains)
    fitted = law_type().fit(Runs.of(runs.weights, runs.costs))
    best = solve(MixtureProblem(law, goal, bounds, prior, KL)).mixture.weights
    problem = MixtureProblem(fitted, goal, bounds, prior, KL)
    judged = calibrate(fitted, runs, goal)
    options = BootstrapOptions(n_resamples, seed)
    trust = bootstrap(problem, runs, options, heldout_rmse=judged.objective.rmse, misfit=judged.misfit)
    p = trust.proposal.mixture.weights
    gain, true = trust.gain("natural"), float(goal.value(law.predict(prior.weights)) - goal.value(law.predict(p)))
    measured = law.predict(p) + noise * rng.standard_normal((500, N))
    low, high = trust.weight_intervals().T
    return {
        "gain_covered": float(true in gain.interval),
        "gain_at_least_low": float(true >= gain.interval.low),
        "objective_covered": float(float(goal.value(law.predict(p))) in trust.objective_interval("proposal")),
        "weights_covered": float(((low <= best) & (best <= high)).mean()),
        "gain_width": gain.interval.high - gain.interval.low,
        "weights_width": float((high - low).mean()),
        "apparent_gain": gain.apparent,
        "corrected_gain": gain.corrected,
        "true_gain": true,
        "promised": trust.probability_beats_best_run,
        "kept": float((goal.value(measured) < trust.best.objective_value).mean()),
        "residuals": float(trust.kind == "residuals"),
    }


def real(runs: Observations, seed: int, n_runs: int, n_resamples: int) -> dict[str, float]:
    """One split of the real runs; see the module's text."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(runs.n_runs)
    seen, pool = runs.subset(runs=np.sort(order[:n_runs])), runs.subset(runs=np.sort(order[n_runs:]))
    goal = Objective.from_dict(runs.metrics)
    law = PowerLinkLaw().fit(Runs.of(seen.weights, seen.costs))
    rmse = calibrate(law, seen, goal, seed=seed).objective.rmse
    full = np.asarray(goal.value(law.predict(pool.weights)))
    chosen = int(full.argmin())
    errors = []
    for draw in resamples(choose(seen, law).kind, seen, law, n_resamples, rng):
        again = law.refit(replace(draw, sigma=None))
        value = np.asarray(goal.value(again.predict(pool.weights)))
        pick = int(value.argmin())
        errors.append(value[pick] - full[pick])
    centred = np.array(errors) - max(float(np.mean(errors)), 0.0)
    level = full[chosen] - centred
    least = float(goal.value(seen.costs).min())
    outcome = float(goal.value(pool.costs[chosen]))
    draws = level[:, None] + rmse * norm.ppf((np.arange(200) + 0.5) / 200)
    low, high = np.percentile(draws, [5, 95])
    return {
        "promised": float(norm.cdf((least - level) / rmse).mean()),
        "kept": float(outcome < least),
        "covered": float(low <= outcome <= high),
        "error": outcome - float(full[chosen]),
    }


def mean_of(results: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every number."""
    return {name: float(np.mean([result[name] for result in results])) for name in results[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=30)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--resamples", type=int, default=60)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, law_type in LAWS.items():
        for n_runs in (M + 1, 3 * (M + 1), 6 * (M + 1)):
            worlds = [planted(seed, n_runs, arguments.resamples, law_type) for seed in range(arguments.worlds)]
            rows.append({"truth": "planted", "law": name, "K": n_runs, "n": arguments.worlds, **mean_of(worlds)})
            print(rows[-1], flush=True)
    if (SWARMS / "regmix-1m").is_dir():
        runs = regmix()
        for n_runs in (27, 54, 128):
            splits = [real(runs, seed, n_runs, arguments.resamples) for seed in range(arguments.splits)]
            mean = mean_of(splits)
            brier = float(np.mean([(s["promised"] - s["kept"]) ** 2 for s in splits]))
            rows.append(
                {"truth": "RegMix 1M", "law": "power-link", "K": n_runs, "n": arguments.splits, **mean, "brier": brier}
            )
            rows[-1]["brier_of_the_frequency"] = mean["kept"] * (1 - mean["kept"])
            print(rows[-1], flush=True)
    report(rows, arguments)


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write rows and targets."""
    targets = []
    for name in LAWS:
        least = min(row["gain_covered"] for row in rows if row.get("law") == name and row["truth"] == "planted")
        targets.append(Target(f"90% intervals of the gain hold the truth, {name}, least over K", least, 0.8, "share"))
    write_results("calibration", list(range(max(arguments.worlds, arguments.splits))), rows, targets)


if __name__ == "__main__":
    main()
