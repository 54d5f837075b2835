"""Doing something first when a signal is about to raise an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def first_on_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` before whatever Python function handles SIGINT or SIGTERM now, as Ctrl-C does.

    A `finally` is not enough where signals come in twos (`timeout` sends them so, people press Ctrl-C twice): the
    second cuts the `finally` of the first short. Here the action of the last signal always runs to its end. Outside
    of the main thread, where no signal raises anything, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in _NUMBERS if callable(handler := signal.getsignal(number))}

    def handle(number: int, frame: FrameType | None) -> None:
        action()
        before[signal.Signals(number)](number, frame)

    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
