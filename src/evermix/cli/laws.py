"""`evermix laws`: the families of laws."""

from __future__ import annotations

from evermix.cli.options import AsJson, console, print_json


def laws(json: AsJson = False) -> None:
    """List the families of laws: formula, what they offer, where they come from.

    \b
    Examples:
      evermix laws
      evermix laws --json
    """
    from evermix.reports.law_table import law_rows, laws_table

    if json:
        print_json(law_rows())
        return
    console().print(laws_table(law_rows()))
