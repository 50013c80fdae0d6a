"""psycopg's asynchronous pool as the engine needs one: its connections have a second face that is used by plain calls.

The face and the pool's connection share one libpq connection. In a greenlet the face waits as psycopg's asynchronous
connection does, and a cancelled task ends the statement on the server the same way; in a thread it waits as any other.
"""

from __future__ import annotations

import asyncio
import types
import weakref
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from functools import partial
from typing import Any

import psycopg
from psycopg import pq
from psycopg.abc import RV, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.rows import TupleRow, tuple_row
from psycopg_pool import AsyncConnectionPool

from everindex.pg import away
from everindex.pg.on_loop import Threads, awaited, from_anywhere, in_greenlet, is_in_greenlet
from everindex.pg.pool import MakePool, Pool, pool_options, set_up
from everindex.pg.waiting import CANCEL_SECONDS

Connection = psycopg.Connection[TupleRow]


class Face(away.WatchedConnection):
    """The face of a pooled connection for the engine; not to be closed apart from it. One caller at a time."""

    def __init__(self, owner: PooledConnection, threads: Threads) -> None:
        super().__init__(owner.pgconn, row_factory=tuple_row)
        self.threads = threads
        self._owner = weakref.ref(owner)
        self._shared = owner.adapters
        self.autocommit = owner.autocommit
        self._pool = None  # psycopg: it belongs to a pool, and need not be closed by whoever discards it

    @property
    def owner(self) -> PooledConnection:
        """psycopg's asynchronous connection; to be used while the face is in use."""
        owner = self._owner()
        assert owner is not None  # the pool holds it meanwhile
        return owner

    @property
    def adapters(self) -> AdaptersMap:
        return self._shared

    def wait_for(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        owner = self._owner()
        if owner is None or not is_in_greenlet():
            return super().wait_for(gen, *args, **kwargs)
        return awaited(owner.wait_for(gen, *args, **kwargs))

    def start_look(self, look: Callable[[], None]) -> Future[None]:
        return self.threads.start_aside(look)


class PooledConnection(psycopg.AsyncConnection[TupleRow]):
    """A connection of the pool. A server that stays silent is looked at, as by `WatchedConnection`."""

    face: Face

    async def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        face = getattr(self, "face", None)
        return await self.wait_for(gen if face is None else away.watched(face, gen), *args, **kwargs)

    async def wait_for(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """As `wait`, for a generator that tells its `Silence` itself."""
        return await super().wait(gen, *args, **kwargs)

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """As psycopg's; a server that does not take the request within CANCEL_SECONDS loses the connection, so that who is
        cancelled does not wait for it any longer."""
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_SECONDS))
        except psycopg.Error:
            self.pgconn.finish()
            raise


class LoopPool:
    """The pool of an event loop, for the engine in the loop's greenlets and in threads beside it."""

    def __init__(
        self,
        conninfo: str,
        *,
        loop: asyncio.AbstractEventLoop,
        threads: Threads,
        size: int,
        configure: Callable[[Connection], None] | None = None,
        settings: dict[str, str | int] | None = None,
        reconnect_seconds: float = 300.0,
        reconnect_failed: Callable[[Pool], None] | None = None,
    ) -> None:
        self._loop = loop
        #: The connections that are in use: the pool itself forgets them.
        self._out: dict[Connection, PooledConnection] = {}

        async def configured(connection: PooledConnection) -> None:
            connection.face = Face(connection, threads)
            await in_greenlet(partial(set_up, connection.face, settings=settings, configure=configure), threads)

        options = pool_options(size=size, reconnect_seconds=reconnect_seconds)
        # What the face prepares, the asynchronous connection knows nothing of: their names would collide.
        options["kwargs"]["prepare_threshold"] = None
        self._pool = AsyncConnectionPool[PooledConnection](
            conninfo,
            connection_class=PooledConnection,
            configure=configured,
            reconnect_failed=None if reconnect_failed is None else lambda _: reconnect_failed(self),
            **options,
        )

    @property
    def timeout(self) -> float:
        return self._pool.timeout

    def open(self) -> None:
        from_anywhere(self._loop, self._pool.open())

    def close(self) -> None:
        from_anywhere(self._loop, self._pool.close())

    def check(self) -> None:
        from_anywhere(self._loop, self._pool.check())

    def drain(self) -> None:
        from_anywhere(self._loop, self._pool.drain())

    def get_stats(self) -> dict[str, int]:
        return self._pool.get_stats()

    def getconn(self, timeout: float | None = None) -> Connection:
        return from_anywhere(self._loop, self._taken(timeout))

    def putconn(self, conn: Connection) -> None:
        from_anywhere(self._loop, self._given_back(conn))

    async def _taken(self, timeout: float | None) -> Connection:
        connection = await self._pool.getconn(timeout)
        self._out[connection.face] = connection
        return connection.face

    async def _given_back(self, face: Connection) -> None:
        """Gives a connection back even where the task is cancelled meanwhile: one that got lost would be one less for all."""
        returning = self._pool.putconn(self._out.pop(face))
        if face.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            await asyncio.shield(asyncio.ensure_future(returning))
            return
        # It rarely waits: a task for each would cost a tenth of a search.
        try:
            waits_for = returning.send(None)
        except StopIteration:
            return
        await asyncio.shield(asyncio.ensure_future(_continued(returning, waits_for)))


async def _continued(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """The rest of a coroutine that was started by hand and now waits for `waits_for`."""
    await _rest(coroutine, waits_for)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as exc:
                waits_for = coroutine.throw(exc)
            else:
                waits_for = coroutine.send(sent)
    except StopIteration:
        return


def make_loop_pool(loop: asyncio.AbstractEventLoop, threads: Threads) -> MakePool:
    """Makes pools of `loop`, as `connections.make_pool` makes those of threads."""

    def make(conninfo: str, **options: Any) -> Pool:
        pool = LoopPool(conninfo, loop=loop, threads=threads, **options)
        away.remember_address(pool, conninfo)
        return pool

    return make
