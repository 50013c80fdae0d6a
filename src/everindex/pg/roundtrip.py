"""One round trip for a statement and the settings that hold for it alone.

psycopg's pipeline sends every statement as soon as it is executed, so that the server wakes up for the settings, answers
them, and is woken again for the statement. Here both leave in a single write, with libpq's own pipeline functions that
psycopg offers in `psycopg.pq`: a search then costs no more than the bare statement (docs/measurements/search.md).

Both are prepared, once for each connection; behind a pooler neither is, and parsing travels in the same write.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from psycopg import generators, pq, sql
from psycopg.abc import RV, PQGen
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.waiting import Ready, Wait

from everindex.pg import away, pooler
from everindex.pg.connections import Connection

#: A parameter as libpq takes it: text, or bytes in the type's binary form; None is NULL.
Parameter = str | bytes | None
Settings = Sequence[tuple[str, str]]

_NAMED = re.compile(r"%\((\w+)\)[bst]|%%")
#: "cached plan must not change result type": the table has changed since the statement was prepared. "prepared statement
#: does not exist": psycopg sends DEALLOCATE ALL after a ROLLBACK or DROP on the connection (its _preparing.py), or a
#: pooler that had not been noticed has changed the session; so it has where a name of ours "already exists".
PREPARED_LOST = ("0A000", "26000", "42P05")


#: So many statements stay prepared on a connection; one takes some 16 kB. Beyond that the one that was not used for the
#: longest time makes room, as in psycopg's prepare manager, and settings are no longer prepared each with its values.
MOST_PREPARED = 300


@dataclass(slots=True)
class _Statement:
    """A statement on its way: by the name under which it is prepared, or with its text."""

    name: bytes | None
    text: str
    values: list[bytes | None]
    formats: list[int] | None
    """Of each value 0 (text) or 1 (binary); None where all are text."""


#: What is prepared on a connection: text → name, the latest used last. A number is used once in a process: what was given
#: up may still be there.
_Names = OrderedDict[str, bytes]
_PREPARED: WeakKeyDictionary[Connection, _Names] = WeakKeyDictionary()
_NUMBERS = itertools.count()


def positional(text: str) -> tuple[str, tuple[str, ...]]:
    """A statement with psycopg's named placeholders as libpq's `$1 …`, and the names in that order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "%"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _NAMED.sub(number, text), tuple(names)


def run(
    connection: Connection, settings: Settings, text: str, parameters: Sequence[Parameter]
) -> list[tuple[Any, ...]]:
    """Runs `text` (`$1 …`) with `settings` that hold for it alone; its rows, sent in binary.

    The statements of a pipeline up to its Sync are one implicit transaction (PostgreSQL docs, 55.2.4 Pipelining), so a
    transaction-local setting made by the first ends with the second, and a pooler in transaction mode gives both the same
    session. `connection` is in autocommit and in no pipeline. Raises psycopg.Error; an interrupted or broken connection is
    closed and not reused.

    From the sixth execution on PostgreSQL may keep one plan for all values, made under the settings of that moment. On the
    connections of an instance it may not, unless `settings` have plan_cache_mode = auto
    (tests/postgres/pooled/test_kept_plans.py).
    """
    return run_many(connection, settings, text, [parameters])[0]


def run_many(
    connection: Connection, settings: Settings, text: str, parameters: Sequence[Sequence[Parameter]]
) -> list[list[tuple[Any, ...]]]:
    """Runs `text` once for each of `parameters`, all in one write and one read; the rows of each, in their order.

    As `run`; the server works on the next while the rows of the one before are on their way. One that fails, fails all. A
    statement_timeout holds for each by itself (it begins anew with every Execute). All rows are in memory at once.
    """
    return run_counted(connection, settings, text, parameters, ()).rows


class Counted(NamedTuple):
    """The rows of each statement, and what the server counted for them."""

    rows: list[list[tuple[Any, ...]]]
    scans: tuple[int, ...]
    """Of each group of relations, by all statements."""

    entries: tuple[int, ...]
    """Of the index, by each statement; empty where they were not asked for."""


def run_counted(
    connection: Connection,
    settings: Settings,
    text: str,
    parameters: Sequence[Sequence[Parameter]],
    relations: tuple[tuple[int, ...], ...],
    *,
    index: int | None = None,
) -> Counted:
    """As `run_many`; and how many scans of the tables and indexes of each group of `relations` (oids) that took, and how many
    entries of `index` (an oid) each statement was given, in the same round trip. `settings` are not empty where something is
    counted.

    The server counts a scan when it begins (pg_stat_get_xact_numscans; PostgreSQL docs, 27.2 The Cumulative Statistics
    System), on a replica too; nothing is counted where track_counts is off. What it has counted and not yet reported is
    reported between transactions only (postgres.c, PostgresMain), so the difference is this one's.
    """
    if not parameters:
        return Counted([], (0,) * len(relations), ())
    route = pooler.route_of(connection)
    counts = _counts(relations, index) if relations else ()
    each = index is not None and bool(counts)
    if not route.is_pooled:
        try:
            return _run(connection, settings, text, parameters, counts, each=each, is_prepared=True)
        except psycopg.Error as exc:
            if exc.sqlstate not in PREPARED_LOST or connection.closed:
                raise
        _PREPARED.pop(connection, None)
        route = pooler.look(connection)
    return _run(connection, (*route.limits, *settings), text, parameters, counts, each=each, is_prepared=False)


def _run(
    connection: Connection,
    settings: Settings,
    text: str,
    parameters: Sequence[Sequence[Parameter]],
    counts: tuple[str, ...],
    *,
    each: bool,
    is_prepared: bool,
) -> Counted:
    """`each`: the last of `counts` is read after each statement; else all are read after the last one only."""
    names = _PREPARED.setdefault(connection, OrderedDict()) if is_prepared else None
    statements = [_settings(connection, tuple(settings), counts, names)] if settings else []
    name = None if names is None else _name_of(connection, text, names)
    queries = [
        _Statement(
            name=name,
            text=text,
            values=[value.encode() if isinstance(value, str) else value for value in values],
            formats=[1 if isinstance(value, bytes) else 0 for value in values],
        )
        for values in parameters
    ]
    first, step = len(statements), 1
    if counts:
        again = _select(counts)
        name = None if names is None else _name_of(connection, again, names)
        counting = _Statement(name=name, text=again, values=[], formats=None)
        if each:
            step = 2
            statements += [statement for one in queries for statement in (one, counting)]
        else:
            statements += [*queries, counting]
    else:
        statements += queries
    try:
        results = _wait_for(connection, _exchange(connection, statements))
    except BaseException:
        # psycopg has ended a statement that was interrupted, where the server let it. Anywhere else in the middle of an
        # exchange nobody could tell whose answer comes next.
        if not _is_idle(connection.pgconn):
            connection.close()
        raise
    if results[-1].status != pq.ExecStatus.TUPLES_OK:
        raise _error(connection, results[-1])
    transformer = Transformer(connection)
    found = []
    for result in results[first::step][: len(parameters)]:
        transformer.set_pgresult(result)
        found.append(transformer.load_rows(0, result.ntuples, tuple))
    if not counts:
        return Counted(found, (), ())
    before = [_number(results[0], len(settings) + column) for column in range(len(counts))]
    after = [_number(results[-1], column) for column in range(len(counts))]
    if not each:
        return Counted(found, tuple([last - start for last, start in zip(after, before, strict=True)]), ())
    so_far = [before[-1], *(_number(result, len(counts) - 1) for result in results[first + 1 :: 2])]
    return Counted(
        found,
        tuple([last - start for last, start in zip(after[:-1], before[:-1], strict=True)]),
        tuple([last - start for start, last in itertools.pairwise(so_far)]),
    )


def _number(result: pq.abc.PGresult, column: int) -> int:
    """A bigint of the first row, in binary."""
    return int.from_bytes(result.get_value(0, column) or b"", "big")


@functools.lru_cache(maxsize=1000)
def _select(expressions: tuple[str, ...]) -> str:
    return "SELECT " + ", ".join(expressions)


@functools.lru_cache(maxsize=1000)
def _counts(relations: tuple[tuple[int, ...], ...], index: int | None) -> tuple[str, ...]:
    """For each group the expression of its scans so far; and for `index` that of the entries that it has given."""
    scans = tuple(
        sql.SQL("pg_catalog.pg_stat_get_xact_numscans({})").format(sql.Literal(group[0])).as_string(None)
        if len(group) == 1
        else sql.SQL(
            "(SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_numscans(one)), 0)::pg_catalog.int8 "
            "FROM pg_catalog.unnest({}::pg_catalog.oid[]) AS one)"
        )
        .format(sql.Literal("{" + ",".join(map(str, group)) + "}"))
        .as_string(None)
        for group in relations
    )
    if index is None:
        return scans
    entries = sql.SQL("pg_catalog.pg_stat_get_xact_tuples_returned({})").format(sql.Literal(index))
    return (*scans, entries.as_string(None))


def _settings(
    connection: Connection,
    settings: tuple[tuple[str, str], ...],
    counts: tuple[str, ...],
    names: _Names | None,
) -> _Statement:
    """The statement that makes `settings` and reads `counts`; prepared with its values in the text, for as many as a session
    may well keep.

    A statement without parameters is planned once whatever plan_cache_mode says (plancache.c, choose_custom_plan); with
    them, planning four calls of set_config anew took longer than running them.
    """
    if names is not None:
        text = _set_constants(settings, counts)
        if text in names or len(names) < MOST_PREPARED:
            return _Statement(name=_name_of(connection, text, names), text=text, values=[], formats=None)
    text, values = _set_parameters(settings, counts)
    name = None if names is None else _name_of(connection, text, names)
    return _Statement(name=name, text=text, values=values, formats=None)


@functools.lru_cache(maxsize=1000)
def _set_constants(settings: tuple[tuple[str, str], ...], counts: tuple[str, ...]) -> str:
    calls = (
        sql.SQL("pg_catalog.set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
        for name, value in settings
    )
    return "SELECT " + ", ".join([*(call.as_string(None) for call in calls), *counts])


@functools.lru_cache(maxsize=1000)
def _set_parameters(settings: tuple[tuple[str, str], ...], counts: tuple[str, ...]) -> tuple[str, list[bytes | None]]:
    calls = (f"pg_catalog.set_config(${2 * n + 1}, ${2 * n + 2}, true)" for n in range(len(settings)))
    return "SELECT " + ", ".join([*calls, *counts]), [part.encode() for setting in settings for part in setting]


def _name_of(connection: Connection, text: str, names: _Names) -> bytes:
    """The name under which `text` is prepared on this connection, from now on where it was not."""
    name = names.get(text)
    if name is None:
        return _prepare(connection, text, names)
    names.move_to_end(text)
    return name


def _prepare(connection: Connection, text: str, names: _Names) -> bytes:
    """Prepares `text` on this connection, in a round trip, and keeps its name among `names`.

    Where as many are kept as may be, the one that was not used for the longest time is given up first.

    The name holds a digest of the text: where a pooler that nobody noticed hands out a session in which another process
    has prepared something, a name of ours can never mean a statement of another text.
    """
    while len(names) >= MOST_PREPARED:
        _, oldest = names.popitem(last=False)
        connection.pgconn.send_query(b"DEALLOCATE " + oldest)
        given_up = _wait(connection, generators.execute(connection.pgconn))[-1]
        if given_up.status != pq.ExecStatus.COMMAND_OK:  # among them 26000: somebody else gave it up
            error = _error(connection, given_up)
            if error.sqlstate not in PREPARED_LOST:
                raise error
    digest = hashlib.blake2s(text.encode(), digest_size=10).hexdigest()
    name = f"everindex_{next(_NUMBERS)}_{digest}".encode()
    connection.pgconn.send_prepare(name, text.encode())
    result = _wait(connection, generators.execute(connection.pgconn))[-1]
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise _error(connection, result)
    names[text] = name
    return name


def _error(connection: Connection, result: pq.abc.PGresult) -> psycopg.Error:
    """The server's error; one that libpq made up because the connection was lost has no SQLSTATE and is operational."""
    error = error_from_result(result, encoding=connection.info.encoding)
    if connection.pgconn.status != pq.ConnStatus.OK and not isinstance(error, psycopg.OperationalError):
        return psycopg.OperationalError(str(error))
    return error


def _exchange(connection: Connection, statements: Sequence[_Statement]) -> PQGen[list[pq.abc.PGresult]]:
    """Sends all statements and a Sync in one write; their results, up to the first that failed. Raises ServerSilent.

    It tells the silence of the server itself: a generator around this one cost a search by vector a tenth of its
    throughput (docs/measurements/search.md).
    """
    conn = connection.pgconn
    silence: away.Silence | None = None
    conn.enter_pipeline_mode()
    for one in statements:
        if one.name is not None:
            conn.send_query_prepared(one.name, one.values, one.formats, 1)
        else:
            conn.send_query_params(one.text.encode(), one.values, None, one.formats, 1)
    conn.pipeline_sync()
    while conn.flush():
        # The server may have to be read before it reads on.
        ready = yield Wait.RW
        if not ready:
            silence = silence or away.Silence(connection)
            silence.goes_on()
        elif ready != Ready.W:
            conn.consume_input()
    results: list[pq.abc.PGresult] = []
    while True:
        while conn.is_busy():
            if (yield Wait.R):
                conn.consume_input()
                silence = None
            else:
                silence = silence or away.Silence(connection)
                silence.goes_on()
        result = conn.get_result()
        if result is None:
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            break
        if not results or results[-1].status == pq.ExecStatus.TUPLES_OK:
            results.append(result)
    conn.exit_pipeline_mode()
    return results


def _wait(connection: Connection, generator: PQGen[RV]) -> RV:
    """What the generator returns, waited for as `connection` waits. Raises ServerSilent."""
    if not isinstance(connection, away.WatchedConnection):
        generator = away.watched(connection, generator)
    return connection.wait(generator)


def _wait_for(connection: Connection, generator: PQGen[RV]) -> RV:
    """As `_wait`, for a generator that tells its `Silence` itself."""
    return (
        connection.wait_for(generator) if isinstance(connection, away.WatchedConnection) else connection.wait(generator)
    )


def _is_idle(conn: pq.abc.PGconn) -> bool:
    return conn.transaction_status == pq.TransactionStatus.IDLE and conn.pipeline_status == pq.PipelineStatus.OFF
