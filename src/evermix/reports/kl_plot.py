"""The KL path: what the pull towards the prior costs, and what it buys."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evermix.deciding import AssessedProposal
from evermix.deciding.metric_changes import ObjectiveScale
from evermix.reports.plot_files import BLUE, GREEN, ORANGE, RED, figure_file
from evermix.solvers.kl_path import KlChoice, PathPoint, kl_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
