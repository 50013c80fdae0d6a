"""The signals that end a long command: SIGTERM and Ctrl-C set an event, and the command ends by itself."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from everindex.index.deploy.cancellation import beside


class stopped_by_signals:  # noqa: N801 reads as a word of the with statement
    """Inside the block, the signals set the event. With `insists`, a second one ends the command at once."""

    def __init__(self, stop: threading.Event, *, insists: bool = False) -> None:
        self._stop = stop
        self._insists = insists
        self._signals = 0

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._set) for number in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._insists and self._signals > 1:
            raise KeyboardInterrupt
        beside(self._stop.set)
