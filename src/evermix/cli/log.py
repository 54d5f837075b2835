"""`evermix log`: the history of a project."""

from __future__ import annotations

from evermix.cli.options import AsJson, Project, console, print_json


def log(project: Project, json: AsJson = False) -> None:
    """Show the history of a project: what happened, what it cost, why this mixture.

    \b
    Examples:
      evermix log runs/my-data
      evermix log runs/my-data --json
    """
    from evermix.report.log import print_log, read_log

    entries = read_log(project)
    if json:
        print_json(entries)
    else:
        print_log(entries, console())
