"""The plan of an update in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.reports import units
from evermix.reports.figures import listed
from evermix.reports.layout import items, plain_table

_LINEAGE = {"none": "new text", "part of": "part of {}, whose runs speak for it", "same content": "{} as it was"}


def print_update_plan(plan: Mapping[str, Any], console: Console) -> None:
    """Every strategy with its cost, the chosen one marked; what it freezes; where new domains come from."""
    console.print(Text(f"Update: {change_words(plan['update'])}", style="bold"))
    console.print(strategy_table(plan))
    chosen = plan["strategies"].get(plan["strategy"])
    lines = [f"{plan['strategy']}: {plan['unavailable'].get(plan['strategy'])}"] if chosen is None else []
    if chosen is not None and chosen["frozen"]:
        shares = sorted(chosen["frozen"].items(), key=lambda pair: -pair[1])
        lines.append("frozen, in these proportions: " + listed([f"{name} {units.share(s)}" for name, s in shares], 12))
    if chosen is not None and chosen["carried"] is not None:
        lines.append("no runs: the remaining shares are scaled to sum to one")
    if chosen is not None and plan["strategy"] == "auto" and chosen["frozen"] and chosen["n_runs"]:
        lines.append("more runs follow for frozen domains whose release proves worth them")
    lines += lineage_lines(plan)
    items(console, "What it does", lines)


def strategy_table(plan: Mapping[str, Any]) -> Table:
    """Rows strategies; what is frozen and measured, runs new and reused, FLOPs and time of the new ones."""
    table = plain_table("Strategies")
    table.add_column("strategy")
    table.add_column("frozen", justify="right")
    table.add_column("measured anew", overflow="fold")
    for column in ("runs\nneeded", "reused", "new", "FLOPs", "work"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in plan["strategies"].items():
        style = "bold" if name == plan["strategy"] else ""
        label = f"> {name}" if name == plan["strategy"] else f"  {name}"
        table.add_row(Text(label, style), *_cells(plan, row))
    for name, why in plan["unavailable"].items():
        label = f"> {name}" if name == plan["strategy"] else f"  {name}"
        table.add_row(Text(label, "dim"), units.NOTHING, Text(why, "dim"), *[""] * 5)
    return table


def _cells(plan: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    frozen, needed = len(row["frozen"]), row["n_needed"]
    measured = listed(row["measured"], 5) if row["measured"] else "all domains" if needed else "none"
    counts = [str(needed), str(row["n_reused"]), str(row["n_runs"])]
    spent = [units.flops(row["flops"]) if row["n_runs"] else "0", units.seconds(row["seconds"])]
    return [f"{frozen} of {len(plan['domains'])}" if frozen else units.NOTHING, measured, *counts, *spent]


def change_words(update: Mapping[str, Any]) -> str:
    """`add papers; remove spam`, from an update's plain values."""
    from evermix.domain_updates import DomainUpdate
    from evermix.study.history import in_words

    return in_words(DomainUpdate.from_dict(dict(update)))


def lineage_lines(plan: Mapping[str, Any]) -> list[str]:
    """Where the evidence about every domain that is not just as before may come from."""
    return [
        f"{each['name']}: {_LINEAGE[each['kind']].format(each['source'])}"
        for each in plan["lineage"]
        if each["kind"] in _LINEAGE
    ]
