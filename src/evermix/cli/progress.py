"""Progress of long work on stderr: a bar where the total is known, a spinner where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evermix.cli.options import console


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Shows `label` while the block runs; call what it gives with (done, total) to turn the spinner into a bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance
