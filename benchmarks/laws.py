"""Which law ranks mixtures it has not seen? Both real swarms, every family, auto, and RegMix's published table.

    python benchmarks/laws.py [--only FAMILY ...] [--swarm regmix-1m|olmix-dclm] [--splits 10] [--collect]

For each random split, K runs are fitted and all others predicted: mean over metrics of Spearman's rank correlation,
Spearman of the metrics' mean, and the regret of choosing the held-out run whose predicted mean is lowest, in the
metrics' unit (nats or bits per byte). DCLM has 127 runs, so its largest K is 100 instead of 5(m+1) = 125. Where a
domain is in none of the K runs, log-linear is fitted on the live ones (laws/mapped.py). Every cell is kept in
runs/bench/laws and never computed twice (delete that folder when a law has changed); --collect only writes
results/laws.json from what is there. A cell of which nothing is there keeps the row that results/laws.json has, so that
one family can be run anew when its law has changed. `seconds` is CPU time of one fit and prediction; `splits` says how
many are in.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import harness  # noqa: F401  sets OMP_NUM_THREADS before numpy is loaded
import numpy as np
from harness import RESULTS, RUNS, Target, load_results, mean_and_error, write_results
from swarms import dclm, need_swarms, regmix

from evermix.errors import EvermixError
from evermix.files import write_json
from evermix.laws import LAWS, AutoLaw, MixingLaw, PooledPowerLinkLaw, ResidualLaw
from evermix.laws.cross_validation import spearman
from evermix.laws.mapped import on_sampled
from evermix.observations.runs import Runs

CELLS = RUNS / "laws"
NAMES = {"regmix-1m": "RegMix", "olmix-dclm": "DCLM"}
FACTORS = (1.0, 1.5, 2.0, 3.0, 5.0)
FAMILIES: dict[str, MixingLaw] = {
    **{name: law() for name, law in LAWS.items() if name != "auto" and not law.of_probes},
    "residual-pooled": ResidualLaw(PooledPowerLinkLaw()),
    "auto-convex": AutoLaw(convex=True),
    "auto": AutoLaw(),
}
PUBLISHED = {"linear regression": 90.1, "LightGBM": 98.9}  # RegMix, arXiv 2407.01492, 1M models, Pile-CC


@dataclass(frozen=True)
class Swarm:
    """mixtures (runs, domains), values (runs, metrics)."""

    name: str
    unit: str
    P: np.ndarray
    Y: np.ndarray
    metrics: list[str]

    def sizes(self) -> list[int]:
        n = self.P.shape[1] + 1
        return [min(round(factor * n), 100 if self.name == "olmix-dclm" else len(self.P)) for factor in FACTORS]


def swarm(name: str) -> Swarm:
    runs, unit = (regmix(), "nats") if name == "regmix-1m" else (dclm(), "bits per byte")
    return Swarm(name, unit, runs.weights, runs.values, list(runs.metrics))


def fitted(family: str, P: np.ndarray, Y: np.ndarray) -> MixingLaw:
    law = FAMILIES[family].clone()
    live = (P > 0).any(axis=0)
    if family == "log-linear" and not live.all():
        law = on_sampled(law, live, 0.0)
    return law.fit(Runs.of(P, Y))


def score(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """A prediction that is constant ranks nothing: its correlation counts as 0."""
    mean, best = predicted.mean(axis=1), measured.mean(axis=1)
    return {
        "spearman": float(np.nan_to_num(spearman(predicted, measured)).mean()),
        "spearman_of_mean": float(np.nan_to_num(spearman(mean[:, None], best[:, None]))[0]),
        "regret": float(best[int(mean.argmin())] - best.min()),
    }


def cell(data: Swarm, split: int, K: int, family: str) -> dict[str, Any]:
    """One fit, from the cache or made now."""
    path = CELLS / f"{data.name}-{K}-{family}-{split}.json"
    if path.exists():
        return json.loads(path.read_text())
    order = np.random.default_rng(split).permutation(len(data.P))
    fit, rest = order[:K], order[K:]
    start = time.process_time()
    try:
        law = fitted(family, data.P[fit], data.Y[fit])
        result: dict[str, Any] = score(np.nan_to_num(law.predict(data.P[rest]), posinf=1e9), data.Y[rest])
        if isinstance(law, AutoLaw):
            result |= {"choice": law.swarm_choice_, "is_convex": law.is_convex}
    except EvermixError as error:
        result = {"refused": str(error)}
    result["seconds"] = time.process_time() - start
    write_json(path, result)
    return result


def compute(args: argparse.Namespace) -> None:
    for name in args.swarm:
        data = swarm(name)
        for split in range(args.splits):
            for K in data.sizes():
                for family in args.only:
                    if family != "boosted-trees" or K >= 40:
                        cell(data, split, K, family)
            print(f"{name}: split {split} done", flush=True)


def collected(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per swarm, K and family: means over the splits that are there, with standard errors, or the row kept."""
    kept = {(row["swarm"], row["K"], row["family"]): row for row in _kept_rows() if "family" in row}
    rows = []
    for name in ("regmix-1m", "olmix-dclm"):
        data = swarm(name)
        for factor, K in zip(FACTORS, data.sizes(), strict=True):
            for family in FAMILIES:
                paths = [CELLS / f"{name}-{K}-{family}-{split}.json" for split in range(args.splits)]
                cells = [json.loads(path.read_text()) for path in paths if path.exists()]
                if not cells and (name, K, family) in kept:
                    rows.append(kept[name, K, family])
                    continue
                good = [c for c in cells if "refused" not in c]
                row: dict[str, Any] = {"swarm": name, "K": K, "K_over_m_plus_1": factor, "family": family}
                row |= {"held_out": len(data.P) - K, "metrics": len(data.metrics), "regret_unit": data.unit}
                row |= {"splits": len(good), "refused": len(cells) - len(good)}
                for key in ("spearman", "spearman_of_mean", "regret", "seconds") if good else ():
                    mean, error = mean_and_error([c[key] for c in good])
                    row[key] = round(mean, 5)
                    if len(good) > 1:
                        row[f"{key}_error"] = round(error, 5)
                choices = [c["choice"] for c in good if "choice" in c]
                if choices:
                    row["choices"] = {choice: choices.count(choice) for choice in sorted(set(choices))}
                if good:
                    rows.append(row)
    return rows


def _kept_rows() -> list[dict[str, Any]]:
    return load_results("laws")["rows"] if (RESULTS / "laws.json").exists() else []


def published() -> list[dict[str, Any]]:
    """RegMix's table: fit 512 runs, rank the 256 test runs by their loss on Pile-CC; LightGBM as theirs and as ours."""
    path = CELLS / "published.json"
    if path.exists():
        return json.loads(path.read_text())
    from lightgbm import LGBMRegressor, early_stopping
    from sklearn.linear_model import LinearRegression

    train, test = regmix("train"), regmix("test")
    P, Y, Q, Z = train.weights, train.values, test.weights, test.values
    target = train.metrics.index("pile_cc")
    linear = LinearRegression().fit(P, Y)
    predictions = {"linear regression": linear.predict(Q)}
    trees = []
    for i in range(Y.shape[1]):  # stops early on the runs it is judged by, as the published code does
        model = LGBMRegressor(n_estimators=1000, learning_rate=0.01, random_state=42, verbosity=-1, n_jobs=1)
        stop = early_stopping(stopping_rounds=3, verbose=False)
        trees.append(model.fit(P, Y[:, i], eval_set=[(Q, Z[:, i])], eval_metric="l2", callbacks=[stop]).predict(Q))
    predictions["LightGBM"] = np.stack(trees, axis=1)
    for family, law in FAMILIES.items():
        predictions[f"evermix {family}"] = law.clone().fit(Runs.of(P, Y)).predict(Q)
    rows = []
    for name, predicted in predictions.items():
        ranks = 100 * spearman(predicted, Z)
        row = {"table": "RegMix 1M, 512 runs -> 256 test runs", "method": name, "spearman_pile_cc": ranks[target]}
        rows.append(row | {"spearman_mean": ranks.mean(), "published_pile_cc": PUBLISHED.get(name)})
    write_json(path, rows)
    return rows


def targets(rows: list[dict[str, Any]], paper: list[dict[str, Any]]) -> list[Target]:
    result = []
    value = {(r["swarm"], r["K_over_m_plus_1"], r["family"]): r["spearman"] for r in rows}
    single = [f for f in FAMILIES if not f.startswith("auto")]
    for name in ("regmix-1m", "olmix-dclm"):
        if (name, 1.0, "auto") in value and (name, 2.0, "log-linear") in value:
            goal = value[name, 2.0, "log-linear"]
            label = f"{name}: Spearman of auto at m+1 against log-linear at 2(m+1)"
            result.append(Target(label, value[name, 1.0, "auto"], goal, "Spearman"))
        for factor in FACTORS:
            best = max((value.get((name, factor, f), -1.0) for f in single), default=-1.0)
            if (name, factor, "auto") in value:
                label = f"{name}: auto at {factor:g}(m+1), best single family less 0.01"
                result.append(Target(label, value[name, factor, "auto"], round(best - 0.01, 5), "Spearman"))
    ours = {row["method"]: row["spearman_pile_cc"] for row in paper}
    for name, figure in PUBLISHED.items():
        label = f"published Pile-CC figure of {name} ({figure}) reproduced, distance"
        result.append(Target(label, abs(ours[name] - figure), 1.0, "points", at_least=False))
    result.append(
        Target("Pile-CC: auto against published LightGBM", ours["evermix auto"], PUBLISHED["LightGBM"], "points")
    )
    return result


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """For docs/results.md: mean held-out rank correlation per metric, and of the mean metric, for three laws."""
    value = {(r["swarm"], r["K_over_m_plus_1"], r["family"]): r for r in rows if "K_over_m_plus_1" in r}
    factors = (1.0, 2.0, 3.0)
    lines = [
        "| rank correlation, per metric / of the mean | "
        + " | ".join(
            f"{name}, {value[swarm, factor, 'auto']['K']} runs" for swarm, name in NAMES.items() for factor in factors
        )
        + " |",
        "|---" * (1 + len(NAMES) * len(factors)) + "|",
    ]
    for family in ("auto", "power-link", "log-linear"):
        cells = [value[swarm, factor, family] for swarm in NAMES for factor in factors]
        numbers = [f"{cell['spearman']:.2f} / {cell['spearman_of_mean']:.2f}" for cell in cells]
        lines.append(f"| {family} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--swarm", nargs="+", default=["regmix-1m", "olmix-dclm"])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--collect", action="store_true")
    args = parser.parse_args()
    need_swarms()
    warnings.simplefilter("ignore", RuntimeWarning)
    CELLS.mkdir(parents=True, exist_ok=True)
    if not args.collect:
        compute(args)
    rows = collected(args)
    kept = [row for row in _kept_rows() if "method" in row]
    paper = kept if kept and set(args.only) != set(FAMILIES) else published()
    write_results("laws", list(range(args.splits)), [*rows, *paper], targets(rows, paper))


if __name__ == "__main__":
    main()
