"""Tables and pages as texts."""

from __future__ import annotations

import io
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from rich.console import Console

import evermix as em
from evermix.results import RunResult

VOID = {"meta", "br", "img", "link", "hr", "input"}


def printed(write: Callable[..., None], *arguments: object, width: int = 160) -> str:
    """What `write(*arguments, console)` prints."""
    stream = io.StringIO()
    write(*arguments, Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


class Balance(HTMLParser):
    """Collects ids and text, and notes tags that are closed in the wrong order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        """In one line."""
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page_of(project: Path, result: RunResult | None) -> tuple[str, Balance]:
    """The page of a project with this result, and what a parser finds in it; no tag is left open."""
    project.mkdir(exist_ok=True)
    if result is not None:
        result.save(project / "result.json")
    page = em.report(project).read_text(encoding="utf-8")
    parsed = Balance()
    parsed.feed(page)
    assert parsed.faults == []
    assert parsed.open == []
    return page, parsed
