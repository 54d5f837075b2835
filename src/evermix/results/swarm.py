"""What a decision by a swarm keeps of its proxies and of reuse."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ProxyCompute(_Record):
    """Runs, of which so many were trained (equal mixtures are one), and what they cost."""

    n_runs: int
    n_trained: int
    n_tokens: float
    flops: float
    seconds: float


class LeftOutRun(_Record):
    """A proxy that failed twice: its mixture goes unmeasured."""

    run_id: str
    reason: str
    log: str


class Agreement(_Record):
    """How a held-out task's ranking of the runs agrees with the fitted objective (Spearman), over how many runs."""

    agreement: float
    n_runs: int


class SwarmRecord(_Record):
    """The proxies of one decision.

    Attributes:
        rung: of the ladder; with its parameters.
        metrics: that proxies are scored on.
        this_version, all_versions: what the proxies of this version of the domain set cost, and those of all.
        version, strategy, recomputed: of the domain set: 0 and "full" where it never changed.
        diagnosis: what keeping fixed ratios cost; None where none are kept.
        held_out_tasks: per metric of a task that only the report sees.
    """

    rung: str
    non_embedding: int
    output_projection: int
    steps: int
    tokens_per_proxy: int
    simulated_epoching: bool
    metrics: tuple[str, ...]
    this_version: ProxyCompute
    all_versions: ProxyCompute
    left_out: tuple[LeftOutRun, ...] = ()
    version: int = 0
    strategy: str = "full"
    recomputed: tuple[str, ...] = ()
    n_tokens: int | None = None
    domains: tuple[dict[str, Any], ...] = ()
    diagnosis: dict[str, Any] | None = None
    held_out_tasks: dict[str, Agreement] = {}
