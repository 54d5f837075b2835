"""`evermix corpora`: the corpora that package registries carry."""

from __future__ import annotations

from evermix.cli.options import AsJson, console, print_json


def corpora(json: AsJson = False) -> None:
    """List the corpora that a recipe may name as `registry: NAME`.

    \b
    Examples:
      evermix corpora
      evermix corpora --json
    """
    from evermix.corpus.registry import describe
    from evermix.reports.tables import print_corpora

    found = describe()
    if json:
        print_json(found)
    else:
        print_corpora(found, console())
