"""The Pareto picture: how good every arm is after every phase, against all it has spent until then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evermix.reports import plot_files, units
from evermix.reports.answer import Quality, RunView, pareto_front
from evermix.reports.page_figure import INK, page_figure
from evermix.results import RunResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = dict[str, tuple[float, float]]
_WIDTH, _LARGE, _SMALL = 9.9, 4.2, 1.75
_COLUMNS = 5
_FAR = 3.0
_WIDE = 6.0  # from where on compute is drawn by its logarithm
_LINE_HEIGHT = 0.17  # inches
_NAME_WIDTH = 0.15  # of the panel


def pareto_files(result: RunResult, folder: Path) -> list[Path]:
    """Write pareto.svg and pareto.png (and pareto-accuracy.*, where tasks have one) into `folder`."""
    written, view = [], RunView(result)
    for name, quality in _pictures(view).items():
        with plot_files.figure_file(folder, name, _WIDTH, _height(view)) as figure:
            _draw(figure, view, quality, plot_files.INK)
        written += [folder / f"{name}.{kind}" for kind in ("svg", "png")]
    return written


def pareto_svgs(view: RunView) -> dict[str, str]:
    """Label of the quality -> the same picture as SVG for a page."""
    found = {}
    for name, quality in _pictures(view).items():
        with page_figure(_height(view), name) as drawing:
            _draw(drawing.figure, view, quality, INK)
        found[quality.label] = drawing.svg
    return found


def _pictures(view: RunView) -> dict[str, Quality]:
    accuracy = [("pareto-accuracy", one) for one in view.qualities if one.name == "accuracy"]
    return dict([("pareto", view.objective), *accuracy])


def _small_rows(view: RunView) -> int:
    return math.ceil((view.n_phases - 1) / _COLUMNS)


def _height(view: RunView) -> float:
    return _LARGE + _SMALL * _small_rows(view)


def _draw(figure: Figure, view: RunView, quality: Quality, ink: str) -> None:
    """The end of the run large; below it every earlier phase small, each with its own front and scale."""
    rows = _small_rows(view)
    grid = figure.add_gridspec(
        1 + rows, min(max(view.n_phases - 1, 1), _COLUMNS), height_ratios=[_LARGE, *[_SMALL] * rows]
    )
    large = figure.add_subplot(grid[0, :])
    _panel(large, view, quality, -1, ink)
    large.set_xlabel("compute of the whole run so far")
    large.set_ylabel(f"{quality.label} ({'lower' if quality.lower_is_better else 'higher'} is better)")
    if not rows:
        return
    large.set_title(f"at the end, after phase {view.n_phases}", loc="left", fontsize=9)
    for phase in range(view.n_phases - 1):
        small = figure.add_subplot(grid[1 + phase // _COLUMNS, phase % _COLUMNS])
        _panel(small, view, quality, phase, ink, named=False)
        names = dict.fromkeys(order[phase] for order in view.result.orders)
        title = f" {plot_files.short(next(iter(names)), 20)}" if len(names) == 1 else ""
        small.set_title(f"after {phase + 1}{title}", loc="left", fontsize=8)
        small.tick_params(labelsize=6.5)


def _panel(axes: Axes, view: RunView, quality: Quality, phase: int, ink: str, *, named: bool = True) -> None:
    points: Points = {}
    for arm in view.arms:
        if view.values(arm, quality, phase):
            points[arm] = (view.spent(arm, phase).flops, view.mean(arm, quality, phase).value)
    if not points:
        return
    edge = _edge([y for _, y in points.values()], quality)
    shown = {arm: (x, _within(y, edge, quality)) for arm, (x, y) in points.items()}
    _front(axes, list(points.values()), quality, ink)
    reach = list(shown.values())
    for arm, (x, y) in shown.items():
        inside = y == points[arm][1]
        error = view.mean(arm, quality, phase).stderr if inside else None
        if error is not None:
            reach += [(x, y - error), (x, y + error)]
            axes.errorbar(x, y, yerr=error, color=view.arm(arm).colour, linewidth=1, capsize=2, zorder=2)
        size = 52 if named else 16
        mark = view.arm(arm).mark
        axes.scatter(x, y, s=size, marker=mark, color=view.arm(arm).colour, zorder=3, edgecolors="none")
    _limits(axes, reach, named)
    axes.xaxis.set_major_formatter(lambda value, _: units.flops(value) if value else "0")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.grid(True)
    if named:
        beyond = "above" if quality.lower_is_better else "below"
        texts = {
            arm: arm if y == shown[arm][1] else f"{arm} ({quality.text(y)}, {beyond})" for arm, (_, y) in points.items()
        }
        _name(axes, shown, texts, ink)


def _edge(values: Sequence[float], quality: Quality) -> float | None:
    """Where the picture ends, so that an arm that is far off does not press the others together; None: nowhere."""
    best, middle = quality.best(values), float(np.median(values))
    edge = best + _FAR * (middle - best)
    beyond = [value for value in values if abs(value - best) > abs(edge - best)]
    return edge if beyond and middle != best else None


def _within(value: float, edge: float | None, quality: Quality) -> float:
    if edge is None:
        return value
    return min(value, edge) if quality.lower_is_better else max(value, edge)


def _front(axes: Axes, points: Sequence[tuple[float, float]], quality: Quality, ink: str) -> None:
    """What can be had for at most so much compute: a staircase through the arms that no other one beats."""
    front = [points[i] for i in pareto_front(points, quality.lower_is_better)]
    if len(points) > 1:
        xs = [*(x for x, _ in front), max(x for x, _ in points)]
        ys = [*(y for _, y in front), front[-1][1]]
        axes.step(xs, ys, where="post", color=ink, linewidth=0.9, linestyle="--", zorder=1)


def _limits(axes: Axes, points: Sequence[tuple[float, float]], named: bool) -> None:
    """Compute from nought, or by its logarithm where it differs much; the quality as it comes."""
    xs, ys = zip(*points, strict=True)
    room = 0.17 if named else 0.08
    if min(xs) > 0 and max(xs) / min(xs) > _WIDE:
        from matplotlib.ticker import FixedLocator, NullLocator

        reach = max(xs) / min(xs)
        low, high = min(xs) / reach**0.06, max(xs) * reach**room
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(FixedLocator(_round_ticks(low, high, 6 if named else 2)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, (max(xs) or 1.0) * (1 + room))
        axes.locator_params(axis="x", nbins=6 if named else 3)
    height = (max(ys) - min(ys)) or abs(max(ys)) * 0.05 or 1.0
    axes.set_ylim(min(ys) - 0.1 * height, max(ys) + 0.13 * height)
    axes.locator_params(axis="y", nbins=7 if named else 3)


def _round_ticks(low: float, high: float, most: int) -> list[float]:
    """1, 2, 5 times powers of ten within the limits, at most so many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    return ticks[:: math.ceil(len(ticks) / most)] if ticks else []


def _name(axes: Axes, shown: Points, texts: dict[str, str], ink: str) -> None:
    """Names beside the marks, pushed apart where they would lie on each other."""
    low, high = axes.get_ylim()
    per_inch = (high - low) / (_LARGE - 0.9)
    to_axes = axes.transLimits if axes.get_xscale() == "linear" else axes.transScale + axes.transLimits
    taken: list[tuple[float, float]] = []
    for arm in sorted(shown, key=lambda name: shown[name][1]):
        x, y = shown[arm]
        across = float(to_axes.transform((x, y))[0])
        near = [height for where, height in taken if abs(where - across) < _NAME_WIDTH]
        place = max([y, *(height + _LINE_HEIGHT * per_inch for height in near)])
        taken.append((across, place))
        offset = (8, 5 + 72 * (place - y) / per_inch)
        axes.annotate(texts[arm], (x, y), offset, textcoords="offset points", va="center", fontsize=8.5, color=ink)
