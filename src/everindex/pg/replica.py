"""A read replica: a pool while it answers; otherwise a thread retries in the background and no read waits for it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everindex.errors import EverindexError
from everindex.pg.address import describe
from everindex.pg.connections import Connection, connect
from everindex.pg.pool import Pool

log = logging.getLogger(__name__)

#: Seconds between attempts to reach a replica that is away.
RETRY_SECONDS = 5.0
#: How long a starting program waits for the first attempt. A replica that answers later is used from then on.
OPENING_SECONDS = 3.0


#: TCP settings that detect a silent host; without them a read would wait for minutes. Each can be set in the address.
SILENCE = {"tcp_user_timeout": 5000, "keepalives_idle": 5, "keepalives_interval": 2}


class Replica:
    """The replicas of one address, which may name several hosts. `open()` it, and `close()` it when done."""

    def __init__(
        self,
        conninfo: str,
        *,
        make: Callable[[str, Callable[[Pool], None]], Pool],
        refusal: Callable[[Connection], str | None],
    ) -> None:
        """`make` returns a pool, not opened yet, that calls the function when it can no longer connect; `refusal` returns why
        a server must not be read from, or None."""
        self.where = describe(conninfo)
        self._conninfo = noticing_silence(conninfo)
        self._make = make
        self._refusal = refusal
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._reason: str | None = "it has not been checked yet"
        self._closed = threading.Event()

    @property
    def pool(self) -> Pool | None:
        """Connections to it; None while it is away."""
        return self._pool

    @property
    def reason(self) -> str | None:
        """Why it is away; None while it is available."""
        return self._reason

    def open(self) -> None:
        """Tries to reach it, and waits at most OPENING_SECONDS. Raises nothing, since a replica may be away."""
        self._look_for_it(pause_seconds=0.0).wait(OPENING_SECONDS)

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def lost(self, pool: Pool, why: str) -> None:
        """Gives up a pool that has no live connection. A pool that was already given up is left alone."""
        with self._lock:
            if pool is not self._pool:
                return
            self._pool = None
            self._reason = why
        log.warning("replica-away: reads go to the primary: %s", why, extra={"event": "replica-away"})
        self._look_for_it(pause_seconds=RETRY_SECONDS)
        # In a separate thread, since the caller may be one of the pool's own threads.
        threading.Thread(target=pool.close, name="everindex-replica-close", daemon=True).start()

    def _gave_up(self, pool: Pool) -> None:
        self.lost(pool, f"{self.where} takes no connections.")

    def _look_for_it(self, *, pause_seconds: float) -> threading.Event:
        """Starts the thread that tries until it succeeds; the event is set after its first attempt."""
        has_looked = threading.Event()
        arguments = (pause_seconds, has_looked)
        threading.Thread(target=self._look, args=arguments, name="everindex-replica", daemon=True).start()
        return has_looked

    def _look(self, pause_seconds: float, has_looked: threading.Event) -> None:
        while not self._closed.wait(pause_seconds):
            why = self._find()
            if why is None:
                has_looked.set()
                return
            if why != self._reason:
                log.warning("replica-away: reads go to the primary: %s", why, extra={"event": "replica-away"})
            self._reason = why
            has_looked.set()
            pause_seconds = RETRY_SECONDS * random.uniform(0.8, 1.2)  # jitter, not security

    def _find(self) -> str | None:
        """Connects once; returns None when there is a pool now, otherwise the reason."""
        try:
            with connect(self._conninfo, application_name="everindex web") as connection:
                why = self._refusal(connection)
        except EverindexError as exc:
            return f"{exc.what} {exc.why}"
        except psycopg.Error as exc:
            return f"{self.where} went away: {type(exc).__name__}."
        if why is not None:
            return why
        pool = self._make(self._conninfo, self._gave_up)
        pool.open()
        with self._lock:
            is_wanted = not self._closed.is_set()
            if is_wanted:
                self._pool, self._reason = pool, None
        if not is_wanted:
            pool.close()
        else:
            log.info("replica-there: reads go to %s", self.where, extra={"event": "replica-there"})
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """The state of a replica relative to its primary at one moment."""

    where: str
    reason: str | None
    """Why it cannot be read from; None if it can."""

    behind_bytes: int | None = None
    """Write-ahead log that it has yet to replay; None for a server that replays none."""

    @property
    def sentence(self) -> str:
        if self.reason is not None:
            return f"from the primary: {self.reason}"
        if self.behind_bytes is None:
            return f"from {self.where}, which is not a standby"
        return f"from {self.where}, " + (f"{self.behind_bytes} bytes behind" if self.behind_bytes else "up to date")

    def as_dict(self) -> dict[str, Any]:
        return {
            "from": "primary" if self.reason else "replica",
            "reason": self.reason,
            "behind_bytes": self.behind_bytes,
        }


_POSITION = """
    SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END)::text
"""


def state_of(conninfo: str, *, primary: Connection) -> ReplicaState:
    """Checks once, on a separate connection. Reads only; a replica that is away is a result and not an error."""
    where = describe(conninfo)
    try:
        with connect(noticing_silence(conninfo), application_name="everindex status") as replica:
            reason = why_no_replica(replica, primary=primary)
            if reason is not None:
                return ReplicaState(where=where, reason=reason)
            now = primary.execute(_POSITION).fetchone()
            row = replica.execute(
                """
                SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN
                    greatest(0, pg_catalog.pg_wal_lsn_diff(%s::pg_lsn, pg_catalog.pg_last_wal_replay_lsn()))::bigint END
                """,
                now,
            ).fetchone()
    except (EverindexError, psycopg.Error) as exc:
        return ReplicaState(
            where=where, reason=f"{exc.what} {exc.why}" if isinstance(exc, EverindexError) else str(exc)
        )
    return ReplicaState(where=where, reason=None, behind_bytes=None if row is None else row[0])


def why_no_replica(connection: Connection, *, primary: Connection) -> str | None:
    """Why the database of `connection` is not a copy of that of `primary`; None if it is, or if that is unknown."""
    ours, theirs = identity_of(primary), identity_of(connection)
    if ours is None or theirs is None or ours == theirs:
        return None
    return "DATABASE_URL_READ leads to another database, which is not a physical replica of the primary."


def identity_of(connection: Connection) -> tuple[str, int] | None:
    """Identifies a database and its copies on physical replicas; None if the role may not see it."""
    try:
        row = connection.execute(
            """
            SELECT c.system_identifier::text, d.oid::bigint
            FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d WHERE d.datname = current_database()
            """
        ).fetchone()
    except psycopg.Error:
        return None
    return None if row is None else (row[0], row[1])


def noticing_silence(conninfo: str) -> str:
    given = conninfo_to_dict(conninfo)
    return make_conninfo(conninfo, **{name: value for name, value in SILENCE.items() if name not in given})
