"""`evermix what-if`: move some shares, see every metric's predicted change with its interval."""

from __future__ import annotations

from typing import Annotated

import typer

from evermix.cli.options import AsJson, console, print_json
from evermix.cli.swarm_options import SwarmArguments, shares, takes_swarm

From = Annotated[str, typer.Option("--from", help="Start from: natural, uniform, prior, proposal or best-observed.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="DOMAIN=SHARE; repeatable. The others keep proportions.")]
Move = Annotated[list[str] | None, typer.Option("--move", help="DOMAIN=+SHARE or -SHARE to add; repeatable.")]


@takes_swarm(request=True)
def what_if(
    swarm: SwarmArguments,
    start: From = "prior",
    set_shares: Set = None,
    move: Move = None,
    json: AsJson = False,
) -> None:
    """Move some shares and see what every metric is predicted to do, with a 90% interval.

    \b
    Examples:
      evermix what-if swarm/ --set code=0.3
      evermix what-if swarm/ --move web=-0.1 --move maths=+0.05
      evermix what-if swarm/ --from proposal --set code=0 --tokens 1T --json
    """
    from evermix.cli.progress import bar
    from evermix.report import swarm_tables
    from evermix.study import fit, try_moves

    reading = swarm.reading()
    with bar("fitting and judging on held-out runs"):
        fitted = fit(reading.observations, swarm.recipe, reading.left_out)
    with bar("resampling") as advance:
        answer = try_moves(
            fitted, start, shares(set_shares, "--set") or {}, shares(move, "--move") or {}, progress=advance
        )
    if json:
        print_json(answer.as_dict)
        return
    swarm_tables.print_what_if(answer, fitted, console())
