"""The warm-up of an index: its blocks are read into memory by pg_prewarm if available, otherwise by searches.

After a restart every search jumps through an index that is only on disk. Correct results do not depend on the warm-up, so
only a lost connection raises an error here, and everything ends in time.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg
from psycopg import sql

from everindex.errors import EverindexError
from everindex.index.catalog.effective_spec import as_tuned
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import serving_spec
from everindex.index.recall.explain import FORCED, under_settings
from everindex.index.recall.measurement import sample_queries
from everindex.index.recall.probe import probe_settings, probe_statement
from everindex.index.spec import DEFAULT_K, IndexSpec
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.pooler import keeps_session
from everindex.pg.vector_type import register_all_types
from everindex.units import count_text, size_text

log = logging.getLogger(__name__)

#: Blocks that pg_prewarm reads at a time (16 MB) before the deadline is checked again.
BLOCKS_AT_ONCE = 2048
#: Number of searches that warm what pg_prewarm does not (the table's pages, the catalog), and that do all of the warm-up.
FEW_SEARCHES = 20
MANY_SEARCHES = 500

Method = Literal["pg_prewarm", "searches", "nothing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """What was read into memory of one declared index."""

    index: str
    method: Method
    read_bytes: int = 0
    """By pg_prewarm; unknown for searches."""

    index_bytes: int = 0
    buffers_bytes: int = 0
    searches: int = 0
    seconds: float = 0.0
    why: str | None = None
    """Why it is not everything, or not by pg_prewarm."""

    @property
    def sentence(self) -> str:
        took = f"in {self.seconds:.1f} s"
        note = f": {self.why}" if self.why else ""
        match self.method:
            case "pg_prewarm":
                size = f"{size_text(self.read_bytes)} of {size_text(self.index_bytes)}"
                return f"index {self.index}: {size} are in shared_buffers, by pg_prewarm, {took}{note}"
            case "searches":
                return f"index {self.index}: warmed by {count_text(self.searches, 'search', 'searches')} {took}{note}"
            case _:
                return f"index {self.index}: nothing was warmed{note}"

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def warm(conninfo: str, spec: IndexSpec, *, max_seconds: float, stop: threading.Event | None = None) -> Warmed:
    """Reads the index that serves `spec` into memory, for at most about `max_seconds`.

    Reads only, except for CREATE EXTENSION pg_prewarm in schema everindex_meta, if that schema exists and the role may.
    Never reads more than shared_buffers holds. Raises what connecting raises.
    """
    started = time.monotonic()
    with connect(conninfo, application_name="everindex warm") as connection:
        if keeps_session(connection):  # otherwise a limit of the role may end it early, which does no harm
            lift_time_limits(connection)
        work = _Warming(connection, deadline=started + max_seconds, stop=stop or threading.Event())
        try:
            spec = as_tuned(connection, spec)
            observed = observe(connection, spec)
            found = serving_spec(spec, observed)
            if found is None:
                return Warmed(index=spec.name, method="nothing", why="no valid index serves")
            return replace(work.warmed(*found, observed), seconds=time.monotonic() - started)
        except (EverindexError, psycopg.Error) as exc:
            why = exc.why.rstrip(".") if isinstance(exc, EverindexError) else type(exc).__name__
            return Warmed(index=spec.name, method="nothing", why=why)


def warm_in_background(
    conninfo: str, *specs: IndexSpec, max_seconds: float, stop: threading.Event | None = None
) -> threading.Thread:
    """The same for one index after the other, all within `max_seconds`, in a thread that does not keep the process alive; the
    results are logged. Raises nothing."""

    def run() -> None:
        deadline = time.monotonic() + max_seconds
        for spec in specs:
            left = deadline - time.monotonic()
            if left <= 0 or (stop is not None and stop.is_set()):
                return
            try:
                log.info(
                    "%s", warm(conninfo, spec, max_seconds=left, stop=stop).sentence, extra={"event": "index-warmed"}
                )
            except EverindexError as exc:
                log.info("index %s was not warmed: %s", spec.name, exc.slug, extra={"event": "index-not-warmed"})
            except Exception:
                log.exception(
                    "warm-up failed with an internal error; it has no other effect", extra={"event": "warm-failed"}
                )

    thread = threading.Thread(target=run, name="everindex-warm", daemon=True)
    thread.start()
    return thread


@dataclass(slots=True)
class _Warming:
    """One warming, on its connection, until its deadline."""

    connection: Connection
    deadline: float
    stop: threading.Event

    @property
    def is_over(self) -> bool:
        return self.stop.is_set() or time.monotonic() >= self.deadline

    def warmed(self, spec: IndexSpec, index: ObservedIndex, observed: Observed) -> Warmed:
        """The result, without its duration, which the caller measures."""
        buffers = self._number(
            "SELECT setting::bigint * 8192 FROM pg_catalog.pg_settings WHERE name = 'shared_buffers'"
        )
        parts = self._parts(index)
        total = sum(size for _, size in parts)
        schema, without = self._prewarm_schema()
        read = 0 if schema is None else self._read(schema, parts, limit_bytes=buffers)
        was_over = self.is_over
        searches = self._search(spec, observed, searches=MANY_SEARCHES if schema is None else FEW_SEARCHES)
        why = None
        if schema is None:
            why = without
        elif total > buffers:
            why = f"shared_buffers hold {size_text(buffers)}"
        elif was_over:
            why = "the time limit was reached"
        method: Method = "pg_prewarm" if read else "searches" if searches else "nothing"
        return Warmed(
            index=spec.name,
            method=method,
            read_bytes=read,
            index_bytes=total,
            buffers_bytes=buffers,
            searches=searches,
            why=why,
        )

    def _prewarm_schema(self) -> tuple[str | None, str | None]:
        """The schema of pg_prewarm, after creating it if necessary and possible; otherwise the reason why it is unavailable."""
        row = self.connection.execute(
            """
            SELECT n.nspname, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
                   EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'pg_prewarm'),
                   EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'everindex_meta'),
                   current_setting('is_superuser') = 'on', pg_catalog.pg_is_in_recovery()
            FROM (VALUES (1)) AS one(row)
            LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_prewarm'
            LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
            """
        ).fetchone()
        assert row is not None  # always one row
        schema, may_use, is_available, has_own_schema, is_superuser, is_standby = row
        if schema is not None:
            return (
                (schema, None) if may_use else (None, f"pg_prewarm is in schema {schema}, which this role may not use")
            )
        if not is_available:
            return None, "the server's installation has no pg_prewarm (it is one of PostgreSQL's contrib modules)"
        if is_standby:
            return None, "pg_prewarm is not created on the primary of this standby"
        if not is_superuser:
            return None, "pg_prewarm is not created in this database, and only a superuser may create it"
        if not has_own_schema:
            return (
                None,
                "pg_prewarm is not created in this database, and schema everindex_meta, where it would go, is missing",
            )
        try:
            # In our own schema: dropping that drops this too.
            self.connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm SCHEMA everindex_meta")
        except psycopg.Error as exc:
            log.debug("pg_prewarm was not created: %s", type(exc).__name__, extra={"event": "prewarm-not-created"})
            message = (exc.diag.message_primary or type(exc).__name__).rstrip(".")
            return None, f"pg_prewarm could not be created: {message}"
        return "everindex_meta", None

    def _parts(self, index: ObservedIndex) -> list[tuple[int, int]]:
        """(oid, bytes) of the index, or of the indexes of its partitions."""
        rows = self.connection.execute(
            """
            SELECT c.oid, pg_catalog.pg_relation_size(c.oid) FROM pg_catalog.pg_class c
            WHERE c.relkind = 'i' AND (c.oid = %(oid)s OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(%(oid)s)))
            ORDER BY c.oid
            """,
            {"oid": index.oid},
        ).fetchall()
        return [(row[0], row[1]) for row in rows]

    def _read(self, schema: str, parts: list[tuple[int, int]], *, limit_bytes: int) -> int:
        """Reads the parts into shared_buffers, up to `limit_bytes`; returns the bytes that were read."""
        block = self._number("SELECT current_setting('block_size')::bigint")
        statement = sql.SQL("SELECT {}(%s::oid::regclass, 'buffer', 'main', %s, %s)").format(
            sql.Identifier(schema, "pg_prewarm")
        )
        read, limit = 0, limit_bytes // block
        for oid, size in parts:
            last = min(size // block, limit - read)
            for first in range(0, last, BLOCKS_AT_ONCE):
                if self.is_over:
                    return read * block
                upto = min(first + BLOCKS_AT_ONCE, last) - 1
                read += self._number(statement, (oid, first, upto))
        return read * block

    def _search(self, spec: IndexSpec, observed: Observed, *, searches: int) -> int:
        """Runs searches for stored rows until the deadline; returns their number."""
        if self.is_over:
            return 0
        register_all_types(self.connection)
        statement = probe_statement(spec, observed, k=DEFAULT_K)
        settings = (*probe_settings(spec, observed, k=DEFAULT_K), *FORCED)
        done = 0
        try:
            with under_settings(self.connection, self._until_deadline()):
                vectors = sample_queries(self.connection, spec, observed, samples=searches, seed="warm")
            for vector in vectors:
                if self.is_over:
                    break
                with under_settings(self.connection, (*settings, *self._until_deadline())):
                    self.connection.execute(statement, {"vector": vector}).fetchall()
                done += 1
        except (psycopg.errors.QueryCanceled, EverindexError):
            pass  # the time limit was reached; what was read is in memory
        return done

    def _until_deadline(self) -> tuple[tuple[str, str], ...]:
        """The time limit of a transaction: the remaining time."""
        return (("statement_timeout", str(max(1, int((self.deadline - time.monotonic()) * 1000)))),)

    def _number(self, statement: str | sql.Composed, parameters: Any = None) -> int:
        row = self.connection.execute(statement, parameters).fetchone()
        return 0 if row is None or row[0] is None else int(row[0])
