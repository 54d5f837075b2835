"""Workers killed at random during a swarm of 30 proxies, five times: the finished swarm equals the undisturbed one.

    python benchmarks/swarm_kills.py

Proxies are really trained (0.05M, 40 steps, with checkpoints) in worker processes of the local executor. A thread kills
a random worker with SIGKILL at random moments. A proxy that was killed twice is reported and left out, as in a project;
a second run, as `evermix run` would be, makes up for it. Every metric of every proxy must be the same, bit for bit.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from evolving import open_text, stages
from harness import RUNS, Target, write_results

from evermix.designs import dirichlet_design
from evermix.executors import Job, LocalProcesses
from evermix.measure.swarm import JOB, Proxy, Swarm
from evermix.mixture import Mixture
from evermix.recipe.measured import ProxyTraining

N_PROXIES, STEPS, ROUNDS = 30, 40, 5
TRAINING = ProxyTraining(rung="0.05M", batch_sequences=8, learning_rate=1e-2, checkpoints=4)
SECONDS_BETWEEN_KILLS = (4.0, 12.0)


def workers_of(parent: int) -> list[int]:
    """Process ids of the parent's children that are executor workers."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    found = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in found if b"executors.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


class Killer(threading.Thread):
    """Kills a random worker now and then, until it is told to stop."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self.rng, self.stopping, self.n_kills = random.Random(seed), threading.Event(), 0

    def run(self) -> None:
        while not self.stopping.wait(self.rng.uniform(*SECONDS_BETWEEN_KILLS)):
            try:
                os.kill(self.rng.choice(workers_of(os.getpid())), signal.SIGKILL)
                self.n_kills += 1
            except (IndexError, ProcessLookupError, FileNotFoundError):
                continue  # no worker at this moment


def train(proxies: list[Proxy], logs: Path) -> tuple[int, int]:
    """Run until all are finished; how many runs it took, and how many proxies were left out on the way."""
    jobs = [Job(f"proxy-{k:02d}", JOB, proxy.arguments, proxy.marker) for k, proxy in enumerate(proxies)]
    n_runs = n_left_out = 0
    while not all(job.finished for job in jobs):
        n_left_out += len(LocalProcesses(2, logs=logs).run(jobs))
        n_runs += 1
    return n_runs, n_left_out


def main() -> None:
    """The undisturbed swarm, then five disturbed ones."""
    store = open_text(stages()[0])
    design = dirichlet_design(Mixture.natural(store.domains), N_PROXIES, np.random.default_rng(0))
    folder = RUNS / "kills"
    shutil.rmtree(folder, ignore_errors=True)
    expected: list[dict[str, float]] = []
    rows: list[dict[str, Any]] = []
    for round_ in range(ROUNDS + 1):
        swarm = Swarm(store, TRAINING, STEPS, 0, 16, (), Path(), folder / str(round_))
        proxies = [swarm.proxy(mixture) for mixture in design]
        killer = Killer(round_)
        if round_:
            killer.start()
        started = time.monotonic()
        n_runs, n_left_out = train(proxies, folder / "logs")
        killer.stopping.set()
        metrics = [proxy.result().metrics for proxy in proxies]
        expected = expected or metrics
        equal = sum(one == other for one, other in zip(metrics, expected, strict=True))
        row = {"round": round_, "n_kills": killer.n_kills, "n_runs": n_runs, "n_left_out": n_left_out}
        rows.append(row | {"n_equal": equal, "seconds": time.monotonic() - started})
        print(rows[-1], flush=True)
    least_kills = min(row["n_kills"] for row in rows[1:])
    least_equal = min(row["n_equal"] for row in rows[1:])
    write_results(
        "swarm_kills",
        list(range(1, ROUNDS + 1)),
        rows,
        [
            Target("proxies equal to the undisturbed ones, worst of five swarms", least_equal, N_PROXIES, "proxies"),
            Target("workers killed, fewest of five swarms", least_kills, 1, "kills"),
        ],
    )


if __name__ == "__main__":
    main()
