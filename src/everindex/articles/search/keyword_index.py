"""How does the index of keyword search come to be there? Observed, then built, replaced or left: online, and never twice.

It is no vector index and no part of the chain: the search by keyword is right without it, only slow. So it never stops a
migration, a role that may not build it is not told so, and waiting for others has an end. The locks are those of every
build (docs/decisions/0003): one builder in a database, nobody else at work on the table, CONCURRENTLY.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql

from everindex.articles.search.document import INDEX_NAME, TextConfig, document, find_config
from everindex.errors import EverindexError, LockNotObtained
from everindex.index.build.operation import POLL_SECONDS, SHORT_LOCK_TIMEOUT, set_session
from everindex.index.busy import at_work_on
from everindex.index.deploy.cancellation import ended_by
from everindex.index.journal import DROPPING, record
from everindex.index.plan.ddl import drop_statement
from everindex.index.progress import Watch
from everindex.index.reporter import Reporter
from everindex.index.set_aside import restore_words
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.locks import advisory_lock
from everindex.pg.sqlstate import told_as_ours

log = logging.getLogger(__name__)

#: A build waits so long for a transaction that is in its way. What it built is then lost; it takes seconds, not hours.
LOCK_TIMEOUT = "60s"
CLEAN_UP_LOCK_TIMEOUT = "3s"
#: To find out how PostgreSQL prints the expression, it is made on an empty copy; temporary, or where the table lies.
_COPY = "everindex_words"
_NO_COPY_HERE = (psycopg.errors.InsufficientPrivilege, psycopg.errors.DuplicateTable)

#: (where, configuration, expression) that were found to belong together: a keeper looks every minute, and each comparison
#: leaves dead rows in the catalog.
_AS_DECLARED: set[tuple[Any, ...]] = set()

Outcome = Literal["already-there", "built", "replaced", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextIndex:
    """Where the index lies, for the journal and for statements."""

    schema: str
    table: str = "articles"
    name: str = INDEX_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the catalog has."""

    index: TextIndex
    may_build: bool
    """The role owns the table, may create in its schema, and the server takes writes."""

    is_partitioned: bool
    is_empty: bool
    exists: bool
    """Something has the name; what, the next ones say."""

    is_valid: bool
    expression: str | None
    """As pg_get_expr prints it; None where it is no GIN index of this table over one expression and all rows."""

    comment: str | None

    @property
    def is_ours(self) -> bool:
        """An index of keyword search: in another language, or as another release made it."""
        found = self.expression or ""
        return all(word in found for word in ("to_tsvector(", "setweight(", "title", "summary"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of it."""

    outcome: Outcome
    index_name: str = INDEX_NAME
    reason: str | None = None
    """Why it was left, in words; None for what nobody has to be told."""

    did: tuple[str, ...] = ()


def ensure_text_index(
    conninfo: str,
    *,
    text_search: str,
    reporter: Reporter | None = None,
    wait_seconds: float = 20.0,
    replaces: bool = True,
    stop: threading.Event | None = None,
) -> Done:
    """Brings the index to the configuration `text_search`; SHARE UPDATE EXCLUSIVE on the table while it builds.

    Absent, it is built; INVALID, or of another language where `replaces`, dropped and built anew. It waits `wait_seconds`
    for other builders. Raises SettingInvalid, LockNotObtained, StatementFailed and its kin, with nothing left behind or an
    INVALID index, which the next call removes.
    """
    work = _Work(conninfo, reporter or Reporter(), time.monotonic() + wait_seconds, replaces, stop)
    try:
        with (
            connect(conninfo, application_name="everindex build") as connection,
            ended_by(stop, connection),
            told_as_ours(f"seeing to index {INDEX_NAME}"),
        ):
            lift_time_limits(connection)
            config = find_config(connection, text_search)
            _, done = _look(connection, config, replaces=replaces)
            if done is not None:
                return done
            with advisory_lock(conninfo, "build", wait_seconds=wait_seconds, stop=stop):
                return _make_if_due(work, connection, config)
    except EverindexError:
        if stop is not None and stop.is_set():
            return Done(outcome="left")
        raise


@dataclass(frozen=True, slots=True)
class _Work:
    conninfo: str
    reporter: Reporter
    deadline: float
    replaces: bool
    stop: threading.Event | None


def observe(connection: Connection) -> Observed | None:
    """What the catalog says of the index; None without a table of articles. Reads only."""
    row = connection.execute(
        """
        SELECT n.nspname,
               NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting('transaction_read_only') = 'off'
               AND pg_catalog.pg_has_role(t.relowner, 'USAGE') AND pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
               t.relkind = 'p', t.relkind = 'r' AND pg_catalog.pg_relation_size(t.oid) = 0, x.oid IS NOT NULL,
               coalesce(i.indisvalid AND i.indisready, false),
               CASE WHEN i.indrelid = t.oid AND m.amname = 'gin' AND i.indnatts = 1 AND i.indpred IS NULL
                    THEN pg_catalog.pg_get_expr(i.indexprs, i.indrelid) END,
               pg_catalog.obj_description(x.oid, 'pg_class')
        FROM pg_catalog.pg_class t
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
        LEFT JOIN pg_catalog.pg_class x ON x.relnamespace = t.relnamespace AND x.relname = %s
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid
        LEFT JOIN pg_catalog.pg_am m ON m.oid = x.relam
        WHERE t.oid = pg_catalog.to_regclass('articles')
        """,
        (INDEX_NAME,),
    ).fetchone()
    if row is None:
        return None
    return Observed(
        index=TextIndex(schema=row[0]),
        may_build=row[1],
        is_partitioned=row[2],
        is_empty=row[3],
        exists=row[4],
        is_valid=row[5],
        expression=row[6],
        comment=row[7],
    )


def script(text_search: str) -> list[str]:
    """Guard and CREATE INDEX for psql, where nobody may connect but a person with a script. Outside of a transaction, and
    for a database that is UTF8."""
    schema, _, name = text_search.strip().rpartition(".")
    config = TextConfig(schema=schema, name=name, is_utf8=True)
    create = sql.SQL("CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON articles USING gin ({})").format(
        sql.Identifier(INDEX_NAME), document(config)
    )
    return [_GUARD.format(name=INDEX_NAME), create.as_string(None)]


_GUARD = """
DO $everindex$
BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid) THEN
        RAISE EXCEPTION 'index {name} is INVALID, left by an interrupted build'
            USING HINT = 'DROP INDEX CONCURRENTLY it, then run this script again.';
    END IF;
END $everindex$"""


# --- what is to be done --------------------------------------------------------------------------------------------


def _look(connection: Connection, config: TextConfig, *, replaces: bool) -> tuple[Observed | None, Done | None]:
    """What was observed, and whether that is the end of it."""
    found = observe(connection)
    if found is None or not found.may_build:
        return found, Done(outcome="left")
    if found.is_partitioned:
        reason = f"table {found.index.table} is partitioned: keyword search reads all of it"
        return found, Done(outcome="left", reason=reason)
    if not found.exists:
        return found, None
    if not found.is_ours:
        reason = f"something else has the name {INDEX_NAME}: keyword search reads every row until it is renamed"
        return found, Done(outcome="left", reason=reason)
    if not found.is_valid:
        return found, None
    if _is_for(connection, config, found):
        return found, Done(outcome="already-there")
    if not replaces:
        reason = f"index {INDEX_NAME} is not for {config.name!r}: the next  everindex migrate  replaces it"
        return found, Done(outcome="left", reason=reason)
    return found, None


def _is_for(connection: Connection, config: TextConfig, found: Observed) -> bool:
    """Whether the index holds what a search in `config` looks for, as PostgreSQL prints both; asked once in a process."""
    where = (connection.info.host, connection.info.port, connection.info.dbname, found.index)
    if (where, config, found.expression) not in _AS_DECLARED:
        printed = _printed(connection, config, found.index)
        if printed is not None and printed != found.expression:
            return False
        _AS_DECLARED.add((where, config, found.expression))
    return True


def _printed(connection: Connection, config: TextConfig, index: TextIndex) -> str | None:
    """The expression as pg_get_expr prints it, asked of PostgreSQL with an empty copy that is rolled back; None where even
    that cannot be made."""
    for schema in ("pg_temp", index.schema):
        copy = sql.Identifier(schema, _COPY)
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(
                    sql.SQL("CREATE TABLE {} AS SELECT title, summary FROM {} LIMIT 0").format(
                        copy, sql.Identifier(index.schema, index.table)
                    )
                )
                connection.execute(sql.SQL("CREATE INDEX ON {} USING gin ({})").format(copy, document(config)))
                row = connection.execute(
                    "SELECT pg_catalog.pg_get_expr(indexprs, indrelid) FROM pg_catalog.pg_index "
                    "WHERE indrelid = pg_catalog.to_regclass(%s)",
                    (copy.as_string(None),),
                ).fetchone()
                return None if row is None else str(row[0])
        except _NO_COPY_HERE:
            continue
    return None


# --- doing it ------------------------------------------------------------------------------------------------------


def _make_if_due(work: _Work, connection: Connection, config: TextConfig) -> Done:
    """Under the lock of builders: looks again, since another process may have built it, and does what is left to do."""
    found, done = _look(connection, config, replaces=work.replaces)
    if found is not None and done is None:
        _wait_for_table(work, connection, found.index)
        found, done = _look(connection, config, replaces=work.replaces)
    if found is None or done is not None:
        return done or Done(outcome="left")
    return _make(work, connection, config, found)


def _make(work: _Work, connection: Connection, config: TextConfig, found: Observed) -> Done:
    index, say = found.index, work.reporter.say
    did: list[str] = []
    if found.exists:
        why = (
            "is for another language or of an earlier release"
            if found.is_valid
            else "is INVALID (left by an interrupted build)"
        )
        say(f"index {index.schema}.{index.name} {why}: building it anew")
        if found.comment is not None:
            record(connection, index, DROPPING, name=index.name, comment=found.comment)
        _run(work, connection, index, drop_statement(index.schema, index.name, if_exists=True))
        record(connection, index, "dropped", name=index.name, why=why, comment=found.comment)
        did.append(f"drop index {index.name}, which {why}")
    started = time.monotonic()
    if not (found.is_empty and _create_at_once(connection, config, index)):
        say(f"building index {index.schema}.{index.name} for keyword search ({config.name}), online")
        try:
            _run(work, connection, index, _create(config, index, concurrently=True))
        except BaseException as exc:
            left = _clean_up(work, index)
            if isinstance(exc, EverindexError):
                say(f"could not build index {index.schema}.{index.name}: {left}")
            raise
    seconds = time.monotonic() - started
    say(f"built index {index.schema}.{index.name} in {seconds:.1f} s")
    # What ANALYZE would learn from parsing thousands of articles: nothing that a plan of keyword search depends on.
    connection.execute(
        sql.SQL("ALTER INDEX {} ALTER COLUMN 1 SET STATISTICS 0").format(sql.Identifier(index.schema, index.name))
    )
    record(connection, index, "built", seconds=round(seconds, 3), text_search=config.name)
    restore_words(connection, index, words=found.comment)
    did.append(f"build index {index.name} for keyword search ({config.name})")
    return Done(outcome="replaced" if found.exists else "built", did=tuple(did))


def _create(config: TextConfig, index: TextIndex, *, concurrently: bool) -> sql.Composed:
    return sql.SQL("CREATE INDEX {}{} ON {} USING gin ({})").format(
        sql.SQL("CONCURRENTLY " if concurrently else ""),
        sql.Identifier(index.name),
        sql.Identifier(index.schema, index.table),
        document(config),
    )


def _create_at_once(connection: Connection, config: TextConfig, index: TextIndex) -> bool:
    """The plain CREATE INDEX on a table that is still empty; False when it is not, or is in use."""
    table = sql.Identifier(index.schema, index.table)
    try:
        with connection.transaction():
            connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (SHORT_LOCK_TIMEOUT,))
            connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table))
            row = connection.execute(
                "SELECT pg_catalog.pg_relation_size(pg_catalog.to_regclass(%s))", (table.as_string(None),)
            ).fetchone()
            if row is None or row[0]:
                return False
            connection.execute(_create(config, index, concurrently=False))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    return True


def _run(work: _Work, connection: Connection, index: TextIndex, statement: sql.Composed) -> None:
    """A statement that may wait for others, for LOCK_TIMEOUT and no longer."""
    set_session(connection, {"lock_timeout": LOCK_TIMEOUT})
    watch = Watch(work.conninfo, connection, rows_total=0, on_progress=work.reporter.progress)
    with watch, told_as_ours(f"building index {index.schema}.{index.name}"):
        connection.execute(statement)


def _wait_for_table(work: _Work, connection: Connection, index: TextIndex) -> None:
    """Until nobody else builds or vacuums, as in `index.work.wait_for_table`. Raises LockNotObtained."""
    while (worker := at_work_on(connection, index.schema, index.table)) is not None:
        if time.monotonic() >= work.deadline or (work.stop is not None and work.stop.is_set()):
            raise LockNotObtained(
                f"index {index.schema}.{index.name} was not built: its table is in use.",
                why=f"{worker} did not end in the time that this process may wait.",
                next_step="nothing has to be done: the next start, and the keeper, try again.",
            )
        time.sleep(POLL_SECONDS)


def _clean_up(work: _Work, index: TextIndex) -> str:
    """Drops what a failed build left, over a connection of its own; says what became of it."""
    try:
        with connect(work.conninfo, application_name="everindex clean-up", wait_seconds=5) as connection:
            lift_time_limits(connection)
            found = observe(connection)
            if found is None or not found.exists or found.is_valid:
                return "nothing was left behind"
            set_session(connection, {"lock_timeout": CLEAN_UP_LOCK_TIMEOUT})
            connection.execute(drop_statement(index.schema, index.name, if_exists=True))
            return "the unfinished index was removed"
    except (psycopg.Error, EverindexError) as exc:
        log.debug("clean-up failed: %s", type(exc).__name__)
        return "an unfinished, INVALID index may be left; the next start removes it"
