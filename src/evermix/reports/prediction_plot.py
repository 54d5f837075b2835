"""Predicted against observed, every run predicted by a law that has not seen it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evermix.deciding import FittedLaw
from evermix.deciding.metric_changes import ObjectiveScale
from evermix.reports.fit_tables import law_sentence
from evermix.reports.plot_files import BLUE, GREEN, GREY, RED, figure_file, short
from evermix.reports.units import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]
_PANELS = 12
_MARGIN = 0.15
_REACH = 0.5  # of the observed range: predictions further off are off the scale


def draw_predictions(fitted: FittedLaw, folder: Path) -> None:
    """predictions.svg and .png: the objective, and metrics from the best foretold to the worst."""
    shown = _shown(fitted)
    columns = 3 if len(shown) <= 2 else 5 if 4 < len(shown) <= 6 else 4
    rows = 2 + math.ceil(max(len(shown) - 2 * (columns - 2), 0) / columns)
    with figure_file(folder, "predictions", 2.6 * columns, 2.45 * rows + 0.7) as figure:
        grid = figure.add_gridspec(rows, columns)
        _objective_panel(figure.add_subplot(grid[:2, :2]), fitted)  # two by two, metrics beside and below it
        places = [(row, column) for row in range(2) for column in range(2, columns)]
        places += [(row, column) for row in range(2, rows) for column in range(columns)]
        for i, (row, column) in zip(shown, places, strict=False):
            _metric_panel(figure.add_subplot(grid[row, column]), fitted, i)
        n = len(fitted.observations.metrics)
        of = "" if len(shown) == n else f"; {len(shown)} of {n} metrics, from the best foretold to the worst"
        figure.suptitle(f"Held-out prediction: {law_sentence(fitted)}{of}", fontsize=10)
        figure.supxlabel("observed", fontsize=9)
        figure.supylabel("predicted by a law that has not seen the run", fontsize=9)


def _shown(fitted: FittedLaw) -> list[int]:
    """Positions of up to 12 metrics, evenly spaced from the highest to the lowest held-out rank correlation."""
    ranks = np.nan_to_num([one.spearman for one in fitted.calibration.metrics], nan=-1.0)
    order = np.argsort(-ranks, kind="stable")
    picked = np.unique(np.linspace(0, len(order) - 1, min(_PANELS, len(order))).round().astype(int))
    return [int(order[k]) for k in picked]


def _objective_panel(axes: Axes, fitted: FittedLaw) -> None:
    found, scale = fitted.calibration, ObjectiveScale.of(fitted.observations, fitted.objective)
    observed, predicted = (
        scale.sign * (values - scale.offset) for values in (found.observed_objective, found.predicted_objective)
    )
    title = f"objective ({scale.direction}): rank correlation {number(found.objective.spearman, 2)}"
    _panel(axes, observed, predicted, GREEN, 14)
    axes.set_title(title, fontsize=9.5)


def _metric_panel(axes: Axes, fitted: FittedLaw, i: int) -> None:
    found, observations = fitted.calibration, fitted.observations
    predicted = observations.orientation.value(found.predicted)[:, i]
    _panel(axes, observations.values[:, i], predicted, BLUE, 6)
    axes.set_title(f"{short(observations.metrics[i])}\n{number(found.metrics[i].spearman, 2)}")


def _panel(axes: Axes, observed: Floats, predicted: Floats, colour: str, size: float) -> None:
    """Dots and the diagonal; predictions off the scale of what was observed stand as triangles on the edge."""
    known = np.isfinite(observed) & np.isfinite(predicted)
    x, y = observed[known], predicted[known]
    if not len(x):
        return
    size_of_range = float(np.ptp(x)) or 1.0
    margin = _MARGIN * size_of_range
    low = max(min(float(y.min()), float(x.min())), float(x.min()) - _REACH * size_of_range) - margin
    high = min(max(float(y.max()), float(x.max())), float(x.max()) + _REACH * size_of_range) + margin
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    inside = (y >= low) & (y <= high)
    axes.scatter(x[inside], y[inside], s=size, color=colour, alpha=0.65, linewidths=0)
    for off, edge, mark in ((y < low, low + margin / 4, "v"), (y > high, high - margin / 4, "^")):
        if off.any():
            axes.scatter(x[off], np.full(int(off.sum()), edge), s=2 * size, color=RED, marker=mark, linewidths=0)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.locator_params(nbins=4)
    axes.grid(True)
