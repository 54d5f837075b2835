"""Figures of a proposal: its shares with their intervals against prior and caps, and the path over the pull towards the
prior, what it costs and what it buys."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evermix.deciding import AssessedProposal
from evermix.deciding.metric_changes import ObjectiveScale
from evermix.reports.plot_files import BLUE, GREEN, GREY, INK, ORANGE, RED, figure_file, name_rows, short
from evermix.reports.units import share
from evermix.solvers.kl_path import KlChoice, PathPoint, kl_path
from evermix.trust.references import PROPOSAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 60


def draw_proposal(found: AssessedProposal, folder: Path) -> None:
    """weights and kl_path, each as SVG and PNG; no path where the worst metric is improved, which has none."""
    draw_weights(found, folder)
    if found.recipe.objective.aggregate == "mean":
        draw_kl_path(found, folder)


def draw_weights(found: AssessedProposal, folder: Path) -> None:
    """weights.svg and .png: a dot per domain, largest share first; epochs on the right where they are known."""
    weights, bounds = found.mixture.weights, found.problem.bounds
    order = np.argsort(-weights, kind="stable")[:_MOST]
    rows = np.arange(len(order))
    with figure_file(folder, "weights", 8.5, 1.6 + 0.24 * len(order)) as figure:
        axes = figure.subplots()
        reach = [float(weights[order].max()), float(found.problem.prior.weights[order].max())]
        if found.bootstrap is not None:
            low, high = found.bootstrap.weight_intervals()[order].T
            axes.hlines(rows, low, high, color=GREEN, linewidth=3.5, alpha=0.35, label="90% interval")
            reach.append(float(high.max()))
        right = 1.06 * max(reach)
        prior = found.problem.prior.weights[order]
        axes.scatter(prior, rows, s=26, marker="D", facecolors="none", edgecolors=GREY, linewidths=1.2, label="prior")
        capped = np.flatnonzero((bounds.upper[order] < 1) & (bounds.upper[order] <= right))
        if len(capped):
            caps = bounds.upper[order][capped]
            axes.scatter(caps, capped, s=130, marker="|", color=ORANGE, linewidths=1.8, label="most allowed")
        floored = np.flatnonzero(bounds.lower[order] > 0)
        if len(floored):
            floors = bounds.lower[order][floored]
            axes.scatter(floors, floored, s=130, marker="|", color=BLUE, linewidths=1.8, label="least allowed")
        axes.scatter(weights[order], rows, s=30, color=GREEN, zorder=3, label="proposal")
        name_rows(axes, [short(found.mixture.domains.names[j]) for j in order])
        axes.set_xlim(-0.01 * right, right)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("share of the training tokens")
        axes.grid(True, axis="x")
        _name_epochs(found, axes, order, right)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        left = len(weights) - len(order)
        if left:
            rest = share(1 - float(weights[order].sum()))
            axes.set_title(f"the {len(order)} largest shares; {left} more domains have {rest}", loc="left")


def _name_epochs(found: AssessedProposal, axes: object, order: np.ndarray, right: float) -> None:
    epochs = found.comparison[PROPOSAL].epochs
    if epochs is None:
        return
    style = {"ha": "left", "va": "center", "fontsize": 7.5, "color": INK, "clip_on": False}
    axes.text(1.015 * right, -0.95, "epochs", **style)  # type: ignore[attr-defined]
    for row, j in enumerate(order):
        axes.text(1.015 * right, row, f"{epochs[j]:.2f}", **style)  # type: ignore[attr-defined]


def draw_kl_path(found: AssessedProposal, folder: Path) -> None:
    """kl_path.svg and .png: over the strength of the pull, the predicted objective, the one judged by laws of other
    runs (if it was chosen so), the effective number of domains, and the strength in use."""
    path, choice = found.kl.path or kl_path(found.problem, seed=found.recipe.seed), found.kl.choice
    points = sorted(path, key=lambda point: point.kl)
    strengths = [point.kl for point in points if point.kl > 0]
    if len(strengths) < 2:
        return
    zero = strengths[0] / (strengths[1] / strengths[0])  # where a strength of 0 stands on the logarithmic axis
    judged = choice is not None and len(choice.scores) > 0
    with figure_file(folder, "kl_path", 7.5, 5.4 + 1.9 * judged) as figure:
        panels = figure.subplots(2 + judged, 1, sharex=True, squeeze=False)[:, 0]
        _objective_panel(panels[0], found, points, zero)
        if choice is not None and judged:
            _judged_panel(panels[1], choice, zero)
        _spread_panel(panels[-1], points, zero)
        in_use = _strength(found, points)
        for axes in panels:
            axes.grid(True)
            axes.axvline(max(in_use, zero), color=RED, linestyle="--", linewidth=1.2)
        panels[0].annotate(
            f" in use: {in_use:.3g}", (max(in_use, zero), 1), xycoords=("data", "axes fraction"), va="top", fontsize=8.5
        )
        _strength_axis(panels[-1], [point.kl for point in points], zero)
        figure.suptitle(f"Pull towards the prior ({found.fitted.prior.source})", fontsize=10)


def _objective_panel(axes: Axes, found: AssessedProposal, points: Sequence[PathPoint], zero: float) -> None:
    scale = ObjectiveScale.of(found.fitted.observations, found.fitted.objective)
    values = [scale.value(point.proposal.objective_value) for point in points]
    axes.plot(_places(points, zero), values, color=GREEN, marker="o", markersize=4)
    axes.set_ylabel("\n".join(["predicted objective", *textwrap.wrap(f"({scale.direction})", 28)]))


def _judged_panel(axes: Axes, choice: KlChoice, zero: float) -> None:
    places = [max(kl, zero) for kl in choice.kls]
    scores = np.array(choice.scores)
    known = np.isfinite(scores)
    axes.errorbar(
        np.array(places)[known],
        scores[known],
        np.array(choice.standard_errors)[known],
        color=BLUE,
        marker="o",
        markersize=4,
        capsize=2.5,
        linewidth=1.4,
    )
    axes.set_ylabel("judged by laws of other\nruns, minus the prior's,\nin spreads (lower is better)")


def _spread_panel(axes: Axes, points: Sequence[PathPoint], zero: float) -> None:
    axes.plot(_places(points, zero), [point.n_effective for point in points], color=ORANGE, marker="s", markersize=4)
    axes.set_ylabel("effective number\nof domains")
    axes.set_ylim(0, 1.1 * max(point.n_effective for point in points))


def _strength_axis(axes: Axes, strengths: Sequence[float], zero: float) -> None:
    axes.set_xscale("log")
    places = [max(kl, zero) for kl in strengths]
    axes.set_xticks(places, [f"{kl:g}" for kl in strengths])
    axes.minorticks_off()
    axes.set_xlabel("kl: weight of KL(mixture || prior), relative to the predicted spread of the objective")


def _places(points: Sequence[PathPoint], zero: float) -> list[float]:
    return [max(point.kl, zero) for point in points]


def _strength(found: AssessedProposal, points: Sequence[PathPoint]) -> float:
    """The KL weight in use, relative to the spread."""
    strongest = points[-1]
    return float(found.problem.kl_weight * strongest.kl / strongest.proposal.kl_weight)
