"""`evermix log`: the history of a project."""

from __future__ import annotations

from typing import Annotated

import typer

from evermix.cli.options import AsJson, Project, console, print_json

Graph = Annotated[bool, typer.Option("--graph", help="How domains and mixtures followed from each other, as a tree.")]
At = Annotated[int | None, typer.Option("--at", metavar="N", help="Domains and mixture as of ledger entry N.")]


def log(project: Project, graph: Graph = False, at: At = None, json: AsJson = False) -> None:
    """Show the history of a project: what happened, what it cost, why this mixture.

    A swarm or a study has a history of domains and mixtures too: updates, releases, proposals, and what was
    taken back.

    \b
    Examples:
      evermix log runs/my-data
      evermix log runs/my-data --json
      evermix log runs/my-data --graph
      evermix log runs/my-data --at 41
    """
    from evermix.reports.log import print_log, read_log

    if at is not None:
        _past(project, at, json)
        return
    if graph:
        _graph(project, json)
        return
    entries = read_log(project)
    if json:
        print_json(entries)
    else:
        print_log(entries, console())


def _graph(project: Project, json: bool) -> None:
    from evermix.reports.log import read_log
    from evermix.reports.olmix.history import open_study, print_history

    history = open_study(project).history()
    if json:
        print_json({"history": history.as_dict, "entries": read_log(project)})
    else:
        print_history(history, console())


def _past(project: Project, number: int, json: bool) -> None:
    from evermix.reports.olmix.history import past_state, print_past_state

    found = past_state(project, number)
    if json:
        print_json(found)
    else:
        print_past_state(found, console())
