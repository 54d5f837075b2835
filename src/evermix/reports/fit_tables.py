"""What `evermix fit` shows: what was read, the law, its held-out quality, and what metrics are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evermix.deciding import FittedLaw
from evermix.observations import LeftOut, Observations, Reading
from evermix.reports.figures import choices, extremes, figure, fixed, inner_law, listed
from evermix.reports.layout import items, note, plain_table, rest_row
from evermix.reports.metric_changes import group_objectives
from evermix.reports.units import number, share
from evermix.trust.calibration import HeldOut, Screened, held_out

_SHOWN = 12
_LINES = 8
_VERDICTS = {"keep": "", "doubtful": "yellow", "drop": "red"}


def fit_record(fitted: FittedLaw, reading: Reading, screened: Sequence[Screened] | None = None) -> dict[str, Any]:
    """Everything that the tables say, as plain values."""
    observations = fitted.observations
    law, chosen = inner_law(fitted.law), choices(fitted.law)
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
    console.print(Text(reading_sentence(fitted.observations), style="bold"))
    items(console, "Left out", _left_out_lines(_left_out(fitted, reading), everything), most)
    items(console, "Worth knowing", [str(finding) for finding in reading.findings], most)
    if fitted.unsampled_domains:
        names = listed(fitted.unsampled_domains)
        items(console, "Never sampled", [f"{names}: nothing is known of them, they keep their share of the prior"])
    console.print()


def reading_sentence(observations: Observations) -> str:
    """'127 runs, 24 domains, 110 metrics (higher is better for 3)'."""
    n = len(observations.maximised)
    direction = {0: "lower is better", len(observations.metrics): "higher is better"}.get(n, f"{n} maximised")
    cells = int(np.isnan(observations.values).sum())
    missing = f", {cells:,} cells missing" if cells else ""
    size = f"{observations.n_runs:,} runs, {len(observations.domains):,} domains, {len(observations.metrics):,} metrics"
    return f"{size} ({direction}{missing})"


def print_law(fitted: FittedLaw, console: Console) -> None:
    """The family, or the families that were chosen and for how many metrics."""
    law, chosen = inner_law(fitted.law), choices(fitted.law)
    console.print(Text(f"Law: {law_sentence(fitted)}", style="bold"))
    if chosen is None:
        console.print(Padding(Text(f"{law.formula}   ({law.source})"), (0, 0, 0, 2), expand=False))
    console.print()


def law_sentence(fitted: FittedLaw) -> str:
    """'power-link', or 'auto, per metric by cross-validation: power-link for 80 metrics, log-linear for 30'."""
    law, chosen = inner_law(fitted.law), choices(fitted.law)
    if chosen is None:
        return law.name
    found = Counter(chosen).most_common()
    counts = ", ".join(f"{name} for {n}" for name, n in found) + f" of {len(chosen)} metrics"
    families = f"{found[0][0]} for every metric" if len(found) == 1 else counts
    return f"{law.name}, chosen per metric by cross-validation: {families}"


def quality_sentence(fitted: FittedLaw) -> str:
    """How well the law foretells the objective of held-out runs, in one line."""
    whole = fitted.calibration.objective
    parts = [f"rank correlation {number(whole.spearman, 2)}"]
    if np.isfinite(whole.ceiling):
        parts[0] += f" (noise allows {whole.ceiling:.2f})"
    parts += [f"RMSE {figure(whole.rmse)}", f"slope {fixed(whole.slope, 2)}"]
    return f"{', '.join(parts)}, {share(whole.coverage[2], 0)} inside the 90% intervals"


def held_out_table(fitted: FittedLaw, everything: bool = False) -> Table:
    """Rows: objective, groups, metrics; of many metrics those foretold best and worst."""
    found = fitted.calibration
    table = plain_table(f"Held-out prediction, {found.n_folds}-fold cross-validation")
    table.add_column("", overflow="fold", min_width=12)
    chosen = choices(fitted.law)
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
    for name, part in group_objectives(fitted.objective, fitted.recipe.objective.groups, everything).items():
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
