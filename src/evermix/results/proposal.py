"""ProposalView: an assessed proposal as plain frozen values: what every page, table and notebook shows of it."""

from __future__ import annotations

from typing import Any, Literal

from evermix.objective import Quantity
from evermix.results.record import Ends, Known, Record, Shares

PROPOSAL, NATURAL, PRIOR, UNIFORM, BEST_RUN = "proposal", "natural", "prior", "uniform", "best run"
Severity = Literal["serious", "warning", "note"]


class RunsInfo(Record):
    """The runs that a law is fitted to; `maximised` metrics are better when higher, `missing` counts empty cells."""

    n_runs: int
    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    maximised: tuple[str, ...] = ()
    missing: int = 0


class ObjectiveScaleInfo(Record):
    """The objective in the metrics' own terms: value = sign * (cost - offset).

    Attributes:
        quantity: what is averaged.
        direction: "lower is better", "higher is better", or what a cost is where the metrics' directions differ.
        has_percent: whether a percentage of its size means anything.
        aggregate: the weighted mean, or the worst case over metrics or laws.
    """

    quantity: Quantity = "metric"
    direction: str = "lower is better"
    sign: float = 1.0
    offset: float = 0.0
    has_percent: bool = True
    aggregate: str = "mean"

    def value(self, cost: float) -> float:
        """The objective of the metrics, from that of the costs."""
        return self.sign * (cost - self.offset)

    @property
    def unit(self) -> str:
        """Of the objective's values and of gains that are no percentage."""
        if not self.direction.endswith("is better") or self.direction.startswith("metrics"):
            return "in no unit: metrics of several are averaged"
        names = {"loss_nats": "nats per token", "bits_per_byte": "bits per byte", "metric": "in the metrics' own unit"}
        return names.get(self.quantity, self.quantity)

    def percent(self, gain: float, cost: float) -> float | None:
        """A gain in percent of the size of the objective at `cost`; None where that means nothing."""
        base = abs(cost - self.offset)
        return 100 * gain / base if self.has_percent and base > 0 else None


class PriorInfo(Record):
    """What the KL term pulls towards, and where it comes from."""

    source: str
    mixture: Shares


class PathPointView(Record):
    """The optimum at one strength of the pull, relative to the objective's predicted spread."""

    kl: float
    n_effective: float
    mixture: Shares
    objective_value: Known
    kl_weight: float


class KlChoiceView(Record):
    """Cross-fitting of the strength: a score and its standard error for each, lower is better; empty: too few runs."""

    kl: float
    kls: tuple[float, ...] = ()
    scores: tuple[Known, ...] = ()
    standard_errors: tuple[Known, ...] = ()
    n_judgements: int = 0
    reason: str = ""


class KlView(Record):
    """The pull towards the prior: weight in the objective's quantity per nat, and how it was chosen."""

    weight: float
    source: str
    relative: float | None = None
    choice: KlChoiceView | None = None
    path: tuple[PathPointView, ...] = ()


class DualView(Record):
    """The price of one bound that binds (see solvers.proposal)."""

    constraint: str
    bound: float
    price: float
    per_epoch: float | None = None
    per_percent_tokens: float | None = None


class SolvedView(Record):
    """The solver's answer: `predicted` per metric, `gap` above the optimum at most, `binding` as "name: reason"."""

    mixture: Shares
    predicted: tuple[Known, ...] = ()
    objective_value: Known
    kl_nats: Known
    kl_weight: float
    binding: tuple[str, ...] = ()
    status: str
    solver: str
    gap: Known = None
    duals: tuple[DualView, ...] = ()


class GainView(Record):
    """How much lower the objective is predicted at the proposal than at a reference; positive is better.

    Attributes:
        apparent: as the law on all runs predicts it, too high on average by `optimism`; `corrected` without it.
        interval: of the true gain. percent, percent_interval: of the objective's size; None where undefined.
        probability: that there is one.
    """

    over: str
    apparent: Known
    optimism: Known
    corrected: Known
    interval: Ends
    probability: float
    percent: Known = None
    percent_interval: Ends | None = None


class ComparedMixture(Record):
    """One mixture of the comparison (see trust.comparison.ComparedRow), metrics in their own units."""

    name: str
    mixture: Shares
    objective_value: Known
    interval: Ends | None = None
    gain: GainView | None = None
    measured: Known = None
    metrics: dict[str, Known] = {}
    metric_intervals: dict[str, tuple[Known, Known]] | None = None
    kl_to_prior: Known = None
    tv_to_proposal: float = 0.0
    epochs: dict[str, Known] | None = None
    n_domains_used: int = 0
    effective_domains: float = 0.0

    @property
    def most_epochs(self) -> tuple[str, float] | None:
        """The domain repeated most, and its epochs; None where they are unknown."""
        known = {name: n for name, n in (self.epochs or {}).items() if n is not None}
        return max(known.items(), key=lambda pair: pair[1]) if known else None


class ComparisonView(Record):
    """The proposal first, then what it is compared with; `n_tokens` of the target run, None if unknown."""

    n_tokens: float | None = None
    best_run: tuple[str, ...] = ()
    rows: tuple[ComparedMixture, ...]

    def __getitem__(self, name: str) -> ComparedMixture:
        return next(row for row in self.rows if row.name == name)

    def __contains__(self, name: object) -> bool:
        return any(row.name == name for row in self.rows)


class ShareInterval(Record):
    """A proposed share with its interval of 90%."""

    share: float
    low: float
    high: float


class BestRunView(Record):
    """The run that measured best; several where replicates are one."""

    run_ids: tuple[str, ...] = ()
    objective_value: Known


class BootstrapView(Record):
    """What resampled runs say: 90% intervals of shares, and how often the proposal beats the best run.

    Attributes:
        stretch, stretch_of_shares: of intervals, and of those of shares.
        misfit: of the law, in the objective's quantity: part of every interval.
    """

    kind: str
    reason: str
    stretch: float = 1.0
    stretch_of_shares: float = 1.0
    misfit: Known = None
    n_resamples: int
    n_failed: int = 0
    failures: dict[str, int] = {}
    weights: dict[str, ShareInterval]
    gains: dict[str, GainView] = {}
    heldout_rmse: Known = None
    best_run: BestRunView | None = None
    probability_beats_best_run: Known = None


class HeldOutView(Record):
    """How well one quantity is predicted of runs that the law has not seen (see trust.calibration.HeldOut)."""

    name: str
    n_runs: int
    spearman: Known = None
    rmse: Known = None
    slope: Known = None
    r2: Known = None
    ceiling: Known = None
    coverage: dict[str, Known] = {}
    n_exploded: int = 0

    @property
    def coverage_90(self) -> float | None:
        """Share of held-out runs inside the law's 90% intervals."""
        return self.coverage.get("90%")


class CalibrationView(Record):
    """Held-out quality of a law, of the objective and of every metric."""

    law: str
    n_folds: int
    objective: HeldOutView
    noise: Known = None
    misfit: Known = None
    metrics: tuple[HeldOutView, ...] = ()


class WarningView(Record):
    """A reason to doubt: what is the case, what to do about it, and the numbers it stands on."""

    kind: str
    severity: Severity
    message: str
    remedy: str
    numbers: dict[str, Any] = {}


class MetricChange(Record):
    """A metric, a group of metrics or the objective at two mixtures.

    Attributes:
        before, after: predicted, in its own unit.
        low, high: interval of after - before; None where unknown.
        relative: (after - before) / |before|, signed so that it follows the unit; None where that means nothing.
        improvement: fall of its cost, in standard deviations over the runs; positive is better.
    """

    name: str
    kind: Literal["objective", "group", "metric"]
    before: Known
    after: Known
    low: Known = None
    high: Known = None
    relative: Known = None
    improvement: Known = None


class ProposalView(Record):
    """A proposed mixture and its evidence.

    Attributes:
        mixture: proposed, over all domains.
        n_tokens: of the target run; None if unknown.
        domain_tokens: of every domain; None where unknown.
        law: its name; `families` of the metrics where each has its own, most frequent first.
        runs, objective: what it was fitted to, and in which terms it is told.
        held: domain -> the rule that it touches.
        changes: from the mixture `changes_over` to the proposal: the objective, groups, metrics.
        guarded: ceilings of guarded metrics, in their own units, by the name of their dual.
        bootstrap: None where nothing was resampled; `assessment_absent` says why.
        unsampled_domains: that no run was trained on: they keep their share of the prior.
        scarce_domains: domain -> runs that hold it, one or two: it keeps its share of the prior too.
        fixed_ratio: domain -> share within the domains that keep their proportions; None where none do.
        left_out: kind, name and reason of what was not used.
    """

    mixture: Shares
    prior: PriorInfo
    n_tokens: float | None = None
    domain_tokens: dict[str, int | None] = {}
    law: str
    families: dict[str, int] = {}
    runs: RunsInfo | None = None
    objective: ObjectiveScaleInfo = ObjectiveScaleInfo()
    kl: KlView
    proposal: SolvedView
    held: dict[str, str] = {}
    comparison: ComparisonView
    changes_over: str = PRIOR
    changes: tuple[MetricChange, ...] = ()
    guarded: dict[str, float] = {}
    bootstrap: BootstrapView | None = None
    assessment_absent: str | None = None
    calibration: CalibrationView
    warnings: tuple[WarningView, ...] = ()
    unsampled_domains: tuple[str, ...] = ()
    scarce_domains: dict[str, int] = {}
    fixed_ratio: Shares | None = None
    left_out: tuple[tuple[str, str, str], ...] = ()

    @property
    def references(self) -> tuple[ComparedMixture, ...]:
        """What the proposal is first compared with: natural, the prior, uniform, as far as they are there."""
        return tuple(self.comparison[name] for name in (NATURAL, PRIOR, UNIFORM) if name in self.comparison)
