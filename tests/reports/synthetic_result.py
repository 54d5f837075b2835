"""Results built by formulas: one phase decided by probes; several phases, orders and tasks; a swarm's mixture."""

from __future__ import annotations

import math
from typing import Any

from evermix.results import (
    ArmResult,
    Compute,
    ComputePart,
    CurvePoint,
    Decision,
    DomainInfo,
    DomainScore,
    Means,
    ModelInfo,
    ModeRecord,
    ObjectiveInfo,
    PhaseResult,
    ProbeRecord,
    ProposalView,
    RunResult,
    ScheduledMixture,
    SwarmRecord,
    TaskScore,
    TaskScores,
)

NAMES = (
    "web",
    "python-code",
    "stackexchange:questions-and-answers:high",
    "论文",
    "Übersetzungen",
    "a-domain-with-a-name-that-goes-on-and-on-and-on-for-ever",
    "wiki [en] $x$",
    "<b>books</b> & more",
    "noise",
    "legal",
)
COLOURS = {"natural": "#E69F00", "uniform": "#56B4E9", "evermix": "#009E73", "retrain": "#0072B2", "naive": "#D55E00"}
TOTAL = 4_000_000
SHIFT = (0.04, 0.06, 0.03, 0.02, 0.01, 0.0, -0.02, -0.03, -0.08, -0.03)
SHIFTS = {"evermix": -0.06, "uniform": 0.0, "naive": 1.2, "retrain": -0.05}
"""Arm -> nats above uniform on every domain, of several phases."""
STEP = 1e9


def score(loss: float, stderr: float = 0.008) -> DomainScore:
    """Three bytes a token."""
    bits = loss / (3 * math.log(2))
    return DomainScore(loss_nats=loss, loss_stderr_nats=stderr, bits_per_byte=bits, perplexity=math.exp(loss))


def means(scores: list[DomainScore]) -> Means:
    """All alike."""
    n = len(scores)
    return Means(
        loss_nats=sum(s.loss_nats for s in scores) / n,
        bits_per_byte=sum(s.bits_per_byte for s in scores) / n,
        perplexity=sum(s.perplexity for s in scores) / n,
    )


def compute(**flops: float) -> Compute:
    """One part per name, a second per GFLOP."""
    return Compute(
        by_part={
            n.replace("_", "-"): ComputePart(flops=value, n_tokens=value / 1e3, seconds=value / 1e9)
            for n, value in flops.items()
        }
    )


def domain(name: str, n_tokens: int) -> DomainInfo:
    """Three bytes a token, 400 tokens a document, 64 a row."""
    return DomainInfo(
        name=name,
        n_tokens=n_tokens,
        n_rows=n_tokens // 64,
        n_bytes=3 * n_tokens,
        n_documents=n_tokens // 400,
        decision_tokens=16_384,
        test_tokens=16_384,
    )


def whole(**changes: Any) -> RunResult:
    """What all have in common."""
    common = {
        "evermix_version": "0.5.0",
        "recipe_fingerprint": "0123456789abcdef",
        "project": "runs/demo",
        "method": "op-mix",
        "seed": 7,
        "model": ModelInfo(name="0.2M", non_embedding=200_000, output_projection=65_536),
        "objective": ObjectiveInfo(quantity="perplexity"),
        "max_epochs": 4.0,
    }
    return RunResult(**{**common, **changes})


def one_phase(n_domains: int = 10, gain: float = 0.05) -> RunResult:
    """`gain`: how many nats the evermix arm is below uniform on every domain but the ninth, which does not count."""
    names = [*NAMES, *[f"domain-{j}" for j in range(len(NAMES), n_domains)]][:n_domains]
    sizes = {name: 60_000 * (j + 1) ** 2 for j, name in enumerate(names)}
    uniform = dict.fromkeys(names, 1 / len(names))
    raw = {n: max(uniform[n] + s, 0.01) for n, s in zip(names, [*SHIFT, *[0.0] * n_domains], strict=False)}
    decided = {name: value / sum(raw.values()) for name, value in raw.items()}
    mixtures = {"natural": {n: s / sum(sizes.values()) for n, s in sizes.items()}, "uniform": uniform}
    mixtures["evermix"] = decided
    weights = {name: float(name != "noise") for name in names}
    arms = {arm: _one_phase_arm(arm, names, sizes, mixtures, gain) for arm in mixtures}
    return whole(
        seed=0,
        objective=ObjectiveInfo(quantity="perplexity", weights=weights),
        domains=tuple(domain(n, s) for n, s in sizes.items()),
        orders=(("pretraining",),),
        arms=arms,
    )


def with_equal_compute(result: RunResult, *names: str, better: float = 0.01) -> RunResult:
    """With a second row of some arms, given evermix's compute in every phase: so many nats better on every domain."""
    arms: dict[str, ArmResult] = {}
    for name, arm in result.arms.items():
        arms[name] = arm
        if name in names:
            orders = tuple(map(_given, arm.orders, result.arms["evermix"].orders, [better] * len(arm.orders)))
            changes = {"given": "evermix", "label": f"{arm.label}, equal compute", "orders": orders}
            arms[f"{name}+compute"] = arm.model_copy(update=changes)
    return result.model_copy(update={"arms": arms})


def _given(rows: tuple[PhaseResult, ...], spent: tuple[PhaseResult, ...], better: float) -> tuple[PhaseResult, ...]:
    found: list[PhaseResult] = []
    for row, theirs in zip(rows, spent, strict=True):
        scores = {n: score(one.loss_nats - better, one.loss_stderr_nats) for n, one in row.per_domain.items()}
        changes = {
            "arm": f"{row.arm}+compute",
            "per_domain": scores,
            "objective_value": row.objective_value * math.exp(-better),
            "compute": compute(training=theirs.compute.counted.flops),
            "cumulative_compute": compute(training=theirs.cumulative_compute.counted.flops),
        }
        found.append(row.model_copy(update=changes))
    return tuple(found)


def _one_phase_arm(
    arm: str, names: list[str], sizes: dict[str, int], mixtures: dict[str, dict[str, float]], gain: float
) -> ArmResult:
    def loss(j: int, part: float) -> float:
        offset = {"natural": 0.12 if j < 5 else -0.02, "uniform": 0.0, "evermix": 0.2 if j == 8 else -gain}[arm]
        return 2.4 + 0.2 * (j % 5) + offset * part + 2.5 * math.exp(-4 * part)

    scores = {n: score(loss(j, 1.0)) for j, n in enumerate(names)}
    counted = [scores[n] for n in names if n != "noise"]
    share = mixtures[arm]
    spent = compute(training=6.4e12)
    if arm == "evermix":
        spent += compute(probes=6.9e11, evaluation=2e10, cross_checks=3e11)
    row = PhaseResult(
        arm=arm,
        order=0,
        number=0,
        phase="pretraining",
        kind="pretrain",
        trainer="plain",
        new=tuple(names),
        known=(),
        n_rows=TOTAL // 64,
        n_tokens=TOTAL,
        mixture=share,
        average_mixture=share,
        schedule=(ScheduledMixture(start_row=0, start_token=0, mixture=share),),
        new_share=1.0,
        per_domain=scores,
        objective_value=means(counted).perplexity,
        means=means(counted),
        means_over_all=means(list(scores.values())),
        forgetting_nats={},
        mean_forgetting_nats=0.0,
        epochs={n: TOTAL * share[n] / sizes[n] for n in names},
        tokens={n: TOTAL * share[n] for n in names},
        compute=spent,
        cumulative_compute=spent,
        decisions=(decision(names, mixtures, scores),) if arm == "evermix" else (),
        curve=tuple(
            CurvePoint(step=k, n_tokens=TOTAL * k / 8, loss_nats={n: loss(j, k / 8) for j, n in enumerate(names)})
            for k in range(1, 9)
        ),
        model_id="0123",
    )
    return ArmResult(arm=arm, label=arm, colour=COLOURS[arm], mark="^Do"[len(arm) % 3], orders=((row,),))


def decision(names: list[str], mixtures: dict[str, dict[str, float]], scores: dict[str, DomainScore]) -> Decision:
    """At 40% of the run, by probes, with cross-checks."""
    realised = {n: one.loss_nats for n, one in scores.items()}
    predicted = {n: value + 0.03 * math.sin(j) for j, (n, value) in enumerate(realised.items())}
    tilted = {n: (mixtures["evermix"][n] + mixtures["uniform"][n]) / 2 for n in names}
    modes = {
        "probe-law": ModeRecord(mixture=mixtures["evermix"], status="optimal", objective_value=15.1),
        "interpolation": ModeRecord(mixture=tilted, status="optimal", objective_value=15.3),
        "gradient": ModeRecord(mixture=None, status="failed: did not converge"),
    }
    return Decision(
        arm="evermix",
        phase="pretraining",
        label="in pretraining at 40%",
        evidence="probes",
        mode="probe-law",
        at_step=40,
        at_fraction=0.4,
        at_token=0.4 * TOTAL,
        shares=mixtures["evermix"],
        mixture=mixtures["evermix"],
        old=mixtures["uniform"],
        prior=mixtures["uniform"],
        kl_weight=0.05,
        kl_source="default",
        binding=("web: upper (epochs)",),
        status="optimal",
        base_loss_nats={n: value + 0.5 for n, value in realised.items()},
        probes={names[0]: ProbeRecord(shares={names[0]: 1.0}, loss_nats=realised)},
        probe_tokens=80_000,
        predicted_loss_nats=predicted,
        predicted_objective={"chosen": 15.1, "start": 15.9, "natural": 17.2, "uniform": None},
        modes=modes,
        assessment_absent="11 probes of 10 domains leave nothing to resample",
        compute=compute(probes=6.9e11, evaluation=2e10, cross_checks=3e11),
        realised_loss_nats=realised,
        realised_objective=15.4,
    )


def phases(
    n_phases: int = 4, n_orders: int = 1, arms: dict[str, float] | None = None, *, accuracy: bool = False
) -> RunResult:
    """Phase k has domains 0 to k; every order has another luck, the same for all arms but a little."""
    shifts = SHIFTS if arms is None else arms
    names = [f"s{k}" for k in range(n_phases)]
    return whole(
        orders=tuple((names[0], *names[1 + k % 2 :], *names[1 : 1 + k % 2]) for k in range(n_orders)),
        domains=tuple(domain(name, 64_000 * (j + 1)) for j, name in enumerate(_texts(n_phases))),
        arms={
            arm: ArmResult(
                arm=arm,
                label=arm,
                colour=COLOURS.get(arm, "#8a8f98"),
                orders=tuple(_run(arm, shift, n_phases, order, accuracy) for order in range(n_orders)),
            )
            for arm, shift in shifts.items()
        },
        before=TaskScores(tasks={"spelling:accuracy": task(0.25)}, mean_accuracy=0.25) if accuracy else None,
    )


def task(value: float) -> TaskScore:
    """Over 100 items."""
    return TaskScore(value=value, stderr=0.02, unit="accuracy", n_items=100)


def _texts(n: int) -> tuple[str, ...]:
    return (NAMES[0], NAMES[3], NAMES[7], NAMES[6], "law (2)", NAMES[5])[:n]


def _run(arm: str, shift: float, n_phases: int, order: int, accuracy: bool) -> tuple[PhaseResult, ...]:
    rows: list[PhaseResult] = []
    for number in range(n_phases):
        names = _texts(number + 1)
        losses = {n: 3 + 0.1 * j + shift * (number > 0) + 0.02 * order for j, n in enumerate(names)}
        losses = {n: loss + 0.003 * order * (arm == "uniform") for n, loss in losses.items()}
        scores = {n: score(loss, 0.01) for n, loss in losses.items()}
        spent, alike = _spent(arm, number), means(list(scores.values()))
        even = dict.fromkeys(names, 1 / (number + 1)) if arm != "naive" else {names[-1]: 1.0}
        row = PhaseResult(
            arm=arm,
            order=order,
            number=number,
            phase=f"s{number}",
            kind="midtrain" if number else "pretrain",
            trainer="plain",
            new=(names[-1],),
            known=names[:-1],
            n_rows=1000,
            n_tokens=64_000,
            mixture=even,
            average_mixture=even,
            schedule=(ScheduledMixture(start_row=0, start_token=0, mixture=even),),
            new_share=1.0 if arm == "naive" else 1 / (number + 1),
            per_domain=scores,
            objective_value=alike.perplexity,
            means=alike,
            means_over_all=alike,
            forgetting_nats=dict.fromkeys(names[:-1], shift),
            mean_forgetting_nats=shift if number else 0.0,
            epochs=dict.fromkeys(names, 0.5),
            tokens=dict.fromkeys(names, 100.0),
            tasks={"spelling:accuracy": task(0.5 - 0.1 * shift)} if accuracy else {},
            mean_accuracy=0.5 - 0.1 * shift if accuracy else None,
            compute=spent,
            cumulative_compute=Compute.sum([*(earlier.compute for earlier in rows), spent]),
            scoring_compute=compute(scoring=5e6) if accuracy else Compute(),
            decisions=_decisions(arm, order, number, names),
            model_id=f"{arm}-{order}-{number}",
        )
        rows.append(row)
    return tuple(rows)


def _spent(arm: str, number: int) -> Compute:
    if not number:
        return compute(prefix=STEP)
    own = compute(training=STEP * (1 + number) if arm == "retrain" else STEP)
    return compute(probes=STEP / 10, evaluation=STEP / 50) + own if arm == "evermix" else own


def _decisions(arm: str, order: int, number: int, names: tuple[str, ...]) -> tuple[Decision, ...]:
    if not number or arm not in ("evermix", "oracle"):
        return ()
    common: dict[str, Any] = {
        "arm": arm,
        "order": order,
        "phase": f"s{number}",
        "number": number,
        "label": f"before s{number}",
        "new": (names[-1],),
        "shares": {"old": 0.7, names[-1]: 0.3},
        "mixture": dict.fromkeys(names, 1 / len(names)),
        "new_share": 0.3,
        "assessment_absent": "2 probes leave nothing to resample",
    }
    if arm == "oracle":
        tried = tuple(({names[0]: 1 - x, names[-1]: x}, y) for x, y in ((0.1, 21.0), (0.3, 20.0), (0.5, 22.0)))
        return (Decision(evidence="sweep", mode="best", candidates=tried, **common),)
    return (
        Decision(
            evidence="probes",
            mode="probe-law",
            binding=(f"{names[-1]}: cap",),
            ceilings={names[0]: 3.2},
            predicted_loss_nats=dict.fromkeys(names, 3.0),
            compute=compute(probes=1e8, evaluation=2e7),
            **common,
        ),
    )


GAIN = {
    "over": "natural",
    "apparent": 0.03,
    "optimism": 0.01,
    "corrected": 0.02,
    "interval": {"low": 0.01, "high": 0.03},
    "percent": 1.5,
    "percent_interval": {"low": 0.8, "high": 2.2},
    "probability": 0.97,
}


def proposal(**changes: Any) -> ProposalView:
    """Of two domains, resampled, with a warning."""
    shares = {"web [x]": 0.6, "code": 0.4}
    row = {"mixture": shares, "kl_to_prior": 0.1, "effective_domains": 2.0}
    content = {
        "mixture": shares,
        "prior": {"source": "natural", "mixture": {"web [x]": 0.75, "code": 0.25}},
        "law": "log-linear",
        "kl": {"weight": 0.01, "source": "given"},
        "proposal": {
            "mixture": shares,
            "objective_value": 1.3,
            "kl_nats": 0.1,
            "kl_weight": 0.01,
            "status": "solved",
            "solver": "newton",
        },
        "comparison": {
            "rows": [
                {"name": "proposal", "objective_value": 1.30, "epochs": {"web [x]": 2.0, "code": 4.0}, **row},
                {"name": "natural", "objective_value": 1.33, "gain": GAIN, **row},
            ]
        },
        "bootstrap": {
            "kind": "runs",
            "reason": "enough of them",
            "n_resamples": 100,
            "weights": {"code": {"share": 0.4, "low": 0.31, "high": 0.45}},
        },
        "calibration": {"law": "log-linear", "n_folds": 5, "objective": {"name": "objective", "n_runs": 8}},
        "warnings": [{"kind": "vertex", "severity": "note", "message": "Mind this.", "remedy": "Do that."}],
    }
    return ProposalView.model_validate({**content, **changes})


SPENT = {"n_runs": 8, "n_trained": 8, "n_tokens": 80_000, "flops": 4e10, "seconds": 42.0}


def swarm_record(**changes: Any) -> SwarmRecord:
    """Eight proxies, one of which failed."""
    content = {
        "rung": "1M",
        "non_embedding": 1_000_000,
        "output_projection": 500_000,
        "steps": 10,
        "tokens_per_proxy": 10_000,
        "simulated_epoching": True,
        "metrics": ("web [x]", "code"),
        "this_version": SPENT,
        "all_versions": SPENT,
        "n_tokens": 1_000_000,
        "left_out": [{"run_id": "run-0003", "reason": "worker died: signal 9", "log": "logs/run-0003.log"}],
        "held_out_tasks": {"quiz:accuracy": {"agreement": 0.81, "n_runs": 8}},
    }
    return SwarmRecord.model_validate({**content, **changes})


def swarm(view: ProposalView | None = None, record: SwarmRecord | None = None, **changes: Any) -> RunResult:
    """A mixture of a swarm that no arm was trained on; without a view: carried over."""
    made: dict[str, Any] = {
        "arm": "evermix",
        "label": "before pretraining",
        "phase": "pretraining",
        "evidence": "swarm",
        "mode": "log-linear",
        "shares": {"web [x]": 0.6, "code": 0.4},
        "mixture": {"web [x]": 0.6, "code": 0.4},
        "proposal": view,
        "swarm": record or swarm_record(),
        "assessment_absent": None if view is not None else "no runs were needed, the shares are scaled to sum to one",
        **changes,
    }
    return whole(
        method="olmix",
        objective=ObjectiveInfo(quantity="bits_per_byte"),
        orders=(("pretraining",),),
        domains=(domain("web [x]", 300_000), domain("code", 100_000)),
        untrained_decisions=(Decision(**made),),
    )
