"""Plans: what a run would do and cost, before any text is read; and what an update of the domains would."""

from __future__ import annotations

from typing import Any

from evermix.results.record import Record, Shares


class Expectation(Record):
    """What a decision is expected to gain over staying with the mixture in force, in percent of the objective.

    Attributes:
        gain, low, high: the mean and 90% of the draws.
        probability: of a gain.
        cost: what the decision has cost, as the gain of as many more tokens.
        stays: whether the mixture in force is kept, because no gain is expected.
    """

    gain: float
    low: float
    high: float
    probability: float
    cost: float = 0.0
    stays: bool = False


class PhasePlan(Record):
    """A phase: its domains and length, and what arm evermix decides in it.

    Attributes:
        decided_at: steps of the phase before which a mixture is decided; empty where nothing is.
        expected: of deciding, before anything is known of the run; None where that cannot be said.
        n_segments: of all experiments within the run; 0 with other evidence.
        n_probes, steps_per_probe: of one decision by probes; 0 with other evidence.
        evaluation_sequences: held-out ones per domain, of a segment or a probe.
        affordable_steps_per_probe: that the budget would pay for, where probes are held to fewer; else None.
        n_proxies: of its decision by a swarm; 0 with probes.
    """

    number: int
    phase: str
    kind: str
    trainer: str
    domains: tuple[str, ...]
    new: tuple[str, ...]
    n_steps: int
    n_tokens: int
    decided_at: tuple[int, ...] = ()
    expected: Expectation | None = None
    n_segments: int = 0
    n_probes: int = 0
    steps_per_probe: int = 0
    evaluation_sequences: int = 0
    affordable_steps_per_probe: int | None = None
    n_proxies: int = 0


class ArmPlan(Record):
    """Tokens and FLOPs by part over all phases, means over orders; FLOPs None where the model's size is unknown.

    `given` is the arm whose compute it is given, as more tokens; None: as many tokens as the phases say.
    """

    given: str | None = None
    tokens_by_part: dict[str, float]
    flops_by_part: dict[str, float] | None = None

    @property
    def n_tokens(self) -> float:
        """Of all parts."""
        return sum(self.tokens_by_part.values())

    @property
    def flops(self) -> float | None:
        """Of all parts."""
        return None if self.flops_by_part is None else sum(self.flops_by_part.values())


class SwarmPlan(Record):
    """The proxies of one decision over all domains of the first phase.

    Attributes:
        reason: why there are so many.
        n_parameters, steps_per_proxy, tokens_per_proxy, chinchilla, flops: None where the vocabulary is unknown before
            the tokenizer is read; chinchilla in multiples of 20 tokens per parameter.
        n_told: runs that a swarm which has begun was told already.
    """

    rung: str
    law: str
    n_runs: int
    reason: str
    n_parameters: int | None = None
    steps_per_proxy: int | None = None
    tokens_per_proxy: int | None = None
    chinchilla: float | None = None
    flops: float | None = None
    n_told: int = 0


class RunPlan(Record):
    """What `evermix run` would do.

    Attributes:
        n_parameters: counted ones of the model; None where they are not known before any text is read.
        mode: of decisions by probes.
        phases: per order.
        tasks: name -> role.
        registry: corpora that will be prepared.
        not_estimated: what will cost something that the plan does not hold.
    """

    project: str
    method: str
    model: str
    n_parameters: int | None
    mode: str
    orders: tuple[tuple[str, ...], ...]
    phases: tuple[tuple[PhasePlan, ...], ...]
    arms: dict[str, ArmPlan]
    tasks: dict[str, str] = {}
    registry: tuple[str, ...] = ()
    swarm: SwarmPlan | None = None
    not_estimated: tuple[str, ...] = ()


class StrategyView(Record):
    """One way to the mixture after an update.

    Attributes:
        fixed_ratio: domain -> share within the domains that keep their proportions; empty without such.
        components: what is mixed: domains, and those at a fixed ratio by their common name.
        measured: domains that the new runs are about; empty for all alike.
        recomputed: those of them that the update leaves alone.
        n_needed, n_reused, n_runs: runs that the law wants, that are in hand, and that are to be made.
        carried: the mixture, where it needs no runs.
        flops, seconds: of the runs to be made; seconds None where no proxy was measured before.
    """

    strategy: str
    fixed_ratio: Shares
    components: tuple[str, ...]
    measured: tuple[str, ...]
    recomputed: tuple[str, ...]
    n_needed: int
    n_reused: int
    n_runs: int
    carried: Shares | None
    flops: float
    seconds: float | None


class LineageView(Record):
    """Where the evidence about a domain may come from (see domain_updates.Lineage)."""

    name: str
    source: str | None
    kind: str


class UpdateView(Record):
    """An update of the domain set as it would be made.

    Attributes:
        version: of the domain set that it changes.
        update: its plain values (DomainUpdate.as_dict).
        domains: after it; `lineage` of each.
        strategy: the one asked for.
        strategies: those that can be had; `unavailable` the others, and why.
    """

    version: int
    update: dict[str, Any]
    domains: tuple[str, ...]
    lineage: tuple[LineageView, ...]
    strategy: str
    strategies: dict[str, StrategyView]
    unavailable: dict[str, str]
    tokens_per_proxy: int
    flops_per_proxy: float

    @property
    def chosen(self) -> StrategyView | None:
        """The strategy asked for; None if it cannot be had."""
        return self.strategies.get(self.strategy)
