"""How values show themselves in a notebook: one small HTML table with a caption."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_MOST_ROWS = 60


def html_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts, all escaped; the first column to the left, the others, numbers, to the right.

    Only the first 60 rows are shown, and how many there are more.
    """
    head = "".join(_cell("th", text, first=j == 0) for j, text in enumerate(columns))
    body = "".join(
        f"<tr>{''.join(_cell('td', text, first=j == 0) for j, text in enumerate(row))}</tr>"
        for row in rows[:_MOST_ROWS]
    )
    left = len(rows) - _MOST_ROWS
    more = f'<tr><td colspan="{len(columns)}">and {left:,} more</td></tr>' if left > 0 else ""
    words = f'<caption style="text-align: left">{escape(caption)}</caption>'
    return f"<table>{words}<thead><tr>{head}</tr></thead><tbody>{body}{more}</tbody></table>"


def _cell(tag: str, text: str, *, first: bool) -> str:
    return f'<{tag} style="text-align: {"left" if first else "right"}">{escape(text)}</{tag}>'
