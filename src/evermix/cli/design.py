"""`evermix design`: which mixtures to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evermix.cli.design_options import DesignArguments, takes_design
from evermix.cli.options import AsJson, Everything
from evermix.cli.terminal import bar, console, print_json

Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Write ratios.csv and tokens.yaml into this folder.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite ratios.csv if it exists.")]


@takes_design
def design(
    asked: DesignArguments, out: Out = None, force: Force = False, everything: Everything = False, json: AsJson = False
) -> None:
    """Choose the mixtures to measure: a first swarm, or the next runs worth most.

    Train a small model on each and put its metrics beside ratios.csv as metrics.csv, with the same run
    ids: `evermix fit` reads that folder. Given a swarm that is measured already, the next runs are chosen
    where they tell most about the best mixture, and it says how much they could still change it.

    \b
    Examples:
      evermix design tokens.yaml --out swarm/
      evermix design tokens.yaml --runs 64 --kind sparse --prior uniform --json
      evermix design swarm/ --runs 8 --out swarm-2/
    """
    from evermix.cli.designing import first_runs, next_runs
    from evermix.reports.design_tables import print_design, write_design

    if out is not None:
        asked.check_free(out, force)
    with bar("designing"):
        designed = next_runs(asked) if asked.kind == "adaptive" else first_runs(asked)
    if out is not None:
        write_design(designed, out)
    if json:
        print_json(designed.as_dict)
        return
    print_design(designed, console(), out, everything)
