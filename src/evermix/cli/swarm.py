"""The verbs on measured runs: `evermix fit`, `evermix propose`, `evermix what-if`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import evermix as em
from evermix.cli.options import AsJson, Everything, Page, Plots, Verbose
from evermix.cli.swarm_options import SwarmArguments, read_shares, shares, takes_swarm
from evermix.cli.terminal import bar, console, print_json, print_line
from evermix.errors import MixtureError
from evermix.files import placed

if TYPE_CHECKING:
    from evermix.deciding import FittedLaw
    from evermix.trust import Screened

Screen = Annotated[bool, typer.Option("--screen", help="Judge each metric: can it tell mixtures apart at all?")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the mixture, domain -> share, as JSON.")]
_FROM = "Start from natural, uniform, prior, best-observed, proposal, or a file that `propose --out` wrote."
_SET = "So much of a domain; the others keep their proportions; repeatable."
_MOVE = "So much more of a domain, or less (DOMAIN=-SHARE); repeatable."
From = Annotated[str, typer.Option("--from", metavar="MIXTURE", help=_FROM)]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="DOMAIN=SHARE", help=_SET)]
Move = Annotated[list[str] | None, typer.Option("--move", metavar="DOMAIN=+SHARE", help=_MOVE)]


@takes_swarm(request=False)
def fit(
    swarm: SwarmArguments,
    screen: Screen = False,
    everything: Everything = False,
    plots: Plots = None,
    json: AsJson = False,
) -> None:
    """Fit a law per metric to measured runs, and show how well it predicts others.

    Nothing is dropped silently: the answer lists what was left out and why. `evermix propose` goes on
    from the same arguments to a mixture.

    \b
    Examples:
      evermix fit swarm/                          ratios.csv + metrics.csv, joined by run
      evermix fit mixtures.csv --metrics losses.csv
      evermix fit swarm/ --maximise "*accuracy*" --screen
      evermix fit swarm/ --json > fit.json
    """
    from evermix.reports import fit_tables

    reading = swarm.reading()
    with bar("fitting and judging on held-out runs"):
        fitted = swarm.fitted(reading)
        screened = _screened(fitted) if screen else None
    if plots is not None:
        from evermix.reports.fit_plots import draw_fit

        draw_fit(fitted, plots)
    if json:
        print_json(fit_tables.fit_record(fitted, reading, screened))
        return
    fit_tables.print_fit(fitted, reading, console(), screened, everything)
    if plots is not None:
        print_line(f"plots: {plots}")


@takes_swarm(request=True)
def propose(
    swarm: SwarmArguments,
    out: Out = None,
    verbose: Verbose = False,
    everything: Everything = False,
    page: Page = None,
    plots: Plots = None,
    json: AsJson = False,
) -> None:
    """Propose the mixture that the law finds best, and say how far it can be trusted.

    Prints shares with intervals and epochs per domain, the predicted gain, and warnings. --verbose adds the law and
    how well it foretells held-out runs, the comparison with natural, uniform, UniMax and the best observed run, every
    metric, which rules bind and what relaxing them is worth. A study's folder keeps the proposal.

    \b
    Examples:
      evermix propose swarm/ --tokens 1T --max-epochs 4
      evermix propose swarm/ --tokens 1T --verbose --report proposal.html
      evermix propose swarm/ --weight mmlu=2 --weight gsm8k=1 --guard natural=0.01
      evermix propose swarm/ --tokens 6T --kl 0.05 --cap web:spam=0 --out mix.json
      evermix propose runs/my-study --plots plots/
    """
    from evermix.reports import fit_tables
    from evermix.reports.proposal import print_proposal

    reading = swarm.reading()
    with bar("fitting, solving and resampling") as advance:
        if swarm.is_study:
            found = swarm.study().propose(advance)
        else:
            found = em.propose(swarm.fitted(reading), progress=advance)
    fitted = found.fitted
    if out is not None:
        from evermix.files import write_json

        write_json(out, found.mixture.as_dict)
    if plots is not None:
        from evermix.reports.fit_plots import draw_fit
        from evermix.reports.proposal_plots import draw_proposal

        draw_fit(fitted, plots)
        draw_proposal(found, plots)
    if page is not None:
        from evermix.reports.page import write_proposal

        write_proposal(found.view, page)
    if json:
        print_json({"fit": fit_tables.fit_record(fitted, reading), **found.as_dict})
        return
    left_out = len({*reading.left_out, *fitted.left_out})
    print_proposal(found.view, console(), everything, verbose, left_out)
    for what, path in (("mixture", out), ("report", page), ("plots", plots)):
        if path is not None:
            print_line(f"{what}: {path}")


@takes_swarm(request=True)
def what_if(
    swarm: SwarmArguments,
    start: From = "prior",
    set_shares: Set = None,
    move: Move = None,
    everything: Everything = False,
    json: AsJson = False,
) -> None:
    """Move some shares and see what every metric is predicted to do.

    Each prediction has a 90% interval, from laws of resampled runs.

    \b
    Examples:
      evermix what-if swarm/ --set code=0.3
      evermix what-if swarm/ --move web=-0.1 --move maths=+0.05
      evermix what-if swarm/ --from proposal --set code=0 --tokens 1T --json
    """
    from evermix.reports.fit_tables import print_what_if

    to_set, to_move = shares(set_shares, "--set") or {}, shares(move, "--move", "DOMAIN=+SHARE or -SHARE") or {}
    if not to_set and not to_move:
        raise MixtureError("what-if needs a share to set or to move", hint="--set DOMAIN=SHARE or --move DOMAIN=+SHARE")
    reading = swarm.reading()
    with bar("fitting and judging on held-out runs"):
        fitted = swarm.fitted(reading)
        before = _mixture(fitted, start, swarm.kl_before)
    with bar("resampling") as advance:
        answer = em.what_if(fitted, before, to_set, to_move, progress=advance)
    if json:
        print_json(answer.as_dict)
        return
    print_what_if(answer, fitted, console(), everything)


def _screened(fitted: FittedLaw) -> tuple[Screened, ...]:
    from evermix.trust import ScreeningOptions, screen

    options = ScreeningOptions(seed=fitted.recipe.seed)
    return screen(fitted.law, fitted.observations, options, fitted.calibration)


def _mixture(fitted: FittedLaw, start: str, kl_before: float | None) -> em.Mixture:
    """A mixture by its name, or from a JSON file of shares."""
    from evermix.deciding import named_mixture

    if start == "proposal":
        quick = fitted.recipe.model_copy(update={"resamples": 0})
        return em.propose(fitted, quick, kl_before=kl_before).mixture
    if start.endswith(".json"):
        return named_mixture(fitted, read_shares(placed(start, Path())))
    return named_mixture(fitted, start.replace("-", " "))
