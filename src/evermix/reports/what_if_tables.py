"""What `evermix what-if` shows: the shares that moved, and every metric's predicted change."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.deciding import FittedLaw, WhatIf
from evermix.deciding.metric_changes import ObjectiveScale
from evermix.reports.figures import decimals_for
from evermix.reports.fit_tables import law_sentence, quality_sentence
from evermix.reports.layout import note, plain_table, rest_row
from evermix.reports.metric_changes import MetricChanges
from evermix.reports.units import known, share

_SHOWN = 10
_MOVED = 1e-9


def print_what_if(answer: WhatIf, fitted: FittedLaw, console: Console, everything: bool = False) -> None:
    """Headline, shares, metrics."""
    console.print(Text(headline(answer, fitted), style="bold"))
    console.print(Text(f"Law: {law_sentence(fitted)}. Held out: {quality_sentence(fitted)}.\n"))
    console.print(shares_table(answer, everything))
    console.print(MetricChanges.of_what_if(fitted, answer).table("Metrics, as the law predicts them", everything))
    note(
        console,
        "Intervals and P(better) are over laws refitted to resampled runs: they hold the law's uncertainty, not the "
        "noise of one more run, nor that the law's form may be wrong.",
    )


def headline(answer: WhatIf, fitted: FittedLaw) -> str:
    """'The objective is predicted to get better by 1.2% (90% interval 0.8 to 1.5%)'."""
    cost = float(fitted.objective.value(fitted.law.predict(answer.before.weights)))
    scale = ObjectiveScale.of(fitted.observations, fitted.objective)
    gain, low, high = -answer.objective_change[0], -answer.objective_change[2], -answer.objective_change[1]
    percents = [scale.percent(one, cost) for one in (gain, low, high)]
    unit = "%" if all(map(known, percents)) else ""
    values = percents if unit else [gain, low, high]
    places = decimals_for([values[1], values[2]])
    gain_text, low_text, high_text = (f"{value:+.{places}f}" for value in values)
    what = "nothing clear" if low <= 0 <= high else ("better" if gain > 0 else "worse")
    return f"Predicted gain in the objective: {gain_text}{unit} (90% interval {low_text} to {high_text}{unit}): {what}."


def shares_table(answer: WhatIf, everything: bool = False) -> Table:
    """Rows: domains whose share changed, the most changed first."""
    change = answer.after.weights - answer.before.weights
    order = [int(j) for j in np.argsort(-np.abs(change), kind="stable") if abs(change[j]) > _MOVED]
    table = plain_table("Shares of tokens")
    table.add_column("domain", overflow="fold")
    for column in ("before", "after", "change"):
        table.add_column(column, justify="right", no_wrap=True)
    shown = order if everything else order[:_SHOWN]
    for j in shown:
        shares = [share(float(mixture.weights[j]), 2) for mixture in (answer.before, answer.after)]
        points = f"{100 * float(change[j]):+.2f} points"
        table.add_row(Text(answer.before.domains.names[j]), *shares, points)
    if len(shown) < len(order):
        most = 100 * abs(float(change[order[len(shown)]]))
        rest_row(table, len(order) - len(shown), f"domains by {most:.2f} points or less")
    return table
