"""The schedule of jobs on a bounded number of threads, with a bounded number at a time on each real server.

Jobs begin in their order; one whose server is busy lets those of other servers pass. A closed schedule begins nothing more and
lets what runs end.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

#: How often the caller of `events` gets a word while nothing happens, in seconds.
TICK_SECONDS = 0.2


class Schedule(Generic[Job, Result]):
    """Jobs in progress. `perform` runs in a thread and must not raise."""

    def __init__(
        self,
        jobs: Sequence[Job],
        perform: Callable[[Job], Result],
        *,
        workers: int,
        server_of: Callable[[Job], str | None],
        per_server: int,
    ) -> None:
        self._pending = list(jobs)
        self._perform = perform
        self._server_of = server_of
        self._per_server = per_server
        self._running: Counter[str | None] = Counter()
        self._changed = threading.Condition()
        self._events: queue.SimpleQueue[tuple[Job, Result | None] | None] = queue.SimpleQueue()
        self._threads = min(workers, len(jobs))

    def close(self) -> list[Job]:
        """Begins nothing more; returns what was not begun."""
        with self._changed:
            left, self._pending = self._pending, []
            self._changed.notify_all()
        return left

    def events(self) -> Iterator[tuple[Job, Result | None] | None]:
        """Runs the jobs: (job, None) when one begins, (job, result) when it ends, None for every tick without either."""
        for number in range(self._threads):
            threading.Thread(target=self._work, name=f"everindex-fleet-{number}", daemon=True).start()
        ended = 0
        while ended < self._threads:
            try:
                event = self._events.get(timeout=TICK_SECONDS)
            except queue.Empty:
                yield None
                continue
            if event is None:
                ended += 1
            else:
                yield event

    def _work(self) -> None:
        try:
            while (job := self._take()) is not None:
                self._events.put((job, None))
                result = self._perform(job)
                with self._changed:
                    self._running[self._server_of(job)] -= 1
                    self._changed.notify_all()
                self._events.put((job, result))
        finally:
            self._events.put(None)

    def _take(self) -> Job | None:
        with self._changed:
            while self._pending:
                for job in self._pending:
                    server = self._server_of(job)
                    if server is None or self._running[server] < self._per_server:
                        self._pending.remove(job)
                        self._running[server] += 1
                        return job
                self._changed.wait()
            return None
