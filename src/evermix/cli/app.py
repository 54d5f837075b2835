"""The command `evermix`: options common to all verbs, and the list of verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from evermix.cli import update
from evermix.cli.design import design
from evermix.cli.init import example, init, list_corpora, list_laws
from evermix.cli.project import check, log, report, status
from evermix.cli.run import compare, run
from evermix.cli.swarm import fit, propose, what_if
from evermix.cli.terminal import end_on_sigterm, one_line_errors, spell_out_what_cannot_be_encoded
from evermix.version import VERSION

app = typer.Typer(
    name="evermix",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
VERBS = {
    verb.__name__.replace("_", "-"): verb
    for verb in (
        *(init, run, compare, status, report, log, check),
        *(design, fit, propose, what_if, example, list_corpora, list_laws),
    )
}
for name, verb in VERBS.items():
    app.command(name)(one_line_errors(verb))

_UPDATE_HELP = """Change the domains of a project that a swarm has decided.

Takes a fraction of the runs of a new swarm. Shows the plan first: whose ratio each strategy keeps, what it measures
anew, how many proxies and FLOPs that takes. Then trains those proxies and shows the new mixture, and what keeping
proportions is predicted to cost.

\b
Examples:
  evermix update add recipe.yaml papers --files 'papers/*.jsonl' --dry-run
  evermix update remove recipe.yaml spam
  evermix update apply recipe.yaml spring.yaml --strategy swarm
"""
_AFTER_UPDATE = (
    "an update that `evermix log PROJECT --graph` shows goes on with `evermix run RECIPE`; one that it does not show "
    "begins anew"
)
updates = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=_UPDATE_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
UPDATE_VERBS = {
    verb.__name__: verb
    for verb in (update.add, update.remove, update.revise, update.partition, update.apply, update.undo)
}
for name, verb in UPDATE_VERBS.items():
    updates.command(name)(one_line_errors(verb, _AFTER_UPDATE))
app.add_typer(updates, name="update")
PAGES = (*VERBS, "update", *(f"update {name}" for name in UPDATE_VERBS))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evermix {VERSION}")
        raise typer.Exit


@app.callback()
def evermix(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Decide what data a language model is trained on, from pretraining to instruction tuning.

    \b
    Examples:
      evermix init my-data/            write a commented recipe for the files in my-data/
      evermix run recipe.yaml          train, decide the mixture, train on, report
      evermix compare recipe.yaml      several arms: what each ends with, and what it costs
      evermix status runs/my-data      how far it is
      evermix report runs/my-data      write report.html
      evermix check runs/my-data       whether all of it is as it was written

    \b
    With `method: olmix` in the recipe, once its swarm has run:
      evermix update add recipe.yaml papers --files 'papers/*.jsonl'

    \b
    With runs of your own and your own trainer (no torch needed):
      evermix example swarm/           a small measured swarm to try it on
      evermix design tokens.yaml       the mixtures to measure
      evermix fit swarm/               a law per metric, judged on held-out runs
      evermix propose swarm/           the mixture it recommends, and how far to trust it
      evermix what-if swarm/ --set code=0.3
    """


def main() -> None:
    """Entry point of the command `evermix`."""
    end_on_sigterm()
    spell_out_what_cannot_be_encoded()
    app()
