"""In which thread does work run, and how many at once? Each kind has its own places, so that a slow one stops no other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import to_thread

from everindex.errors import EverindexError

T = TypeVar("T")


class Places:
    """At most `count` threads for one kind of work; who finds none free waits `wait_seconds`, and is then refused."""

    def __init__(self, count: int, *, wait_seconds: float, refusal: Callable[[], EverindexError]) -> None:
        self._limiter = anyio.CapacityLimiter(count)
        self._threads = anyio.CapacityLimiter(math.inf)  # counted by the places and not once more by anyio
        self._wait_seconds = wait_seconds
        self._refusal = refusal

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, run in a thread. Raises what it raises, or the refusal when no place became free."""
        holder = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(holder)
        except anyio.WouldBlock:
            with anyio.move_on_after(self._wait_seconds) as patience:
                await self._limiter.acquire_on_behalf_of(holder)
            if patience.cancelled_caught:
                raise self._refusal() from None
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._limiter.release_on_behalf_of(holder)
