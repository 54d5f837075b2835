"""The proposed shares with their intervals, against the prior and the caps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evermix.deciding import AssessedProposal
from evermix.reports.plot_files import BLUE, GREEN, GREY, INK, ORANGE, figure_file, name_rows, short
from evermix.reports.units import share
from evermix.trust.references import PROPOSAL

_MOST = 60


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
