"""`evermix what-if`: move some shares, see every metric's predicted change with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evermix.cli.fit import Everything
from evermix.cli.options import AsJson, console, print_json
from evermix.cli.swarm_options import SwarmArguments, read_shares, shares, takes_swarm
from evermix.errors import MixtureError

if TYPE_CHECKING:
    from evermix.deciding import FittedLaw
    from evermix.mixture import Mixture

_FROM = "Start from natural, uniform, prior, best-observed, proposal, or a file that `propose --out` wrote."
_SET = "So much of a domain; the others keep their proportions; repeatable."
_MOVE = "So much more of a domain, or less (DOMAIN=-SHARE); repeatable."
From = Annotated[str, typer.Option("--from", help=_FROM)]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="DOMAIN=SHARE", help=_SET)]
Move = Annotated[list[str] | None, typer.Option("--move", metavar="DOMAIN=+SHARE", help=_MOVE)]


@takes_swarm(request=True)
def what_if(
    swarm: SwarmArguments,
    start: From = "prior",
    set_shares: Set = None,
    move: Move = None,
    everything: Everything = False,
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
    from evermix.deciding import check_measured, what_if
    from evermix.reports.what_if_tables import print_what_if

    to_set, to_move = shares(set_shares, "--set") or {}, shares(move, "--move", "DOMAIN=+SHARE or -SHARE") or {}
    if not to_set and not to_move:
        raise MixtureError("what-if needs a share to set or to move", hint="--set DOMAIN=SHARE or --move DOMAIN=+SHARE")
    reading = swarm.reading()
    with bar("fitting and judging on held-out runs"):
        fitted = swarm.fitted(reading)
        check_measured(fitted, [*to_set, *to_move])
        before = _mixture(fitted, start, swarm.kl_before)
    with bar("resampling") as advance:
        answer = what_if(fitted, before, to_set, to_move, progress=advance)
    if json:
        print_json(answer.as_dict)
        return
    print_what_if(answer, fitted, console(), everything)


def _mixture(fitted: FittedLaw, start: str, kl_before: float | None) -> Mixture:
    """A mixture by its name, or from a JSON file of shares."""
    from evermix.deciding import named_mixture, propose

    if start == "proposal":
        quick = fitted.recipe.model_copy(update={"resamples": 0})
        return propose(fitted, quick, kl_before=kl_before).mixture
    if start.endswith(".json"):
        return named_mixture(fitted, read_shares(Path(start)))
    return named_mixture(fitted, start.replace("-", " "))
