"""A proposal and its evidence, the one place where it is put into words and tables: `evermix propose` and `what-if`,
the tables of a run, and the page all read these."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding

from evermix.printing import Text
from evermix.reports import units
from evermix.reports.layout import Cell, Grid, cells, items, note, show
from evermix.reports.units import NOTHING, figure, fixed, known, listed, number, share, span
from evermix.results.proposal import (
    BEST_RUN,
    PROPOSAL,
    ComparedMixture,
    DualView,
    GainView,
    HeldOutView,
    MetricChange,
    ProposalView,
    RunsInfo,
    WarningView,
)
from evermix.results.record import Ends

_DOMAINS, _DUALS, _METRICS = 30, 10, 12
_SEVERITY = {"serious": "bold red", "warning": "yellow", "note": "dim"}
_NOT_LOOKED_FOR = "none were looked for, since nothing was resampled (--resamples)"
_VERDICTS = {"better": "a gain", "even": "not certain", "worse": "a loss"}


def print_proposal(
    view: ProposalView, console: Console, everything: bool = False, verbose: bool = False, n_left_out: int = 0
) -> None:
    """The mixture, its gain, what speaks against it; and what that rests on.

    Args:
        verbose: also the runs, the law and its quality, the comparison, every metric's change, what binds.
        n_left_out: of columns and rows of the table that the runs were read from, what `evermix fit` lists.
    """
    show(console, [mixture_grid(view, everything)])
    note(console, epochs_words(view))
    console.print(Text(f"{headline(view)}\n", style="bold"))
    print_warnings(view, console)
    if verbose:
        console.print()
        print_diagnostics(view, console, everything, n_left_out)
    else:
        console.print(Text("\nMore: --verbose (law, comparison, every metric), --report FILE (a page)", "dim"))


def print_diagnostics(view: ProposalView, console: Console, everything: bool = False, n_left_out: int = 0) -> None:
    """What a proposal rests on: the runs, the law and its quality, the comparison, metrics, what binds."""
    if view.runs is not None:
        left = f"{n_left_out} left out (`evermix fit` lists what and why)" if n_left_out else "nothing was left out"
        console.print(Text(f"Read: {runs_words(view.runs)}; {left}."))
    console.print(Text(f"Law: {law_words(view)}. Held out: {quality_words(view.calibration.objective)}."))
    console.print(Text(f"{pull_words(view)}\n"))
    show(console, [comparison_grid(view), spread_grid(view)])
    show(console, [changes_grid(view, everything), duals_grid(view, everything)])


def headline(view: ProposalView) -> str:
    """'Predicted gain of the proposal: over natural 1.8% (90% interval 1.2 to 2.5%), over uniform ...'."""
    gains = ", ".join(f"over {row.name} {gain_words(view, row)}" for row in view.references)
    sentence = f"Predicted gain of the proposal: {gains or 'nothing to compare with'}."
    if view.bootstrap is None:
        return f"{sentence} No intervals: nothing was resampled."
    chance = view.bootstrap.probability_beats_best_run
    if chance is None or view.runs is None:
        return sentence
    return f"{sentence} It beats the best of {view.runs.n_runs:,} runs with probability {chance:.2f}."


def gain_words(view: ProposalView, row: ComparedMixture) -> str:
    """`1.8% (90% interval 1.2 to 2.5%)`; without resamples what the law predicts, which is too high on average."""
    gain = row.gain
    if gain is None:
        apparent = _minus(row.objective_value, view.comparison[PROPOSAL].objective_value)
        percent = None if apparent is None else view.objective.percent(apparent, row.objective_value or 0.0)
        return f"{units.change(percent / 100) if known(percent) else figure(apparent)} (no interval)"
    if gain.percent is None or gain.percent_interval is None:
        ends = span(figure(gain.interval.low), figure(gain.interval.high))
        return f"{figure(gain.corrected)} {view.objective.unit} (90% interval {ends})"
    low, high = gain.percent_interval.low, gain.percent_interval.high
    digits = units.decimals_for([end for end in (low, high) if end is not None])
    return f"{fixed(gain.percent, digits)}% (90% interval {span(fixed(low, digits), fixed(high, digits))}%)"


def _minus(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def gain_verdict(gain: GainView | None) -> str:
    """better, even or worse, by the interval; even where there is none."""
    if gain is not None and gain.interval.low is not None and gain.interval.low > 0:
        return "better"
    if gain is not None and gain.interval.high is not None and gain.interval.high < 0:
        return "worse"
    return "even"


def gain_card(view: ProposalView, row: ComparedMixture) -> dict[str, str]:
    """The gain over one mixture, for the page."""
    verdict = gain_verdict(row.gain)
    value, _, interval = gain_words(view, row).partition(" ")
    titles = {"head": f"predicted gain over {row.name}", "figure": value, "noise": "", "note": interval}
    return {**titles, "verdict": verdict, "words": _VERDICTS[verdict]}


def runs_words(runs: RunsInfo) -> str:
    """'127 runs, 24 domains, 110 metrics (higher is better for 3)'."""
    n = len(runs.maximised)
    direction = {0: "lower is better", len(runs.metrics): "higher is better"}
    told = direction.get(n, f"{n} maximised")
    missing = f", {runs.missing:,} cells missing" if runs.missing else ""
    size = f"{runs.n_runs:,} runs, {len(runs.domains):,} domains, {len(runs.metrics):,} metrics"
    return f"{size} ({told}{missing})"


def law_words(view: ProposalView) -> str:
    """'power-link', or 'auto, chosen per metric by cross-validation: power-link for 80 of 110 metrics, ...'."""
    return families_words(view.law, view.families)


def families_words(law: str, families: dict[str, int]) -> str:
    """The law, and the families that were chosen for so many metrics each, most frequent first."""
    if not families:
        return law
    if len(families) == 1:
        return f"{law}, chosen per metric by cross-validation: {next(iter(families))} for every metric"
    counts = ", ".join(f"{name} for {n}" for name, n in families.items())
    return f"{law}, chosen per metric by cross-validation: {counts} of {sum(families.values())} metrics"


def quality_words(whole: HeldOutView) -> str:
    """How well the law foretells the objective of held-out runs, in one line."""
    parts = [f"rank correlation {number(whole.spearman, 2)}"]
    if whole.ceiling is not None:
        parts[0] += f" (noise allows {whole.ceiling:.2f})"
    parts += [f"RMSE {figure(whole.rmse)}", f"slope {fixed(whole.slope, 2)}"]
    return f"{', '.join(parts)}, {share(whole.coverage_90, 0)} inside the 90% intervals"


def pull_words(view: ProposalView) -> str:
    """What pulls, how strongly and why, and where that leaves the proposal."""
    away = f"the proposal is {figure(view.proposal.kl_nats)} nats away"
    return f"Prior: {view.prior.source}; {away}. KL weight {figure(view.kl.weight)} per nat: {view.kl.source}."


def epochs_words(view: ProposalView) -> str:
    """What epochs stand beside, or why there are none."""
    counts = view.domain_tokens
    if view.comparison[PROPOSAL].epochs is None:
        missing = [] if view.n_tokens is not None else ["--tokens, what the target run asks for"]
        if not counts or any(n is None for n in counts.values()):
            missing.append("the tokens of every domain, in tokens.yaml beside the runs or with --token-counts")
        return f"Epochs cannot be told, and nothing caps them: give {' and '.join(missing)}."
    total = sum(n for n in counts.values() if n)
    if not view.n_tokens or not total:
        return "Epochs: passes over a domain in the target run."
    each = view.n_tokens / total
    return (
        f"Of {units.count(view.n_tokens)} tokens; the natural mixture would make {each:.2f} epochs over every domain."
    )


def mixture_grid(view: ProposalView, everything: bool = False) -> Grid:
    """Rows domains, largest share first; share with interval, prior, epochs, and the bound that holds it."""
    epochs, intervals = view.comparison[PROPOSAL].epochs, view.bootstrap
    tokens = {name: n for name, n in view.domain_tokens.items() if n is not None}
    columns = ["domain", *["tokens"] * bool(tokens), "share", *["90%\ninterval"] * (intervals is not None), "prior"]
    columns += [*["epochs"] * (epochs is not None), *["within the\nfixed ratio"] * bool(view.fixed_ratio)]
    columns += ["held by"] * bool(view.held)
    names = sorted(view.mixture, key=lambda name: -view.mixture[name])
    shown = names if everything else names[:_DOMAINS]
    rows = []
    for name in shown:
        row = [Cell(name), *([Cell(units.count(_at(tokens, name)))] if tokens else [])]
        row.append(Cell(share(view.mixture[name]), "best"))
        if intervals is not None:
            end = intervals.weights.get(name)
            row.append(Cell(NOTHING if end is None else points(end.low, end.high)))
        row.append(Cell(share(_at(view.prior.mixture, name) or 0.0)))
        row += [] if epochs is None else [Cell(number(_at(epochs, name), 2))]
        row += [Cell(share(_at(view.fixed_ratio, name)))] if view.fixed_ratio else []
        row += [Cell(view.held.get(name, ""))] if view.held else []
        rows.append(row)
    left = sum(view.mixture[name] for name in names[len(shown) :])
    rest = f"{len(names) - len(shown):,} more domains with {share(left)} together" if len(shown) < len(names) else ""
    title = "Mixture: share of tokens" + ("" if epochs is None else ", and passes over each domain")
    words = [len(columns) - 1] if view.held else []
    return Grid(title, columns, rows, words=words, rest=rest)


def _at(values: dict[str, float | None] | dict[str, float] | dict[str, int], name: str) -> float | None:
    return values.get(name)


def points(low: float, high: float) -> str:
    """`12.0–15.5`, percentage points."""
    return f"{100 * low:.1f}–{100 * high:.1f}"


def comparison_grid(view: ProposalView) -> Grid:
    """Rows mixtures; the objective with its interval, and the proposal's gain over each."""
    rows, scale = view.comparison.rows, view.objective
    places = units.decimals_for([row.objective_value for row in rows if row.objective_value is not None])
    resampled = view.bootstrap is not None
    columns = ["mixture", "predicted", *["90% interval"] * resampled, "gain of\nproposal"]
    columns += ["90% interval", "P(better)"] * resampled
    drawn = []
    for row in rows:
        value = None if row.objective_value is None else scale.value(row.objective_value)
        line = [Cell(_row_name(view, row), "best" if row.name == PROPOSAL else ""), Cell(fixed(value, places))]
        line += [Cell(_value_interval(view, row.interval, places))] if resampled else []
        drawn.append([*line, *cells(*_gain_cells(view, row, places))])
    title = f"Comparison: objective, {scale.unit} ({scale.direction})"
    return Grid(title, columns, drawn, note=_comparison_note(view, places))


def _row_name(view: ProposalView, row: ComparedMixture) -> str:
    return f"{row.name} {', '.join(view.comparison.best_run[:3])}" if row.name == BEST_RUN else row.name


def _value_interval(view: ProposalView, ends: Ends | None, places: int) -> str:
    if ends is None:
        return NOTHING
    turned = [None if end is None else view.objective.value(end) for end in (ends.low, ends.high)]
    low, high = reversed(turned) if view.objective.sign < 0 else turned
    return span(fixed(low, places), fixed(high, places))


def _gain_cells(view: ProposalView, row: ComparedMixture, places: int) -> list[str]:
    resampled = view.bootstrap is not None
    if row.name == PROPOSAL:
        return [""] * (3 if resampled else 1)
    if row.gain is None:
        gain = fixed(_minus(row.objective_value, view.comparison[PROPOSAL].objective_value), places)
        return [gain, NOTHING, NOTHING] if resampled else [gain]
    ends = span(fixed(row.gain.interval.low, places), fixed(row.gain.interval.high, places))
    return [fixed(row.gain.corrected, places), ends, share(row.gain.probability, 0)]


def _comparison_note(view: ProposalView, places: int) -> str:
    text = ""
    best = view.comparison[BEST_RUN].measured if BEST_RUN in view.comparison else None
    if best is not None:
        measured = fixed(view.objective.value(best), places)
        text = f"The best observed run measured {measured}; the best of many noisy runs looks better than it is. "
    if view.bootstrap is None:
        return f"{text}Gains are as the law predicts them, and too high on average: the proposal was chosen by it."
    misfit = view.bootstrap.misfit
    wider = f" Intervals hold the law's misfit of {figure(misfit)}, found on held-out runs." if misfit else ""
    return f"{text}Gains and the proposal are corrected for its optimism ({view.bootstrap.reason}).{wider}"


def spread_grid(view: ProposalView) -> Grid:
    """Rows mixtures; how far each is from the prior, how many domains it uses, and what it repeats most."""
    repeated = any(row.epochs is not None for row in view.comparison.rows)
    columns = ["mixture", "KL to\nprior", "effective\ndomains", *["most\nepochs", "of"] * repeated]
    rows = []
    for row in view.comparison.rows:
        line = [number(row.kl_to_prior, 2), number(row.effective_domains, 1)]
        if repeated:
            line += [NOTHING, ""] if row.most_epochs is None else [number(row.most_epochs[1], 2), row.most_epochs[0]]
        rows.append([Cell(_row_name(view, row), "best" if row.name == PROPOSAL else ""), *cells(*line)])
    return Grid("How far from the prior, how spread, how often repeated", columns, rows, words=[4] if repeated else [])


def changes_grid(view: ProposalView, everything: bool = False) -> Grid | None:
    """What the objective, its groups and its metrics are predicted to do; None where that was not kept."""
    title = f"Metrics: from {view.changes_over} to the proposal"
    return metric_changes_grid(title, (view.changes_over, "proposal"), view.changes, everything)


def metric_changes_grid(
    title: str, names: tuple[str, str], changes: Sequence[MetricChange], everything: bool = False
) -> Grid | None:
    """One row per change; of many metrics the most improved and the least, and in between how many."""
    if not changes:
        return None
    heads = [each for each in changes if each.kind != "metric" and (everything or "/" not in each.name)]
    metrics = [each for each in changes if each.kind == "metric"]
    scores = [float("nan") if each.improvement is None else each.improvement for each in metrics]
    top, bottom = units.extremes(scores, len(metrics) if everything else _METRICS)
    rows = [_change_row(each) for each in [*heads, *(metrics[i] for i in top)]]
    if bottom:
        between = f"... {len(metrics) - len(top) - len(bottom):,} more metrics (--all)"
        rows.append([Cell(between, "faint"), *cells(*[""] * 6)])
    rows += [_change_row(metrics[i]) for i in bottom]
    columns = ["", *names, "change", "relative", "90% interval", "verdict"]
    return Grid(title, columns, rows, words=[6])


def _change_row(each: MetricChange) -> list[Cell]:
    old, new, head = each.before, each.after, each.kind != "metric"
    if old is None or new is None:
        return [Cell(each.name), *cells(fixed(old, 3), fixed(new, 3), *[NOTHING] * 2, "", "")]
    places = units.decimals_for([old, new])
    moved = f"{new - old:+.{places}f}" if abs(new - old) < 1e6 else f"{new - old:+.2e}"
    ends = [f"{end:+.{places}f}" if known(end) else NOTHING for end in (each.low, each.high)]
    numbers = [fixed(old, places), fixed(new, places), moved, units.change(each.relative)]
    return [Cell(each.name, "best" if head else ""), *cells(*numbers, "" if head else span(*ends)), _verdict(each)]


def _verdict(each: MetricChange) -> Cell:
    """better or worse; unclear where a metric's interval holds both."""
    interval = each.low is not None and each.high is not None
    if each.kind == "metric" and not (interval and ((each.low or 0) > 0 or (each.high or 0) < 0)):
        return Cell("unclear" if interval else "", "faint")
    if not each.improvement:
        return Cell("")
    return Cell("better", "better") if each.improvement > 0 else Cell("worse", "worse")


def duals_grid(view: ProposalView, everything: bool = False) -> Grid | None:
    """Rows: rules that bind, most expensive first, and what relaxing each is worth in the objective; None if none.

    A domain that was never sampled is held because nothing is known of it: that has no price.
    """
    held = {f"fixed:{name}" for name in (*view.unsampled_domains, *view.scarce_domains)}
    duals = [dual for dual in view.proposal.duals if dual.constraint not in held]
    if not duals:
        return None
    columns = ("per point\nof share", "per\nepoch", "per 1% more\ntokens", "per 1% of\nthe metric")
    used = [any(_worth(view, dual)[i] for dual in duals) for i in range(4)]
    rows = []
    for dual in duals if everything else duals[:_DUALS]:
        worth = [cell for cell, wanted in zip(_worth(view, dual), used, strict=True) if wanted]
        rows.append(cells(f"{_how(dual)} {dual.constraint}", _bound(view, dual), *worth))
    rest = f"{len(duals) - len(rows):,} more rules" if len(rows) < len(duals) else ""
    title = "What binds, and the gain from relaxing it a little"
    return Grid(title, ["rule", "at", *(c for c, wanted in zip(columns, used, strict=True) if wanted)], rows, rest=rest)


def _worth(view: ProposalView, dual: DualView) -> list[str]:
    """Gains: per percentage point of share, per epoch, per 1% more tokens, per 1% of a guarded metric's value."""
    gain = abs(dual.price)
    if dual.constraint in view.guarded:
        return ["", "", "", _amount(view, gain * 0.01 * abs(view.guarded[dual.constraint]))]
    epochs = [None if worth is None else abs(worth) for worth in (dual.per_epoch, dual.per_percent_tokens)]
    return [_amount(view, 0.01 * gain), *("" if worth is None else _amount(view, worth) for worth in epochs), ""]


def _amount(view: ProposalView, gain: float) -> str:
    percent = view.objective.percent(gain, view.proposal.objective_value or 0.0)
    return f"{percent:.2g}%" if known(percent) else figure(gain)


def _bound(view: ProposalView, dual: DualView) -> str:
    if dual.constraint in view.guarded:
        return figure(view.guarded[dual.constraint], 4)
    return share(dual.bound)


def _how(dual: DualView) -> str:
    kind = dual.constraint.partition(":")[0]
    if kind in ("fixed", "group"):
        return "raise" if dual.price < 0 else "lower"
    return {"floor": "lower", "guard": "loosen"}[kind] if kind in ("floor", "guard") else "raise"


def law_grid(view: ProposalView) -> Grid:
    """Rows metrics, at the foot the objective: how well the law predicts runs that it has not seen."""
    rows = [_held_out_row(row, row.name, "") for row in view.calibration.metrics]
    columns = ["metric", "runs", "rank correlation", "R²", "typical error", "in the 90% interval"]
    foot = [_held_out_row(view.calibration.objective, "the objective", "best")]
    return Grid(f"Law {law_words(view)}, judged on runs that it was not fitted to", columns, rows, foot=foot)


def _held_out_row(row: HeldOutView, name: str, mark: str) -> list[Cell]:
    values = [number(row.spearman, 2), number(row.r2, 2), figure(row.rmse)]
    return [Cell(name, mark), *cells(str(row.n_runs), *values, share(row.coverage_90, 0))]


def ratio_note(view: ProposalView) -> str:
    """What the law knows of domains that keep their proportions; "" where none do."""
    if not view.fixed_ratio:
        return ""
    return (
        f"Of {listed(list(view.fixed_ratio), 12)} only the shares together were measured: what the law says of other "
        "mixtures of them rests on those totals."
    )


def warnings_of(view: ProposalView) -> tuple[WarningView, ...]:
    """The gravest first."""
    rank = {"serious": 0, "warning": 1, "note": 2}
    return tuple(sorted(view.warnings, key=lambda each: rank[each.severity]))


def print_warnings(view: ProposalView, console: Console) -> None:
    """Each with what to do about it; that none were looked for, where nothing was resampled."""
    unknown = view.bootstrap is None
    if not view.warnings:
        items(console, "Warnings", [_NOT_LOOKED_FOR if unknown else "none"])
    else:
        console.print(Text("Warnings", style="bold"))
    for each in warnings_of(view):
        text = Text.assemble((f"{each.severity}: ", _SEVERITY[each.severity]), each.message, " ")
        text.append(each.remedy, style="italic")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))
    if unknown and view.warnings:
        note(console, _NOT_LOOKED_FOR)
    if unknown and view.fixed_ratio:
        note(console, ratio_note(view))
