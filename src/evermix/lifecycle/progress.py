"""Showing how far a run is: a bar on the console and `status.json` in the project folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TimeElapsedColumn
from rich.text import Text

from evermix.ledger import Project
from evermix.printing import label_column
from evermix.wording import shown

_SECONDS_BETWEEN = 2.0
Unit = Literal["steps", "bytes", "runs"]
_BYTES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


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
        self._work = WorkLeft(0.0)

    def say(self, message: str) -> None:
        """A line for the reader."""
        if self.console is not None:
            self.console.print(Text(message))

    def expect(self, n_tokens: float) -> None:
        """How much all stages of the run will train, in tokens; other work in what it costs as much as."""
        self._work = WorkLeft(n_tokens)

    @contextmanager
    def stage(self, place: str, n_tokens: float) -> Iterator[None]:
        """A stage of the run, of so many of the tokens that are expected.

        Args:
            place: arm, order and phase, with commas between; the first of them stands before the stage's parts.
            n_tokens: all that it trains, or what costs as much.
        """
        self._place = place
        self._work.begin(n_tokens, time.monotonic())
        try:
            yield
        finally:
            self._work.end(time.monotonic())
            self._place = None

    @contextmanager
    def part(
        self,
        part: str,
        detail: str,
        total: int | None,
        tokens_per_step: int = 0,
        start: int = 0,
        unit: Unit = "steps",
    ) -> Iterator[Report]:
        """Open a bar of `total` units (None: unknown); the function it gives is called with the unit reached."""
        described = f"{self._place.partition(',')[0]}: {detail}" if self._place else detail
        with _bar(self.console, unit, self._work) as bar:
            report = Report(self, bar, bar.add_task(shown(described), total=total, completed=start), part, detail, unit)
            report.total, report.start, report.tokens_per_step = total, start, tokens_per_step
            report(start)
            yield report

    def done(self) -> None:
        """Say in `status.json` that everything is finished."""
        self.project.set_status(part="done", detail="finished", step=0, total_steps=None, tokens_per_second=0.0)

    def note(self, report: Report, step: int, rate: float) -> None:
        """A part's state for `status.json`."""
        left = self._work.seconds_left(time.monotonic())
        self.project.set_status(
            part=report.part,
            detail=report.detail,
            place=self._place,
            step=step,
            total_steps=report.total,
            unit=report.unit,
            tokens_per_second=round(rate, 1),
            share_of_run=self._work.share,
            seconds_left=None if left is None else round(left),
        )

    def trained(self, position: float, n_new: float) -> None:
        """The stage's training has come to token `position`; this process has trained on the last `n_new` of them."""
        self._work.reach(position, n_new)


class Report:
    """How far a part is; called with the unit reached, and the total once it is known."""

    def __init__(self, reporter: Reporter, bar: Progress, task: TaskID, part: str, detail: str, unit: Unit) -> None:
        self._reporter, self._bar, self._task = reporter, bar, task
        self.part, self.detail, self.unit = part, detail, unit
        self.total: int | None = None
        self.start = self.tokens_per_step = self._counted = 0
        self._opened, self._written = time.monotonic(), 0.0

    def describe(self, doing: str) -> None:
        """What the part is at."""
        self._bar.update(self._task, description=shown(doing))

    def __call__(self, step: int, total: int | None = None) -> None:
        self.total = total or self.total
        self._bar.update(self._task, completed=step, total=self.total)
        now, n_tokens = time.monotonic(), (step - self.start) * self.tokens_per_step
        if self.part == "training":
            self._reporter.trained(step * self.tokens_per_step, n_tokens - self._counted)
            self._counted = n_tokens
        if now - self._written >= _SECONDS_BETWEEN:
            self._written = now
            self._reporter.note(self, step, n_tokens / max(now - self._opened, 1e-6))


@dataclass
class WorkLeft:
    """Estimates the time that is left from what has been done while the clock ran.

    What was found finished takes no time and says nothing of the speed.

    Attributes:
        total: of all stages, in tokens.
        behind: of the stages that have ended.
        worked, seconds: what was done of them while the clock ran, and how long that took.
        stage, reached, live: of the stage at hand: all, up to where it is, and what was done while the clock ran.
        began: when it began; None between stages.
    """

    total: float
    behind: float = 0.0
    worked: float = 0.0
    seconds: float = 0.0
    stage: float = 0.0
    reached: float = 0.0
    live: float = 0.0
    began: float | None = None

    def begin(self, n_tokens: float, now: float) -> None:
        """A stage begins."""
        self.stage, self.reached, self.live, self.began = n_tokens, 0.0, 0.0, now

    def reach(self, position: float, n_new: float) -> None:
        """The stage has come to token `position`, the last `n_new` of them while the clock ran."""
        self.reached = min(max(self.reached, position), self.stage)
        self.live += n_new

    def end(self, now: float) -> None:
        """The stage ends."""
        if self.live and self.began is not None:
            found = max(self.reached - self.live, 0.0)  # was finished before
            self.worked += max(self.stage - found, self.live)
            self.seconds += now - self.began
        self.behind += self.stage
        self.stage, self.reached, self.live, self.began = 0.0, 0.0, 0.0, None

    @property
    def share(self) -> float | None:
        """Of all work, what lies behind, four digits; None outside of stages."""
        if self.began is None or not self.total:
            return None
        return round(min((self.behind + self.reached) / self.total, 1.0), 4)

    def seconds_left(self, now: float) -> float | None:
        """None as long as there is no telling."""
        worked = self.worked + self.live
        if not worked or self.began is None:
            return None
        seconds = self.seconds + (now - self.began if self.live else 0.0)
        return max(self.total - self.behind - self.reached, 0.0) * seconds / worked


def in_bytes(n: float) -> str:
    """21500000 -> 21.5 MB."""
    size, name = next(((size, name) for size, name in _BYTES if n >= size), (1, "bytes"))
    return f"{n / size:.1f} {name}" if size > 1 else f"{n:.0f} {name}"


def in_words(seconds: float) -> str:
    """610 -> about 10 min."""
    if seconds < 60:
        return "under a minute"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class _Count(ProgressColumn):
    """`120 of 390 steps`, `21.5 MB of 30.0 MB`; without a total what is done; nothing before anything is."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        super().__init__()

    def render(self, task: Task) -> Text:
        """The count of a task."""
        if task.total is None and not task.completed:
            return Text("")
        if self.unit == "bytes":
            counts = [in_bytes(n) for n in (task.completed, task.total) if n is not None]
            return Text(" of ".join(counts))
        counts = [f"{n:,.0f}" for n in (task.completed, task.total) if n is not None]
        return Text(f"{' of '.join(counts)} {self.unit}")


class _Left(ProgressColumn):
    """Time left of the part, and of the whole run."""

    def __init__(self, work: WorkLeft) -> None:
        self.work = work
        super().__init__()

    def render(self, task: Task) -> Text:
        """The times of a task."""
        left = self.work.seconds_left(time.monotonic())
        remaining = None if task.finished else task.time_remaining
        parts = [] if remaining is None else [f"{in_words(remaining)} left"]
        parts += [] if left is None else [f"{in_words(left)} in all"]
        return Text(", ".join(parts))


def _bar(console: Console | None, unit: Unit, work: WorkLeft) -> Progress:
    return Progress(
        label_column(44),
        BarColumn(bar_width=20),
        _Count(unit),
        TimeElapsedColumn(),
        _Left(work),
        console=console,
        disable=console is None,
        transient=False,
    )
