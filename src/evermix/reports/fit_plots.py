"""Figures of a fitted law: predicted against observed, every run predicted by a law that has not seen it; and the
interaction heat map, what each metric does when tokens move to a domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
Ints = npt.NDArray[np.intp]
STEP = 0.01
_MOST_DOMAINS = 80
_MOST_METRICS = 160
_TALL = 40  # rows from which the domains are named above the map too
_NUMBERED = 300  # cells up to which every one has its number
_PANELS = 12
_MARGIN = 0.15
_REACH = 0.5  # of the observed range: predictions further off are off the scale


def draw_fit(fitted: FittedLaw, folder: Path) -> None:
    """predictions and effects, each as SVG and PNG."""
    draw_predictions(fitted, folder)
    draw_effects(fitted, folder)


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


@dataclass(frozen=True, eq=False)
class Effects:
    """What one more percentage point of a domain does, taken from all others in proportion, at the prior.

    Attributes:
        domains: names, those that some run was trained on.
        metrics: names.
        values: (domains, metrics), improvement in standard deviations of the metric over the runs; positive is better.
        objective: (domains,), the same of the objective.
    """

    domains: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Floats
    objective: Floats

    @classmethod
    def of(cls, fitted: FittedLaw) -> Effects:
        """(cost(p) - cost(p')) / sd(cost), p' = p + step (e_j - p) / (1 - p_j)  at j p_j + step, others scaled."""
        observations, objective = fitted.observations, fitted.objective
        p = fitted.prior.mixture.weights
        live = [j for j, name in enumerate(observations.domains.names) if name in set(observations.sampled_domains)]
        moved = np.array([_with_more(p, j) for j in live])
        costs = fitted.law.predict(np.vstack([p, moved]))
        spread = np.nanstd(observations.costs, axis=0)
        values = (costs[0] - costs[1:]) / np.where(spread > 0, spread, 1.0)
        totals = np.asarray(objective.value(costs))
        whole = float(np.nanstd(fitted.calibration.observed_objective)) or 1.0
        names = tuple(observations.domains.names[j] for j in live)
        return cls(names, observations.metrics, values, (totals[0] - totals[1:]) / whole)

    def ordered(self) -> Effects:
        """Like beside like, by average linkage; of too many, those with the greatest effects."""
        size = np.abs(np.nan_to_num(self.values))
        rows = np.sort(np.argsort(-size.max(axis=1), kind="stable")[:_MOST_DOMAINS])
        columns = np.sort(np.argsort(-size.max(axis=0), kind="stable")[:_MOST_METRICS])
        part = self.values[np.ix_(rows, columns)]
        rows, columns = rows[_alike(part)], columns[_alike(part.T)]
        return Effects(
            tuple(self.domains[j] for j in rows),
            tuple(self.metrics[i] for i in columns),
            self.values[np.ix_(rows, columns)],
            self.objective[rows],
        )


def draw_effects(fitted: FittedLaw, folder: Path) -> None:
    """effects.svg and .png: rows metrics (the objective on top), columns domains; blue is better."""
    effects = Effects.of(fitted)
    shown = effects.ordered()
    table = 100 * np.column_stack([shown.objective, shown.values]).T
    limit = float(np.quantile(np.abs(table[np.isfinite(table)]), 0.98)) or 1.0
    n_rows, n_columns = table.shape
    numbered = n_rows * n_columns <= _NUMBERED
    width = 3.6 + n_columns * (0.42 if numbered else 0.26)
    height = 2.6 + n_rows * (0.25 if numbered else 0.155)
    with figure_file(folder, "effects", max(width, 6.5), height) as figure:
        axes = figure.subplots()
        image = axes.imshow(table, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        small = 8.0 if numbered else 6.5
        axes.set_xticks(
            range(n_columns), [short(name, 28) for name in shown.domains], rotation=90, fontsize=small + 0.5
        )
        axes.set_yticks(range(n_rows), ["objective", *(short(name, 40) for name in shown.metrics)], fontsize=small)
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.axhline(0.5, color="white", linewidth=3)
        axes.tick_params(length=0, labeltop=n_rows > _TALL)
        axes.spines[:].set_visible(False)
        if numbered:
            for (row, column), value in np.ndenumerate(table):
                colour = "white" if abs(value) > 0.6 * limit else "#333333"
                axes.text(column, row, f"{value:+.1f}", ha="center", va="center", fontsize=6, color=colour)
        left = len(effects.metrics) - len(shown.metrics), len(effects.domains) - len(shown.domains)
        cut = f"\n(without {left[0]} metrics and {left[1]} domains of small effects)" if any(left) else ""
        title = f"Effect of one percentage point more of a domain, at the prior\n{law_sentence(fitted)}{cut}"
        figure.suptitle(title, fontsize=9.5)
        bar = figure.colorbar(image, ax=axes, location="top", extend="both", shrink=0.9, aspect=40, pad=0.2 / height)
        bar.set_label(
            "improvement in hundredths of the metric's standard deviation over the runs (blue: better)", fontsize=8
        )
        bar.outline.set_visible(False)


def _with_more(p: Floats, j: int) -> Floats:
    """p with up to a percentage point more of domain j, the others in proportion; p itself if j has it all."""
    step = min(STEP, 1 - p[j])
    if step <= 0:
        return p
    moved = p * (1 - step / (1 - p[j]))
    moved[j] = p[j] + step
    return moved


def _alike(rows: Floats) -> Ints:
    """An order of rows in which like stands beside like."""
    if len(rows) < 3:
        return np.arange(len(rows))
    from scipy.cluster.hierarchy import leaves_list, linkage

    limit = np.quantile(np.abs(rows[np.isfinite(rows)]), 0.98)
    tame = np.clip(np.nan_to_num(rows), -limit, limit)
    order: Ints = leaves_list(linkage(tame, method="average", optimal_ordering=True)).astype(np.intp)
    return order
