"""What `evermix laws` shows: the families, what each offers and needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from evermix.laws import LAWS
from evermix.laws.base import MixingLaw
from evermix.reports.layout import plain_table

_EXTRAS = {"boosted-trees": "regress"}
AUTO = "auto"


def law_rows() -> list[dict[str, Any]]:
    """One record per family, in the order of the registry; `auto` is not a family, and not among them."""
    return [_row(name, law) for name, law in LAWS.items() if name != AUTO]


def laws_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The same as a table."""
    table = plain_table("Families of laws (default: auto, the best per metric by cross-validation)")
    table.add_column("law", no_wrap=True)
    table.add_column("formula", overflow="fold")
    for column in ("convex", "gradient", "std"):
        table.add_column(column, justify="center", no_wrap=True)
    table.add_column("runs\nneeded", no_wrap=True)
    table.add_column("source", overflow="fold")
    table.add_column("install", no_wrap=True)
    for row in rows:
        flags = ["yes" if row[flag] else "" for flag in ("convex", "gradient", "std")]
        extra = f"evermix[{row['extra']}]" if row["extra"] else ""
        name, formula, source = Text(row["name"], style="bold"), Text(row["formula"]), Text(row["source"])
        table.add_row(name, formula, *flags, row["runs_needed"], source, Text(extra))
    return table


def _row(name: str, law: type[MixingLaw]) -> dict[str, Any]:
    unfitted = law()
    return {
        "name": name,
        "formula": law.formula,
        "source": law.source,
        "convex": unfitted.is_convex,
        "gradient": unfitted.has_gradient,
        "std": unfitted.has_std,
        "runs_needed": _runs_needed(law),
        "extra": _EXTRAS.get(name),
    }


def _runs_needed(law: type[MixingLaw]) -> str:
    """Runs as many as parameters, in terms of the number m of domains: 'm + 1'."""
    per_domain = law.n_parameters(3) - law.n_parameters(2)
    constant = law.n_parameters(2) - 2 * per_domain
    if per_domain == 0:
        return str(constant) if constant else "any"
    domains = "m" if per_domain == 1 else f"{per_domain}m"
    return f"{domains} + {constant}" if constant else domains
