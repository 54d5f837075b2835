"""How long do 200 resamples of the DCLM swarm take? One core, one process; target 60 s.

    python benchmarks/bootstrap.py [--resamples 200]

127 runs x 24 domains x 105 metrics (110 less the five of the table that the published objective drops), natural prior,
1T tokens, at most 4 epochs, KL weight 0.05 of the predicted spread. Each resample refits the law to resampled runs and
solves again. Timed for power-link, log-linear and auto: the bootstrap alone, and the whole assessment
(cross-validation, bootstrap, comparison, warnings), in wall-clock and CPU seconds; the target is in CPU seconds, one
process with one thread, because the machine is shared. Reads the swarm under shared/data/swarms.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np
from harness import Target, write_results
from swarms import dclm, need_swarms

from evermix.constraints import Constraints
from evermix.laws.automatic import AutoLaw
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.solvers import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve
from evermix.trust import AssessmentOptions, BootstrapOptions, Request, assess, bootstrap, screen

REQUEST = Request(n_tokens=1e12)


def problem_of(law: MixingLaw, observations: Observations) -> MixtureProblem:
    """Mean of all metrics, natural prior, at most 4 epochs of 1T tokens."""
    objective = Objective.from_dict(observations.metrics)
    prior = Mixture.natural(observations.domains)
    weight = scaled_kl_weight(law, objective, prior, np.random.default_rng(0))
    bounds = Constraints(max_epochs=REQUEST.max_epochs).bounds(observations.domains, REQUEST.n_tokens or 0.0)
    return MixtureProblem(law, objective, bounds, prior, weight)


def measured(law: MixingLaw, observations: Observations, n_resamples: int) -> dict[str, Any]:
    """One row: seconds, and what the bootstrap says."""
    law.fit(observations.runs)
    problem = problem_of(law, observations)
    proposal = solve(problem)
    options = BootstrapOptions(n_resamples)
    start, cpu = time.perf_counter(), time.process_time()
    trust = bootstrap(problem, observations, options, proposal, heldout_rmse=0.03)
    alone, alone_cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    whole = assess(problem, proposal, observations, REQUEST, AssessmentOptions(options))
    assessed = time.perf_counter() - start
    start = time.perf_counter()
    verdicts = [row.verdict for row in screen(law, observations, calibration=whole.calibration)]
    screened = time.perf_counter() - start
    gain = whole.bootstrap.gain("natural")
    return {
        "law": law.name,
        "runs": observations.n_runs,
        "domains": len(observations.domains),
        "metrics": len(observations.metrics),
        "resamples": n_resamples,
        "resampled": trust.kind,
        "failed": trust.n_failed,
        "bootstrap_seconds": alone,
        "bootstrap_cpu_seconds": alone_cpu,
        "assessment_seconds": assessed,
        "screening_seconds": screened,
        "screened": {verdict: verdicts.count(verdict) for verdict in ("keep", "doubtful", "drop")},
        "gain_over_natural": gain.as_dict,
        "probability_beats_best_run": whole.bootstrap.probability_beats_best_run,
        "heldout_spearman": whole.calibration.objective.spearman,
        "warnings": [str(warning) for warning in whole.warnings],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamples", type=int, default=200)
    n_resamples = parser.parse_args().resamples
    need_swarms()
    observations = dclm()
    rows = []
    for law in (PowerLinkLaw(), LogLinearLaw(), AutoLaw(convex=True)):
        rows.append(measured(law, observations, n_resamples))
        print({k: v for k, v in rows[-1].items() if k != "warnings"})
    targets = [
        Target(
            f"{n_resamples} resamples of the DCLM swarm, {row['law']}", row["bootstrap_cpu_seconds"], 60, "CPU s", False
        )
        for row in rows
    ]
    write_results("bootstrap", [0], rows, targets)


if __name__ == "__main__":
    main()
