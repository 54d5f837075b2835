"""Tables of a swarm's decision in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evermix.reports import tables, units
from evermix.reports.figures import decimals_for, figure, fixed, span
from evermix.reports.layout import items, note, plain_table
from evermix.reports.olmix import answer
from evermix.reports.summary import Result

_SEVERITY = {"serious": "bold red", "warning": "yellow", "note": "dim"}
_FROZEN_NOTE = (
    "Of {names} only the shares together were measured: what the law says of other mixtures of them rests on those "
    "totals."
)


def print_decided(result: Result, console: Console) -> None:
    """Answer, mixture, comparison, swarm, reuse, targets, held-out tasks, warnings; what is missing is left out.

    With a key `mixture_before`, domain -> share, the mixture is shown beside the one before.
    """
    console.print(Text(answer.headline(result), style="bold"))
    if result.get("mixture") is None:
        return
    for line in answer.target_sentences(result):
        console.print(Text(line))
    before = result.get("mixture_before")
    console.print(mixture_table(result, before))
    if before is not None:
        console.print(Text(answer.moved_sentence(before, result["mixture"])))
    if result.get("proposal") is not None:
        console.print(comparison_table(result["proposal"]))
        frozen = answer.frozen_names(result)
        if frozen and result["proposal"].get("bootstrap") is None:  # else a warning says so
            note(console, _FROZEN_NOTE.format(names=", ".join(frozen)))
    if result.get("arms"):
        print_targets(result, console)
    if result.get("held_out_tasks"):
        console.print(held_out_table(result["held_out_tasks"]))
    for line in [*answer.swarm_sentences(result), *answer.reuse_sentences(result)]:
        console.print(Text(line))
    if result.get("diagnosis") is not None:
        console.print(release_table(result["diagnosis"]))
    print_warnings(result.get("proposal"), console)


def mixture_table(result: Result, before: Mapping[str, float] | None = None) -> Table:
    """Rows domains; share (and that before, where it is given), natural share, epochs, what is frozen."""
    frozen, natural = answer.frozen_names(result), answer.natural_shares(result)
    intervals = (((result.get("proposal") or {}).get("bootstrap")) or {}).get("weights") or {}
    table = plain_table(f"Mixture: share of {units.count(result.get('n_tokens'))} tokens, and passes over each domain")
    table.add_column("domain", overflow="fold")
    columns = ["tokens"] + ["before"] * (before is not None) + ["share"] + ["90%\ninterval"] * bool(intervals)
    for column in [*columns, "natural", "epochs"]:
        table.add_column(column, justify="right", no_wrap=True)
    if frozen:
        table.add_column("within the\nfrozen part", justify="right")
    for row in result["domains"]:
        name = row["name"]
        cells = [units.count(row.get("n_tokens"))]
        cells += [] if before is None else [units.share(before.get(name))]
        cells.append(units.share(row["share"]))
        cells += [ends(intervals.get(name))] if intervals else []
        cells += [units.share(natural.get(name)), units.number(row.get("epochs"), 2)]
        table.add_row(Text(name), *cells, *([units.share(frozen.get(name))] if frozen else []))
    gone = [name for name in before or {} if name not in result["mixture"]]
    for name in gone:
        cells = ["", units.share((before or {})[name]), "gone"]
        table.add_row(Text(name, style="dim"), *cells, *[""] * (len(table.columns) - 1 - len(cells)))
    return table


def ends(interval: Mapping[str, float] | None) -> str:
    """`12.0–15.5`, percentage points."""
    return units.NOTHING if interval is None else f"{100 * interval['low']:.1f}–{100 * interval['high']:.1f}"


def comparison_table(proposal: Mapping[str, Any]) -> Table:
    """Rows mixtures; the objective that the law predicts, and the proposal's gain over each."""
    rows = answer.comparison_rows(proposal)
    resampled = proposal.get("bootstrap") is not None
    table = plain_table("Comparison: the objective as the law predicts it for a proxy (lower is better)")
    table.add_column("")
    columns = ["predicted", "gain of\nproposal"] + ["90% interval", "P(better)"] * resampled
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    places = decimals_for([row["objective_value"] for row in rows.values()])
    for name, row in rows.items():
        cells = comparison_cells(row, rows["proposal"]["objective_value"], places)
        table.add_row(Text(name, style="bold" if name == "proposal" else ""), *cells[: len(columns)])
    return table


def comparison_cells(row: Mapping[str, Any], ours: float, places: int) -> list[str]:
    """Predicted objective, gain of the proposal, its interval, the probability that it is one."""
    cells = [fixed(row["objective_value"], places)]
    gain = row.get("gain")
    if row["name"] == "proposal":
        return [*cells, "", "", ""]
    if gain is None:
        return [*cells, fixed(row["objective_value"] - ours, places), units.NOTHING, units.NOTHING]
    interval = span(fixed(gain["interval"]["low"], places), fixed(gain["interval"]["high"], places))
    return [*cells, fixed(gain["corrected"], places), interval, units.share(gain["probability"], 0)]


def print_targets(result: Result, console: Console) -> None:
    """Held-out text and tasks of the trained targets."""
    console.print(tables.quality_table(answer.target_view(result)))
    scored = task_rows(result)
    if scored:
        table = plain_table("Tasks, of the trained target ± standard error")
        table.add_column("task", overflow="fold")
        for arm in result["arms"]:
            table.add_column(arm, justify="right", no_wrap=True)
        for name, cells in scored:
            table.add_row(Text(name), *cells)
        console.print(table)


def task_rows(result: Result) -> list[tuple[str, list[str]]]:
    """Metric -> one cell per arm."""
    arms = list((result.get("arms") or {}).values())
    names = dict.fromkeys(name for arm in arms for name in arm.get("tasks") or {})
    return [(name, [_score((arm.get("tasks") or {}).get(name)) for arm in arms]) for name in names]


def _score(score: Mapping[str, float | None] | None) -> str:
    if score is None:
        return units.NOTHING
    error = score.get("standard_error")
    return units.number(score["value"]) + ("" if error is None else f" ± {error:.3f}")


def held_out_table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    """Rows metrics that nothing was fitted to; does their ranking of the proxies agree with the objective's?"""
    table = plain_table("Held-out tasks: rank agreement with the objective over the proxies (1 agrees, 0 unrelated)")
    table.add_column("metric", overflow="fold")
    for column in ("agreement", "proxies"):
        table.add_column(column, justify="right")
    for name, row in found.items():
        table.add_row(Text(name), units.number(row["agreement"], 2), str(row["n_runs"]))
    return table


def release_table(diagnosis: Mapping[str, Any]) -> Table:
    """Rows frozen domains; coupling with what is measured, and what measuring each anew is predicted to gain."""
    table = plain_table("What releasing a frozen domain would be worth")
    table.add_column("domain", overflow="fold")
    for column in ("coupling", "gain", "80% interval", "runs"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, cells in release_rows(diagnosis):
        table.add_row(Text(name), *cells)
    return table


def release_rows(diagnosis: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Domain -> coupling, gain, interval, runs; the greatest gain first, domains that cannot be released last."""
    worth = {row["domain"]: row for row in diagnosis["candidates"]}
    names = [*worth, *(name for name in diagnosis["coupling"] if name not in worth)]
    return [(name, [figure(diagnosis["coupling"].get(name)), *_worth(worth.get(name))]) for name in names]


def _worth(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return [units.NOTHING] * 3
    return [figure(row["gain"]), span(figure(row["low"]), figure(row["high"])), str(row["runs"])]


def print_warnings(proposal: Mapping[str, Any] | None, console: Console) -> None:
    """The gravest first; each with what to do about it."""
    found: Sequence[Mapping[str, Any]] = (proposal or {}).get("warnings") or []
    if proposal is not None and proposal.get("bootstrap") is None:
        items(console, "Warnings", ["none were looked for, since nothing was resampled (study.resamples)"])
        return
    if not found:
        return
    console.print(Text("Warnings", style="bold"))
    for warning in found:
        text = Text.assemble((f"{warning['severity']}: ", _SEVERITY[warning["severity"]]), warning["message"], " ")
        text.append(warning["remedy"], style="italic")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))
