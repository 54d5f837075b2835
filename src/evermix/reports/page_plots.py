"""Plots of a run for its page, as SVG text: shares, epochs, curves, predictions, phases, compute, tried shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evermix.reports import units
from evermix.reports.answer import RunView
from evermix.reports.page_figure import (
    GREEN,
    GREY,
    INK,
    LINES,
    ORANGE,
    RED,
    domain_fills,
    draw_share_axis,
    grouped_bars,
    height_of,
    legend,
    name_rows,
    page_figure,
    part_colour,
    short,
)
from evermix.results import CurvePoint, Decision, PhaseResult, ProposalView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FLOOR = 1e-9
_PATHS = 8  # domains drawn along the strengths of the pull


def decision_plot(decision: Decision, prefix: str) -> str:
    """Share of every domain before and after a decision; with its 90% interval where runs were resampled."""
    before = decision.old or (decision.swarm.before if decision.swarm is not None else None)
    prior = decision.proposal.prior.mixture if decision.proposal is not None else decision.prior
    names = list(dict.fromkeys([*decision.mixture, *(before or {})]))
    rows = range(len(names))
    with page_figure(height_of(len(names), 2), prefix) as drawing:
        axes = drawing.figure.subplots()
        if decision.proposal is not None and decision.proposal.bootstrap is not None:
            ends = decision.proposal.bootstrap.weights
            known = [(row, ends[name]) for row, name in enumerate(names) if name in ends]
            lows, highs = [each.low for _, each in known], [each.high for _, each in known]
            places = [row for row, _ in known]
            axes.hlines(places, lows, highs, color=GREEN, linewidth=4, alpha=0.35, label="90% interval")
        for label, shares, mark, colour in (("prior", prior, "D", GREY), ("before", before or {}, "s", RED)):
            known_rows = [row for row, name in enumerate(names) if name in shares]
            if known_rows:
                x = [shares[names[row]] for row in known_rows]
                axes.scatter(
                    x, known_rows, s=34, marker=mark, facecolors="none", edgecolors=colour, linewidths=1.4, label=label
                )
        after = [decision.mixture.get(name, 0.0) for name in names]
        axes.scatter(after, rows, s=34, color=GREEN, label="mixture", zorder=3)
        for row, share in zip(rows, after, strict=True):
            axes.annotate(units.share(share), (share, row), (6, 5), textcoords="offset points", fontsize=7)
        axes.set_xlabel("share of the training tokens")
        axes.set_xlim(left=0)
        draw_share_axis(axes)
        name_rows(axes, names)
        legend(drawing.figure, axes)
    return drawing.svg


def epochs_plot(view: RunView, order: int = 0) -> str:
    """Passes over every domain in each arm up to the end, and the cap."""
    bars = {arm: view.row(arm, order).epochs for arm in view.arms}
    colours = {arm: view.arm(arm).colour for arm in view.arms}
    cap = view.result.max_epochs
    with page_figure(height_of(len(view.domains), len(bars)), f"epochs{order}") as drawing:
        axes = drawing.figure.subplots()
        grouped_bars(axes, view.domains, bars, colours, "{:.2f}")
        if cap is not None:
            axes.axvline(cap, color=RED, linestyle="--", linewidth=1.5, label=f"cap ({cap:g})")
        axes.set_xlabel("epochs (passes over the domain) in the whole run")
        legend(drawing.figure, axes)
    return drawing.svg


def curves_plot(view: RunView, order: int, phase: int) -> str | None:
    """Loss on decision text of every domain over a phase, one small panel each; dotted where a mixture was decided."""
    rows = {arm: view.row(arm, order, phase) for arm in view.arms}
    curves = {arm: row.curve for arm, row in rows.items() if row.curve}
    if not curves:
        return None
    names = list(dict.fromkeys(name for curve in curves.values() for name in curve[-1].loss_nats))
    decided = {d.at_fraction * row.n_tokens for row in rows.values() for d in row.decisions if d.at_fraction}
    with page_figure(1.55 * _lines(len(names)) + 0.8, f"curves{order}-{phase}") as drawing:
        grid = drawing.figure.subplots(_lines(len(names)), _columns(len(names)), squeeze=False, sharex=True)
        for axes, name in zip(grid.flat, names, strict=False):
            _curve_panel(axes, view, name, curves)
            for token in sorted(decided):
                axes.axvline(token, color=INK, linestyle=":", linewidth=0.9)
        for above, axes in zip(grid.flat, list(grid.flat)[_columns(len(names)) :], strict=False):
            above.tick_params(labelbottom=list(grid.flat).index(axes) >= len(names))
        _hide(grid, len(names))
        drawing.figure.supxlabel("training tokens of the phase", fontsize=9)
        drawing.figure.supylabel("loss on decision text (nats per token)", fontsize=9)
        legend(drawing.figure, grid[0][0])
    return drawing.svg


def _columns(n: int) -> int:
    return min(n, 4 if n <= 12 else 5)


def _lines(n: int) -> int:
    return math.ceil(n / _columns(n))


def _hide(grid: object, n: int) -> None:
    for axes in list(grid.flat)[n:]:  # type: ignore[attr-defined]
        axes.set_visible(False)


def _curve_panel(axes: Axes, view: RunView, name: str, curves: Mapping[str, Sequence[CurvePoint]]) -> None:
    """One domain; the steep first quarter is cut at the top, so that the arms can be told apart."""
    axes.set_title(short(name, 22), fontsize=9)
    later: list[float] = []
    for number, (arm, curve) in enumerate(curves.items()):
        points = [(point.n_tokens, point.loss_nats[name]) for point in curve if name in point.loss_nats]
        later += [loss for _, loss in points][len(points) // 4 :]
        _draw_line(axes, view, arm, number, points, 3)
    if later:
        margin = 0.06 * (max(later) - min(later)) or 0.05
        axes.set_ylim(min(later) - margin, max(later) + margin)
    axes.xaxis.set_major_formatter(lambda value, _: units.count(value))
    axes.locator_params(axis="x", nbins=3)
    axes.locator_params(axis="y", nbins=4)


def _draw_line(
    axes: Axes, view: RunView, arm: str, number: int, points: Sequence[tuple[float, float]], size: float
) -> None:
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        label=arm,
        color=view.arm(arm).colour,
        linestyle=LINES[number % len(LINES)],
        marker=view.arm(arm).mark,
        markersize=size,
        linewidth=1.4,
    )


def prediction_plot(decision: Decision, prefix: str) -> str | None:
    """Predicted and realised loss of every domain, and beside it what the prediction was off by; None before."""
    predicted, realised = decision.predicted_loss_nats, decision.realised_loss_nats or {}
    names = [name for name in predicted if name in realised]
    if not names:
        return None
    with page_figure(height_of(len(names), 1), prefix) as drawing:
        levels, errors = drawing.figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for row, name in enumerate(names):
            levels.plot([predicted[name], realised[name]], [row, row], color=GREY, linewidth=2, zorder=1)
        where = range(len(names))
        values = [predicted[name] for name in names]
        levels.scatter(values, where, s=34, facecolors="none", edgecolors=RED, linewidths=1.6, label="predicted")
        levels.scatter([realised[name] for name in names], where, s=22, color=GREEN, label="realised")
        levels.set_xlabel("loss (nats per token)")
        errors.barh(where, [realised[name] - predicted[name] for name in names], height=0.55, color=GREY)
        errors.axvline(0, color=INK, linewidth=0.8)
        errors.locator_params(axis="x", nbins=5)
        errors.set_xlabel("realised - predicted (nats)")
        name_rows(levels, names)
        legend(drawing.figure, levels)
    return drawing.svg


def losses_plot(view: RunView, order: int) -> str:
    """Loss on test text of every domain after every phase in which it was there, one small panel each."""
    each = {arm: view.arm(arm).orders[order] for arm in view.arms}
    names = domains_in([row for rows in each.values() for row in rows])
    with page_figure(1.7 * _lines(len(names)) + 0.9, f"losses{order}") as drawing:
        grid = drawing.figure.subplots(_lines(len(names)), _columns(len(names)), squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            for number, (arm, rows) in enumerate(each.items()):
                points = [(row.number + 1.0, row.per_domain[name].loss_nats) for row in rows if name in row.per_domain]
                _draw_line(axes, view, arm, number, points, 4)
            axes.set_title(short(name, 22), fontsize=9)
            axes.set_xlim(0.7, view.n_phases + 0.3)
            axes.set_xticks(range(1, view.n_phases + 1))
            axes.locator_params(axis="y", nbins=4)
        _hide(grid, len(names))
        drawing.figure.supxlabel("after phase", fontsize=9)
        drawing.figure.supylabel("loss on test text (nats per token)", fontsize=9)
        legend(drawing.figure, grid[0][0])
    return drawing.svg


def domains_in(rows: Sequence[PhaseResult]) -> list[str]:
    """Every text of some phases, in the order in which it came."""
    return list(dict.fromkeys(name for row in rows for name in row.per_domain))


def shares_plot(view: RunView, order: int) -> str:
    """What every phase was trained on, one panel per arm: a bar per phase, parted by domain."""
    phases = view.result.orders[order]
    names = domains_in([row for arm in view.arms for row in view.arm(arm).orders[order]])
    fills = domain_fills(names)
    columns = min(len(view.arms), 3)
    lines = math.ceil(len(view.arms) / columns)
    with page_figure((0.55 + 0.24 * len(phases)) * lines + 0.75, f"shares{order}") as drawing:
        grid = drawing.figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        for axes, arm in zip(grid.flat, view.arms, strict=False):
            left = [0.0] * len(phases)
            for name in names:
                sizes = [row.average_mixture.get(name, 0.0) for row in view.arm(arm).orders[order]]
                colour, hatch = fills[name]
                axes.barh(
                    range(len(phases)), sizes, left=left, height=0.72, color=colour, hatch=hatch, label=short(name)
                )
                left = [start + size for start, size in zip(left, sizes, strict=True)]
            axes.set_title(arm, fontsize=9)
            name_rows(axes, [f"{number + 1} {short(name, 16)}" for number, name in enumerate(phases)])
            axes.set_xlim(0, 1)
            draw_share_axis(axes)
        _hide(grid, len(view.arms))
        legend(drawing.figure, grid[0][0])
    return drawing.svg


def compute_plot(view: RunView) -> str:
    """FLOPs of every arm from the first phase to the last, by part."""
    with page_figure(height_of(len(view.arms), 1), "compute") as drawing:
        axes = drawing.figure.subplots()
        left = [0.0] * len(view.arms)
        spent = [view.parts(arm) for arm in view.arms]
        for part in view.part_names(apart=False):
            sizes = [each[part].flops if part in each else 0.0 for each in spent]
            label = part.replace("_", " ")
            axes.barh(range(len(spent)), sizes, left=left, height=0.6, color=part_colour(part), label=label)
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        for row, total in enumerate(left):
            axes.annotate(units.flops(total), (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, max(left, default=0.0) * 1.16 or 1.0)
        axes.xaxis.set_major_formatter(lambda value, _: units.flops(value) if value else "0")
        axes.locator_params(axis="x", nbins=5)
        name_rows(axes, view.arms)
        legend(drawing.figure, axes)
    return drawing.svg


def tried_plot(view: RunView, order: int, arm: str) -> str | None:
    """The objective at every share of what is new that an arm tried, one panel per phase; None if it tried none."""
    rows = [
        (row, decision.candidates)
        for row in view.arm(arm).orders[order]
        for decision in row.decisions
        if decision.evidence == "sweep" and decision.candidates
    ]
    if not rows:
        return None
    columns = min(len(rows), 4)
    lines = math.ceil(len(rows) / columns)
    with page_figure(1.75 * lines + 0.7, f"tried{order}") as drawing:
        grid = drawing.figure.subplots(lines, columns, squeeze=False)
        for axes, (row, candidates) in zip(grid.flat, rows, strict=False):
            tried = sorted((sum(shares.get(name, 0.0) for name in row.new), value) for shares, value in candidates)
            axes.plot([x for x, _ in tried], [y for _, y in tried], color=GREY, marker="o", markersize=3.5)
            leading = min(tried, key=lambda point: point[1])
            axes.scatter(*leading, s=70, marker="*", color=GREEN, zorder=3)
            axes.set_title(f"{row.number + 1} {short(row.phase, 18)}: best {leading[0]:.0%}", fontsize=9)
            axes.set_xlim(0, 1)
            draw_share_axis(axes)
        _hide(grid, len(rows))
        drawing.figure.supxlabel("share of what is new in the phase", fontsize=9)
        drawing.figure.supylabel(view.objective.label, fontsize=9)
    return drawing.svg


def path_plot(proposal: ProposalView, prefix: str) -> str | None:
    """The largest shares as the pull towards the prior grows; dotted: the pull in use. None where no path was kept."""
    path, choice = proposal.kl.path, proposal.kl.choice
    if not path or choice is None:
        return None
    named = sorted(proposal.prior.mixture, key=lambda name: -max(point.mixture[name] for point in path))[:_PATHS]
    strengths = [max(point.kl, _FLOOR) for point in path]
    low = min((kl for kl in strengths if kl > _FLOOR), default=_FLOOR) / 3
    with page_figure(3.2, prefix) as drawing:
        axes = drawing.figure.subplots()
        for name in named:
            shares = [point.mixture[name] for point in path]
            axes.plot([max(kl, low) for kl in strengths], shares, marker="o", markersize=3, label=short(name))
        in_use = choice.kl if proposal.kl.relative is None else proposal.kl.relative
        axes.axvline(max(in_use, low), color=ORANGE, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlabel("pull towards the prior (of the objective's spread; the leftmost point is none)")
        axes.set_ylabel("share")
        axes.yaxis.set_major_formatter(lambda value, _: units.share(value, 0))
        legend(drawing.figure, axes)
    return drawing.svg
