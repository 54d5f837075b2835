"""Plots of a swarm's decision as SVG text for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evermix.reports import units
from evermix.reports.plots import GREY, height_of, legend, name_rows, page_figure
from evermix.reports.summary import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PROPOSED, _BEFORE, _FLOOR = "#009E73", "#D55E00", 1e-9


def shares_plot(result: Result, natural: Mapping[str, float], before: Mapping[str, float] | None) -> str:
    """Share of every domain: natural, before the last update, and proposed with its 90% interval."""
    names = list(result["mixture"])
    intervals = ((result.get("proposal") or {}).get("bootstrap") or {}).get("weights") or {}
    rows = range(len(names))
    with page_figure(height_of(len(names), 1), "shares") as drawing:
        axes = drawing.figure.subplots()
        known = [(row, intervals[name]) for row, name in enumerate(names) if name in intervals]
        if known:
            lows, highs = [each["low"] for _, each in known], [each["high"] for _, each in known]
            where = [row for row, _ in known]
            axes.hlines(where, lows, highs, color=_PROPOSED, linewidth=4, alpha=0.35, label="90% interval")
        shares = [natural.get(name, 0.0) for name in names]
        _hollow(axes, shares, rows, "D", GREY, "natural")
        if before is not None:
            old = [(row, before[name]) for row, name in enumerate(names) if name in before]
            places = [row for row, _ in old]
            _hollow(axes, [s for _, s in old], places, "s", _BEFORE, "before the update")
        axes.scatter([result["mixture"][name] for name in names], rows, s=34, color=_PROPOSED, label="mixture")
        axes.set_xlabel("share of the training tokens")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        name_rows(axes, names)
        legend(drawing.figure, axes)
    return drawing.svg


def _hollow(axes: Axes, x: Sequence[float], y: Sequence[int], marker: str, colour: str, label: str) -> None:
    axes.scatter(x, y, s=34, marker=marker, facecolors="none", edgecolors=colour, linewidths=1.4, label=label)


def path_plot(path: Sequence[Mapping[str, Any]], chosen: float, prior: Mapping[str, float]) -> str:
    """The largest shares as the pull towards the prior grows; dotted: the pull that was chosen.

    Args:
        path: points with `kl` and `mixture`.
        chosen: the strength taken, in the same unit.
    """
    named = sorted(prior, key=lambda name: -max(point["mixture"][name] for point in path))[:8]
    strengths = [max(point["kl"], _FLOOR) for point in path]
    low = min((kl for kl in strengths if kl > _FLOOR), default=_FLOOR) / 3
    with page_figure(3.2, "path") as drawing:
        axes = drawing.figure.subplots()
        for name in named:
            shares = [point["mixture"][name] for point in path]
            axes.plot([max(kl, low) for kl in strengths], shares, marker="o", markersize=3, label=name)
        axes.axvline(max(chosen, low), color=GREY, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlabel("pull towards the prior (of the objective's spread; the leftmost point is none)")
        axes.set_ylabel("share")
        axes.yaxis.set_major_formatter(lambda value, _: units.share(value, 0))
        legend(drawing.figure, axes)
    return drawing.svg
