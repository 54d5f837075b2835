"""The plan of a swarm in the terminal: how many proxies and why, what they cost, how many are done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.reports import units
from evermix.reports.figures import figure, listed
from evermix.reports.project import read_entries

if TYPE_CHECKING:
    from evermix.study.state import State


def print_swarm_plan(plan: Mapping[str, Any], console: Console) -> None:
    """What `evermix run` with method olmix would do."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(plan):
        table.add_row(label, Text(value))
    console.print(table)


def _rows(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    domains = plan["domains"]
    rows = [
        ("project", str(plan["project"])),
        ("domains", f"{len(domains)}: {listed(domains, 12)}"),
        ("proxies", f"{plan['n_runs']} of {plan['rung']} ({plan['n_runs_reason']})"),
    ]
    if plan.get("tasks"):
        tasks = ", ".join(f"{name} ({role})" for name, role in plan["tasks"].items())
        rows.insert(2, ("tasks", tasks))
    if "tokens_per_proxy" in plan:
        each = f"{units.count(plan['tokens_per_proxy'])} tokens in {plan['steps_per_proxy']:,} steps"
        rows.append(("each", f"{each}, {figure(plan['chinchilla'], 2)} times 20 tokens per parameter"))
        total = f"{units.flops(plan['flops_swarm'])}, {units.count(plan['n_runs'] * plan['tokens_per_proxy'])} tokens"
        rows.append(("cost of the swarm", f"{total}; scoring the proxies comes on top"))
    else:
        rows.append(("cost of the swarm", "not known before the tokenizer is read"))
    if plan["arms"]:
        arms = f"{len(plan['arms'])} times {units.count(plan['target_tokens'])} tokens: {', '.join(plan['arms'])}"
        flops = plan.get("flops_training_per_arm")
        rows.append(("target", f"{arms}{f'; {units.flops(flops)} each' if flops else ''}"))
    else:
        rows.append(("target", "none is trained: the mixture is the end"))
    if plan.get("so_far"):
        rows.append(("so far", plan["so_far"]))
    return rows


def so_far(project: Path) -> str | None:
    """How many proxies of the current era are done; None where no swarm has begun in that folder."""
    counted = swarm_counts(project)
    return None if counted is None else swarm_words(counted)


def swarm_words(counted: Mapping[str, int]) -> str:
    """`5 of 8 proxies are done`; after updates with the era that they are of."""
    after = f" of era {counted['era']}" if counted["era"] else ""
    return f"{counted['told']} of {counted['wanted']} proxies{after} are done"


def swarm_counts(project: Path) -> dict[str, int] | None:
    """`told` and `wanted` (asked for, or yet to be) runs of the current era, and its number `era`.

    None where the folder holds no study.
    """
    from evermix.study import Study

    if not any(entry.kind == "study" for entry in read_entries(project)):
        return None
    study = Study(project)
    view = study.now()
    eras = _same_design(view.state)
    asked = [entry for entry in view.state.asks if entry.payload["era"] in eras]
    told = sum(entry.key in view.state.told for entry in asked)
    return {"told": told, "wanted": len(asked) + study.remaining, "era": view.era.number}


def _same_design(state: State) -> set[int]:
    """Numbers of the current era and of those that it only released domains of."""
    numbers, era = {state.era.number}, state.era
    while era.is_release and era.parent is not None:
        era = state.eras.eras[era.parent]
        numbers.add(era.number)
    return numbers
