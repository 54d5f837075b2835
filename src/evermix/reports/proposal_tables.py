"""What `evermix propose` shows: the gain, the mixture, the comparison, what binds, what to doubt."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evermix.deciding import AssessedProposal
from evermix.deciding.metric_changes import ObjectiveScale
from evermix.domains import DomainSet
from evermix.observations import Reading
from evermix.reports.figures import decimals_for, figure, fixed, span
from evermix.reports.fit_tables import law_sentence, quality_sentence, reading_sentence
from evermix.reports.layout import items, note, plain_table, rest_row
from evermix.reports.metric_changes import MetricChanges
from evermix.reports.units import NOTHING, change, count, known, number, share
from evermix.solvers.proposal import Dual
from evermix.trust.comparison import Row
from evermix.trust.references import BEST_RUN, NATURAL, PRIOR, PROPOSAL, UNIFORM, counts_known

_DOMAINS = 30
_DUALS = 10
_SEVERITY = {"serious": "bold red", "warning": "yellow", "note": "dim"}


def print_proposal(found: AssessedProposal, reading: Reading, console: Console, everything: bool = False) -> None:
    """All of it, in the order in which one reads it."""
    fitted = found.fitted
    console.print(Text(headline(found), style="bold"))
    console.print(Text(f"Read: {reading_sentence(fitted.observations)}; {_left_out(found, reading)}."))
    console.print(Text(f"Law: {law_sentence(fitted)}. Held out: {quality_sentence(fitted)}."))
    console.print(Text(f"{_pull_sentence(found)}\n"))
    console.print(mixture_table(found, everything))
    _print_epochs_note(found, console)
    console.print(comparison_table(found))
    note(console, _comparison_note(found))
    console.print(spread_table(found))
    over = reference(found)
    changes = MetricChanges.of_proposal(fitted, found.proposal, over, found.bootstrap)
    console.print(changes.table(f"Metrics: from {over} to the proposal", everything))
    if _priced(found):
        console.print(duals_table(found, everything))
    print_warnings(found, console)


def reference(found: AssessedProposal) -> str:
    """What the proposal is first compared with: natural, else the prior, else uniform."""
    if found.bootstrap is None:
        return NATURAL if found.fitted.prior.source.startswith(NATURAL) else PRIOR
    return next(name for name in (NATURAL, PRIOR, UNIFORM) if name in found.comparison)


def headline(found: AssessedProposal) -> str:
    """'Predicted gain over natural: 1.8% (90% interval 1.2 to 2.5%), over uniform: ...'."""
    rows = [found.comparison[name] for name in (NATURAL, PRIOR, UNIFORM) if name in found.comparison]
    gains = ", ".join(f"over {row.name} {_gain_words(found, row)}" for row in rows)
    sentence = f"Predicted gain of the proposal: {gains}."
    if found.bootstrap is None:
        return f"{sentence} No intervals: nothing was resampled."
    best = found.bootstrap.probability_beats_best_run
    return f"{sentence} It beats the best of {found.fitted.observations.n_runs:,} runs with probability {best:.2f}."


def _gain_words(found: AssessedProposal, row: Row) -> str:
    gain = row.gain
    if gain is None:
        apparent = row.objective_value - found.proposal.objective_value
        percent = _scale(found).percent(apparent, row.objective_value)
        return change(percent / 100) if known(percent) else figure(apparent)
    percents = gain.percent_interval
    if percents is None:
        ends = span(figure(gain.interval.low), figure(gain.interval.high))
        return f"{figure(gain.corrected)} (90% interval {ends})"
    digits = decimals_for([percents.low, percents.high])
    ends = span(fixed(percents.low, digits), fixed(percents.high, digits))
    return f"{fixed(gain.percent, digits)}% (90% interval {ends}%)"


def _pull_sentence(found: AssessedProposal) -> str:
    """What pulls, how strongly and why, and where that leaves the proposal."""
    away = f"the proposal is {found.proposal.kl_nats:.3g} nats away"
    weight = figure(found.kl.weight)
    return f"Prior: {found.fitted.prior.source}; {away}. KL weight {weight} per nat: {found.kl.source}."


def _left_out(found: AssessedProposal, reading: Reading) -> str:
    n = len({*reading.left_out, *found.fitted.left_out})
    return "nothing was left out" if not n else f"{n} left out (`evermix fit` lists what and why)"


def mixture_table(found: AssessedProposal, everything: bool = False) -> Table:
    """Rows domains, largest share first; share with interval, prior, epochs, and the bound that holds it."""
    mixture, domains = found.mixture, found.mixture.domains
    ours = found.comparison[PROPOSAL].epochs
    intervals = None if found.bootstrap is None else found.bootstrap.weight_intervals()
    table = plain_table("Mixture: share of tokens" + ("" if ours is None else ", and passes over each domain"))
    table.add_column("domain", overflow="fold")
    columns = ["tokens"] if counts_known(domains) else []
    columns += ["share"] + ["90%\ninterval"] * (intervals is not None) + ["prior"]
    columns += ["epochs"] * (ours is not None)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    held = _held_by(found)
    if held:
        table.add_column("held by")
    order = [int(j) for j in np.argsort(-mixture.weights, kind="stable")]
    shown = order if everything else order[:_DOMAINS]
    for j in shown:
        cells = [count(domains.domains[j].n_tokens)] if counts_known(domains) else []
        cells.append(share(float(mixture.weights[j])))
        if intervals is not None:
            cells.append("–".join(f"{100 * end:.1f}" for end in intervals[j]))
        cells.append(share(float(found.problem.prior.weights[j])))
        cells += [] if ours is None else [number(float(ours[j]), 2)]
        table.add_row(Text(domains.names[j]), *cells, *([held.get(domains.names[j], "")] if held else []))
    if len(shown) < len(order):
        left = float(mixture.weights[order[_DOMAINS:]].sum())
        rest_row(table, len(order) - _DOMAINS, f"domains with {share(left)} together")
    return table


def _held_by(found: AssessedProposal) -> dict[str, str]:
    """domain -> the rule that it touches; shares of zero that nobody asked for are left out."""
    lower = dict(zip(found.mixture.domains.names, found.problem.bounds.lower, strict=True))
    held = {}
    for text in found.proposal.binding:
        name, _, reason = text.rpartition(": ")
        if reason != "lower" or lower[name] > 0:
            held[name] = {"lower": "floor"}.get(reason, reason.removeprefix("upper (").removesuffix(")"))
    return {**held, **dict.fromkeys(found.fitted.unsampled_domains, "never sampled")}


def _print_epochs_note(found: AssessedProposal, console: Console) -> None:
    """What epochs stand beside, or why there are none."""
    domains, n_tokens = found.mixture.domains, found.recipe.tokens
    if found.comparison[PROPOSAL].epochs is None:
        note(console, f"Epochs cannot be told, and nothing caps them: give {_missing(domains, n_tokens)}.")
    elif n_tokens is not None:
        alike = n_tokens / float(domains.n_tokens.sum())
        note(
            console,
            f"Of {count(n_tokens)} tokens; the natural mixture would make {alike:.2f} epochs over every domain.",
        )


def _missing(domains: DomainSet, n_tokens: float | None) -> str:
    parts = [] if n_tokens is not None else ["--tokens, what the target run asks for"]
    if not counts_known(domains):
        parts.append("the tokens of every domain, in tokens.yaml beside the runs or with --token-counts")
    return " and ".join(parts)


def comparison_table(found: AssessedProposal) -> Table:
    """Rows mixtures; the objective with its interval, and the proposal's gain over each."""
    scale, rows = _scale(found), found.comparison.rows
    table = plain_table(f"Comparison: objective ({scale.direction})")
    table.add_column("", overflow="fold", min_width=10)
    resampled = found.bootstrap is not None
    columns = ["predicted"] + ["90% interval"] * resampled + ["gain of\nproposal"]
    for column in columns + ["90% interval", "P(better)"] * resampled:
        table.add_column(column, justify="right", no_wrap=column != "90% interval")
    places = decimals_for([row.objective_value for row in rows])
    for row in rows:
        cells = [fixed(scale.value(row.objective_value), places)]
        if resampled:
            cells.append(_interval(scale, row, places))
        table.add_row(_row_name(found, row), *cells, *_gain_cells(found, row, places))
    return table


def spread_table(found: AssessedProposal) -> Table:
    """Rows mixtures; how far each is from the prior, how many domains it uses, and what it repeats most."""
    rows = found.comparison.rows
    table = plain_table("How far from the prior, how spread, how often repeated")
    table.add_column("", overflow="fold", min_width=10)
    repeated = any(row.epochs is not None for row in rows)
    for column in ["KL to\nprior", "effective\ndomains"] + ["most\nepochs", "of"] * repeated:
        table.add_column(column, justify="left" if column == "of" else "right", overflow="fold")
    for row in rows:
        cells = [number(row.kl_to_prior, 2), number(row.effective_domains, 1)]
        if repeated and row.most_epochs is not None:
            cells += [number(row.most_epochs[1], 2), row.most_epochs[0]]
        table.add_row(_row_name(found, row), *map(Text, cells))
    return table


def _row_name(found: AssessedProposal, row: Row) -> Text:
    name = f"{row.name} {', '.join(found.comparison.best.run_ids[:3])}" if row.name == BEST_RUN else row.name
    return Text(name, style="bold" if row.name == PROPOSAL else "")


def _interval(scale: ObjectiveScale, row: Row, places: int) -> str:
    if row.interval is None:
        return NOTHING
    low, high = scale.ends(row.interval.low, row.interval.high)
    return span(fixed(low, places), fixed(high, places))


def _gain_cells(found: AssessedProposal, row: Row, places: int) -> list[str]:
    if row.name == PROPOSAL:
        return [""] * (1 if found.bootstrap is None else 3)
    if row.gain is None:
        gain = fixed(row.objective_value - found.proposal.objective_value, places)
        return [gain] if found.bootstrap is None else [gain, NOTHING, NOTHING]
    ends = span(fixed(row.gain.interval.low, places), fixed(row.gain.interval.high, places))
    return [fixed(row.gain.corrected, places), ends, share(row.gain.probability, 0)]


def _comparison_note(found: AssessedProposal) -> str:
    best = found.comparison[BEST_RUN]
    places = decimals_for([row.objective_value for row in found.comparison.rows])
    measured = "" if best.measured is None else fixed(_scale(found).value(best.measured), places)
    text = f"The best observed run measured {measured}; the best of many noisy runs looks better than it is."
    if found.bootstrap is None:
        return f"{text} Gains are as the law predicts them, and too high on average: the proposal was chosen by it."
    return f"{text} Gains and the proposal's interval are corrected for its optimism ({found.bootstrap.reason})."


def duals_table(found: AssessedProposal, everything: bool = False) -> Table:
    """Rows: rules that bind, most expensive first, and what relaxing each is worth in the objective."""
    duals = _priced(found)
    table = plain_table("What binds, and the gain from relaxing it a little")
    table.add_column("rule", overflow="fold")
    columns = ("at", "per point\nof share", "per\nepoch", "per 1% more\ntokens", "per 1% of\nthe metric")
    used = [any(_worth(found, dual)[i] for dual in duals) for i in range(4)]
    live = [columns[0]] + [column for column, wanted in zip(columns[1:], used, strict=True) if wanted]
    for column in live:
        table.add_column(column, justify="right", no_wrap=True)
    for dual in duals if everything else duals[:_DUALS]:
        worth = [cell for cell, wanted in zip(_worth(found, dual), used, strict=True) if wanted]
        table.add_row(Text(f"{_how(dual)} {dual.constraint}"), _bound(found, dual), *worth)
    if len(duals) > _DUALS and not everything:
        rest_row(table, len(duals) - _DUALS, "rules")
    return table


def _priced(found: AssessedProposal) -> list[Dual]:
    """What binds because somebody asked for it: a domain that was never sampled is held because nothing is known."""
    held = {f"fixed:{name}" for name in found.fitted.unsampled_domains}
    return [dual for dual in found.proposal.duals if dual.constraint not in held]


def _worth(found: AssessedProposal, dual: Dual) -> list[str]:
    """Gains: per percentage point of share, per epoch, per 1% more tokens, per 1% of a guarded metric's value."""
    gain = abs(dual.price)
    if dual.constraint.startswith("guard:"):
        return ["", "", "", _amount(found, gain * 0.01 * abs(_guarded_value(found, dual)))]
    epochs = [None if worth is None else abs(worth) for worth in (dual.per_epoch, dual.per_percent_tokens)]
    return [_amount(found, 0.01 * gain), *("" if worth is None else _amount(found, worth) for worth in epochs), ""]


def _amount(found: AssessedProposal, gain: float) -> str:
    percent = _scale(found).percent(gain, found.proposal.objective_value)
    return f"{percent:.2g}%" if known(percent) else figure(gain)


def _bound(found: AssessedProposal, dual: Dual) -> str:
    if dual.constraint.startswith("guard:"):
        return figure(_guarded_value(found, dual), 4)
    return share(dual.bound)


def _guarded_value(found: AssessedProposal, dual: Dual) -> float:
    """The ceiling of a guarded metric, in its own unit."""
    observations = found.fitted.observations
    i = observations.metrics.index(dual.constraint.removeprefix("guard:"))
    orientation = observations.orientation
    return float(orientation.sign[i] * (dual.bound - orientation.shift[i]))


def _how(dual: Dual) -> str:
    kind = dual.constraint.partition(":")[0]
    if kind in ("fixed", "group"):
        return "raise" if dual.price < 0 else "lower"
    return {"floor": "lower", "guard": "loosen"}.get(kind, "raise")


def print_warnings(found: AssessedProposal, console: Console) -> None:
    """The gravest first; each with what to do about it."""
    if found.bootstrap is None:
        items(console, "Warnings", ["none were looked for, since nothing was resampled (--resamples)"])
        return
    if not found.warnings:
        items(console, "Warnings", ["none"])
        return
    console.print(Text("Warnings", style="bold"))
    for warning in found.warnings:
        text = Text.assemble((f"{warning.severity}: ", _SEVERITY[warning.severity]), warning.message, " ")
        text.append(warning.remedy, style="italic")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _scale(found: AssessedProposal) -> ObjectiveScale:
    return ObjectiveScale.of(found.fitted.observations, found.fitted.objective)
