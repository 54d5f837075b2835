"""The interaction heat map: what each metric does when tokens move to a domain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evermix.deciding import FittedLaw
from evermix.reports.fit_tables import law_sentence
from evermix.reports.plot_files import figure_file, short

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
STEP = 0.01
_MOST_DOMAINS = 80
_MOST_METRICS = 160
_TALL = 40  # rows from which the domains are named above the map too
_NUMBERED = 300  # cells up to which every one has its number


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
