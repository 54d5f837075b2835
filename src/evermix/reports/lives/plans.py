"""The plan of a life in the terminal: its stages, and what every arm will cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.reports import units
from evermix.reports.figures import listed
from evermix.reports.layout import note, plain_table


def print_life_plan(plan: Mapping[str, Any], console: Console) -> None:
    """What `evermix run` would do for a recipe with phases."""
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, value in _facts(plan):
        facts.add_row(label, Text(value))
    console.print(facts)
    console.print(_stages(plan))
    console.print(_arms(plan))
    note(
        console,
        "Estimates for a life trained from nothing; what two arms or orders have in common is trained once and counted "
        "for each. Scoring after each stage, the same for all arms, is not in them.",
    )
    for left_out in plan["not_estimated"]:
        note(console, f"not estimated: {left_out}")


def _facts(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    size = f", {units.count(plan['n_parameters'])} counted parameters" if plan["n_parameters"] else ""
    orders = [", ".join(order) for order in plan["orders"]]
    rows = [("project", str(plan["project"])), ("model", f"{plan['model']}{size}"), ("decided by", str(plan["mode"]))]
    return [*rows, *((f"order {k + 1}" if len(orders) > 1 else "stages", order) for k, order in enumerate(orders))]


def _stages(plan: Mapping[str, Any]) -> Table:
    """Rows stages of the first order."""
    table = plain_table("Stages" + (" of order 1" if len(plan["orders"]) > 1 else ""))
    for column in ("stage", "kind", "new", "known before"):
        table.add_column(column, overflow="fold")
    for column in ("steps", "tokens", "probes"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage in plan["stages"][0]:
        known = [name for name in stage["domains"] if name not in stage["new"]]
        probes = f"{stage['n_probes']} of {stage['steps_per_probe']} steps" if stage["n_probes"] else units.NOTHING
        trainer = "" if stage["trainer"] == "plain" else f" ({stage['trainer']})"
        named = [f"{stage['number'] + 1} {stage['stage']}", stage["kind"] + trainer]
        texts = [*named, listed(stage["new"]) or units.NOTHING, listed(known) or units.NOTHING]
        table.add_row(*map(Text, texts), f"{stage['n_steps']:,}", units.count(stage["n_tokens"]), probes)
    return table


def _arms(plan: Mapping[str, Any]) -> Table:
    """Rows arms; FLOPs by part, or tokens where the model's size is not known."""
    unit, write = ("flops", units.flops) if plan["n_parameters"] else ("tokens", units.count)
    costs: Mapping[str, Any] = plan["arms"]
    parts = list(dict.fromkeys(part for cost in costs.values() for part in cost[f"{unit}_by_part"]))
    table = plain_table(f"{'FLOPs' if unit == 'flops' else 'Tokens'} of every arm, about")
    table.add_column("arm", no_wrap=True)
    for column in [*parts, "all"]:
        table.add_column(column, justify="right", overflow="fold")
    for arm, cost in costs.items():
        spent = cost[f"{unit}_by_part"]
        total = cost["flops" if unit == "flops" else "n_tokens"]
        table.add_row(Text(arm), *[write(spent.get(part) or None) for part in parts], write(total))
    return table
