"""What `evermix fit` and `what-if` show: what was read, the law, its held-out quality, what metrics are worth, and what
the law says of moved shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding

from evermix.deciding import FittedLaw, WhatIf
from evermix.deciding.metric_changes import CostChange, ObjectiveScale, group_objectives, metric_changes
from evermix.deciding.views import chosen_families, family_counts, inner_law, runs_info
from evermix.observations import LeftOut, Reading
from evermix.printing import Table, Text
from evermix.reports.layout import items, note, plain_table, rest_row, show
from evermix.reports.proposal import families_words, metric_changes_grid, quality_words, runs_words
from evermix.reports.units import decimals_for, extremes, figure, fixed, known, listed, number, share
from evermix.results.proposal import HeldOutView
from evermix.trust.calibration import HeldOut, Screened, held_out

_SHOWN = 12
_LINES = 8
_MOST_MOVED = 10
_MOVED = 1e-9
_VERDICTS = {"keep": "", "doubtful": "yellow", "drop": "red"}


def fit_record(fitted: FittedLaw, reading: Reading, screened: Sequence[Screened] | None = None) -> dict[str, Any]:
    """Everything that the tables say, as plain values."""
    observations = fitted.observations
    law, chosen = inner_law(fitted.law), chosen_families(fitted.law)
    live = set(observations.sampled_domains)
    return {
        "n_runs": observations.n_runs,
        "domains": [{"name": d.name, "n_tokens": d.n_tokens, "live": d.name in live} for d in observations.domains],
        "metrics": list(observations.metrics),
        "maximised": sorted(observations.maximised),
        "left_out": [{"kind": i.kind, "name": i.name, "reason": i.reason} for i in _left_out(fitted, reading)],
        "findings": [{"rule": f.rule, "detail": f.detail} for f in reading.findings],
        "law": {
            "name": law.name,
            "formula": law.formula,
            "source": law.source,
            "chosen": None if chosen is None else dict(zip(observations.metrics, chosen, strict=True)),
        },
        "objective": dict(zip(fitted.objective.metrics, fitted.objective.weights, strict=True)),
        "prior": {"source": fitted.prior.source, "mixture": dict(fitted.prior.mixture.as_dict)},
        "calibration": fitted.calibration.as_dict,
        "screening": None if screened is None else [metric.as_dict for metric in screened],
    }


def print_fit(
    fitted: FittedLaw,
    reading: Reading,
    console: Console,
    screened: Sequence[Screened] | None = None,
    everything: bool = False,
) -> None:
    """All tables, in the order in which one reads them."""
    print_reading(fitted, reading, console, everything)
    print_law(fitted, console)
    console.print(held_out_table(fitted, everything))
    note(
        console,
        "Each run is predicted by a law that has not seen it. rank corr.: Spearman; ceiling: the best that the noise "
        "of a run allows; spread: standard deviation over runs; slope of observed on predicted: under 1, differences "
        "between mixtures are overstated; coverage: held-out runs inside the law's 90% intervals.",
    )
    if screened is not None:
        print_screening(screened, console, everything)


def print_reading(fitted: FittedLaw, reading: Reading, console: Console, everything: bool = False) -> None:
    """What was read, what was left out, and what is worth knowing about the rest."""
    most = None if everything else _LINES
    console.print(Text(runs_words(runs_info(fitted.observations)), style="bold"))
    items(console, "Left out", _left_out_lines(_left_out(fitted, reading), everything), most)
    items(console, "Worth knowing", [str(finding) for finding in reading.findings], most)
    if fitted.unsampled_domains:
        names = listed(fitted.unsampled_domains)
        items(console, "Never sampled", [f"{names}: nothing is known of them, they keep their share of the prior"])
    if fitted.scarce_domains:
        names = listed(tuple(fitted.scarce_domains))
        items(
            console,
            "In fewer than three runs",
            [f"{names}: too few to tell what it does, a share of the prior is kept"],
        )
    console.print()


def print_law(fitted: FittedLaw, console: Console) -> None:
    """The family, or the families that were chosen and for how many metrics."""
    law, chosen = inner_law(fitted.law), chosen_families(fitted.law)
    console.print(Text(f"Law: {law_sentence(fitted)}", style="bold"))
    if chosen is None:
        console.print(Padding(Text(f"{law.formula}   ({law.source})"), (0, 0, 0, 2), expand=False))
    console.print()


def law_sentence(fitted: FittedLaw) -> str:
    """'power-link', or 'auto, per metric by cross-validation: power-link for 80 metrics, log-linear for 30'."""
    return families_words(inner_law(fitted.law).name, family_counts(fitted.law))


def quality_sentence(fitted: FittedLaw) -> str:
    """How well the law foretells the objective of held-out runs, in one line."""
    return quality_words(HeldOutView.model_validate(fitted.calibration.objective.as_dict))


def held_out_table(fitted: FittedLaw, everything: bool = False) -> Table:
    """Rows: objective, groups, metrics; of many metrics those foretold best and worst."""
    found = fitted.calibration
    table = plain_table(f"Held-out prediction, {found.n_folds}-fold cross-validation")
    table.add_column("", overflow="fold", min_width=12)
    chosen = chosen_families(fitted.law)
    if chosen is not None and len(set(chosen)) == 1:
        chosen = None  # said above, once for all
    columns = ("runs", "rank\ncorr.", "ceiling", "RMSE", "spread", "slope", "coverage\nof 90%")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    if chosen is not None:
        table.add_column("law", overflow="fold", min_width=8)
    extra = [""] if chosen is not None else []
    observed = found.observed_objective
    table.add_row(Text("objective", style="bold"), *_cells(found.objective, float(np.nanstd(observed))), *extra)
    for name, one, spread in _groups(fitted, everything):
        table.add_row(Text(name), *_cells(one, spread)[:-1], "", *extra)
    table.add_section()
    spread_of = np.nanstd(fitted.observations.costs, axis=0)
    ranks = [one.spearman for one in found.metrics]
    best, worst = extremes(ranks, len(ranks) if everything else _SHOWN)
    for i in best + [-1] * bool(worst) + worst:
        if i < 0:
            rest_row(table, len(ranks) - len(best) - len(worst), "metrics")
            continue
        family = [] if chosen is None else [chosen[i]]
        table.add_row(Text(found.metrics[i].name), *_cells(found.metrics[i], float(spread_of[i])), *family)
    return table


def print_screening(screened: Sequence[Screened], console: Console, everything: bool = False) -> None:
    """How many metrics can tell mixtures apart, and those that cannot."""
    counts = Counter(metric.verdict for metric in screened)
    title = ", ".join(f"{verdict} {counts[verdict]}" for verdict in ("keep", "doubtful", "drop") if counts[verdict])
    table = plain_table(f"Screening: {title}")
    table.add_column("metric", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for column in ("signal\nto noise", "halves\nagree", "rank\ncorr."):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("because", overflow="fold")
    rank = {"drop": 0, "doubtful": 1, "keep": 2}
    rows = sorted((m for m in screened if everything or m.verdict != "keep"), key=lambda m: rank[m.verdict])
    shown = rows if everything else rows[:_SHOWN]
    for m in shown:
        verdict = Text(m.verdict, style=_VERDICTS[m.verdict])
        cells = (figure(m.signal_to_noise, 2), number(m.agreement, 2), number(m.heldout_spearman, 2))
        table.add_row(Text(m.metric), verdict, *cells, m.reason)
    if len(shown) < len(rows):
        rest_row(table, len(rows) - len(shown), "metrics")
    if rows:
        console.print(table)
        note(console, "Nothing is dropped by itself: --drop METRIC leaves one out, --weight gives others more weight.")
    else:
        console.print(Text(f"Screening: {title}", style="bold"))


def _cells(one: HeldOut, spread: float) -> list[str]:
    coverage = share(one.coverage[2], 0)
    numbers = [number(one.spearman, 2), number(one.ceiling, 2), figure(one.rmse), figure(spread), fixed(one.slope, 2)]
    return [f"{one.n_runs:,}", *numbers, coverage]


def _groups(fitted: FittedLaw, everything: bool) -> list[tuple[str, HeldOut, float]]:
    """Held-out quality of each group's mean, over runs that measured all of it, and its spread."""
    rows = []
    for name, part in group_objectives(fitted.objective, fitted.recipe.objective.groups).items():
        if "/" in name and not everything:
            continue
        predicted, observed = part.value(fitted.calibration.predicted), part.value(fitted.observations.costs)
        one = held_out(name, predicted, observed, np.zeros_like(observed), float("nan"))
        rows.append((name, one, float(np.nanstd(observed))))
    return rows


def _left_out(fitted: FittedLaw, reading: Reading) -> list[LeftOut]:
    return list(dict.fromkeys([*reading.left_out, *fitted.left_out]))


def _left_out_lines(left_out: Sequence[LeftOut], everything: bool) -> list[str]:
    """One line per reason: '3 columns (a, b, c): why'."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for item in left_out:
        reasons.setdefault((item.kind, item.reason), []).append(item.name)
    lines = []
    for (kind, reason), names in reasons.items():
        head = f"{kind} {names[0]}" if len(names) == 1 else f"{len(names)} {kind}s"
        rest = "" if len(names) == 1 else f" ({listed(names, len(names) if everything else 4)})"
        lines.append(f"{head}{rest}: {reason}")
    return lines


def print_what_if(answer: WhatIf, fitted: FittedLaw, console: Console, everything: bool = False) -> None:
    """Headline, shares, metrics."""
    console.print(Text(what_if_headline(answer, fitted), style="bold"))
    console.print(Text(f"Law: {law_sentence(fitted)}. Held out: {quality_sentence(fitted)}.\n"))
    console.print(shares_table(answer, everything))
    before, after = fitted.law.predict(np.array([answer.before.weights, answer.after.weights]))
    changes = metric_changes(fitted, CostChange(before, after, answer.low, answer.high))
    title = "Metrics, as the law predicts them"
    show(console, [metric_changes_grid(title, ("before", "after"), changes, everything)])
    note(
        console,
        "Intervals and P(better) are over laws refitted to resampled runs: they hold the law's uncertainty, not the "
        "noise of one more run, nor that the law's form may be wrong.",
    )


def what_if_headline(answer: WhatIf, fitted: FittedLaw) -> str:
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
    shown = order if everything else order[:_MOST_MOVED]
    for j in shown:
        shares = [share(float(mixture.weights[j]), 2) for mixture in (answer.before, answer.after)]
        points = f"{100 * float(change[j]):+.2f} points"
        table.add_row(Text(answer.before.domains.names[j]), *shares, points)
    if len(shown) < len(order):
        most = 100 * abs(float(change[order[len(shown)]]))
        rest_row(table, len(order) - len(shown), f"domains by {most:.2f} points or less")
    return table
