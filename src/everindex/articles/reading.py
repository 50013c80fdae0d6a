"""Which connection serves a read, and how often is it asked? A read changes nothing, so it may be asked again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from psycopg_pool import ConnectionPool

from everindex.errors import ServerUnreachable
from everindex.pg.connections import Connection, NoConnectionFree, borrowed

log = logging.getLogger(__name__)

T = TypeVar("T")


class Reading:
    """The connections that searches and article reads use; safe to use from many threads."""

    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        self._pool = pool

    def ask(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads over a connection. `work` may be called more than once, so it only reads and returns.

        Raises what it raises, and ServerUnreachable when no connection is free or none can be made in time.
        """
        try:
            with self.connection() as connection:
                return work(connection)
        except NoConnectionFree:
            raise
        except ServerUnreachable as exc:
            # The server was restarted, or ended idle connections: asked once more, over connections that were looked at.
            log.info("connection-lost: a read is asked again: %s", exc.why)
            self._pool.check()
            with self.connection() as connection:
                return work(connection)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for reads that are not repeated. Raises ServerUnreachable."""
        with borrowed(self._pool) as connection:
            yield connection
