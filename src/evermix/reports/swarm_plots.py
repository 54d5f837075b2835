"""All plots of a fit and of a proposal, into one folder."""

from __future__ import annotations

from pathlib import Path

from evermix.deciding import AssessedProposal, FittedLaw
from evermix.reports.effects_plot import draw_effects
from evermix.reports.kl_plot import draw_kl_path
from evermix.reports.prediction_plot import draw_predictions
from evermix.reports.weights_plot import draw_weights


def draw_fit(fitted: FittedLaw, folder: Path) -> None:
    """predictions and effects, each as SVG and PNG."""
    draw_predictions(fitted, folder)
    draw_effects(fitted, folder)


def draw_proposal(found: AssessedProposal, folder: Path) -> None:
    """weights and kl_path, each as SVG and PNG; no path where the worst metric is improved, which has none."""
    draw_weights(found, folder)
    if found.recipe.objective.aggregate == "mean":
        draw_kl_path(found, folder)
