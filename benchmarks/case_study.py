"""Proxies and targets of the evolving domain set: what reuse.py and olmix.py train, and how."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from evolving import Stage, open_text
from harness import RUNS

from evermix.corpus.store import TokenStore
from evermix.designs import nested_design
from evermix.measure.swarm import Swarm
from evermix.mixture import Mixture
from evermix.recipe.measured import ProxyTraining

PROXY = ProxyTraining(rung="0.05M", batch_sequences=8, learning_rate=1e-2, checkpoints=0)
PROXY_STEPS = 512
TARGET = ProxyTraining(rung="0.2M", batch_sequences=16, learning_rate=5e-3, checkpoints=4)
TARGET_STEPS = 1562
TARGET_TOKENS = TARGET_STEPS * TARGET.batch_sequences * 64
MAX_EPOCHS = 2.0
EVALUATION_SEQUENCES = 64
KEPT = RUNS / "evolving" / "runs"


def proxies(store: TokenStore, seed: int, runs: Path = KEPT) -> Swarm:
    """The swarm's settings over the domains of `store`: 262k tokens in a model of 0.05M + output projection."""
    return Swarm(store, PROXY, PROXY_STEPS, seed, EVALUATION_SEQUENCES, (), Path(), runs)


def targets(store: TokenStore, seed: int) -> Swarm:
    """The target: four times the parameters and six times the tokens of a proxy; judged on test text."""
    return Swarm(store, TARGET, TARGET_STEPS, 1000 + seed, 128, (), Path(), KEPT)


def full_design(stage: Stage, seed: int) -> list[Mixture]:
    """Full recomputation's swarm: 3 (m + 1) mixtures around the natural one, drawn level by level."""
    domains = open_text(stage).domains
    names = [stage.name, len(domains)]
    rng = np.random.default_rng([seed, *names[1:], len(stage.name)])
    return nested_design(Mixture.natural(domains), 3 * (len(domains) + 1), rng)


def one_thread() -> None:
    """Settings of a process that trains."""
    os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"] = "1", "PASSIVE"
