"""The recipe: one YAML file, read into frozen pydantic models, that says everything about a project."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationError, model_validator

from evermix.domains import DomainSet
from evermix.errors import ConstraintError, DomainError, RecipeError
from evermix.files import placed
from evermix.recipe.decision import (
    ConstraintRecipe,
    DecisionRecipe,
    ObjectiveRecipe,
    ProposalRecipe,
    StudyRecipe,
)
from evermix.recipe.decision_points import check_decision_points
from evermix.recipe.measured import SwarmRecipe, TaskRecipe
from evermix.recipe.parts import (
    CorpusRecipe,
    DomainRecipe,
    Model,
    ModelRecipe,
    Name,
    TokenizerRecipe,
    TrainingRecipe,
    Weight,
)
from evermix.recipe.phases import (
    PRETRAINING,
    Labels,
    Phase,
    PhaseRecipe,
    ReplayRecipe,
    RetentionRecipe,
    base_name,
    check_trunk,
    phase_orders,
    timeline,
)
from evermix.recipe.start import by_weights, default_start
from evermix.recipe.yaml_faults import LocatedError, read_yaml, recipe_error, unknown_key


def _folder_name(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must name a folder")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:
        raise ValueError("must be Unicode") from error
    return value


Method = Literal["op-mix", "olmix"]
Arm = Literal[
    "natural",
    "uniform",
    "weights",
    "evermix",
    "best-run",
    "naive",
    "fixed-replay",
    "retrain",
    "mergemix",
    "proxy-swarm",
    "lora-merge",
    "oracle",
]
EvidenceKind = Literal["probes", "swarm"]
_OF_EVIDENCE: dict[EvidenceKind, dict[str, tuple[str, ...]]] = {
    "probes": {
        "decision": ("at", "mode", "candidates", "gradient_evaluations", "cross_checks", "probes", "experiments"),
    },
    "swarm": {
        "decision": ("law", "resamples"),
        "objective": ("maximise", "drop", "unit", "aggregate"),
    },
}
"""Sections and keys of them that only one kind of evidence reads."""
_OF_PHASES = ("orders", "replay", "retention")
_ARMS_OF_PHASES: tuple[Arm, ...] = ("naive", "fixed-replay", "retrain", "mergemix", "lora-merge", "oracle")
Start = Literal["auto", "weights", "natural", "uniform"] | dict[Name, Weight]


class Recipe(Model):
    """Everything about one project. `base` is the folder that relative paths start from."""

    project: Annotated[str, AfterValidator(_folder_name)] = Field(description="folder for everything that is made")
    method: Method = Field(
        "op-mix",
        description="op-mix: probes of the model itself decide, on the way; olmix: a swarm of small proxies decides, "
        "beforehand",
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of everything that is drawn at random")
    domains: tuple[DomainRecipe, ...] = Field((), description="all of them, or those before the first phase")
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    corpus: CorpusRecipe = CorpusRecipe()
    model: ModelRecipe = ModelRecipe()
    training: TrainingRecipe
    start: Start = Field(
        "auto",
        description="the mixture before the first decision; weights: what the objective's weights alone say; auto: "
        "that where it promises a tenth of a nat, else uniform",
    )
    decision: DecisionRecipe = DecisionRecipe()
    objective: ObjectiveRecipe = ObjectiveRecipe()
    constraints: ConstraintRecipe = ConstraintRecipe()
    phases: tuple[PhaseRecipe, ...] = Field(
        (), description="several phases, each with another domain set; none: one pretraining"
    )
    orders: tuple[tuple[Name, ...], ...] | Annotated[int, Field(ge=1)] = Field(
        1, description="orders of the phases by name, or how many to draw; a phase of kind pretrain stays first"
    )
    replay: ReplayRecipe = ReplayRecipe()
    retention: RetentionRecipe = RetentionRecipe()
    swarm: SwarmRecipe = SwarmRecipe()
    tasks: tuple[TaskRecipe, ...] = ()
    arms: tuple[Arm, ...] = Field(
        ("evermix",), description="what the model is trained on; with olmix none at all ends with the mixture"
    )
    equal_compute: bool = Field(
        True,
        description="natural, uniform, weights, naive and fixed-replay are also trained at equal compute: on as many "
        "more tokens as what the arm that decides (evermix, or the first that does) spends on deciding pays for",
    )
    base: Path = Field(Path(), exclude=True)

    @model_validator(mode="after")
    def _there_are_domains(self) -> Self:
        if not self.domains and not (self.phases and self.phases[0].add):
            raise LocatedError(("domains",), "a recipe must have at least one domain")
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        first = [domain.name for domain in self.domains]
        later = [domain.name for phase in self.phases for domain in phase.add]
        names = list(dict.fromkeys([*first, *later]))
        for position, name in enumerate(first):
            if name in first[:position]:
                raise LocatedError(
                    ("domains", position, "name"), f"domain names must be unique: '{name}' is given twice"
                )
        mentioned: dict[tuple[str | int, ...], Iterable[str]] = {
            ("objective", "weights"): self.objective.weights or (),
            ("objective", "groups"): self.objective.names if self.objective.groups else (),
            ("start",): self.start if isinstance(self.start, dict) else (),
            ("decision", "prior"): self.decision.prior if isinstance(self.decision.prior, dict) else (),
            ("constraints", "floors"): self.constraints.floors,
            ("constraints", "caps"): self.constraints.caps,
            ("constraints", "fixed"): self.constraints.fixed,
            ("swarm", "design", "caps"): self.swarm.design.caps,
            **{("decision", "compare", name): shares for name, shares in self.decision.compare.items()},
            **{
                ("decision", "guards", position, "reference"): guard.reference
                for position, guard in enumerate(self.decision.guards)
                if isinstance(guard.reference, dict)
            },
        }
        for key, mentions in mentioned.items():
            for name in mentions:
                if name not in names and not (key[0] == "objective" and self._is_of_a_task(name)):
                    raise LocatedError((*key, name), f"unknown domain '{name}' (known: {', '.join(names)})")
        for label, group in self.constraints.groups.items():
            for position, member in enumerate(group.members):
                if not any(name == member or (member.endswith(":") and name.startswith(member)) for name in names):
                    key = ("constraints", "groups", label, "members", position)
                    raise LocatedError(key, f"unknown domain '{member}' (known: {', '.join(names)})")
        return self

    def _is_of_a_task(self, metric: str) -> bool:
        """Whether it is a task's name, or that of a further metric of a task (name:metric)."""
        return any(metric == task.name or metric.startswith(f"{task.name}:") for task in self.tasks)

    @property
    def decided_by(self) -> EvidenceKind:
        """What the method decides by."""
        return "swarm" if self.method == "olmix" else "probes"

    @property
    def decides_in_run(self) -> bool:
        """Whether a pretraining is decided by experiments within it; by tasks it is by probes, which answer them."""
        return self.method == "op-mix" and self.decision.mode == "in-run" and self.decision.by == "loss"

    def experiments_in(self, phase: Phase) -> bool:
        """Whether a phase is decided by experiments within it: a pretraining, and where that is asked a midtraining."""
        kinds = {"pretrain", "midtrain"} if self.replay.evidence == "in-run" else {"pretrain"}
        return self.decides_in_run and len(phase.domains) > 1 and phase.recipe.kind in kinds

    @property
    def keeps_study(self) -> bool:
        """Whether the project keeps a study: a swarm decides one phase, whose domains may be updated."""
        return self.decided_by == "swarm" and not self.phases

    @property
    def evidence(self) -> frozenset[EvidenceKind]:
        """All kinds that the method or an arm decides by."""
        of_arms: dict[str, EvidenceKind] = {"lora-merge": "probes", "proxy-swarm": "swarm"}
        return frozenset({self.decided_by, *(of_arms[arm] for arm in self.arms if arm in of_arms)})

    @property
    def interpolates(self) -> bool:
        """Whether models between probes are made: by a decision mode, a cross-check or an arm."""
        of_mode = self.decision.probe_mode != "probe-law" or self.decision.cross_checks
        return "probes" in self.evidence and (of_mode or "lora-merge" in self.arms)

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if "swarm" in self.model_fields_set and "swarm" not in self.evidence and not self.phases:
            raise LocatedError(("swarm",), f"belongs to method olmix (this recipe's method: {self.method})")
        if self.tokenizer.end_token and self.tokenizer.path is None and self.model.checkpoint is None:
            raise LocatedError(("tokenizer", "end_token"), "belongs to an existing tokenizer (path) or checkpoint")
        for part in ("replay", "retention"):
            if part in self.model_fields_set and "probes" not in self.evidence:
                raise LocatedError((part,), f"belongs to decisions by probes (this recipe's method: {self.method})")
        for kind, sections in _OF_EVIDENCE.items():
            for section, keys in sections.items():
                given = [key for key in keys if key in getattr(self, section).model_fields_set]
                if kind not in self.evidence and given:
                    decisions = "decisions by a swarm" if kind == "swarm" else "decisions by probes"
                    message = f"belongs to {decisions} (this recipe's method: {self.method})"
                    raise LocatedError((section, given[0]), message)
        check_trunk(self.phases, self.training)
        if "experiments" in self.decision.model_fields_set and not self.decides_in_run:
            raise LocatedError(("decision", "experiments"), "belongs to decision.mode in-run, by loss")
        self._check_experiments_later()
        if self.decision.cross_checks and self.decides_in_run and not self.phases and "lora-merge" not in self.arms:
            message = "compares decisions by probes: set decision.mode to one of theirs (in-run has no probes)"
            raise LocatedError(("decision", "cross_checks"), message)
        if not self.phases:
            wrong = next((arm for arm in self.arms if arm in _ARMS_OF_PHASES), None)
            if wrong is not None:
                raise LocatedError(("arms",), f"arm {wrong} belongs to a recipe with phases")
            of_phases = next((part for part in _OF_PHASES if part in self.model_fields_set), None)
            if of_phases is not None:
                raise LocatedError((of_phases,), "belongs to a recipe with phases")
        if self.method == "op-mix" and "best-run" in self.arms:
            raise LocatedError(("arms",), "arm best-run belongs to method olmix")
        if not self.arms and not self.keeps_study:
            raise LocatedError(("arms",), "at least one arm must be trained")
        return self

    def _check_experiments_later(self) -> None:
        """Experiments within later phases decide every share by its loss, and know nothing of before they began."""
        if self.replay.evidence != "in-run":
            return
        if not self.decides_in_run:
            raise LocatedError(("replay", "evidence"), "in-run belongs to decision.mode in-run, by loss")
        if self.retention.max_rise is not None:
            message = "is held by probes, which know the losses before a phase: set replay.evidence to probes"
            raise LocatedError(("retention", "max_rise"), f"{message} (given: {self.retention.max_rise:g})")
        if self.replay.recompute != "all":
            message = "experiments decide the share of every domain: leave it all, or set replay.evidence to probes"
            raise LocatedError(("replay", "recompute"), f"{message} (given: {self.replay.recompute})")

    @model_validator(mode="after")
    def _tasks_have_names_of_their_own(self) -> Self:
        taken = set(self.labels.sources)
        for position, task in enumerate(self.tasks):
            if task.name in taken:
                message = f"a task must have a name of its own: '{task.name}' names a domain or another task"
                raise LocatedError(("tasks", position, "name"), message)
            taken.add(task.name)
            if task.domain is not None:
                self._check_domain_of(task.domain, position)
        return self

    @model_validator(mode="after")
    def _conversations_are_rows(self) -> Self:
        """The study of a swarm counts domains in tokens, and a conversation is a row of any length."""
        for position, domain in enumerate(self.domains):
            if domain.format == "chat" and self.keeps_study:
                message = "format chat belongs to method op-mix, or to a recipe with phases"
                raise LocatedError(("domains", position, "format"), message)
        return self

    def _check_domain_of(self, domain: str, position: int) -> None:
        """The domain of the task at `position` must be one of the recipe."""
        known = [each.name for each in (*self.domains, *(each for phase in self.phases for each in phase.add))]
        if domain not in known:
            message = f"unknown domain '{domain}' (known: {', '.join(dict.fromkeys(known))})"
            raise LocatedError(("tasks", position, "domain"), message)

    @model_validator(mode="after")
    def _what_decides_is_there(self) -> Self:
        by, key = self.decision.by, ("decision", "by")
        if by == "loss":
            return self
        fitted = [task for task in self.tasks if task.role == "fit" and task.weight > 0]
        if "probes" in self.evidence and self.decision.mode == "gradient":
            raise LocatedError(key, f"{by} has no gradient: take mode probe-law or interpolation")
        if not fitted:
            raise LocatedError(key, f"{by} needs a task of role fit and a weight above 0")
        if by == "accuracy" and all(task.kind == "answer" for task in fitted):
            raise LocatedError(key, "accuracy needs a task of role fit whose answers are right or wrong")
        return self

    @model_validator(mode="after")
    def _evidence_knows_the_decision(self) -> Self:
        decision, objective = self.decision, self.objective
        if objective.quantity == "metric":
            message = "held-out text has a unit: perplexity, bits_per_byte or loss_nats (metric is for tables of runs)"
            raise LocatedError(("objective", "quantity"), message)
        if objective.bits_per_byte_factor is not None:
            message = "belongs to a table of runs: of a recipe's text it is known"
            raise LocatedError(("objective", "bits_per_byte_factor"), message)
        if decision.mode == "gradient" and decision.guards:
            raise LocatedError(("decision", "guards"), "mode gradient has no law to hold a guard by")
        if decision.mode == "gradient" and self.retention.max_rise is not None:
            raise LocatedError(("retention", "max_rise"), "mode gradient has no law to foretell a rise by")
        if decision.prior == "half-new" and (not self.phases or "swarm" in self.evidence):
            raise LocatedError(("decision", "prior"), "half-new belongs to decisions by probes in a recipe with phases")
        if self.method == "op-mix":
            if any(guard.reference == "best observed" for guard in decision.guards):
                raise LocatedError(("decision", "guards"), "best observed is a run: it belongs to method olmix")
            if decision.kl == "auto":
                raise LocatedError(("decision", "kl"), "auto is chosen by cross-fitting, which needs method olmix")
            if decision.prior == "swarm":
                raise LocatedError(("decision", "prior"), "swarm belongs to method olmix")
            if isinstance(decision.prior, dict) and self.phases:
                raise LocatedError(("decision", "prior"), "shares belong to a recipe without phases")
        if self._tasks_are_named and (decision.by == "loss" or self.method == "op-mix"):
            key = "weights" if objective.groups is None else "groups"
            name = next(name for name in objective.names if self._is_of_a_task(name))
            message = f"'{name}' is a task: it counts with method olmix and decision.by tasks or accuracy"
            raise LocatedError(("objective", key), message)
        if not self._tasks_are_named:
            try:
                objective.weights_over(self._domain_names)
            except ConstraintError as error:
                raise LocatedError(("objective", "groups"), str(error)) from error
        return self

    @property
    def _domain_names(self) -> list[str]:
        """Domains of all phases, each once."""
        return list(dict.fromkeys(base_name(label) for label in self.labels.sources))

    @property
    def _tasks_are_named(self) -> bool:
        return any(name not in self._domain_names for name in self.objective.names)

    @model_validator(mode="after")
    def _phases_follow_each_other(self) -> Self:
        known = {base_name(label) for label in self.labels.sources}
        for name in self.replay.recompute if isinstance(self.replay.recompute, tuple) else ():
            if name not in known:
                raise LocatedError(
                    ("replay", "recompute"), f"unknown domain '{name}' (known: {', '.join(sorted(known))})"
                )
        for order in self.phase_orders:
            first = self.timeline(order)[0]
            decides = {"evermix", "lora-merge"} & {*self.arms}
            if first.recipe.kind == "pretrain" and len(first.domains) > 1 and decides and "probes" in self.evidence:
                budget = ("training", "tokens") if not self.phases else ("phases", 0, "tokens")
                per_step = first.batch_rows * self.corpus.sequence_length
                check_decision_points(self.decision, first, self.decides_in_run, budget, per_step)
        return self

    @model_validator(mode="after")
    def _sums_fit(self) -> Self:
        if self.objective.weights is not None and sum(self.objective.weights.values()) <= 0:
            raise LocatedError(("objective", "weights"), "at least one weight must be positive")
        for key, shares in ((("start",), self.start), (("decision", "prior"), self.decision.prior)):
            if isinstance(shares, dict) and abs(sum(shares.values()) - 1) > 1e-6:
                raise LocatedError(key, f"the shares must sum to 1 (they sum to {sum(shares.values()):g})")
        fixed = sum(self.constraints.fixed.values())
        if fixed > 1 + 1e-9:
            raise LocatedError(("constraints", "fixed"), f"fixed shares must sum to at most 1 (they sum to {fixed:g})")
        if len(set(self.arms)) != len(self.arms):
            raise LocatedError(("arms",), f"arms must be unique (given: {', '.join(self.arms)})")
        return self

    @model_validator(mode="after")
    def _some_mixture_is_allowed(self) -> Self:
        """All rules but repetition caps, which need token counts, are judged before any text is read."""
        if self.phases:
            return self  # judged phase by phase, over the domains of each
        try:
            domains = DomainSet(domain.name for domain in self.domains)
        except DomainError as error:
            raise LocatedError(("domains",), str(error)) from error
        try:
            replace(self.constraints.build(), max_epochs=None).bounds(domains, 1.0)
        except ConstraintError as error:
            raise LocatedError(("constraints",), str(error)) from error
        return self

    @cached_property
    def domain_weights(self) -> dict[str, float] | None:
        """What each domain's held-out text counts in the objective; None: all alike.

        A decision by tasks that has no weights for domains leaves them all alike: then they count in the report only.
        """
        return None if self._tasks_are_named else self.objective.weights_over(self._domain_names)

    def shares_by_weights(self, labels: Sequence[str]) -> dict[str, float]:
        """Shares of labels of domains by the objective's weights alone."""
        return self._by_objective(by_weights, labels)

    def shares_of_start(self, labels: Sequence[str], is_first: bool = True) -> dict[str, float] | None:
        """Shares of labels of domains that a phase starts with; None for natural, which sizes tell.

        Shares that are given hold for the first phase; later ones start as by default.
        """
        if isinstance(self.start, dict) and is_first:
            names = {base_name(label): label for label in labels}
            return {names.get(name, name): share for name, share in self.start.items()}
        if self.start == "natural":
            return None
        if self.start == "uniform":
            return dict.fromkeys(labels, 1 / len(labels))
        if self.start == "weights":
            return self.shares_by_weights(labels)
        return self._by_objective(default_start, labels)

    def _by_objective(self, rule: Callable[..., dict[str, float]], labels: Sequence[str]) -> dict[str, float]:
        """What a rule of recipe/start.py says of domains, over their labels."""
        names = {base_name(label): label for label in labels}
        found = rule(tuple(names), self.domain_weights, self.objective.quantity)
        return {names[name]: share for name, share in found.items()}

    def study_recipe(
        self, tokens: int, heldout: Mapping[str, str], accuracies: Mapping[str, str], maximised: Iterable[str]
    ) -> StudyRecipe:
        """What is asked of the runs of a swarm: this recipe's decision, objective and constraints over their metrics.

        Args:
            tokens: R, that the mixture is for.
            heldout: domain -> name of the metric on its held-out text.
            accuracies: task -> name of its metric that says how many answers are right; tasks without one left out.
            maximised: names of metrics where higher is better.
        """
        asked = {name: getattr(self.decision, name) for name in ProposalRecipe.model_fields}
        if asked["prior"] == "start":
            is_named = self.start in ("natural", "uniform")
            asked["prior"] = self.start if is_named else self.shares_of_start(self._domain_names)
        objective, by = self.objective.renamed(heldout), self.decision.by
        own = {} if by == "loss" or self._tasks_are_named else self._task_weights(accuracies)
        changes: dict[str, Any] = {"maximise": (*objective.maximise, *map(glob.escape, maximised))}
        if by != "loss":
            changes["quantity"] = "metric"
        if own:
            changes |= {"weights": own, "groups": None, "group_weights": None}
        elif not objective.names:
            changes["weights"] = dict.fromkeys(heldout.values(), 1.0)
        changes["maximise"] = tuple(dict.fromkeys(changes["maximise"]))
        changes.setdefault("quantity", objective.quantity)
        return StudyRecipe(
            **asked,
            tokens=tokens,
            objective=objective.model_copy(update=changes),
            constraints=self.constraints,
            design=self.swarm.design,
            seed=self.seed,
        )

    def _task_weights(self, accuracies: Mapping[str, str]) -> dict[str, float]:
        """Metric -> weight of the tasks that decide."""
        names = {task.name: task.name for task in self.tasks} if self.decision.by == "tasks" else accuracies
        return {names[task.name]: task.weight for task in self.tasks if task.role == "fit" and task.name in names}

    @property
    def phase_orders(self) -> list[tuple[PhaseRecipe, ...]]:
        """The phases in every order asked for; without `phases` one order of one pretraining."""
        return phase_orders(self.phases or (PRETRAINING,), self.orders, self.seed)

    @cached_property
    def labels(self) -> Labels:
        """The texts of all phases by name."""
        return Labels.of(self.domains, self.phases)

    def timeline(self, order: Sequence[PhaseRecipe]) -> tuple[Phase, ...]:
        """The phases of one order, with their domains and steps."""
        return timeline(self.domains, order, self.training, self.corpus.sequence_length, self.labels)

    def with_arms(
        self, arms: Sequence[str] | None = None, orders: int | None = None, equal_compute: bool | None = None
    ) -> Recipe:
        """The recipe with other arms, so many orders of its phases, and with or without baselines at equal compute.

        What is None stays as it is.

        Raises:
            RecipeError: naming what does not fit.
        """
        changes: dict[str, Any] = {}
        if arms is not None:
            unknown = [name for name in arms if name not in get_args(Arm)]
            if unknown or not arms:
                known = f"known: {', '.join(get_args(Arm))}"
                raise RecipeError("arms must be names of arms", received=", ".join(unknown) or "none", hint=known)
            changes["arms"] = tuple(arms)
        if orders is not None:
            if not self.phases:
                raise RecipeError("orders need a recipe with phases", received=f"{orders}")
            changes["orders"] = orders
        if equal_compute is not None:
            changes["equal_compute"] = equal_compute
        if arms is None and not self.arms:
            hint = "--arms natural,evermix, or arms in the recipe"
            raise RecipeError("compare needs at least one arm", received="none", hint=hint)
        if not changes:
            return self
        try:
            return Recipe.model_validate({**self.model_dump(exclude_unset=True), "base": self.base, **changes})
        except ValidationError as error:
            message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise RecipeError(f"{' and '.join(changes)} must fit the recipe: {message}") from error

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a YAML recipe; RecipeError names the file, the line and the key of the first fault."""
        path = Path(path)
        data, node = read_yaml(path)
        if "base" in data:
            raise unknown_key(path, node, "base", cls)
        try:
            return cls.model_validate({**data, "base": path.resolve().parent})
        except ValidationError as error:
            raise recipe_error(path, node, error, cls) from error

    @property
    def project_folder(self) -> Path:
        """The project folder; from the current folder if it lies below."""
        folder = Path(os.path.normpath(placed(self.project, self.base)))
        return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder

    def fingerprint(self) -> str:
        """Hash of everything that can change the result (not the project folder)."""
        content = self.model_dump(mode="json", exclude={"project", "base"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
