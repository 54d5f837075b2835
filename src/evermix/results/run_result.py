"""RunResult: every arm through every phase, in every order: scores, mixtures, decisions and compute.

`result.json` is one RunResult. Shares are `domain -> share`; zeros are left out. Losses are in nats per token.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from evermix.errors import ProjectError
from evermix.files import MOVE_AWAY, read_json, read_record, write_record
from evermix.notebook import html_table
from evermix.objective import Quantity
from evermix.results.compute import Compute
from evermix.results.plan import Expectation
from evermix.results.proposal import ProposalView
from evermix.results.record import Record, Shares
from evermix.results.swarm import SwarmRecord
from evermix.version import SCHEMA_VERSION, VERSION

EvidenceName = Literal["in-run", "probes", "swarm", "merges", "sweep"]


class ModelInfo(Record):
    """The trained model: a rung of the ladder or a checkpoint, and its parameters."""

    name: str
    non_embedding: int
    output_projection: int


class ObjectiveInfo(Record):
    """What mixtures are chosen for.

    Attributes:
        quantity: perplexity, bits_per_byte, loss_nats; `metric` where tasks decide, each in its own unit.
        by: what counts: decision text (loss), the tasks' first metrics (tasks), their accuracies (accuracy).
        weights: of domains or tasks, as the recipe gives them; None: all alike.
    """

    quantity: Quantity
    by: Literal["loss", "tasks", "accuracy"] = "loss"
    weights: dict[str, float] | None = None


class DomainInfo(Record):
    """The text of one domain, in tokens: all of its training side, and what is kept to decide by and to test by."""

    name: str
    n_tokens: int
    n_rows: int
    n_bytes: int
    n_documents: int
    decision_tokens: int
    test_tokens: int


class DomainScore(Record):
    """A model on the test text of one domain; the standard error is over test sequences."""

    loss_nats: float
    loss_stderr_nats: float
    bits_per_byte: float
    perplexity: float


class TaskScore(Record):
    """A metric of a task; the standard error is over items, None for a single one."""

    value: float
    stderr: float | None
    unit: str
    n_items: int


class Means(Record):
    """Means over the domains of a phase."""

    loss_nats: float
    bits_per_byte: float
    perplexity: float


class ScheduledMixture(Record):
    """A mixture and where it begins: rows, and expected tokens, since the beginning of the phase."""

    start_row: int
    start_token: float
    mixture: Shares


class CurvePoint(Record):
    """Held-out losses on the way; the step and tokens are counted from the beginning of the phase."""

    step: int
    n_tokens: float
    loss_nats: dict[str, float]


class Measurement(Record):
    """Held-out losses on the way that decisions stand on; the step is counted from the beginning of the phase."""

    step: int
    n_tokens: float
    loss_nats: dict[str, float]
    seconds: float = 0.0


class SegmentRecord(Record):
    """A segment of an experiment within the run, up to a step of the phase: its mixture and the losses at its end.

    Attributes:
        experiment: number of the experiment, from 0; its first record is what it began from.
        n_tokens: of the phase, up to the segment's end.
    """

    experiment: int
    step: int
    n_tokens: float
    mixture: Shares
    loss_nats: dict[str, float]


class ResponseRecord(Record):
    """How a domain's loss answers to its share, in nats per log share (laws/response.py).

    Attributes:
        response, stderr: of a segment, shrunk towards the mean over domains.
        fall: how far the loss is still to fall by the end, in nats.
        slope: until the end; 90% of its draws lie between low and high.
    """

    response: float
    stderr: float
    fall: float
    slope: float
    low: float
    high: float


class ProbeRecord(Record):
    """A probe that a decision stands on: what it was trained on, over the components, and the losses it reached."""

    shares: Shares
    loss_nats: dict[str, float]


class ModeRecord(Record):
    """What one decision mode answers to the same probes; mixture None if it failed, with the reason as status."""

    mixture: Shares | None
    status: str
    predicted_loss_nats: dict[str, float] | None = None
    objective_value: float | None = None


class ErrorRates(Record):
    """What a decision by tasks saw and foretells, per task: costs in (0, 1) where it is by accuracy."""

    base: dict[str, float]
    probes: dict[str, dict[str, float]]
    predicted: dict[str, float]


class Decision(Record):
    """A decided mixture, what it stands on, what it promised, and what came of it.

    Attributes:
        arm: that made it; several arms may share one.
        phase, label: in which phase, and when, for the reader.
        evidence: who made the observations.
        mode: how they were read: in-run, probe-law, interpolation, gradient, a law's name, best.
        at_step, at_fraction: of the phase; 0 before it begins.
        at_token: tokens trained on before, expected, over all phases.
        new, recomputed: domains that are new, and known ones whose share was decided anew.
        shares: of the components that were decided among.
        mixture: of domains.
        old: proportions used so far; empty where nothing was learnt.
        prior: what KL pulled towards, over the components.
        kl_weight, kl_source: its weight in the objective's unit per nat, and where it comes from.
        base_loss_nats, probes, probe_tokens: empty where there were no probes.
        horizon: per metric, how many times as far as probes or segments the training was taken to move it; None where
            it was not asked.
        probe_steps: of each probe; affordable_probe_steps: that the budget would have paid for, where probes were held
            to fewer; else None.
        segments, responses: of experiments within the run, up to the decision; per domain, how its loss answers.
        expected: what the decision is expected to gain; None where it was not asked.
        candidates: mixtures of components that were tried, with the objective that each reached (merges, sweep).
        predicted_loss_nats: per domain, at the mixture.
        predicted_objective: of `chosen` and the references start, natural, uniform; None: not finite.
        ceilings: greatest loss allowed per domain, where there was such a rule.
        tasks: where the decision was by tasks or accuracy.
        modes: cross-checks, the mode itself among them.
        assessment_absent: why there are no intervals and warnings; None where `proposal` has them.
        proposal: the assessed proposal, where runs could be resampled.
        swarm: of the proxies, where the evidence was a swarm.
        compute: of the decision.
        realised_loss_nats, realised_objective: at the end of the phase; None before.
    """

    arm: str
    order: int = 0
    phase: str
    number: int = 0
    label: str
    evidence: EvidenceName
    mode: str
    at_step: int = 0
    at_fraction: float = 0.0
    at_token: float = 0.0
    new: tuple[str, ...] = ()
    recomputed: tuple[str, ...] = ()
    shares: Shares
    mixture: Shares
    new_share: float = 0.0
    old: Shares = {}
    prior: Shares = {}
    kl_weight: float | None = None
    kl_source: str | None = None
    binding: tuple[str, ...] = ()
    status: str = ""
    base_loss_nats: dict[str, float] = {}
    horizon: dict[str, float] | None = None
    probes: dict[str, ProbeRecord] = {}
    probe_tokens: int = 0
    probe_steps: int = 0
    affordable_probe_steps: int | None = None
    segments: tuple[SegmentRecord, ...] = ()
    responses: dict[str, ResponseRecord] = {}
    expected: Expectation | None = None
    candidates: tuple[tuple[Shares, float], ...] = ()
    predicted_loss_nats: dict[str, float] = {}
    predicted_objective: dict[str, float | None] = {}
    ceilings: dict[str, float] | None = None
    tasks: ErrorRates | None = None
    modes: dict[str, ModeRecord] = {}
    adapter_weights: dict[str, float] | None = None
    assessment_absent: str | None = None
    proposal: ProposalView | None = None
    swarm: SwarmRecord | None = None
    compute: Compute = Compute()
    realised_loss_nats: dict[str, float] | None = None
    realised_objective: float | None = None


class PhaseResult(Record):
    """One arm through one phase: what it was trained on, how it scores on all domains there are, what it cost.

    Attributes:
        arm: name of its row (see `RunResult.arms`).
        model_id: hash of all that led to the model that is judged.
        n_rows, n_tokens: of the whole phase; rows are sequences of text or conversations, tokens are expected.
        mixture: the last one; `average_mixture` over the phase, `schedule` in order.
        objective_value: in the objective's quantity.
        means: over domains as the objective weighs them; `means_over_all` all alike.
        forgetting_nats: how much a known domain's loss has risen above the least after any earlier phase.
        epochs, tokens: per domain, up to the end of the phase, over all phases so far.
        compute: of the phase; `cumulative_compute` since the first one. Scoring tasks is the same for every arm and in
            neither.
        stayed: what deciding was expected to gain, where the start was kept because of that; else None.
        record: what an arm tells of itself beyond its decisions.
    """

    arm: str
    order: int
    number: int
    phase: str
    kind: str
    trainer: str
    new: tuple[str, ...]
    known: tuple[str, ...]
    n_rows: int
    n_tokens: float
    mixture: Shares
    average_mixture: Shares
    schedule: tuple[ScheduledMixture, ...]
    new_share: float
    per_domain: dict[str, DomainScore]
    objective_value: float
    means: Means
    means_over_all: Means
    forgetting_nats: dict[str, float]
    mean_forgetting_nats: float
    epochs: dict[str, float]
    tokens: dict[str, float]
    tasks: dict[str, TaskScore] = {}
    mean_accuracy: float | None = None
    compute: Compute
    cumulative_compute: Compute
    scoring_compute: Compute = Compute()
    decisions: tuple[Decision, ...] = ()
    stayed: Expectation | None = None
    curve: tuple[CurvePoint, ...] = ()
    model_id: str
    record: dict[str, float | str | dict[str, float]] = {}


class ArmResult(Record):
    """One row of a comparison, an arm: per order of the phases, one result per phase.

    Attributes:
        arm: its name in recipes.
        given: the arm whose compute it was given, as more tokens of its phases; None: it was trained on as many as the
            recipe says.
    """

    arm: str
    given: str | None = None
    label: str
    colour: str
    mark: str = "o"
    orders: tuple[tuple[PhaseResult, ...], ...]

    @property
    def last(self) -> tuple[PhaseResult, ...]:
        """Per order, the phase that it ends with."""
        return tuple(phases[-1] for phases in self.orders)

    @property
    def phases(self) -> Iterator[PhaseResult]:
        """All phases of all orders."""
        return (phase for phases in self.orders for phase in phases)

    def with_decision(self, old: Decision, new: Decision) -> Self:
        """The same, with another decision in the place of one."""
        orders = tuple(
            tuple(
                row.model_copy(update={"decisions": tuple(new if each is old else each for each in row.decisions)})
                for row in phases
            )
            for phases in self.orders
        )
        return self.model_copy(update={"orders": orders})


class PairedComparison(Record):
    """Standard errors of loss differences of two rows at the end of an order, paired over test sequences."""

    arm: str
    baseline: str
    order: int
    difference_stderr_nats: dict[str, float]


class TaskScores(Record):
    """Scores on tasks of the checkpoint that all arms begin with."""

    tasks: dict[str, TaskScore]
    mean_accuracy: float | None = None


class RunResult(Record):
    """All that came of a recipe.

    Attributes:
        schema_version: of this layout; a result of another one is refused.
        method: whose evidence decides: op-mix (probes) or olmix (a swarm).
        orders: names of the phases in every order; one order of one phase for a recipe without phases.
        domains: every text, those of later phases too.
        max_epochs: the recipe's cap; None for none.
        before: what the first checkpoint scores on the tasks; None where it begins at random or there are none.
        untrained_decisions: of a swarm whose mixture no arm was trained on; all others stand in their phase.
        arms: by the name of the row: the arm's, or `uniform+compute` of arm uniform at equal compute.
        comparisons: for every pair of rows and every order.
    """

    schema_version: int = SCHEMA_VERSION
    evermix_version: str = VERSION
    recipe_fingerprint: str
    project: str
    method: Literal["op-mix", "olmix"]
    seed: int
    model: ModelInfo
    objective: ObjectiveInfo
    max_epochs: float | None
    domains: tuple[DomainInfo, ...]
    orders: tuple[tuple[str, ...], ...]
    before: TaskScores | None = None
    arms: dict[str, ArmResult] = {}
    untrained_decisions: tuple[Decision, ...] = ()
    comparisons: tuple[PairedComparison, ...] = ()

    @property
    def has_phases(self) -> bool:
        """Whether there is more than one phase."""
        return any(len(names) > 1 for names in self.orders)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All of them, in the order of arms, orders and phases."""
        made = (decision for arm in self.arms.values() for phase in arm.phases for decision in phase.decisions)
        return (*self.untrained_decisions, *made)

    @property
    def proposal(self) -> Decision | None:
        """The last decision by a swarm of arm evermix, trained on or not: the mixture that a swarm recommends."""
        made = [d for d in self.decisions if d.evidence == "swarm" and d.arm == "evermix"]
        return made[-1] if made else None

    def with_mixture_before(self, before: Shares | None) -> Self:
        """The same, with the mixture that the last swarm's decision follows; as it is where none did."""
        made = self.proposal
        if before is None or made is None or made.swarm is None:
            return self
        told = made.model_copy(update={"swarm": made.swarm.model_copy(update={"before": before})})
        untrained = tuple(told if each is made else each for each in self.untrained_decisions)
        arms = {name: arm.with_decision(made, told) for name, arm in self.arms.items()}
        return self.model_copy(update={"untrained_decisions": untrained, "arms": arms})

    def _repr_html_(self) -> str:
        rows = []
        for arm in self.arms.values():
            ends = arm.last
            values = (
                sum(end.objective_value for end in ends) / len(ends),
                sum(end.means.bits_per_byte for end in ends) / len(ends),
                sum(end.cumulative_compute.flops for end in ends) / len(ends),
            )
            rows.append([arm.label, *(f"{value:.5g}" for value in values)])
        counted = f"{len(self.domains)} domains, {len(self.orders)} order(s) of {len(self.orders[0])} phase(s)"
        columns = ["arm", f"objective ({self.objective.quantity})", "mean bits per byte", "FLOPs"]
        return html_table(f"{self.project}: {self.method}, seed {self.seed}, {counted}", columns, rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return self.model_dump(mode="json")

    def save(self, path: Path) -> None:
        """Write it with its seal, atomically."""
        write_record(path, self.to_json())

    @classmethod
    def from_json(cls, content: dict[str, Any], where: str = "result") -> Self:
        """Read plain values.

        Raises:
            ProjectError: they are of another schema version, or break a rule; names `where`, the field and the value.
        """
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ProjectError(
                f"{where}: a result must be of schema version {SCHEMA_VERSION}; this one is of another evermix",
                received=version if version is not None else f"none (evermix {content.get('evermix_version', '?')})",
                hint="run the recipe into another project folder, or read it with the evermix that wrote it",
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ProjectError(f"{where}: {field}: {first['msg']}", hint=MOVE_AWAY) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; ProjectError if it is damaged or of another schema version. FileNotFoundError if not there."""
        content = read_json(path)
        if content.get("schema_version") == SCHEMA_VERSION:
            content = read_record(path, hint=MOVE_AWAY)
        return cls.from_json(content, str(path))
