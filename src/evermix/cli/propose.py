"""`evermix propose`: from a table of runs to a mixture, with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evermix.cli.fit import Everything, Plots
from evermix.cli.options import AsJson, console, print_json
from evermix.cli.swarm_options import SwarmArguments, takes_swarm

Out = Annotated[Path | None, typer.Option("--out", help="Write the mixture, domain -> share, as JSON.")]


@takes_swarm(request=True)
def propose(
    swarm: SwarmArguments,
    out: Out = None,
    everything: Everything = False,
    plots: Plots = None,
    json: AsJson = False,
) -> None:
    """Propose the mixture that the law finds best, and say how far it can be trusted.

    Prints shares with intervals and epochs per domain, the comparison with natural, uniform, UniMax and
    the best observed run, which rules bind and what relaxing them is worth, and cautions. A study's folder
    keeps the proposal.

    \b
    Examples:
      evermix propose swarm/ --tokens 1T --max-epochs 4
      evermix propose swarm/ --weight mmlu=2 --weight gsm8k=1 --guard natural=0.01
      evermix propose swarm/ --tokens 6T --kl 0.05 --cap web:spam=0 --out mix.json
      evermix propose runs/my-study --plots plots/
    """
    from evermix.cli.progress import bar
    from evermix.deciding import propose
    from evermix.reports import fit_tables, proposal_tables

    reading = swarm.reading()
    with bar("fitting, solving and resampling") as advance:
        found = swarm.study().propose(advance) if swarm.is_study else propose(swarm.fitted(reading), progress=advance)
    fitted = found.fitted
    if out is not None:
        from evermix.files import write_json

        write_json(out, found.mixture.as_dict)
    if plots is not None:
        from evermix.reports.swarm_plots import draw_fit, draw_proposal

        draw_fit(fitted, plots)
        draw_proposal(found, plots)
    if json:
        print_json({"fit": fit_tables.fit_record(fitted, reading), **found.as_dict})
        return
    proposal_tables.print_proposal(found, reading, console(), everything)
    for what, path in (("mixture", out), ("plots", plots)):
        if path is not None:
            typer.echo(f"{what}: {path}")
