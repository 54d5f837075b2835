"""A life in the terminal: how the arms end, what they cost by part, and how much of each stage was new."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.reports import units
from evermix.reports.layout import note, plain_table
from evermix.reports.lives.answer import APART, Lives, Mean, Quality, Row, headline
from evermix.reports.summary import Result

_ORDERS = 3


def print_life(result: Result, console: Console) -> None:
    """Headline, every comparison in a sentence, tables; of an unfinished life only how far it is."""
    lives = Lives(result)
    console.print(Text(headline(result), style="bold"))
    if not lives.arms:
        return
    for each in lives.differences:
        console.print(Text(f"  {each.arm}: {each.words}."))
    console.print(end_table(lives))
    before = lives.before.get("mean_accuracy")
    if units.known(before):
        note(console, f"mean accuracy on all tasks before the first stage: {units.number(before)}")
    console.print(compute_table(lives))
    for number in range(min(len(lives.orders), _ORDERS)):
        console.print(stages_table(lives, number))
    if len(lives.orders) > _ORDERS:
        note(console, f"... {len(lives.orders) - _ORDERS} more orders: the report and --json have them")


def quality_text(quality: Quality, mean: Mean) -> str:
    """'33.1' or, of several orders, '33.1 ± 0.4' with the standard error."""
    text = quality.text(mean.value)
    return text if mean.stderr is None else f"{text} ± {quality.text(mean.stderr)}"


def end_table(lives: Lives) -> Table:
    """Rows arms; what they end with, and what they spent."""
    orders = f", means of {len(lives.orders)} orders ± standard error" if len(lives.orders) > 1 else ""
    table = plain_table(f"After the last stage{orders}")
    table.add_column("arm", no_wrap=True)
    saves = "retrain" in lives.arms
    for column in [*(quality.label for quality in lives.qualities), "compute"]:
        table.add_column(column, justify="right", overflow="fold")
    if saves:
        table.add_column("saved against retrain", justify="right", overflow="fold")
    table.add_column("time", justify="right", overflow="fold")
    best = {
        quality.key: quality.best([lives.mean(arm, quality.key).value for arm in lives.arms])
        for quality in lives.qualities
    }
    for arm in lives.arms:
        means = [(quality, lives.mean(arm, quality.key)) for quality in lives.qualities]
        cells = [
            Text(quality_text(quality, mean), style="bold" if mean.value == best[quality.key] else "")
            for quality, mean in means
        ]
        saved = [units.share(lives.saved(arm))] if saves else []
        spent, taken = units.flops(lives.cost(arm)), units.seconds(lives.cost(arm, "seconds"))
        table.add_row(Text(arm), *cells, spent, *saved, taken)
    return table


def parts_of(lives: Lives, *, apart: bool = True) -> list[str]:
    """Parts of the compute that any arm has."""
    named = dict.fromkeys(part for arm in lives.arms for part in lives.parts(arm))
    return [part for part in named if apart or part != APART]


def compute_table(lives: Lives) -> Table:
    """Rows arms; FLOPs by part from the first stage to the last."""
    parts = parts_of(lives)
    table = plain_table("Compute of the whole life by part")
    table.add_column("arm", no_wrap=True)
    for part in parts:
        table.add_column(part_name(part), justify="right", overflow="fold")
    table.add_column("all", justify="right", no_wrap=True)
    for arm in lives.arms:
        spent = lives.parts(arm)
        cells = [units.flops(spent.get(part) or None) for part in parts]
        table.add_row(Text(arm), *cells, units.flops(lives.cost(arm)))
    return table


def part_name(part: str) -> str:
    """As a heading."""
    return f"{part} (not in all)" if part == APART else part.replace("_", " ")


def stages_table(lives: Lives, order: int) -> Table:
    """Rows arms, columns stages; the objective after each, and the share of what was new in it."""
    names = lives.orders[order]
    title = f"Order {order + 1}: " if len(lives.orders) > 1 else ""
    table = plain_table(f"{title}{lives.objective.label} after each stage (its new share)")
    table.add_column("arm", no_wrap=True)
    for stage, name in enumerate(names):
        table.add_column(f"{stage + 1} {name}", justify="right", overflow="fold")
    for arm in lives.arms:
        table.add_row(Text(arm), *[_stage_text(lives, row) for row in lives.lives[arm][order]])
    return table


def _stage_text(lives: Lives, row: Row) -> str:
    value = lives.objective.text(row["objective_value"])
    return f"{value} ({units.share(row['new_share'], 0)})" if row["number"] and row["new"] else value
