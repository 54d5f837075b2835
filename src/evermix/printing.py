"""What reaches a terminal: text as text, whatever names are in it.

Markup and emoji codes of rich are never read, control characters are spelt out, and secrets are hidden. Whatever is
printed by rich goes through the classes of this module.
"""

from __future__ import annotations

from typing import Any

from rich import table, text
from rich.console import RenderableType
from rich.progress import TextColumn

from evermix.wording import shown


class Text(text.Text):
    """rich's Text of words that are shown as they are."""

    def __init__(self, words: str = "", style: Any = "", **more: Any) -> None:
        super().__init__(shown(words), style, **more)

    def append(self, words: text.Text | str, style: Any = None) -> Text:
        """Add words at the end."""
        super().append(shown(words) if isinstance(words, str) else words, style)
        return self


class Table(table.Table):
    """rich's Table whose title, headings and cells are shown as they are."""

    def __init__(self, *headers: table.Column | str, title: str | None = None, **more: Any) -> None:
        written = None if title is None else Text(title, more.get("title_style") or "")
        super().__init__(*headers, title=written, **more)

    def add_column(self, header: RenderableType = "", *rest: Any, **more: Any) -> None:
        """Add a column; see rich."""
        super().add_column(_as_text(header), *rest, **more)

    def add_row(self, *cells: RenderableType | None, **more: Any) -> None:
        """Add a row; see rich."""
        super().add_row(*map(_as_text, cells), **more)


def _as_text(cell: Any) -> Any:
    return Text(cell) if isinstance(cell, str) else cell


def label_column(width: int = 0) -> TextColumn:
    """What a bar is of; its description must be `shown`."""
    return TextColumn(f"{{task.description:<{width}}}" if width else "{task.description}", markup=False)
