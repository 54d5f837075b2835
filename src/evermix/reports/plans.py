"""Plans in the terminal: what a run would do and cost (`--dry-run`), and what an update of the domains would."""

from __future__ import annotations

from rich.console import Console

from evermix.domain_updates import DomainUpdate
from evermix.printing import Table, Text
from evermix.reports import units
from evermix.reports.answer import equal_compute_note
from evermix.reports.decision_tables import held_probes
from evermix.reports.layout import Cell, Grid, cells, facts_table, items, note, plain_table, show
from evermix.reports.units import figure, listed
from evermix.results.plan import Expectation, PhasePlan, RunPlan, StrategyView, SwarmPlan, UpdateView
from evermix.study.history import in_words

_LINEAGE = {"none": "new text", "part of": "part of {}, whose runs speak for it", "same content": "{} as it was"}


def print_plan(plan: RunPlan, console: Console, so_far: str | None = None) -> None:
    """What `evermix run` would do.

    Args:
        so_far: how far a swarm is that has begun.
    """
    console.print(facts_table(_facts(plan, so_far)))
    show(console, [phases_grid(plan), arms_grid(plan)])
    for phase in plan.phases[0]:
        if phase.expected is not None:
            note(console, f"{phase.phase}: {prospect_sentence(phase.expected)}")
        if phase.affordable_steps_per_probe is not None:
            note(
                console,
                f"{phase.phase}, probes: {held_probes(phase.steps_per_probe, phase.affordable_steps_per_probe)}",
            )
    note(
        console,
        "Estimates for a run from nothing; what two arms or orders have in common is trained once and counted for "
        "each. Scoring after each phase, the same for all arms, is not in them.",
    )
    for left_out in plan.not_estimated:
        note(console, f"not estimated: {left_out}")


def prospect_sentence(expected: Expectation) -> str:
    """`deciding is expected to gain 3.5% over the start (90%: -1.0 to 8.9), for compute worth 0.4% as training`"""
    interval = f"90% of runs like our benchmarks': {expected.low:.1f} to {expected.high:.1f}"
    said = f"deciding is expected to gain {expected.gain:.1f}% over the start ({interval}), for compute worth"
    said = f"{said} {expected.cost:.1f}% as training"
    return f"{said}: it stays with its start (decision.always decides anyway)" if expected.stays else said


def _facts(plan: RunPlan, so_far: str | None) -> list[tuple[str, str]]:
    size = "" if plan.n_parameters is None else f", {units.count(plan.n_parameters)} counted parameters"
    rows = [("project", plan.project), ("method", plan.method), ("model", f"{plan.model}{size}")]
    if plan.swarm is None:
        rows.append(("decided by", plan.mode))
    several = len(plan.orders) > 1
    for number, order in enumerate(plan.orders):
        rows.append((f"order {number + 1}" if several else "phases", ", ".join(order)))
    if plan.tasks:
        rows.append(("tasks", ", ".join(f"{name} ({role})" for name, role in plan.tasks.items())))
    if plan.registry:
        rows.append(("corpora", ", ".join(plan.registry)))
    if plan.swarm is not None:
        rows += _swarm_facts(plan.swarm)
    if not plan.arms:
        rows.append(("target", "none is trained: the mixture is the end"))
    return [*rows, *([("so far", so_far)] if so_far else [])]


def _swarm_facts(swarm: SwarmPlan) -> list[tuple[str, str]]:
    rows = [("proxies", f"{swarm.n_runs} of {swarm.rung} ({swarm.reason})")]
    if swarm.tokens_per_proxy is None:
        return [*rows, ("cost of the swarm", "not known before the tokenizer is read")]
    each = f"{units.count(swarm.tokens_per_proxy)} tokens in {swarm.steps_per_proxy:,} steps"
    rows.append(("each", f"{each}, {figure(swarm.chinchilla, 2)} times 20 tokens per parameter"))
    total = f"{units.flops(swarm.flops)}, {units.count(swarm.n_runs * swarm.tokens_per_proxy)} tokens"
    return [*rows, ("cost of the swarm", f"{total}; scoring the proxies comes on top")]


def phases_grid(plan: RunPlan) -> Grid:
    """Rows phases of the first order."""
    rows = []
    for phase in plan.phases[0]:
        known = [name for name in phase.domains if name not in phase.new]
        trainer = "" if phase.trainer == "plain" else f" ({phase.trainer})"
        named = [f"{phase.number + 1} {phase.phase}", phase.kind + trainer]
        texts = [listed(phase.new) or units.NOTHING, listed(known) or units.NOTHING, _decided(phase)]
        rows.append(cells(*named, *texts, f"{phase.n_steps:,}", units.count(phase.n_tokens)))
    columns = ["phase", "kind", "new", "known before", "decided", "steps", "tokens"]
    return Grid("Phases" + (" of order 1" if len(plan.orders) > 1 else ""), columns, rows, words=range(1, 5))


def _decided(phase: PhasePlan) -> str:
    """'before steps 0, 40: 12 probes of 25 steps'."""
    if not phase.decided_at:
        return units.NOTHING
    steps = ", ".join(f"{step:,}" for step in phase.decided_at)
    where = "before it" if phase.decided_at == (0,) else f"before step{'s' * (len(phase.decided_at) > 1)} {steps}"
    if phase.n_proxies:
        return f"{where}: {phase.n_proxies} proxies"
    if phase.n_segments:
        return f"{where}: {phase.n_segments} segments of the run itself"
    return f"{where}: {phase.n_probes} probes of {phase.steps_per_probe} steps"


def arms_grid(plan: RunPlan) -> Grid | None:
    """Rows arms; FLOPs by part, or tokens where the model's size is not known; None where no arm is trained."""
    known = plan.n_parameters is not None
    write = units.flops if known else units.count
    spent = {name: (arm.flops_by_part or {}) if known else arm.tokens_by_part for name, arm in plan.arms.items()}
    parts = list(dict.fromkeys(part for each in spent.values() for part in each))
    rows = []
    for name, each in spent.items():
        numbers = [write(each.get(part) or None) for part in parts]
        rows.append([Cell(name), *cells(*numbers), Cell(write(sum(each.values())), "best")])
    title = f"{'FLOPs' if known else 'Tokens'} of every arm, about"
    columns = ["arm", *(part.replace("_", " ") for part in parts), "all"]
    return Grid(title, columns, rows, note=equal_compute_note(plan.arms.values())) if rows else None


def print_update_plan(plan: UpdateView, console: Console) -> None:
    """Every strategy with its cost, the chosen one marked; what keeps a fixed ratio; where new domains come from."""
    console.print(Text(f"Update: {in_words(DomainUpdate.from_dict(plan.update))}", style="bold"))
    console.print(strategy_table(plan))
    chosen = plan.chosen
    lines = [f"{plan.strategy}: {plan.unavailable[plan.strategy]}"] if chosen is None else []
    if chosen is not None:
        if chosen.fixed_ratio:
            shares = sorted(chosen.fixed_ratio.items(), key=lambda pair: -pair[1])
            lines.append("at a fixed ratio: " + listed([f"{name} {units.share(s)}" for name, s in shares], 12))
        if chosen.carried is not None:
            lines.append("no runs: the remaining shares are scaled to sum to one")
        if plan.strategy == "auto" and chosen.fixed_ratio and chosen.n_runs:
            lines.append("more runs follow for domains at a fixed ratio that prove worth recomputing")
    items(console, "What it does", lines + _lineage(plan))


def strategy_table(plan: UpdateView) -> Table:
    """Rows strategies; what keeps a fixed ratio, what is measured, runs new and reused, FLOPs and time of new ones."""
    table = plain_table("Strategies")
    table.add_column("strategy")
    table.add_column("fixed\nratio", justify="right")
    table.add_column("measured anew", overflow="fold")
    for column in ("runs\nneeded", "reused", "new", "FLOPs", "work"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in plan.strategies.items():
        style = "bold" if name == plan.strategy else ""
        label = f"> {name}" if name == plan.strategy else f"  {name}"
        table.add_row(Text(label, style), *_strategy_cells(plan, row))
    for name, why in plan.unavailable.items():
        label = f"> {name}" if name == plan.strategy else f"  {name}"
        table.add_row(Text(label, "dim"), units.NOTHING, Text(why, "dim"), *[""] * 5)
    return table


def _strategy_cells(plan: UpdateView, row: StrategyView) -> list[str]:
    fixed = len(row.fixed_ratio)
    measured = listed(row.measured, 5) if row.measured else "all domains" if row.n_needed else "none"
    counts = [str(row.n_needed), str(row.n_reused), str(row.n_runs)]
    spent = [units.flops(row.flops) if row.n_runs else "0", units.seconds(row.seconds)]
    return [f"{fixed} of {len(plan.domains)}" if fixed else units.NOTHING, measured, *counts, *spent]


def _lineage(plan: UpdateView) -> list[str]:
    """Where the evidence about every domain that is not just as before may come from."""
    return [f"{each.name}: {_LINEAGE[each.kind].format(each.source)}" for each in plan.lineage if each.kind in _LINEAGE]
