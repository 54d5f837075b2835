"""`evermix fit`: the law of a table of runs, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evermix.cli.options import AsJson, console, print_json
from evermix.cli.swarm_options import SwarmArguments, takes_swarm

if TYPE_CHECKING:
    from evermix.deciding import FittedLaw
    from evermix.trust import Screened

Plots = Annotated[Path | None, typer.Option("--plots", help="Write plots (SVG and PNG) into this folder.")]
Everything = Annotated[bool, typer.Option("--all", help="Show every row of every table.")]
Screen = Annotated[bool, typer.Option("--screen", help="Judge each metric: can it tell mixtures apart at all?")]


@takes_swarm(request=False)
def fit(
    swarm: SwarmArguments,
    screen: Screen = False,
    everything: Everything = False,
    plots: Plots = None,
    json: AsJson = False,
) -> None:
    """Fit a law per metric to measured runs, and show how well it foretells held-out ones.

    Nothing is dropped silently: the answer lists what was left out and why. `evermix propose` goes on
    from the same arguments to a mixture.

    \b
    Examples:
      evermix fit swarm/                          ratios.csv + metrics.csv, joined by run
      evermix fit mixtures.csv --metrics losses.csv
      evermix fit swarm/ --maximise "*accuracy*" --law power-link --screen
      evermix fit swarm/ --json > fit.json
    """
    from evermix.cli.progress import bar
    from evermix.reports import fit_tables

    reading = swarm.reading()
    with bar("fitting and judging on held-out runs"):
        fitted = swarm.fitted(reading)
        screened = _screened(fitted) if screen else None
    if plots is not None:
        from evermix.reports.swarm_plots import draw_fit

        draw_fit(fitted, plots)
    if json:
        print_json(fit_tables.fit_record(fitted, reading, screened))
        return
    fit_tables.print_fit(fitted, reading, console(), screened, everything)
    if plots is not None:
        typer.echo(f"plots: {plots}")


def _screened(fitted: FittedLaw) -> tuple[Screened, ...]:
    from evermix.trust import ScreeningOptions, screen

    options = ScreeningOptions(seed=fitted.recipe.seed)
    return screen(fitted.law, fitted.observations, options, fitted.calibration)
