"""Showing how far a run is: a bar on the console and `status.json` in the project folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from evermix.ledger import Project
from evermix.printing import Text, label_column
from evermix.wording import shown

_SECONDS_BETWEEN = 2.0


class Reporter:
    """Reports the parts of a run, one at a time.

    Args:
        project: whose `status.json` is kept.
        console: where bars are drawn; None for none.
    """

    def __init__(self, project: Project, console: Console | None) -> None:
        self.project = project
        self.console = console
        self._place: str | None = None
        self._before, self._reached, self._total = 0, 0, 0

    def enter(self, place: str, before: int, total: int) -> None:
        """What is reported from now on belongs to `place`, an arm and phase.

        Args:
            before: of all the `total` training steps of the run, how many lie before it.
        """
        self._place, self._before, self._reached, self._total = place, before, before, total

    def say(self, message: str) -> None:
        """A line for the reader."""
        if self.console is not None:
            self.console.print(Text(message))

    @contextmanager
    def part(
        self, part: str, detail: str, total: int | None, tokens_per_step: int = 0, start: int = 0
    ) -> Iterator[Callable[[int], None]]:
        """Open a bar of `total` steps; the function it gives is called with the step reached."""
        opened = time.monotonic()
        written = 0.0
        with _bar(self.console) as bar:
            task = bar.add_task(shown(detail), total=total, completed=start)

            def report(step: int) -> None:
                nonlocal written
                bar.update(task, completed=step)
                now = time.monotonic()
                if now - written >= _SECONDS_BETWEEN:
                    written = now
                    rate = (step - start) * tokens_per_step / max(now - opened, 1e-6)
                    self._write(part, detail, step, total, rate)

            report(start)
            yield report

    def done(self) -> None:
        """Say in `status.json` that everything is finished."""
        self._place, self._total = None, 0
        self._write("done", "finished", 0, None, 0.0)

    def _write(self, part: str, detail: str, step: int, total: int | None, rate: float) -> None:
        if part == "training":
            self._reached = max(self._reached, self._before + step)
        self.project.set_status(
            part=part,
            detail=detail,
            step=step,
            total_steps=total,
            tokens_per_second=round(rate, 1),
            place=self._place,
            share_of_run=round(min(self._reached / self._total, 1.0), 4) if self._total else None,
        )


def _bar(console: Console | None) -> Progress:
    return Progress(
        label_column(44),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console is None,
        transient=False,
    )
