"""`evermix fit`: the law of a table of runs, and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evermix.cli.options import AsJson, console, print_json
from evermix.cli.swarm_options import SwarmArguments, takes_swarm

Plots = Annotated[Path | None, typer.Option("--plots", help="Write plots (SVG and PNG) into this folder.")]


@takes_swarm(request=False)
def fit(swarm: SwarmArguments, plots: Plots = None, json: AsJson = False) -> None:
    """Fit a law per metric to measured runs, and show how well it foretells held-out ones.

    Nothing is dropped silently: the answer lists what was left out and why. `evermix propose` goes on
    from the same arguments to a mixture.

    \b
    Examples:
      evermix fit swarm/                          ratios.csv + metrics.csv, joined by run
      evermix fit mixtures.csv --metrics losses.csv
      evermix fit swarm/ --maximise "*accuracy*" --law power-link
      evermix fit swarm/ --json > fit.json
    """
    from evermix.cli.progress import bar
    from evermix.report import swarm_tables
    from evermix.study import fit as fit_law

    reading = swarm.reading()
    with bar("fitting and judging on held-out runs"):
        fitted = fit_law(reading.observations, swarm.recipe, reading.left_out)
    if plots is not None:
        from evermix.report import swarm_plots

        swarm_plots.draw_fit(fitted, plots)
    if json:
        print_json(swarm_tables.fit_record(fitted, reading))
        return
    swarm_tables.print_fit(fitted, reading, console())
