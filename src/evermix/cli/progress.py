"""Progress of long work on stderr: a bar where the total is known, a spinner where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evermix.cli.options import console


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Shows `label` while the block runs; call what it gives with (done, total) to turn the spinner into a bar.

    Nothing is shown where stderr is no terminal.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    shown = console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        task = progress.add_task(label, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance
