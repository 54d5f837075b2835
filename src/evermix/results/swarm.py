"""What a decision by a swarm keeps of its proxies and of the reuse of earlier ones."""

from __future__ import annotations

from evermix.results.record import Known, Record, Shares


class ProxyCompute(Record):
    """Runs, of which so many were trained (equal mixtures are one), and what they cost."""

    n_runs: int
    n_trained: int
    n_tokens: float
    flops: float
    seconds: float


class LeftOutRun(Record):
    """A proxy that failed and was given up: its mixture goes unmeasured."""

    run_id: str
    reason: str
    log: str


class Agreement(Record):
    """How a held-out task's ranking of the runs agrees with the fitted objective (Spearman), over how many runs."""

    agreement: Known
    n_runs: int


class EstimateView(Record):
    """A loss or gain in the objective's quantity, with its interval of 80%; high None: nothing is known of it."""

    value: Known
    low: Known
    high: Known


class RecomputeValue(Record):
    """What measuring one domain of the fixed ratio by itself is worth, and the runs that it takes."""

    domain: str
    gain: Known
    low: Known
    high: Known
    runs: int


class DiagnosisView(Record):
    """What the evidence says of keeping fixed ratios (see study.diagnosis.Diagnosis)."""

    kappa: Known
    one_minus_rho: Known
    reuse_gap: Known
    coupling: dict[str, Known]
    gain: Known
    predicted_loss: EstimateView
    runs_saved: int
    candidates: tuple[RecomputeValue, ...] = ()
    recompute: tuple[RecomputeValue, ...] = ()
    remaining_loss: EstimateView
    advice: str


class SwarmRecord(Record):
    """The proxies of one decision.

    Attributes:
        rung: of the ladder; with its parameters.
        metrics: that proxies are scored on.
        this_version, all_versions: what the proxies of this version of the domain set cost, and those of all.
        version, strategy, recomputed: of the domain set: 0 and "full" where it never changed.
        n_tokens: of the target run.
        before: the mixture that the last update of the domains found; None where there was no update.
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
    before: Shares | None = None
    diagnosis: DiagnosisView | None = None
    held_out_tasks: dict[str, Agreement] = {}
