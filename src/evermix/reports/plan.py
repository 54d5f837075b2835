"""A plan (`evermix run --dry-run`) in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.reports import units


def print_plan(plan: Mapping[str, Any], console: Console) -> None:
    """What `evermix run` would do; of a swarm or a life of several phases in words of their own.

    Otherwise plain values as one table, every list of rows as a table of its own, with its key as title.
    """
    if plan.get("method") == "olmix":
        from evermix.reports.olmix.plans import print_swarm_plan

        print_swarm_plan(plan, console)
        return
    if "stages" in plan:
        from evermix.reports.lives.plans import print_life_plan

        print_life_plan(plan, console)
        return
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for key, value in _flat(plan):
        facts.add_row(key.replace("_", " "), Text(_words(key, value)))
    console.print(facts)
    for key, value in plan.items():
        if _is_rows(value):
            console.print(_rows_table(key, value))


def _flat(plan: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in plan.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        elif not _is_rows(value):
            found.append((f"{prefix}{key}", value))
    return found


def _is_rows(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _rows_table(title: str, rows: list[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=title.replace("_", " "), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = all(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(_words(column, row.get(column))) for column in columns])
    return table


def _words(key: str, value: object) -> str:
    if value is None:
        return units.NOTHING
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(str(name), item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(key, item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return _number_words(key, value)


def _number_words(key: str, value: float) -> str:
    if "flops" in key:
        return units.flops(value)
    if "seconds" in key:
        return units.seconds(value)
    if "share" in key or "fraction" in key or "overhead" in key:
        return units.share(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
