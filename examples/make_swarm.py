"""A small synthetic swarm with a planted law, to try `evermix fit` on: python examples/make_swarm.py [FOLDER]

    bits per byte of task i = floor_i + (transfer_i . p)^(-0.4),    accuracy = 1 / (1 + exp(4 (bits - 1.6)))

p are shares of six domains, and row i of TRANSFER says how much a token of each domain teaches about task i. 36
mixtures come from Dirichlets, sparse and dense, around shares in proportion to the root of the tokens; four of them
are run twice, so that the noise shows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from evermix.domains import Domain, DomainSet
from evermix.observations import Observations

TOKENS = {"web:science": 40e9, "web:news": 90e9, "web:forums": 120e9, "code": 30e9, "books": 15e9, "math": 5e9}
TRANSFER = {
    "science_bpb": (1.00, 0.30, 0.20, 0.10, 0.50, 0.60),
    "news_bpb": (0.30, 1.00, 0.50, 0.05, 0.40, 0.05),
    "code_bpb": (0.10, 0.05, 0.15, 1.00, 0.05, 0.50),
    "math_bpb": (0.30, 0.05, 0.05, 0.40, 0.10, 1.00),
    "exam_acc": (0.80, 0.30, 0.10, 0.20, 0.90, 0.50),
}
FLOORS = np.array([0.20, 0.25, 0.10, 0.15, 0.20])
NOISE = 0.004


def planted(p: np.ndarray) -> np.ndarray:
    """Metrics without noise at mixtures p, shape (..., domains) -> (..., metrics)."""
    bits = FLOORS + (p @ np.array(list(TRANSFER.values())).T) ** -0.4
    bits[..., -1] = 1 / (1 + np.exp(4 * (bits[..., -1] - 1.6)))
    return bits


def make(folder: Path) -> None:
    """Write the swarm."""
    rng = np.random.default_rng(7)
    roots = np.sqrt(list(TOKENS.values()))
    p = np.round(np.array([rng.dirichlet(6 * s * roots / roots.sum()) for s in np.geomspace(0.3, 5, 36)]), 3)
    p[np.arange(36), p.argmax(axis=1)] += 1 - p.sum(axis=1)
    p = np.round(np.vstack([p, p[[20, 25, 30, 35]]]), 3)
    metrics = np.round(planted(p) + rng.normal(0, NOISE, (40, 5)), 4)
    Observations(
        domains=DomainSet(Domain(name, int(n)) for name, n in TOKENS.items()),
        weights=p,
        metrics=tuple(TRANSFER),
        values=metrics,
        run_ids=tuple(f"run-{k:02}" for k in range(40)),
        n_tokens=np.full(40, 1e9),
        n_parameters=np.full(40, 3e7),
        maximised=frozenset(["exam_acc"]),
    ).to_csv(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "swarm")
