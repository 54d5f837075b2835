"""`evermix status`: how far a project is."""

from __future__ import annotations

from evermix.cli.options import AsJson, Project, console, print_json


def status(project: Project, json: AsJson = False) -> None:
    """Show how far a project is: what runs now, steps, tokens per second, decisions so far.

    \b
    Examples:
      evermix status runs/my-data
      evermix status runs/my-data --json
    """
    from evermix.reports.progress import print_status, read_status

    found = read_status(project)
    if json:
        print_json(found)
    else:
        print_status(found, console())
