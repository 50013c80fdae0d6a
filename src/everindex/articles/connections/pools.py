"""The connection pools of an instance: one to the primary, and one to its read replicas where these are configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from everindex.errors import ServerUnreachable
from everindex.pg.address import Addresses
from everindex.pg.connections import Connection, borrowed, make_pool
from everindex.pg.pool import MakePool, Pool
from everindex.pg.replica import RETRY_SECONDS, Replica, why_no_replica
from everindex.pg.vector_type import register_vector
from everindex.settings import Settings


class Pools:
    """Open pools of one database; `close()` when done."""

    def __init__(self, addresses: Addresses, settings: Settings, *, make: MakePool = make_pool) -> None:
        self._make_pool = make
        self._settings = settings
        self.primary = self._make(addresses.main)
        self.primary.open()
        self.replica: Replica | None = None
        if addresses.read is not None:
            self.replica = Replica(addresses.read, make=self._make_replica, refusal=self._refusal)
            self.replica.open()

    def close(self) -> None:
        if self.replica is not None:
            self.replica.close()
        self.primary.close()

    def _make(self, conninfo: str, **options: Any) -> Pool:
        return self._make_pool(
            conninfo,
            size=self._settings.pool_size,
            configure=register_vector,
            # Statements that may keep their plan say so themselves: for most, the best plan depends on a filter's
            # value.
            settings={
                "statement_timeout": self._settings.statement_timeout_ms,
                "plan_cache_mode": "force_custom_plan",
            },
            **options,
        )

    def _make_replica(self, conninfo: str, gave_up: Callable[[Pool], None]) -> Pool:
        return self._make(conninfo, reconnect_seconds=RETRY_SECONDS, reconnect_failed=gave_up)

    def _refusal(self, connection: Connection) -> str | None:
        """Why the server of `connection` is not a replica of this database; None also where the primary cannot be reached."""
        try:
            with borrowed(self.primary, seconds=1.0) as primary:
                return why_no_replica(connection, primary=primary)
        except ServerUnreachable:
            return None
