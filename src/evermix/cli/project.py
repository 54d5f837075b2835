"""The verbs on a project folder: `evermix status`, `evermix report`, `evermix log`, `evermix check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import evermix as em
from evermix.cli.options import AsJson, Project
from evermix.cli.terminal import DAMAGED, console, print_json, print_line

Tables = Annotated[bool, typer.Option("--tables", help="Also print the tables here.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the page here instead.")]
Graph = Annotated[bool, typer.Option("--graph", help="How domains and mixtures followed from each other, as a tree.")]
At = Annotated[int | None, typer.Option("--at", metavar="N", help="Domains and mixture as of ledger entry N.")]


def status(project: Project, json: AsJson = False) -> None:
    """Show how far a project is: what runs now, steps, speed, decisions so far.

    \b
    Examples:
      evermix status runs/my-data
      evermix status runs/my-data --json
    """
    from evermix.reports import print_status

    found = em.status(project)
    if json:
        print_json(found.as_dict)
    else:
        print_status(found, console())


def report(project: Project, tables: Tables = False, out: Out = None) -> None:
    """Write <project>/report.html: one file, no network needed to read it.

    A project that is still running gets a report of what is there so far. Of a project that you may only read, name
    another place with --out.

    \b
    Examples:
      evermix report runs/my-data
      evermix report runs/my-data --tables
      evermix report /shared/runs/their-data --out their-data.html
    """
    page = em.report(project, out)
    if tables:
        from evermix.reports.run_tables import print_project

        print_project(project, console())
    print_line(f"report: {page}")


def log(project: Project, graph: Graph = False, at: At = None, json: AsJson = False) -> None:
    """Show the history of a project: what happened, what it cost, why this mixture.

    A swarm or a study has a history of domains and mixtures too: updates, recomputations, proposals, and what was
    taken back.

    \b
    Examples:
      evermix log runs/my-data
      evermix log runs/my-data --json
      evermix log runs/my-data --graph
      evermix log runs/my-data --at 41
    """
    if at is not None:
        _past(project, at, json)
    elif graph:
        _graph(project, json)
    else:
        from evermix.reports import print_log

        entries = em.log(project)
        if json:
            print_json([entry.as_dict for entry in entries])
        else:
            print_log(entries, console())


def check(project: Project, json: AsJson = False) -> None:
    """List what is damaged in a project and its tokenised text.

    Compares all that is stored with what was written: the ledger, the result, finished work, checkpoints,
    tokens. Changes nothing. Exit code 1 if anything is damaged, with the way out beside it: mostly, `evermix run` does
    it again by itself.

    \b
    Examples:
      evermix check runs/my-data
      evermix check runs/my-data --json
    """
    from evermix.reports import print_check

    found = em.check(project)
    if json:
        print_json(found.as_dict)
    else:
        print_check(found, console())
    if not found.is_whole:
        raise SystemExit(DAMAGED)


def _graph(project: Project, json: bool) -> None:
    from evermix.reports.history import open_study, print_history

    history = open_study(project).history()
    if json:
        print_json({"history": history.as_dict, "entries": [entry.as_dict for entry in em.log(project)]})
    else:
        print_history(history, console())


def _past(project: Project, number: int, json: bool) -> None:
    from evermix.reports.history import past_state, print_past_state

    found = past_state(project, number)
    if json:
        print_json(found.as_dict)
    else:
        print_past_state(found, console())
