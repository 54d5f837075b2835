"""`evermix report`: the HTML report of a project."""

from __future__ import annotations

from typing import Annotated

import typer

from evermix.cli.options import Project


def report(
    project: Project,
    tables: Annotated[bool, typer.Option("--tables", help="Also print the tables here.")] = False,
) -> None:
    """Write <project>/report.html: one file, no network needed to read it.

    A project that is still running gets a report of what is there so far.

    \b
    Examples:
      evermix report runs/my-data
      evermix report runs/my-data --tables
    """
    from evermix.reports import report as write_report

    page = write_report(project)
    if tables:
        from evermix.cli.options import console
        from evermix.reports.project import load_findings
        from evermix.reports.tables import print_result

        print_result(load_findings(project).result, console())
    typer.echo(f"report: {page}")
