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
    from evermix.laws import law_table

    rows = law_table()
    if json:
        print_json(rows)
        return
    from evermix.report.swarm_tables import laws_table

    console().print(laws_table(rows))
