"""A cache of one expensive value: one load at a time for all callers, each with its own time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class AsyncCache(Generic[T]):
    """The result of `load`, cached for `seconds`. Belongs to one event loop."""

    def __init__(self, load: Callable[[], Awaitable[T]], *, seconds: float) -> None:
        self._load = load
        self._seconds = seconds
        self._value: tuple[float, T] | None = None
        self._loading: asyncio.Task[T] | None = None
        self._invalidations = 0

    async def get(self, *, wait_seconds: float | None = None) -> T:
        """The cached value, or a fresh one. A load that takes longer than `wait_seconds` continues without the caller,
        who gets the old value, or TimeoutError if there is none. Raises what the load raises; an error is not
        cached."""
        if self._value is not None and time.monotonic() - self._value[0] <= self._seconds:
            return self._value[1]
        loading = self._loading
        if loading is None or loading.get_loop() is not asyncio.get_running_loop():
            loading = self._loading = asyncio.ensure_future(self._run())
            loading.add_done_callback(self._done)
        done, _ = await asyncio.wait({loading}, timeout=wait_seconds)
        if done:
            return loading.result()
        if self._value is not None:
            return self._value[1]
        raise TimeoutError

    def invalidate(self) -> None:
        """Discards the value: the next call loads again. A running load is only for the callers waiting for it and is
        not cached."""
        self._value = None
        self._loading = None
        self._invalidations += 1

    async def _run(self) -> T:
        invalidations = self._invalidations
        value = await self._load()
        if invalidations == self._invalidations:
            self._value = (time.monotonic(), value)
        return value

    def _done(self, task: asyncio.Task[T]) -> None:
        if self._loading is task:
            self._loading = None
        if not task.cancelled():
            task.exception()  # looked at: who stopped waiting does not leave an unread exception behind
