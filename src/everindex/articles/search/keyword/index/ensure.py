"""The index of keyword search: its declaration, and the steps that bring the catalog to it.

It is not a vector index and not part of the migrations: keyword search is correct without it, only slow. So it never
stops a migration, a role without the privilege to build it gets no warning, and waiting for others is limited.
Building, dropping, watching and cleaning up are the same for all indexes (`index/build/online.py`). An index for
another language, or of an earlier release, serves until its successor is built beside it and takes its name in one
short transaction; if interrupted at any point, the next call continues from what it finds. Not guaranteed: an index on
a partitioned table, of which keyword search reads every row.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal, assert_never

from psycopg import sql

from everindex.articles.search.keyword.document import (
    GENERATION_NAMES,
    INDEX_NAME,
    NEXT_NAME,
    PREVIOUS_NAME,
    TextConfig,
    document,
    find_config,
)
from everindex.errors import EverindexError, LockNotObtained, PlanOutOfDate
from everindex.index.build.online import create_at_once, create_online, drop_online
from everindex.index.build.operation import Operation, stopped, wait_for_table
from everindex.index.catalog.canonical import print_index
from everindex.index.deploy.comments import restore_words
from everindex.index.deploy.session import build_lock, operation_session
from everindex.index.deploy.swap import rename_together
from everindex.index.journal import DROPPING, dropped_comment, record
from everindex.index.plan.ddl import comment_statement, rename_statement, swap_statements
from everindex.index.reporter import Reporter
from everindex.index.spec import BuildPolicy
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.sqlstate import translate_errors

#: How long a build waits for a transaction that blocks it. Then its work is lost, which is seconds, not hours.
POLICY = BuildPolicy(wait_for_transactions_seconds=60.0)
#: The same limit enforced by the server, for when the watchdog gets no connection.
LOCK_TIMEOUT = "65s"
#: More rounds than any sequence of states needs; ends a conflict with another session that keeps undoing the work.
MOST_ROUNDS = 12

#: (server, configuration, expression) found to match: the keeper checks every minute, and each comparison leaves dead
#: rows in the catalog.
_AS_DECLARED: set[tuple[Any, ...]] = set()

Outcome = Literal["already-there", "built", "replaced", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextIndex:
    """The location of the index, and how long its build may wait."""

    schema: str
    table: str = "articles"
    name: str = INDEX_NAME
    build: BuildPolicy = field(default_factory=lambda: POLICY)

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A relation with the name of the index, or of its next or previous generation."""

    oid: int
    name: str
    is_valid: bool
    expression: str | None
    """As pg_get_expr prints it; None unless it is a GIN index of this table over one expression and all rows."""

    has_no_statistics: bool
    """Set by the last action of a build: without it, the build was interrupted and the next call finishes it."""

    comment: str | None

    @property
    def is_ours(self) -> bool:
        """True for an index of keyword search, even for another language or of another release."""
        found = self.expression or ""
        return all(word in found for word in ("to_tsvector(", "setweight(", "title", "summary"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The state in the catalog."""

    index: TextIndex
    may_build: bool
    """The role owns the table, may create in its schema, and the server takes writes."""

    is_partitioned: bool
    is_empty: bool
    estimated_rows: int
    serving: Found | None
    successor: Found | None
    previous: Found | None

    @property
    def exists(self) -> bool:
        """A relation with the index's name exists; `serving` describes it."""
        return self.serving is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The outcome of one call."""

    outcome: Outcome
    index_name: str = INDEX_NAME
    reason: str | None = None
    """Why the index, or a leftover beside it, was left as it is; None where that needs no report."""

    did: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """Nothing to do."""

    reason: str | None = None
    is_as_declared: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    index: Found
    why: str
    comes_back: bool = False
    """It is rebuilt under the same name and gets its comment back."""


@dataclass(frozen=True, slots=True)
class Build:
    name: str


@dataclass(frozen=True, slots=True)
class Swap:
    """The successor takes the name of the serving index, which becomes the previous generation."""

    serving: Found
    successor: Found


@dataclass(frozen=True, slots=True)
class Rename:
    """The successor takes the name of the index, which is free."""

    successor: Found


@dataclass(frozen=True, slots=True)
class Finish:
    """Completes a build that was interrupted after its CREATE INDEX."""

    index: Found


Step = Drop | Build | Swap | Rename | Finish


@dataclass(slots=True, kw_only=True)
class TextOperation(Operation):
    """One call, and what it has done so far."""

    spec: TextIndex
    config: TextConfig
    words: str | None = None
    """The comment that somebody else wrote on the dropped index."""

    outcome: Outcome = "already-there"
    did: list[str] = field(default_factory=list)

    def done(self, reason: str | None = None) -> Done:
        return Done(outcome=self.outcome, reason=reason, did=tuple(self.did))


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

    A missing or INVALID index is built; one for another language is replaced if `replaces`. Waits `wait_seconds` for
    other builders. Raises SettingInvalid, LockNotObtained, BuildFailed and its subclasses; leaves behind nothing, or an
    INVALID index that the next call removes.
    """
    with (
        connect(conninfo, application_name="everindex build") as connection,
        translate_errors(f"reading index {INDEX_NAME}"),
    ):
        lift_time_limits(connection)
        config = find_config(connection, text_search)
        found = observe(connection)
        step = next_step(connection, config, found, replaces=replaces)
    if found is None or isinstance(step, Left):
        return _as_done(step)
    operation = TextOperation(
        conninfo=conninfo,
        spec=found.index,
        config=config,
        reporter=reporter or Reporter(),
        deadline=time.monotonic() + wait_seconds,
        stop=stop,
    )
    try:
        with operation_session(operation, application_name="everindex build") as connection, build_lock(operation):
            return _bring(operation, connection, replaces=replaces)
    except EverindexError as exc:
        if operation.is_stopped:
            return Done(outcome="left")
        if isinstance(exc, LockNotObtained) and _is_leftover(step):
            return operation.done()  # the index exists; leftovers are removed another time
        raise


def observe(connection: Connection) -> Observed | None:
    """The state of the index in the catalog; None without a table of articles. Reads only."""
    rows = connection.execute(
        """
        SELECT n.nspname,
               NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting('transaction_read_only') = 'off'
               AND pg_catalog.pg_has_role(t.relowner, 'USAGE') AND pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
               t.relkind = 'p', t.relkind = 'r' AND pg_catalog.pg_relation_size(t.oid) = 0, t.reltuples::bigint,
               x.oid, x.relname, coalesce(i.indisvalid AND i.indisready, false),
               CASE WHEN i.indrelid = t.oid AND m.amname = 'gin' AND i.indnatts = 1 AND i.indpred IS NULL
                    THEN pg_catalog.pg_get_expr(i.indexprs, i.indrelid) END,
               EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid AND a.attnum = 1 AND a.attstattarget = 0),
               pg_catalog.obj_description(x.oid, 'pg_class')
        FROM pg_catalog.pg_class t
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
        LEFT JOIN pg_catalog.pg_class x ON x.relnamespace = t.relnamespace AND x.relname = ANY(%s)
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid
        LEFT JOIN pg_catalog.pg_am m ON m.oid = x.relam
        WHERE t.oid = pg_catalog.to_regclass('articles')
        """,
        (list(GENERATION_NAMES),),
    ).fetchall()
    if not rows:
        return None
    found = {
        row[6]: Found(
            oid=row[5], name=row[6], is_valid=row[7], expression=row[8], has_no_statistics=row[9], comment=row[10]
        )
        for row in rows
        if row[5] is not None
    }
    return Observed(
        index=TextIndex(schema=rows[0][0]),
        may_build=rows[0][1],
        is_partitioned=rows[0][2],
        is_empty=rows[0][3],
        estimated_rows=max(0, rows[0][4]),
        serving=found.get(INDEX_NAME),
        successor=found.get(NEXT_NAME),
        previous=found.get(PREVIOUS_NAME),
    )


def script(text_search: str) -> list[str]:
    """Guard and CREATE INDEX for psql, for servers where everything is applied by script. To be run outside a
    transaction, on a UTF8 database."""
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
        RAISE EXCEPTION 'index {name} is INVALID, left behind by an interrupted build'
            USING HINT = 'DROP INDEX CONCURRENTLY it, then run this script again.';
    END IF;
END $everindex$"""


# --- planning ------------------------------------------------------------------------------------------------------


def next_step(connection: Connection, config: TextConfig, found: Observed | None, *, replaces: bool) -> Step | Left:
    """The first step towards the declaration, or why there is none. Changes no index."""
    if found is None or not found.may_build:
        return Left()
    if found.is_partitioned:
        return Left(f"table {found.index.table} is partitioned: keyword search reads all of its rows")
    serving, successor, previous = found.serving, found.successor, found.previous
    if serving is not None and not serving.is_ours:
        return Left(f"another relation has the name {INDEX_NAME}: keyword search reads every row until it is renamed")
    if serving is not None and serving.is_valid:
        if _is_for(connection, config, found.index, serving):
            rest = next((each for each in (successor, previous) if each is not None and each.is_ours), None)
            if rest is not None:
                return Drop(rest, "is left over from a replacement")
            return Left(is_as_declared=True) if serving.has_no_statistics else Finish(serving)
        if not replaces:
            return Left(f"index {INDEX_NAME} is not for {config.name!r}: the next  everindex migrate  replaces it")
        for each in (successor, previous):
            if each is not None and not each.is_ours:
                return Left(
                    f"another relation has the name {each.name}: index {INDEX_NAME} is not replaced until it is renamed"
                )
    elif serving is not None:
        return Drop(serving, "is INVALID (left behind by an interrupted build)", comes_back=True)
    if successor is None or not successor.is_ours:
        return Build(INDEX_NAME if serving is None else NEXT_NAME)
    if not successor.is_valid:
        return Drop(successor, "is INVALID (left behind by an interrupted build)")
    if not _is_for(connection, config, found.index, successor):
        return Drop(successor, "is for another language or of an earlier release")
    if serving is None:
        return Rename(successor)
    return Swap(serving, successor) if previous is None else Drop(previous, "is left over from a replacement")


def _is_leftover(step: Step) -> bool:
    """True where the index is as declared and the step only removes or completes leftovers of its build."""
    return isinstance(step, Finish) or (isinstance(step, Drop) and step.why == "is left over from a replacement")


def _as_done(step: Step | Left) -> Done:
    if isinstance(step, Left) and step.is_as_declared:
        return Done(outcome="already-there")
    return Done(outcome="left", reason=step.reason if isinstance(step, Left) else None)


def _is_for(connection: Connection, config: TextConfig, index: TextIndex, found: Found) -> bool:
    """Whether the index matches a search in `config`, comparing both as PostgreSQL prints them; cached per process."""
    where = (connection.info.host, connection.info.port, connection.info.dbname, index.schema)
    if (where, config, found.expression) not in _AS_DECLARED:
        printed = print_index(connection, index.schema, index.table, sql.SQL("USING gin ({})").format(document(config)))
        if printed is not None and printed.expression != found.expression:
            return False
        _AS_DECLARED.add((where, config, found.expression))
    return True


# --- executing ------------------------------------------------------------------------------------------------------


def _bring(operation: TextOperation, connection: Connection, *, replaces: bool) -> Done:
    """Observes, takes one step and observes again until nothing is left to do, under the build lock."""
    index = operation.spec
    for _ in range(MOST_ROUNDS):
        found = observe(connection)
        step = next_step(connection, operation.config, found, replaces=replaces)
        if found is None or isinstance(step, Left):
            return operation.done(step.reason if isinstance(step, Left) else None) if operation.did else _as_done(step)
        if operation.is_stopped:
            raise stopped(index)
        try:
            if isinstance(step, (Drop, Build)):
                wait_for_table(operation, connection, index.schema, index.table)
                found = observe(connection)
                if found is None or next_step(connection, operation.config, found, replaces=replaces) != step:
                    continue  # a session that was waited for has changed it
            take_step(operation, connection, step, found)
        except PlanOutOfDate:
            continue
        except LockNotObtained as exc:
            if isinstance(step, Drop) and _is_leftover(step):
                return operation.done(f"index {step.index.name} {step.why} and will be dropped later: {exc.why}")
            raise
    raise LockNotObtained(
        f"index {index.qualified_name} did not reach its declared state in {MOST_ROUNDS} rounds.",
        why="something else keeps changing it: another tool or a script that drops or rebuilds the same index.",
        next_step="find it in pg_stat_activity, end it, then run the same command again.",
    )


def take_step(operation: TextOperation, connection: Connection, step: Step, found: Observed) -> None:
    index, say = operation.spec, operation.reporter.say
    match step:
        case Drop():
            _drop(operation, connection, step)
        case Build():
            _build(operation, connection, step, found)
        case Swap():
            rename_together(
                operation,
                connection,
                expected={INDEX_NAME: step.successor.oid, PREVIOUS_NAME: step.serving.oid},
                schema=index.schema,
                statements=[
                    *swap_statements(index.schema, INDEX_NAME, successor=NEXT_NAME, previous=PREVIOUS_NAME),
                    comment_statement(index.schema, INDEX_NAME, step.successor.comment or step.serving.comment),
                ],
            )
            record(connection, index, "swapped", text_search=operation.config.name)
            say(f"index {index.qualified_name} is now for {operation.config.name}")
            operation.did.append(f"replace index {INDEX_NAME} with {NEXT_NAME}")
            operation.outcome = "replaced"
        case Rename():
            rename_together(
                operation,
                connection,
                expected={INDEX_NAME: step.successor.oid},
                schema=index.schema,
                statements=[rename_statement(index.schema, NEXT_NAME, INDEX_NAME)],
            )
            record(connection, index, "renamed", old=NEXT_NAME)
            say(f"index {NEXT_NAME} is as declared and is now named {INDEX_NAME}")
            operation.did.append(f"rename index {NEXT_NAME} to {INDEX_NAME}")
            operation.outcome = "built"
        case Finish():
            _finish(operation, connection, index)
        case _:
            assert_never(step)


def _drop(operation: TextOperation, connection: Connection, step: Drop) -> None:
    index, name = operation.spec, step.index.name
    what_next = "rebuilding it" if step.comes_back else "dropping it"
    operation.reporter.say(f"index {index.schema}.{name} {step.why}: {what_next}")
    words = step.index.comment if step.comes_back else None
    if words is not None:
        # Recorded before the drop, so that the next call can restore it if this one is killed in between.
        operation.words = words
        record(connection, index, DROPPING, name=name, comment=words)
    drop_online(operation, connection, index.schema, name, lock_timeout=LOCK_TIMEOUT)
    record(connection, index, "dropped", name=name, why=step.why, comment=words)
    operation.did.append(f"drop index {name}, which {step.why}")
    if step.comes_back:
        operation.outcome = "replaced"


def _build(operation: TextOperation, connection: Connection, step: Build, found: Observed) -> None:
    index = replace(operation.spec, name=step.name)
    if found.serving is not None:
        operation.reporter.say(
            f"index {index.schema}.{INDEX_NAME} is for another language or of an earlier release: it serves until its "
            "successor is built"
        )
    started = time.monotonic()
    at_once = _create(operation.config, index, concurrently=False)
    if not (found.is_empty and create_at_once(operation, connection, index, at_once)):
        seconds = create_online(
            operation,
            connection,
            index,
            _create(operation.config, index, concurrently=True),
            announcement=f"building index {index.qualified_name} for keyword search ({operation.config.name}), online",
            rows_total=found.estimated_rows,
            settings={"lock_timeout": LOCK_TIMEOUT}
            | ({"max_parallel_maintenance_workers": "0"} if operation.is_serial else {}),
        )
        if seconds is None:
            return
        operation.reporter.say(f"built index {index.qualified_name} in {seconds:.1f} s")
    _finish(operation, connection, index)
    record(
        connection,
        index,
        "built",
        seconds=round(time.monotonic() - started, 3),
        text_search=operation.config.name,
    )
    operation.did.append(f"build index {index.name} for keyword search ({operation.config.name})")
    if operation.outcome == "already-there":
        operation.outcome = "built"


def _finish(operation: TextOperation, connection: Connection, index: TextIndex) -> None:
    """Gives a new index the comment of its predecessor, then turns its statistics off, which tells the next call that
    this is done."""
    if index.name == INDEX_NAME:
        restore_words(connection, index, operation.words or dropped_comment(connection, index))
    # ANALYZE would parse thousands of articles, and no plan of keyword search depends on the result.
    connection.execute(
        sql.SQL("ALTER INDEX {} ALTER COLUMN 1 SET STATISTICS 0").format(sql.Identifier(index.schema, index.name))
    )


def _create(config: TextConfig, index: TextIndex, *, concurrently: bool) -> sql.Composed:
    return sql.SQL("CREATE INDEX {}{} ON {} USING gin ({})").format(
        sql.SQL("CONCURRENTLY " if concurrently else ""),
        sql.Identifier(index.name),
        sql.Identifier(index.schema, index.table),
        document(config),
    )
