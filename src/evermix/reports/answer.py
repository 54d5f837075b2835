"""The answer of a run in words and numbers: how good each arm ends, at what cost, by how much they differ, and within
which noise; what a swarm's mixture is predicted to gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from evermix.recipe.phases import base_name
from evermix.reports import units
from evermix.reports.proposal import gain_verdict, gain_words
from evermix.results import APART, ArmResult, Compute, ComputePart, Decision, DomainScore, PhaseResult, RunResult
from evermix.results.plan import ArmPlan

QUANTITIES = {
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "loss_nats": "loss (nats per token)",
    "metric": "cost of the tasks",
}
TRAINING = ("prefix", "training", "decay", "generation")
_TWO_SIDED_95 = 1.96
_FIRST = ("retrain", "fixed-replay", "uniform", "natural", "naive")
_NAMED = 2


@dataclass(frozen=True)
class Mean:
    """A mean over orders, and its standard error; None where there is one order only."""

    value: float
    stderr: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Of one value per order."""
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        return cls(float(np.mean(values)), error)


@dataclass(frozen=True)
class Quality:
    """What a phase is judged by; `read` gives None where a phase does not have it."""

    name: str
    label: str
    read: Callable[[PhaseResult], float | None]
    lower_is_better: bool = True

    def best(self, values: Sequence[float]) -> float:
        """The best of some values."""
        return min(values) if self.lower_is_better else max(values)

    def text(self, value: float) -> str:
        """As people read it."""
        if self.name == "accuracy":
            return units.share(value)
        return units.perplexity(value) if "perplexity" in self.label else units.number(value, 4)


@dataclass(frozen=True)
class Difference:
    """An arm against another at the end of the run.

    Attributes:
        arm, baseline: names of their rows.
        baseline_arm: whose row the baseline is.
        at_equal_compute: whether the baseline was given the arm's compute, as more tokens.
        relative: (ours - theirs) / |theirs| on the objective, mean over orders; negative is better.
        noise: half-width of its 95% interval, over orders where there are several, else over test sequences, paired
            where both arms were scored on the same; NaN where nothing is known of it.
        compute: (ours - theirs) / theirs of the FLOPs; negative is less.
        better_domains, n_domains: domains on which the loss is lower, of how many.
    """

    arm: str
    baseline: str
    baseline_arm: str
    at_equal_compute: bool
    ours: float
    theirs: float
    relative: float
    noise: float
    compute: float
    better_domains: int
    n_domains: int

    @property
    def verdict(self) -> Literal["better", "even", "worse"]:
        """`even` where the difference is within the noise."""
        if abs(self.relative) <= self.noise:
            return "even"
        return "better" if self.relative < 0 else "worse"

    @property
    def interval(self) -> str:
        """'±0.3%', with the digits that the difference has."""
        return f"±{self._percent(self.noise)}" if units.known(self.noise) else "noise not known"

    def _percent(self, value: float) -> str:
        return units.share(value, max(units.decimals_apart(100 * self.relative, 100 * self.noise), 1))

    @property
    def figure(self) -> str:
        """'-1.2%'."""
        return f"{'+' if self.relative >= 0 else '-'}{self._percent(abs(self.relative))}"

    @property
    def exchange(self) -> str:
        """'1.357 instead of 1.369'."""
        return units.apart(self.ours, self.theirs, self.noise * abs(self.theirs))

    @property
    def words(self) -> str:
        """'1.2% (±0.3%) lower than retrain at 62.0% less compute', or that no difference can be told."""
        size, direction = self._percent(abs(self.relative)), "lower" if self.relative < 0 else "higher"
        if self.verdict == "even":
            what = f"no measurable difference to {self.baseline_arm} ({size} {direction}, {self.interval})"
        else:
            what = f"{size} ({self.interval}) {direction} than {self.baseline_arm}"
        return f"{what} {self.compute_words}"

    @property
    def compute_words(self) -> str:
        """'at 62.0% less compute', 'at equal compute (0.3% more)': a step more or less of the baseline is that much."""
        if abs(self.compute) < 5e-4:
            return f"at {'equal' if self.at_equal_compute else 'the same'} compute"
        size = f"{units.share(abs(self.compute))} {'less' if self.compute < 0 else 'more'}"
        return f"at equal compute ({size})" if self.at_equal_compute else f"at {size} compute"

    @property
    def domain_words(self) -> str:
        """'lower loss on 9 of 10 domains'."""
        return f"lower loss on {self.better_domains} of {self.n_domains} domains"


@dataclass(frozen=True)
class RunView:
    """A result as the report asks for it. Phases count from 0; -1 is the last one."""

    result: RunResult

    @property
    def arms(self) -> list[str]:
        """Names of their rows in the order of the recipe, those at equal compute after their arms."""
        return list(self.result.arms)

    @property
    def n_orders(self) -> int:
        """Of the phases."""
        return len(self.result.orders)

    @property
    def n_phases(self) -> int:
        """Of every order alike."""
        return len(self.result.orders[0]) if self.result.orders else 0

    def arm(self, name: str) -> ArmResult:
        """By the name of its row."""
        return self.result.arms[name]

    def row(self, arm: str, order: int = 0, phase: int = -1) -> PhaseResult:
        """One arm through one phase."""
        return self.result.arms[arm].orders[order][phase]

    @cached_property
    def domains(self) -> list[str]:
        """Every text that there was, in the order of the corpus."""
        named = [domain.name for domain in self.result.domains]
        scored = [name for arm in self.result.arms.values() for phase in arm.last for name in phase.per_domain]
        decided = [name for decision in self.result.decisions for name in decision.mixture]
        return named or list(dict.fromkeys([*scored, *decided]))

    @cached_property
    def objective(self) -> Quality:
        """What mixtures were decided for."""
        return Quality("objective", self._objective_label(), lambda row: row.objective_value)

    def _objective_label(self) -> str:
        """`mean perplexity`, `... of 9 domains` if some count zero, `weighted ...` if they count differently."""
        asked = self.result.objective
        weights = list(self.weights(self.domains).values()) if asked.quantity != "metric" else []
        counted = [weight for weight in weights if weight > 0]
        if counted and max(counted) - min(counted) > 1e-9:
            return f"weighted {QUANTITIES[asked.quantity]}"
        some = f" of {len(counted)} domains" if len(counted) < len(weights) else ""
        return f"mean {QUANTITIES[asked.quantity]}{some}"

    def weights(self, names: Sequence[str]) -> dict[str, float]:
        """Domain -> weight in the objective, summing to one over these; a revised text has its domain's."""
        given = self.result.objective.weights
        if given is None:
            raw = dict.fromkeys(names, 1.0)
        else:
            raw = {n: given[n] if n in given else given.get(base_name(n), 0.0) for n in names}
        total = sum(raw.values()) or 1.0
        return {name: weight / total for name, weight in raw.items()}

    @cached_property
    def qualities(self) -> list[Quality]:
        """The objective first, then the means that say something else, as far as every arm has them at the end."""
        others = [
            Quality("perplexity", "mean perplexity", lambda row: row.means_over_all.perplexity),
            Quality("bits_per_byte", "mean bits per byte", lambda row: row.means_over_all.bits_per_byte),
            Quality(
                "forgetting", "mean forgetting (nats)", lambda row: row.mean_forgetting_nats if row.number else None
            ),
            Quality("accuracy", "mean accuracy", lambda row: row.mean_accuracy, lower_is_better=False),
        ]
        last = [row for arm in self.result.arms.values() for row in arm.last]
        there = [one for one in others if last and all(units.known(one.read(row)) for row in last)]
        return [self.objective, *(one for one in there if one.label != self.objective.label)]

    def values(self, arm: str, quality: Quality, phase: int = -1) -> list[float]:
        """One value per order; only those that are known."""
        found = [quality.read(phases[phase]) for phases in self.result.arms[arm].orders]
        return [value for value in found if units.known(value)]

    def mean(self, arm: str, quality: Quality, phase: int = -1) -> Mean:
        """Over orders."""
        return Mean.of(self.values(arm, quality, phase))

    def parts(self, arm: str, phase: int = -1) -> dict[str, ComputePart]:
        """Compute from the first phase to the end of this one by part, mean over orders; what is apart among them."""
        spent = []
        for phases in self.result.arms[arm].orders:
            upto = phases if phase == -1 else phases[: phase + 1]
            spent.append(Compute.sum([upto[-1].cumulative_compute, *(row.scoring_compute for row in upto)]))
        summed = Compute.sum(spent).by_part
        n = len(spent)
        return {
            name: ComputePart(flops=part.flops / n, n_tokens=part.n_tokens / n, seconds=part.seconds / n)
            for name, part in summed.items()
            if part.flops or name not in APART
        }

    def part_names(self, *, apart: bool = True) -> list[str]:
        """Parts of the compute that any arm has."""
        named = dict.fromkeys(part for arm in self.arms for part in self.parts(arm))
        return [part for part in named if apart or part not in APART]

    def spent(self, arm: str, phase: int = -1) -> ComputePart:
        """All of it, without what is apart."""
        parts = [part for name, part in self.parts(arm, phase).items() if name not in APART]
        return Compute.sum(Compute.of("all", p.flops, p.n_tokens, p.seconds) for p in parts).by_part["all"]

    def overhead(self, arm: str) -> tuple[float, float] | None:
        """FLOPs of the arm's decisions, without cross-checks, and of its training; None where it decides nothing."""
        parts = self.parts(arm)
        decided = sum(part.flops for name, part in parts.items() if name not in (*TRAINING, *APART))
        training = sum(part.flops for name, part in parts.items() if name in TRAINING)
        return (decided, training) if decided and training else None

    @cached_property
    def ours(self) -> str:
        """The arm that is compared with the others: evermix, the one whose compute they were given, or the best."""
        if "evermix" in self.result.arms:
            return "evermix"
        given = next((arm.given for arm in self.result.arms.values() if arm.given is not None), None)
        return given or min(self.arms, key=lambda arm: self.mean(arm, self.objective).value)

    @cached_property
    def differences(self) -> list[Difference]:
        """Our arm against every other row, the most telling first: those at equal compute."""
        if not self.arms:
            return []
        found = [self.difference(self.ours, row) for row in self.arms if row != self.ours]
        ranks = {arm: rank for rank, arm in enumerate(_FIRST)}
        return sorted(found, key=lambda each: (not each.at_equal_compute, ranks.get(each.baseline_arm, len(_FIRST))))

    def difference(self, arm: str, baseline: str) -> Difference:
        """One arm against another, order by order."""
        ours, theirs = (np.array(self.values(name, self.objective)) for name in (arm, baseline))
        relative = (ours - theirs) / np.abs(theirs)
        rows = list(zip(self.result.arms[arm].last, self.result.arms[baseline].last, strict=True))
        names = [name for name in rows[0][0].per_domain if all(name in row.per_domain for pair in rows for row in pair)]
        losses = [[np.mean([pair[k].per_domain[name].loss_nats for pair in rows]) for k in (0, 1)] for name in names]
        against = self.result.arms[baseline]
        return Difference(
            arm,
            baseline,
            against.arm,
            against.given == arm,
            float(ours.mean()),
            float(theirs.mean()),
            float(relative.mean()),
            self._noise(arm, baseline, relative),
            self.spent(arm).flops / (self.spent(baseline).flops or math.nan) - 1,
            sum(bool(mine < other) for mine, other in losses),
            len(names),
        )

    def _noise(self, arm: str, baseline: str, relative: np.ndarray) -> float:
        """95%: t quantile times the standard error over orders; of one order, 1.96 times that of test sequences."""
        n = len(relative)
        if n > 1:
            return float(stdtrit(n - 1, 0.975) * relative.std(ddof=1) / math.sqrt(n))
        if self.result.objective.quantity == "metric":
            return math.nan
        theirs = self.row(baseline)
        error = self.paired_stderr(arm, baseline)
        if error is None:
            error = math.hypot(self.heldout_stderr(self.row(arm)), self.heldout_stderr(theirs))
        return _TWO_SIDED_95 * error / abs(theirs.objective_value)

    def paired_stderr(self, arm: str, baseline: str, order: int = 0) -> float | None:
        """Standard error of the objective's difference over the same test sequences; None if not recorded."""
        for each in self.result.comparisons:
            if (each.arm, each.baseline, each.order) == (arm, baseline, order):
                return self._propagated(self.row(baseline, order), each.difference_stderr_nats)
        return None

    def heldout_stderr(self, row: PhaseResult) -> float:
        """Standard error of a phase's objective over test sequences, domains being independent."""
        return self._propagated(row, {name: score.loss_stderr_nats for name, score in row.per_domain.items()})

    def _propagated(self, row: PhaseResult, errors: dict[str, float]) -> float:
        """Delta method: sqrt(sum_d (v_d T'(L_d) s_d)^2), T' = exp(L), B / L or 1 (perplexity, bits per byte, nats)."""
        weights = self.weights(list(row.per_domain))
        terms = [weights[name] * self._slope(row.per_domain[name]) * s for name, s in errors.items() if name in weights]
        return math.sqrt(sum(term**2 for term in terms))

    def _slope(self, score: DomainScore) -> float:
        quantity = self.result.objective.quantity
        if quantity == "perplexity":
            return math.exp(min(score.loss_nats, 700.0))
        if quantity == "bits_per_byte":
            return score.bits_per_byte / score.loss_nats if score.loss_nats else 0.0
        return 1.0

    def saved(self, arm: str, baseline: str = "retrain") -> float | None:
        """The part of the baseline's FLOPs that an arm does without; None where there is no such arm."""
        if baseline not in self.result.arms or arm == baseline:
            return None
        return 1 - self.spent(arm).flops / self.spent(baseline).flops

    def phase_name(self, phase: int) -> str:
        """`2 code`, or `2 of every order` where orders differ."""
        names = dict.fromkeys(order[phase] for order in self.result.orders)
        return f"{phase + 1} {next(iter(names))}" if len(names) == 1 else f"{phase + 1} of every order"

    @property
    def decisions(self) -> list[Decision]:
        """Of all arms, in the first order of the phases and before any training."""
        return [decision for decision in self.result.decisions if decision.order == 0]


def equal_compute_note(rows: Iterable[ArmResult | ArmPlan]) -> str:
    """What the rows at equal compute are; "" where there are none."""
    given = next((row.given for row in rows if row.given is not None), None)
    return "" if given is None else f"+compute: on as many more tokens as what {given} spends on deciding pays for."


def pareto_front(points: Sequence[tuple[float, float]], lower_is_better: bool = True) -> list[int]:
    """Positions of the points (cost, quality) that no other one beats in one and matches in the other, by cost."""
    sign = 1.0 if lower_is_better else -1.0
    order = sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or sign * points[i][1] < sign * points[front[-1]][1]:
            front.append(i)
    return front


def headline(result: RunResult) -> str:
    """The answer in one line: of the trained arms; where there are none, of the decided mixture."""
    view = RunView(result)
    if not view.arms:
        return decision_headline(result.proposal)
    value = view.objective.text(view.mean(view.ours, view.objective).value)
    phases = f"After {view.n_phases} phases" if view.n_phases > 1 else "At the end"
    orders = f", mean of {view.n_orders} orders" if view.n_orders > 1 else ""
    text = f"{phases}{orders}, {view.ours} has a {view.objective.label} of {value}"
    if not view.differences:
        return f"{text}; there is no other arm to compare it with."
    equal = [each for each in view.differences if each.at_equal_compute]
    told = (equal or view.differences)[:_NAMED]
    words = [each.words for each in told]
    left = {each.baseline_arm for each in view.differences} - {each.baseline_arm for each in told}
    if left:
        words.append(f"{len(left)} more {'arm is' if len(left) == 1 else 'arms are'} compared below")
    return f"{text}: {'; '.join(words)}."


def decision_headline(decision: Decision | None) -> str:
    """What a decided mixture that no arm was trained on is predicted to gain."""
    if decision is None:
        return "Not finished: no mixture has been decided yet."
    if decision.proposal is None:
        return f"A mixture was decided: {decision.assessment_absent or 'nothing was assessed'}."
    references = decision.proposal.references
    if not references:
        return "A mixture was proposed."
    row = references[0]
    words, verdict = f"{gain_words(decision.proposal, row)} over {row.name}", gain_verdict(row.gain)
    if row.gain is None or verdict == "better":
        return f"Predicted gain of the mixture: {words}."
    if verdict == "worse":
        return f"The mixture is predicted to be no gain: {words}."
    return f"The mixture's gain is not certain: {words}."


def decided_version(result: RunResult) -> int:
    """The version of the domain set that the decided mixture is over; 0 where it never changed."""
    made = result.proposal
    return made.swarm.version if made is not None and made.swarm is not None else 0


def cost_sentence(view: RunView, arm: str) -> str | None:
    """What an arm's decisions cost, against its training alone; None where it decides nothing."""
    spent = view.overhead(arm)
    if spent is None:
        return None
    text = (
        f"Deciding cost {units.flops(spent[0])}, {units.share(spent[0] / spent[1])} on top of "
        f"{units.flops(spent[1])} of training."
    )
    parts = view.parts(arm)
    if "cross-checks" in parts:
        more = units.flops(parts["cross-checks"].flops)
        text += f" Cross-checks by other modes, which are optional, took a further {more}."
    return text


def staying_sentence(view: RunView, arm: str) -> str | None:
    """Phases that an arm has trained on its start, because no decision was expected to be worth it; None without."""
    stayed = [(phase.phase, phase.stayed) for phase in view.result.arms[arm].orders[0] if phase.stayed is not None]
    if not stayed:
        return None
    gains, costs = ([getattr(each, key) for _, each in stayed] for key in ("gain", "cost"))
    names = units.listed([name for name, _ in stayed])
    return (
        f"Kept its start in {names}: deciding was expected to gain {_percents(gains)}, for compute worth "
        f"{_percents(costs)} as training (decision.always decides anyway)."
    )


def _percents(values: Sequence[float]) -> str:
    """`0.8%`, or `0.8 to 1.2%`."""
    least, most = f"{min(values):.1f}", f"{max(values):.1f}"
    return f"{most}%" if least == most else f"{least} to {most}%"


def comparison(result: RunResult) -> dict[str, Any]:
    """The comparison of arms as plain values, for JSON."""
    view = RunView(result)
    points = [(view.spent(arm).flops, view.mean(arm, view.objective).value) for arm in view.arms]
    return {
        "objective": view.objective.label,
        "pareto_front": [view.arms[i] for i in pareto_front(points)],
        "flops_saved_against_retrain": {arm: view.saved(arm) for arm in view.arms},
        "differences": [
            {**asdict(each), "noise": each.noise if units.known(each.noise) else None, "verdict": each.verdict}
            for each in view.differences
        ],
    }
