"""Figures of a life for its page, as SVG text: losses over stages, shares over stages, compute by part."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evermix.reports import units
from evermix.reports.lives.answer import Lives, Row
from evermix.reports.lives.colours import arm_colour, arm_mark, domain_fills, part_colour
from evermix.reports.lives.tables import parts_of
from evermix.reports.plots import GREY, height_of, legend, name_rows, page_figure, short

_LINES = ("-", "--", "-.", ":")


def domains_in(rows: Sequence[Row]) -> list[str]:
    """Every text of a life, in the order in which it came."""
    return list(dict.fromkeys(name for row in rows for name in row["per_domain"]))


def losses_plot(lives: Lives, order: int) -> str:
    """Held-out loss of every domain after every stage in which it was there, one small panel each."""
    each = {arm: lives.lives[arm][order] for arm in lives.arms}
    names = domains_in(next(iter(each.values())))
    columns = min(len(names), 4 if len(names) <= 12 else 5)
    rows = math.ceil(len(names) / columns)
    with page_figure(1.7 * rows + 0.9, f"losses{order}") as drawing:
        grid = drawing.figure.subplots(rows, columns, squeeze=False)
        for axes, name in zip(grid.flat, names, strict=False):
            for number, (arm, stages) in enumerate(each.items()):
                points = [
                    (row["number"] + 1, row["per_domain"][name]["loss_nats"]) for row in stages if _has(row, name)
                ]
                axes.plot(
                    [x for x, _ in points],
                    [y for _, y in points],
                    label=arm,
                    color=arm_colour(arm),
                    linestyle=_LINES[number % len(_LINES)],
                    marker=arm_mark(arm),
                    markersize=4,
                    linewidth=1.3,
                )
            axes.set_title(short(name, 22), fontsize=9)
            axes.set_xlim(0.7, lives.n_stages + 0.3)
            axes.set_xticks(range(1, lives.n_stages + 1))
            axes.locator_params(axis="y", nbins=4)
        for axes in list(grid.flat)[len(names) :]:
            axes.set_visible(False)
        drawing.figure.supxlabel("after stage", fontsize=9)
        drawing.figure.supylabel("held-out loss (nats per token)", fontsize=9)
        _legend_in_rows(drawing.figure, grid[0][0])
    return drawing.svg


def _has(row: Row, name: str) -> bool:
    return name in row["per_domain"]


def shares_plot(lives: Lives, order: int) -> str:
    """What every stage was trained on, one panel per arm: a bar per stage, parted by domain."""
    stages = lives.orders[order]
    names = domains_in(next(iter(lives.lives.values()))[order])
    fills = domain_fills(names)
    columns = min(len(lives.arms), 3)
    rows = math.ceil(len(lives.arms) / columns)
    panel = 0.55 + 0.24 * len(stages)
    with page_figure(panel * rows + 0.75, f"shares{order}") as drawing:
        grid = drawing.figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, arm in zip(grid.flat, lives.arms, strict=False):
            left = [0.0] * len(stages)
            for name in names:
                sizes = [row["mixture"].get(name, 0.0) for row in lives.lives[arm][order]]
                colour, hatch = fills[name]
                axes.barh(
                    range(len(stages)), sizes, left=left, height=0.72, color=colour, hatch=hatch, label=short(name)
                )
                left = [start + size for start, size in zip(left, sizes, strict=True)]
            axes.set_title(arm, fontsize=9)
            name_rows(axes, [f"{number + 1} {short(name, 16)}" for number, name in enumerate(stages)])
            axes.set_xlim(0, 1)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        for axes in list(grid.flat)[len(lives.arms) :]:
            axes.set_visible(False)
        _legend_in_rows(drawing.figure, grid[0][0])
    return drawing.svg


def _legend_in_rows(figure: object, axes: object) -> None:
    handles, labels = axes.get_legend_handles_labels()  # type: ignore[attr-defined]
    figure.legend(  # type: ignore[attr-defined]
        handles, labels, loc="outside upper left", ncols=min(max(len(labels), 1), 6), frameon=False, fontsize=8.5
    )


def compute_plot(lives: Lives) -> str:
    """FLOPs of every arm from the first stage to the last, by part."""
    parts = parts_of(lives, apart=False)
    with page_figure(height_of(len(lives.arms), 1), "life-compute") as drawing:
        axes = drawing.figure.subplots()
        left = [0.0] * len(lives.arms)
        spent = [lives.parts(arm) for arm in lives.arms]
        for part in parts:
            sizes = [each.get(part, 0.0) for each in spent]
            axes.barh(range(len(spent)), sizes, left=left, height=0.6, color=part_colour(part), label=part)
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        for row, total in enumerate(left):
            axes.annotate(units.flops(total), (total, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, max(left) * 1.14 or 1.0)
        axes.xaxis.set_major_formatter(lambda value, _: units.flops(value) if value else "0")
        axes.locator_params(axis="x", nbins=5)
        name_rows(axes, lives.arms)
        legend(drawing.figure, axes)
    return drawing.svg


def sweep_plot(lives: Lives, order: int, arm: str) -> str | None:
    """The objective at every share of what is new that an arm tried, one panel per stage; None if it tried none."""
    rows = [row for row in lives.lives[arm][order] if (row.get("told") or {}).get("sweep")]
    if not rows:
        return None
    columns = min(len(rows), 4)
    lines = math.ceil(len(rows) / columns)
    with page_figure(1.75 * lines + 0.7, f"sweep{order}") as drawing:
        grid = drawing.figure.subplots(lines, columns, squeeze=False)
        for axes, row in zip(grid.flat, rows, strict=False):
            tried = sorted((float(share), value) for share, value in row["told"]["sweep"].items())
            axes.plot([x for x, _ in tried], [y for _, y in tried], color=GREY, marker="o", markersize=3.5)
            best = min(tried, key=lambda point: point[1])
            axes.scatter(*best, s=70, marker="*", color=arm_colour("evermix"), zorder=3)
            axes.set_title(f"{row['number'] + 1} {short(row['stage'], 18)}: best {best[0]:.0%}", fontsize=9)
            axes.set_xlim(0, 1)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        for axes in list(grid.flat)[len(rows) :]:
            axes.set_visible(False)
        drawing.figure.supxlabel("share of what is new in the stage", fontsize=9)
        drawing.figure.supylabel(lives.objective.label, fontsize=9)
    return drawing.svg
