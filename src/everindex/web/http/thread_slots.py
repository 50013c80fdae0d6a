"""Threads for work outside the event loop, a limited number for each kind, so that one slow kind does not block the others.

Switching to a thread and back is a third of the overhead that HTTP adds to a search. asyncio's own threads take twice
as long, anyio's four times (docs/decisions/0014); and a process never waits for these threads at exit.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from everindex.errors import EverindexError

T = TypeVar("T")

#: A thread ends after being idle for this long.
IDLE_SECONDS = 10.0
THREAD_NAME = "everindex-slot"


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    context: Context
    answer: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class ThreadSlots:
    """At most `count` threads for one kind of work; if none is free, a caller waits `wait_seconds` and is then refused."""

    def __init__(self, count: int, *, wait_seconds: float, refusal: Callable[[], EverindexError]) -> None:
        self._free = asyncio.Semaphore(count)
        self._count = count
        self._wait_seconds = wait_seconds
        self._refusal = refusal
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._taken = 0
        self._threads = 0
        self._changing_threads = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, run in a thread with the context variables of the caller. Raises what it raises, or the
        refusal when no slot became free.

        Work whose caller has stopped waiting is still completed and holds its slot until then."""
        if self._free.locked():
            try:
                async with asyncio.timeout(self._wait_seconds):
                    await self._free.acquire()
            except TimeoutError:
                raise self._refusal() from None
        else:
            await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        with self._changing_threads:
            self._taken += 1
            self._jobs.put(_Job(work, copy_context(), answer, loop))
            if self._taken > self._threads:
                self._threads += 1
                threading.Thread(target=self._serve, name=THREAD_NAME, daemon=True).start()
        return await answer

    def _serve(self) -> None:
        """The main loop of a thread."""
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._changing_threads:
                    if self._jobs.empty():
                        self._threads -= 1
                        return
                continue
            self._do(job)
            del job  # or the thread would hold what it did last for as long as it is idle

    def _do(self, job: _Job) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = job.context.run(job.work)
        except BaseException as exc:  # whatever it is, it belongs to who asked
            error = exc
        with suppress(RuntimeError):  # the loop is closed: nobody waits for anything there
            job.loop.call_soon_threadsafe(self._tell, job.answer, result, error)

    def _tell(self, answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        with self._changing_threads:
            self._taken -= 1
        self._free.release()
        if answer.done():  # cancelled
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
