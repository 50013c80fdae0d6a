"""The place of a vector index operation: inside the transaction of its revision, in parallel with it, or after its commit.

CREATE INDEX CONCURRENTLY cannot run in a transaction, and the engine uses separate connections, which do not see uncommitted
changes, and whose build waits for sessions that have written to the table. So:

- If the transaction has created the table, or has locked it and it is empty, the index is created in the same transaction:
  no other session waits for it, and a failed build rolls the table back as well.
- Otherwise Alembic's own transaction (any `transaction_per_migration`, `transactional_ddl`, AUTOCOMMIT engines) is committed,
  as `autocommit_block` does for every such statement, and a new one is begun afterwards.
- Only env.py may commit a transaction that it began before `context.configure`. If that transaction has not used the table,
  the engine works in parallel with it. Otherwise the operation is rejected: in parallel it would wait for the transaction for
  ever, and inside it would block every writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from everindex.alembic_kit.dropped_index import commits_are_ours, remember
from everindex.errors import TransactionInTheWay
from everindex.index.plan.ddl import quoted
from everindex.index.spec import IndexSpec
from everindex.pg.connections import connect
from everindex.pg.index_catalog import table_oid_of

Place = Literal["own connections", "this transaction"]

#: Locks that conflict neither with a build nor with its waiting for writers.
_HARMLESS_LOCKS = {"AccessShareLock", "RowShareLock"}
#: Locks under which no other session can write to the table.
_LOCKS_OF_OWNERS = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
#: Timeouts with which PostgreSQL would end the session of the migration while it waits for the engine.
_IDLE_LIMITS = ("idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How the transaction of the migration uses the table."""

    oid: int | None
    locks: frozenset[str]
    keeps_snapshot: bool
    index_exists: bool


@contextmanager
def place_of_work(operations: Operations, spec: IndexSpec, conninfo: str, *, drops: bool = False) -> Iterator[Place]:
    """Inside the block the work on `spec`'s index can be done, at the place that it yields.

    Raises TransactionInTheWay. The timeouts of the migration's session are lifted meanwhile.
    """
    context = operations.migration_context
    bind = operations.get_bind()
    alembic_began = _alembic_began_transaction(context)
    if not bind.in_transaction() or alembic_began:
        if alembic_began and _is_its_own(bind, spec, conninfo):
            yield "this transaction"
            return
        if drops:
            remember(context, bind, spec, conninfo)
        with commits_are_ours(context), context.autocommit_block(), _without_idle_limits(operations.get_bind()):
            yield "own connections"  # outside a transaction, so no snapshot is held here
        return
    with _without_idle_limits(bind):
        place = _beside_or_inside(bind, spec, conninfo, drops=drops)
        if place == "own connections":
            if drops:
                remember(context, bind, spec, conninfo)
            _close_portal(bind)
        yield place


def _alembic_began_transaction(context: MigrationContext) -> bool:
    """Whether Alembic began the open transaction, and will commit it, as opposed to env.py.

    Alembic 1.20 has no public API for this: `autocommit_block()` asserts it without a message, and `begin_transaction()`
    returns an object "without a guaranteed API". This is the only private name that the kit reads.
    """
    return context._transaction is not None


def schema_in_search_path(bind: Connection, table: str) -> str | None:
    """The schema that an unqualified table name resolves to on this connection, including uncommitted tables."""
    found: str | None = bind.execute(
        text(
            "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.oid = pg_catalog.to_regclass(pg_catalog.quote_ident(:table))"
        ),
        {"table": table},
    ).scalar()
    return found


def _is_its_own(bind: Connection, spec: IndexSpec, conninfo: str) -> bool:
    """Whether the open transaction has created the table, or prevents all others from writing to it while it has no rows."""
    modes = ", ".join(f"'{mode}'" for mode in _LOCKS_OF_OWNERS)
    oid = bind.execute(
        text(
            "SELECT c.oid::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "  # noqa: S608
            "WHERE n.nspname = :schema AND c.relname = :table AND c.relkind IN ('r', 'p', 'm') AND EXISTS "
            "(SELECT FROM pg_catalog.pg_locks l WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' "
            f"AND l.relation = c.oid AND l.granted AND l.mode IN ({modes}))"
        ),
        {"schema": spec.schema, "table": spec.table},
    ).scalar()
    return oid is not None and (not _is_committed(conninfo, oid) or not _has_rows(bind, spec))


def _beside_or_inside(bind: Connection, spec: IndexSpec, conninfo: str, *, drops: bool) -> Place:
    look = _look(bind, spec, conninfo)
    # DROP INDEX CONCURRENTLY waits for readers of the table too.
    in_the_way = look.locks - (frozenset() if drops or look.index_exists else _HARMLESS_LOCKS)
    if not in_the_way and not look.keeps_snapshot:
        return "own connections"
    if look.oid is not None and (not _is_committed(conninfo, look.oid) or not _has_rows(bind, spec)):
        return "this transaction"
    raise TransactionInTheWay(
        f"index {spec.name} on {spec.table} cannot be {'dropped' if drops else 'built'} online here.",
        why="env.py passed a connection to Alembic on which a transaction was already open, and that transaction "
        + (
            f"has locks on the table ({', '.join(sorted(in_the_way))})."
            if in_the_way
            else "holds a snapshot (REPEATABLE READ, or an open cursor)."
        ),
        next_step="in env.py, commit before context.configure(connection=…), open the connection with engine.connect() instead "
        "of engine.begin(), and take locks on another connection (docs/alembic-kit.md); nothing was built or dropped.",
    )


def _look(bind: Connection, spec: IndexSpec, conninfo: str) -> _Look:
    row: Any = bind.execute(text(_LOOK), {"schema": spec.schema, "table": spec.table, "name": spec.name}).one_or_none()
    keeps_snapshot = _keeps_snapshot(bind, conninfo)
    if row is None:
        return _Look(oid=None, locks=frozenset(), keeps_snapshot=keeps_snapshot, index_exists=False)
    locks = frozenset(row[1].split(",")) if row[1] else frozenset()
    return _Look(oid=row[0], locks=locks, keeps_snapshot=keeps_snapshot, index_exists=row[2])


_LOOK: LiteralString = f"""
    SELECT c.oid::bigint,
           (SELECT string_agg(DISTINCT l.mode, ',') FROM pg_catalog.pg_locks l
            WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted
              AND c.oid IN (l.relation, {table_oid_of("l.relation")})),
           EXISTS (SELECT FROM pg_catalog.pg_class x WHERE x.relname = :name AND x.relnamespace = c.relnamespace)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :table
"""  # noqa: S608


def _keeps_snapshot(bind: Connection, conninfo: str) -> bool:
    """Whether a build would wait for this transaction (REPEATABLE READ, or an open cursor). Queried on another connection."""
    pid = bind.execute(text("SELECT pg_catalog.pg_backend_pid()")).scalar()
    _close_portal(bind)
    with connect(conninfo, application_name="everindex migrate") as connection:
        row = connection.execute(
            "SELECT backend_xmin IS NOT NULL FROM pg_catalog.pg_stat_activity WHERE pid = %s", (pid,)
        ).fetchone()
    return row is not None and bool(row[0])


def _close_portal(bind: Connection) -> None:
    """Runs a SET, which has no snapshot: a SELECT of the extended protocol holds its snapshot until the next statement, and
    builds wait for that."""
    bind.execute(text("SET idle_in_transaction_session_timeout = 0"))


def _is_committed(conninfo: str, oid: int) -> bool:
    """Whether other sessions see the table, queried on another connection; no session can write to a table that it cannot see."""
    with connect(conninfo, application_name="everindex migrate") as connection:
        return connection.execute("SELECT FROM pg_catalog.pg_class WHERE oid = %s::oid", (oid,)).fetchone() is not None


def _has_rows(bind: Connection, spec: IndexSpec) -> bool:
    table = quoted(spec.table, schema=spec.schema)
    statement = f"SELECT EXISTS (SELECT FROM {table})"  # noqa: S608 quoted by psycopg
    return bool(run_as_it_is(bind, statement).scalar())


def run_as_it_is(bind: Connection, statement: str) -> Any:
    """Runs a statement without parameters, so that its colons and percent signs are literal."""
    return bind.exec_driver_sql(statement, execution_options={"no_parameters": True})


@contextmanager
def _without_idle_limits(bind: Connection) -> Iterator[None]:
    """Lifts the idle timeouts while the engine works for hours on other connections; they are restored afterwards."""
    names = ", ".join(f"'{name}'" for name in _IDLE_LIMITS)
    asked = f"SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ({names}) AND setting <> '0'"  # noqa: S608
    limits = [(name, setting) for name, setting in bind.execute(text(asked))]
    for name, _ in limits:
        bind.execute(text(f"SET {name} = 0"))
    yield
    # Only after success: a failed transaction accepts no SET, and a rolled-back one reverts its settings anyway.
    for name, setting in limits:
        bind.execute(text(f"SET {name} = {int(setting)}"))
