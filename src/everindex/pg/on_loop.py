"""The engine on an event loop: its calls run in greenlets, which switch to the loop where a thread would block.

A call runs in a greenlet of its own beside the task that awaits it, in the task's context. What it awaits is awaited by that
task, so a cancelled task cancels what its greenlet waits for. Work that computes or blocks for long runs in threads; a
cancelled task stops it (`waiting.Stop`) and waits until it has ended.

Guarantees nothing to calls that block by themselves, or that hold a lock while they wait: the loop stands still then.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]
from psycopg_pool import PoolClosed

from everindex.pg import waiting
from everindex.pg.pool import no_connection_free
from everindex.pg.waiting import STOP, Stop, Stopped

T = TypeVar("T")

#: Threads for what searches hand over: an embedding endpoint, a model that computes, a look at a silent server.
MOST_ASIDE = 32
#: Threads for long work: writing, verifying, building an index.
MOST_LONG = 4
#: A call waits this long for its turn, as a thread for a connection of the pool.
WAIT_SECONDS = 10.0
#: A cancelled task waits this long for its long work to end; one that waits for an embedding endpoint ends later.
END_SECONDS = 10.0


class Threads:
    """The threads of one instance on an event loop; `stop()` and `close()` when done."""

    def __init__(self) -> None:
        self._aside = ThreadPoolExecutor(MOST_ASIDE, thread_name_prefix="everindex-aside")
        self._long = ThreadPoolExecutor(MOST_LONG, thread_name_prefix="everindex-long")
        self._stops: set[Stop] = set()

    def start_aside(self, work: Callable[[], None]) -> Future[None]:
        """The result of short work, to come from a thread; nobody stops it. None once this is closed."""
        try:
            return self._aside.submit(work)
        except RuntimeError:
            return waiting.done_here(lambda: None)

    async def aside(self, work: Callable[[], T], *, uses_connection: bool = False) -> T:
        """What short work returns. One that `uses_connection` has ended when this returns or raises."""
        return await self._run(self._aside, work, end_seconds=None if uses_connection else 0.0)

    async def long(self, work: Callable[[], T]) -> T:
        """What long work returns."""
        return await self._run(self._long, work, end_seconds=END_SECONDS)

    async def stop(self) -> None:
        """Stops what runs, and waits up to END_SECONDS for its end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + END_SECONDS
        for stop in list(self._stops):
            stop.set()
        while self._stops and loop.time() < deadline:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Takes no more work; what still runs ends by itself."""
        for executor in (self._aside, self._long):
            executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], T], *, end_seconds: float | None) -> T:
        stop = Stop()
        context = copy_context()
        context.run(STOP.set, stop)

        def stoppable() -> T:
            try:
                stop.raise_due()
                return work()
            except Stopped:
                raise PoolClosed("the instance was closed, or the call was cancelled, while it ran") from None

        try:
            running = executor.submit(context.run, stoppable)
        except RuntimeError:
            raise PoolClosed("the instance is closed") from None
        result = asyncio.wrap_future(running)
        self._stops.add(stop)
        result.add_done_callback(lambda done: self._ended(stop, done))
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            stop.set()
            if not running.cancel():
                await _end_of(result, end_seconds)
            raise

    def _ended(self, stop: Stop, done: asyncio.Future[Any]) -> None:
        self._stops.discard(stop)
        if not done.cancelled():
            done.exception()  # nobody may be left who asks for it


async def _end_of(result: asyncio.Future[Any], seconds: float | None) -> None:
    """Waits for the end, at most `seconds`; without a limit also where the task is cancelled again."""
    if seconds is not None:
        await asyncio.wait({result}, timeout=seconds)
        return
    while not result.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({result})


class Turns:
    """The turns of an instance's calls: as many run at once as it has connections, and the others wait in order.

    So a call is timed, and its connection waited for, from when it runs. One that waits for a thread gives its turn to another.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def take(self) -> None:
        """Raises NoConnectionFree after WAIT_SECONDS."""
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise no_connection_free() from None

    def end(self) -> None:
        self._free.release()


class _EngineGreenlet(greenlet):  # type: ignore[misc]
    """A call of the engine beside the task that awaits it."""

    def __init__(self, work: Callable[[], Any], threads: Threads, turns: Turns | None) -> None:
        task = getcurrent()
        super().__init__(work, task)
        self.gr_context = task.gr_context
        self.threads = threads
        self.turns = turns
        """Where it has a turn of; None where it has none."""


class _OnLoop:
    """How a greenlet waits."""

    def __init__(self, call: _EngineGreenlet) -> None:
        self._call = call

    def until_readable(self, fileno: int, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[bool] = loop.create_future()

        def done(is_readable: bool) -> None:
            if not readable.done():
                readable.set_result(is_readable)

        loop.add_reader(fileno, done, True)
        timer = loop.call_later(seconds, done, False)
        try:
            return awaited(readable)
        finally:
            timer.cancel()
            loop.remove_reader(fileno)

    def beside(self, work: Callable[[], T], *, uses_connection: bool) -> T:
        turns = None if uses_connection else self._call.turns
        if turns is not None:
            turns.end()
            self._call.turns = None
        result: T = awaited(self._call.threads.aside(work, uses_connection=uses_connection))
        if turns is not None:
            awaited(turns.take())
            self._call.turns = turns
        return result


async def in_greenlet(work: Callable[[], T], threads: Threads, turns: Turns | None = None) -> T:
    """What `work` returns, run on the running loop, when it is its turn; it may call `awaited`."""
    if turns is not None:
        await turns.take()
    call = _EngineGreenlet(work, threads, turns)
    try:
        result = call.switch()
        while not call.dead:
            try:
                value = await result
            except BaseException:
                result = call.throw(*sys.exc_info())
            else:
                result = call.switch(value)
    finally:
        if call.turns is not None:
            call.turns.end()
    returned: T = result
    return returned


def is_in_greenlet() -> bool:
    """True where `awaited` may be called."""
    return type(getcurrent()) is _EngineGreenlet


def awaited(awaitable: Awaitable[T]) -> T:
    """The result of an awaitable; the loop goes on meanwhile. To be called in `in_greenlet` only."""
    current = getcurrent()
    result: T = current.parent.switch(awaitable)
    return result


def from_anywhere(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of `loop`, for the engine in a greenlet of the loop or in another thread."""
    if is_in_greenlet():
        return awaited(coroutine)
    if loop.is_closed():
        coroutine.close()
        raise PoolClosed("the event loop of the instance is closed")
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def _waiter() -> _OnLoop | None:
    current = getcurrent()
    return _OnLoop(current) if type(current) is _EngineGreenlet else None


waiting.find_waiter = _waiter
