"""Time and optimality gap of the solvers: ours (Newton, auto) against cvxpy with Clarabel and SCS and SciPy's SLSQP.

    OMP_NUM_THREADS=1 python benchmarks/solver.py [--fast] [--workers N]

Random log-linear and power-link laws with repetition caps at four times the prior, (metrics, domains) from (13, 17) to
(52, 4096), the KL weight at 0.05 of the objective's spread and nearly 0. Two gaps, both relative to the objective:
the certificate (an upper bound of the distance to the optimum, from the answer alone), and the distance to the best
value that any solver found. Answers are moved onto the bounds before they are judged. Times are CPU seconds of one
thread, model building included; a solver that exceeds the limit is stopped and listed as over the limit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from harness import Target, mean_and_error, write_results  # sets one thread, so before numpy
from scipy.optimize import minimize

from evermix.constraints import Bounds
from evermix.domains import Domain, DomainSet
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.solvers.convex import cvxpy_programme, feasible, run_clarabel
from evermix.solvers.kl_path import scaled_kl_weight
from evermix.solvers.newton import solve_by_newton
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

SIZES = {(13, 17): (3, 20), (110, 24): (3, 20), (52, 64): (3, 20), (200, 500): (1, 8), (52, 4096): (1, 8)}
KLS = {"0.05": 0.05, "nearly 0": 1e-6}
Floats = np.ndarray


def planted(kind: str, n_metrics: int, n_domains: int, rng: np.random.Generator) -> MixingLaw:
    """A law of the sizes seen in fits: losses of 1 to 3, slopes of about 1."""
    law: MixingLaw
    if kind == "power-link":
        law = power = PowerLinkLaw()
        power.b_, power.c_ = rng.uniform(1, 2, n_metrics), rng.uniform(0.3, 1, n_metrics)
        power.a_, power.tau_ = rng.uniform(0.2, 0.8, n_metrics), np.exp(rng.normal(-1, 1, (n_metrics, n_domains)))
    else:
        law = log_linear = LogLinearLaw()
        log_linear.c_, log_linear.t_ = rng.normal(0.3, 0.2, n_metrics), rng.normal(0, 1, (n_metrics, n_domains))
    law.n_domains_, law.n_metrics_ = n_domains, n_metrics
    return law


def problem_of(kind: str, n_metrics: int, n_domains: int, kl: float, seed: int) -> MixtureProblem:
    rng = np.random.default_rng(seed)
    law = planted(kind, n_metrics, n_domains, rng)
    prior = Mixture.normalised(
        DomainSet([Domain(f"d{j}", 1000) for j in range(n_domains)]), rng.gamma(1.0, size=n_domains) + 0.02
    )
    goal = Objective.from_dict([f"m{i}" for i in range(n_metrics)], None, "metric")
    box = Bounds(np.zeros(n_domains), np.minimum(4 * prior.weights, 1.0), ("cap",) * n_domains)
    return MixtureProblem(law, goal, box, prior, scaled_kl_weight(law, goal, prior, rng, kl))


def by_clarabel(problem: MixtureProblem, _: float) -> Floats:
    variable, programme = cvxpy_programme(problem)
    run_clarabel(programme)
    return np.asarray(variable.value)


def by_scs(problem: MixtureProblem, seconds: float) -> Floats:
    import cvxpy as cp

    variable, programme = cvxpy_programme(problem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        programme.solve(solver=cp.SCS, time_limit_secs=seconds, eps_abs=1e-7, eps_rel=1e-7, max_iters=100_000)
    return np.asarray(variable.value)


def by_slsqp(problem: MixtureProblem, _: float) -> Floats:
    prior, weight = problem.prior.weights, problem.kl_weight

    def total(p: Floats) -> tuple[float, Floats]:
        inner = np.maximum(p, 1e-12)
        value, gradient = problem.value_and_gradient(inner)
        logs = np.log(inner / prior)
        return value + weight * float(inner @ logs), gradient + weight * (1 + logs)

    found = minimize(
        total,
        problem.start,
        jac=True,
        method="SLSQP",
        bounds=list(zip(problem.bounds.lower, problem.bounds.upper, strict=True)),
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1, "jac": lambda p: np.ones_like(p)},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return np.asarray(found.x)


Method = Callable[[MixtureProblem, float], Floats]
METHODS: dict[str, Method] = {
    "ours, newton": lambda problem, _: solve_by_newton(problem)[0],
    "ours, auto": lambda problem, _: solve(problem).mixture.weights,
    "cvxpy, Clarabel": by_clarabel,
    "cvxpy, SCS": by_scs,
    "SciPy, SLSQP": by_slsqp,
}


def measure(problem: MixtureProblem, seconds: int) -> dict[str, tuple[float, Floats | None]]:
    """CPU seconds and shares per method; None where it was stopped or gave nothing."""
    found: dict[str, tuple[float, Floats | None]] = {}
    for name, method in METHODS.items():
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_run, args=(method, problem, seconds, theirs))
        process.start()
        theirs.close()
        try:
            taken, answer = ours.recv()
        except EOFError:
            taken, answer = float(seconds), None
        process.join()
        usable = answer is not None and answer.dtype != object and np.isfinite(answer).all()
        found[name] = (taken, feasible(answer, problem.bounds) if usable else None)
    return found


def _run(method: Method, problem: MixtureProblem, seconds: int, connection: Connection) -> None:
    """In a process of its own, which the system ends when its CPU time is spent: native code cannot be interrupted."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + 1, seconds + 1))
    started = time.process_time()
    answer = method(problem, seconds)
    connection.send((time.process_time() - started, answer))


def rows_of(size: tuple[int, int], kind: str, kl: str, seed: int, seconds: int) -> list[dict[str, Any]]:
    problem = problem_of(kind, *size, KLS[kl], seed)
    found = measure(problem, seconds)
    totals = {name: problem.total(p) for name, (_, p) in found.items() if p is not None}
    best = min(totals.values())
    rows = []
    for name, (taken, p) in found.items():
        row = {
            "metrics": size[0],
            "domains": size[1],
            "law": kind,
            "kl": kl,
            "seed": seed,
            "method": name,
            "seconds": taken,
        }
        if p is None:
            rows.append({**row, "status": f"over limit ({seconds:g} s)"})
            continue
        size_ = abs(problem.value(p))
        gaps = {"certificate": problem.gap(p) / size_, "above_best": (totals[name] - best) / size_}
        rows.append({**row, "status": "done", **gaps})
    return rows


def seconds_of(rows: list[dict[str, Any]], method: str, size: tuple[int, int]) -> float:
    """Mean seconds; a run over the limit counts with what it took."""
    return mean_and_error(
        [r["seconds"] for r in rows if r["method"] == method and (r["metrics"], r["domains"]) == size]
    )[0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="the two smallest sizes only, nothing written")
    parser.add_argument("--workers", type=int, default=1, help="problems at a time")
    options = parser.parse_args()
    sizes = list(SIZES.items())[: 2 if options.fast else None]
    solve(problem_of("power-link", 3, 4, 0.05, 0))  # imports
    solve(problem_of("power-link", 3, 4, 0.05, 0), "clarabel")
    by_scs(problem_of("power-link", 3, 4, 0.05, 0), 5)
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("fork")) as pool:
        waiting = [
            pool.submit(rows_of, size, kind, kl, seed, seconds)
            for size, (n_seeds, seconds) in reversed(sizes)
            for kind in ("log-linear", "power-link")
            for kl in KLS
            for seed in range(n_seeds)
        ]
        rows = [row for each in reversed(waiting) for row in each.result()]
    for size, _ in sizes:
        for name in METHODS:
            print(size, name, f"{seconds_of(rows, name, size):.3f} s", flush=True)
    if not options.fast:
        write_results("solver", sorted({r["seed"] for r in rows}), rows, targets_of(rows, sizes[-1][0]))


def targets_of(rows: list[dict[str, Any]], largest: tuple[int, int]) -> list[Target]:
    ours = [r for r in rows if r["method"] == "ours, auto"]
    ratio = seconds_of(rows, "cvxpy, Clarabel", largest) / seconds_of(rows, "ours, newton", largest)
    return [
        Target("greatest certified gap of ours, relative", max(r["certificate"] for r in ours), 1e-6, "", False),
        Target("ours above the best of all solvers, relative", max(r["above_best"] for r in ours), 1e-6, "", False),
        Target("seconds for 110 metrics, 24 domains", seconds_of(rows, "ours, auto", (110, 24)), 0.02, "s", False),
        Target(f"speed against Clarabel at {largest}", ratio, 5.0, "x"),
    ]


if __name__ == "__main__":
    main()
