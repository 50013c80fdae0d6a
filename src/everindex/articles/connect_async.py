"""The opening of an instance for asyncio; the server is found and waited for as by `connect`, in a thread.

Guarantees that an opening that is cancelled leaves nothing open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from everindex.articles.async_instance import AsyncInstance
from everindex.articles.connect import log_wait, open_instance
from everindex.articles.instance import Instance
from everindex.pg.loop_pool import make_loop_pool
from everindex.pg.on_loop import Threads
from everindex.settings import Settings


class connect_async:  # noqa: N801 - called like a function
    """Opens an instance for asyncio, as `connect` does for threads: `instance = await connect_async()`, or
    `async with connect_async() as instance`. Parameters and errors are those of `connect`; the instance belongs to the event
    loop that runs."""

    def __init__(
        self,
        conninfo: str | None = None,
        *,
        settings: Settings | None = None,
        wait_seconds: float | None = None,
        tell_wait: Callable[[str], None] = log_wait,
    ) -> None:
        self._conninfo = conninfo
        self._settings = settings
        self._wait_seconds = wait_seconds
        self._tell_wait = tell_wait
        self._opened: AsyncInstance | None = None

    def __await__(self) -> Generator[Any, None, AsyncInstance]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncInstance:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()

    async def _open(self) -> AsyncInstance:
        threads = Threads()
        make_pool = make_loop_pool(asyncio.get_running_loop(), threads)
        stack = ExitStack()

        def opened() -> Instance:
            return stack.enter_context(
                open_instance(
                    self._conninfo, settings=self._settings, wait_seconds=self._wait_seconds,
                    tell_wait=self._tell_wait, make_pool=make_pool,
                )
            )  # fmt: skip

        async def close() -> None:
            await threads.stop()
            await asyncio.shield(asyncio.ensure_future(_closed(stack, threads)))

        try:
            return AsyncInstance(await threads.long(opened), threads, close=close)
        except BaseException:
            await close()
            raise


async def _closed(stack: ExitStack, threads: Threads) -> None:
    try:
        await asyncio.to_thread(stack.close)
    finally:
        threads.close()
