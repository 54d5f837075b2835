"""Tables of decisions: shares before and after, what held them, what was predicted and what came, other modes, probes,
tried shares, ceilings, and a swarm's proxies, agreement and reuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evermix.reports import units
from evermix.reports.layout import Cell, Grid, cells
from evermix.reports.proposal import changes_grid, comparison_grid, duals_grid, mixture_grid, spread_grid
from evermix.reports.units import NOTHING, figure, known, listed, number, share, span
from evermix.results import Decision, Expectation, SwarmRecord
from evermix.results.swarm import DiagnosisView, EstimateView, ProxyCompute, RecomputeValue


def decision_title(decision: Decision) -> str:
    """`Decision of arm evermix at 40% of pretraining: mode probe-law, KL weight 0.05`."""
    of = f" of arm {decision.arm}" if decision.arm else ""
    where = f"at {share(decision.at_fraction, 0)} of {decision.phase}" if decision.at_fraction else decision.label
    title = f"Decision{of} {where}: mode {decision.mode}"
    return title if decision.kl_weight is None else f"{title}, KL weight {decision.kl_weight:.3g}"


def binding_reasons(binding: Sequence[str]) -> dict[str, str]:
    """domain -> the rule that holds it, from `name: reason`."""
    found = {}
    for text in binding:
        name, _, reason = text.rpartition(": ")
        found[name or reason] = reason.removeprefix("upper (").removesuffix(")") if name else "bound"
    return found


def decision_tables(decision: Decision) -> list[Grid | None]:
    """All of one decision, in the order in which one reads them."""
    swarm, view = decision.swarm, decision.proposal
    before = swarm is not None and swarm.before is not None
    found = [decision_grid(decision) if view is None or before else None]
    found += [responses_grid(decision), segments_grid(decision)]
    found += [modes_grid(decision), probes_grid(decision), error_grid(decision)]
    if view is not None:
        found += [mixture_grid(view), comparison_grid(view), spread_grid(view), changes_grid(view), duals_grid(view)]
    if swarm is not None:
        found += [agreement_grid(swarm), proxies_grid(swarm), failures_grid(swarm)]
        found.append(None if swarm.diagnosis is None else recompute_grid(swarm.diagnosis))
    return found


def decision_lines(decision: Decision) -> list[str]:
    """What a decision's tables do not say: what it cost, what it predicted, why it is not assessed, what reuse did."""
    parts, lines = decision.compute.by_part, []
    if parts:
        checks = parts["cross-checks"].flops if "cross-checks" in parts else 0.0
        of_which = f", of which cross-checks {units.flops(checks)}" if checks else ""
        lines = [f"Cost {units.flops(decision.compute.flops)}, {units.seconds(decision.compute.seconds)}{of_which}."]
    predicted = {name: value for name, value in decision.predicted_objective.items() if known(value)}
    if predicted:
        words = ", ".join(f"{name} {value}" for name, value in _with_digits(predicted).items())
        lines.append(f"Predicted objective: {words}.")
    if decision.realised_objective is not None:
        lines.append(f"Realised objective at the end of the phase: {number(decision.realised_objective, 4)}.")
    if decision.expected is not None:
        lines.append(expectation_sentence(decision.expected))
    if decision.horizon:
        lines.append(horizon_sentence(decision.horizon, decision.evidence == "in-run"))
    if decision.affordable_probe_steps is not None:
        lines.append(f"Probes: {held_probes(decision.probe_steps, decision.affordable_probe_steps)}.")
    if decision.assessment_absent is not None:
        lacks = "No intervals and warnings" if decision.expected is None else "Not resampled, no warnings"
        lines.append(f"{lacks}: {decision.assessment_absent}.")
    return lines + (swarm_lines(decision.swarm) if decision.swarm is not None else [])


def expectation_sentence(expected: Expectation) -> str:
    """`Expected gain over the mixture in force: 3.1% (90% interval 1.0 to 5.2), for compute worth 0.3% as training.`"""
    interval = f"90% interval {expected.low:.1f} to {expected.high:.1f}"
    said = f"Expected gain over the mixture in force: {expected.gain:.1f}% ({interval}), "
    said += f"for compute worth {expected.cost:.1f}% as training"
    return f"{said}: the mixture in force stays." if expected.stays else f"{said}."


def horizon_sentence(horizon: dict[str, float], in_run: bool) -> str:
    """`Horizon: losses are taken to move 2.0 times as far as probes moved them.`, or from the least to the most."""
    least, most = min(horizon, key=horizon.__getitem__), max(horizon, key=horizon.__getitem__)
    times = f"{horizon[least]:.1f}"
    if f"{horizon[most]:.1f}" != times:
        times += f" ({least}) to {horizon[most]:.1f} ({most})"
    return f"Horizon: losses are taken to move {times} times as far as {'segments' if in_run else 'probes'} moved them."


def held_probes(steps: int, affordable: int) -> str:
    """That probes are held to fewer steps than their budget would pay for."""
    return (
        f"each has {steps:,} steps, the most that it is given by itself; the budget would pay for {affordable:,} "
        "(decision.probes.steps sets another length)"
    )


def _with_digits(values: Mapping[str, float | None]) -> dict[str, str]:
    there = {name: value for name, value in values.items() if value is not None}
    places = units.decimals_for(list(there.values()))
    return {name: units.fixed(value, places) for name, value in there.items()}


def decision_grid(decision: Decision) -> Grid:
    """Rows domains; shares before and after, other modes' choices, what held them, ceilings, predicted and realised."""
    others = {mode: found for mode, found in decision.modes.items() if mode != decision.mode}
    held, losses = binding_reasons(decision.binding), decision.predicted_loss_nats
    ceilings, realised = decision.ceilings or {}, decision.realised_loss_nats or {}
    before = decision.old or (decision.swarm.before if decision.swarm is not None else None) or {}
    names = list(dict.fromkeys([*decision.mixture, *losses, *before]))
    columns = ["domain", *["prior"] * bool(decision.prior), *["before"] * bool(before), "after", *others]
    columns += ["held by"] * bool(held) + ["ceiling"] * bool(ceilings)
    columns += ["predicted loss"] * bool(losses) + ["realised loss"] * bool(realised)
    rows = []
    for name in names:
        row = [Cell(f"{name} (new)" if name in decision.new else name)]
        row += [Cell(_in(decision.prior, name))] if decision.prior else []
        row += [Cell(_in(before, name))] if before else []
        gone = bool(before) and name not in decision.mixture and name not in losses
        row.append(Cell("gone", "faint") if gone else Cell(_in(decision.mixture, name, 0.0), "best"))
        row += [
            Cell(_in(found.mixture or {}, name, None if found.mixture is None else 0.0)) for found in others.values()
        ]
        row += [Cell(held.get(name, ""))] if held else []
        row += [Cell(number(ceilings[name]) if name in ceilings else NOTHING)] if ceilings else []
        row += [Cell(number(losses.get(name)))] if losses else []
        row += [Cell(number(realised.get(name)))] if realised else []
        rows.append(row)
    words = [columns.index("held by")] if held else []
    moved = moved_sentence(before, decision.mixture) if before else ""
    return Grid(decision_title(decision), columns, rows, words=words, note=moved)


def _in(shares: dict[str, float], name: str, otherwise: float | None = None) -> str:
    return share(shares.get(name, otherwise))


def moved_sentence(before: dict[str, float], after: dict[str, float]) -> str:
    """Total variation: half the sum of absolute differences."""
    names = {*before, *after}
    pairs = [(before.get(n, 0.0), after.get(n, 0.0)) for n in names]
    total = sum(abs(new - old) for old, new in pairs) / 2
    return f"{share(total)} of the tokens go to another domain than before (total variation)."


def decisions_grid(decisions: Sequence[Decision]) -> Grid | None:
    """Rows decisions: among which components, what held it, what it cost."""
    rows = []
    for one in decisions:
        held = ", ".join(f"{name} ({reason})" for name, reason in binding_reasons(one.binding).items())
        shares = ", ".join(f"{name} {share(value)}" for name, value in one.shares.items())
        by = f"{one.mode}{', accuracy' if one.tasks is not None else ''}"
        recomputed = listed(one.recomputed) or NOTHING
        rows.append(cells(one.arm, one.label, by, shares, recomputed, held or NOTHING, units.flops(one.compute.flops)))
    columns = ["arm", "decision", "decided by", "shares of components", "recomputed", "held by", "deciding cost"]
    return Grid("Decisions", columns, rows, words=range(1, 6)) if rows else None


def modes_grid(decision: Decision) -> Grid | None:
    """Rows decision modes that read the same probes; each value is the mode's own prediction."""
    if len(decision.modes) < 2:
        return None
    values = {name: found.objective_value for name, found in decision.modes.items()}
    texts = _with_digits(values)
    rows = [
        cells(
            f"{name} (chosen)" if name == decision.mode else name,
            texts.get(name, NOTHING),
            found.status or NOTHING,
        )
        for name, found in decision.modes.items()
    ]
    note = "The modes decided from the same probes; each value is that mode's own prediction."
    return Grid("Modes", ["mode", "its own predicted objective", "status"], rows, words=[2], note=note)


def segments_grid(decision: Decision) -> Grid | None:
    """Rows segments of the experiments within the run: where each ends, its mixture, its losses; None without any."""
    if not decision.segments:
        return None
    names = list(decision.segments[0].loss_nats)
    rows = []
    for k, segment in enumerate(decision.segments):
        starts = not k or segment.experiment != decision.segments[k - 1].experiment
        losses = [number(segment.loss_nats[name]) for name in names]
        rows.append(
            cells(
                f"{segment.experiment + 1}{', before it' if starts else ''}",
                f"{segment.step:,}",
                units.spread_out(segment.mixture),
                *losses,
            )
        )
    title = "Experiments within the run: segments, and losses at their ends (nats)"
    return Grid(title, ["experiment", "ends at step", "trained on", *names], rows, words=[0, 2])


def responses_grid(decision: Decision) -> Grid | None:
    """Rows domains: how their losses answer to their shares, in nats per log share; None without experiments."""
    if not decision.responses:
        return None
    rows = [
        cells(
            name,
            f"{found.response:.3f} ± {found.stderr:.3f}",
            number(found.fall),
            f"{found.slope:.2f}",
            f"{found.low:.2f}–{found.high:.2f}",
        )
        for name, found in decision.responses.items()
    ]
    columns = ["domain", "answer to a segment", "still to fall", "slope to the end", "90% of its draws"]
    return Grid("Responses of losses to shares (nats per log share)", columns, rows)


def probes_grid(decision: Decision) -> Grid | None:
    """Rows probes: what each was trained on, and the losses that it reached less those before; None where none were."""
    if not decision.probes:
        return None
    names = list(decision.base_loss_nats)
    rows = []
    for name, probe in decision.probes.items():
        losses = [_change(decision, probe.loss_nats, domain) for domain in names]
        rows.append(cells(name, units.spread_out(probe.shares), *losses))
    title = f"Probes of {units.count(decision.probe_tokens)} tokens: change of each loss (nats)"
    return Grid(title, ["probe", "trained on", *names], rows, words=[1])


def _change(decision: Decision, losses: dict[str, float], domain: str) -> str:
    return f"{losses[domain] - decision.base_loss_nats[domain]:+.3f}" if domain in losses else NOTHING


def error_grid(decision: Decision) -> Grid | None:
    """Rows tasks: their cost before, after each probe, and as foretold; None where loss decided."""
    seen = decision.tasks
    if seen is None:
        return None
    rows = []
    for task, base in seen.base.items():
        probed = [number(errors.get(task)) for errors in seen.probes.values()]
        rows.append(cells(task, number(base), *probed, number(seen.predicted.get(task))))
    return Grid("Costs of tasks (lower is better)", ["task", "before", *seen.probes, "predicted"], rows)


def swarm_lines(swarm: SwarmRecord) -> list[str]:
    """What the proxies were and cost; which are missing; what keeping fixed ratios did."""
    here, everything = swarm.this_version, swarm.all_versions
    size = f"proxies of {swarm.rung}, {units.count(swarm.tokens_per_proxy)} tokens each"
    lines = [f"Swarm: {here.n_trained} {size}: {_work(here)}."]
    if not here.n_trained:
        lines = [f"Swarm: no proxies were trained; {everything.n_trained} are known from before."]
    elif everything.n_trained > here.n_trained:
        lines.append(f"All updates together: {everything.n_trained} proxies, {_work(everything)}.")
    lines += [f"Left out: {run.run_id}, which failed ({run.reason}); its trace: {run.log}" for run in swarm.left_out]
    if swarm.recomputed:
        lines.append(f"Recomputed, because it was worth its runs: {', '.join(swarm.recomputed)}.")
    return lines + (diagnosis_lines(swarm.diagnosis) if swarm.diagnosis is not None else [])


def _work(spent: ProxyCompute) -> str:
    return f"{units.flops(spent.flops)}, {units.seconds(spent.seconds)} of work"


def diagnosis_lines(found: DiagnosisView) -> list[str]:
    """What keeping fixed ratios costs, in words."""
    return [
        f"Reuse: {found.advice}. Predicted loss against measuring everything anew: "
        f"{estimate_words(found.predicted_loss)}; the mixture's gain over its prior is {figure(found.gain)}; "
        f"{found.runs_saved} runs saved.",
        f"Coupling kappa {figure(found.kappa)}, reuse gap {share(found.reuse_gap)}, "
        f"1 - rho* {share(found.one_minus_rho)}.",
    ]


def estimate_words(estimate: EstimateView) -> str:
    """`0.0012 (80% interval 0 to 0.0031)`; "or more" where nothing is known of the upper end."""
    low, high = figure(estimate.low), figure(estimate.high)
    ends = f"{low} or more" if high == NOTHING else span(low, high)
    return f"{figure(estimate.value)} (80% interval {ends})"


def agreement_grid(swarm: SwarmRecord) -> Grid | None:
    """Rows metrics that nothing was fitted to; does their ranking of the proxies agree with the objective's?"""
    rows = [cells(name, number(each.agreement, 2), str(each.n_runs)) for name, each in swarm.held_out_tasks.items()]
    title = "Held-out tasks: rank agreement with the objective over the proxies (1 agrees, 0 unrelated)"
    return Grid(title, ["metric", "agreement", "proxies"], rows) if rows else None


def proxies_grid(swarm: SwarmRecord) -> Grid:
    """Rows: proxies since the last update of the domains, and all of them; what they cost."""
    kinds = [("since the last update", swarm.this_version), ("all together", swarm.all_versions)]
    rows = []
    for label, spent in kinds[1:] if swarm.this_version == swarm.all_versions else kinds:
        counts = [str(spent.n_runs), str(spent.n_trained), units.count(spent.n_tokens)]
        rows.append(cells(label, *counts, units.flops(spent.flops), units.seconds(spent.seconds)))
    return Grid("Proxies", ["", "runs", "trained", "tokens", "FLOPs", "work"], rows)


def failures_grid(swarm: SwarmRecord) -> Grid | None:
    """Rows proxies that were given up."""
    rows = [cells(run.run_id, run.reason, run.log) for run in swarm.left_out]
    return Grid("Proxies that failed", ["proxy", "reason", "trace"], rows, words=[1, 2]) if rows else None


def swarm_facts(swarm: SwarmRecord) -> list[tuple[str, str]]:
    """What the proxies were, label and value."""
    return [
        ("proxy", swarm.rung),
        (
            "non-embedding parameters and output projection",
            f"{units.count(swarm.non_embedding)} and {units.count(swarm.output_projection)}",
        ),
        ("tokens of each", f"{units.count(swarm.tokens_per_proxy)} in {swarm.steps:,} steps"),
        ("simulated epoching", "each domain repeats as in the target run" if swarm.simulated_epoching else "no"),
        ("metrics", ", ".join(swarm.metrics)),
    ]


def recompute_grid(found: DiagnosisView) -> Grid:
    """Rows domains of the fixed ratio, the greatest gain first; coupling, and what measuring each anew would gain."""
    worth = {each.domain: each for each in found.candidates}
    advised = {each.domain for each in found.recompute}
    names = [*worth, *(name for name in found.coupling if name not in worth)]
    rows = [
        cells(
            f"{name} (advised)" if name in advised else name,
            figure(found.coupling.get(name)),
            *_worth(worth.get(name)),
        )
        for name in names
    ]
    columns = ["domain", "coupling", "gain", "80% interval", "runs"]
    note = (
        "Coupling: how much a domain at a fixed ratio acts on the same metrics as those that are measured. Gains are "
        "of the objective, lower is better."
    )
    return Grid("What recomputing a domain at a fixed ratio would be worth", columns, rows, note=note)


def _worth(value: RecomputeValue | None) -> list[str]:
    if value is None:
        return [NOTHING] * 3
    return [figure(value.gain), span(figure(value.low), figure(value.high)), str(value.runs)]
