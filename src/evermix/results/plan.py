"""RunPlan: what a run would do and cost, before any text is read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PhasePlan(_Record):
    """A phase: its domains and length, and what arm evermix decides in it.

    Attributes:
        decided_at: steps of the phase before which a mixture is decided; empty where nothing is.
        n_probes, steps_per_probe, evaluation_sequences: of one decision by probes; 0 with a swarm.
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
    n_probes: int = 0
    steps_per_probe: int = 0
    evaluation_sequences: int = 0
    n_proxies: int = 0


class ArmPlan(_Record):
    """Tokens and FLOPs by part over all phases, means over orders; FLOPs None where the model's size is unknown."""

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


class SwarmPlan(_Record):
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


class RunPlan(_Record):
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
