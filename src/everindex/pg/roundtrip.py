"""How does a statement run with settings of its own at the price of one? Both prepared, in one write and one read.

psycopg's pipeline sends every statement as soon as it is executed, so that the server wakes up for the settings, answers
them, and is woken again for the statement. Here both leave in a single write, with libpq's own pipeline functions that
psycopg offers in `psycopg.pq`: a search then costs no more than the bare statement (docs/measurements/search.md).
"""

from __future__ import annotations

import itertools
import re
import select
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

from everindex.pg.connections import Connection

#: A parameter as libpq takes it: text, or bytes in the type's binary form; None is NULL.
Parameter = str | bytes | None
Settings = Sequence[tuple[str, str]]

_NAMED = re.compile(r"%\((\w+)\)[bst]|%%")
#: "cached plan must not change result type": the table has changed since the statement was prepared. "prepared statement
#: does not exist": psycopg sends DEALLOCATE ALL after a ROLLBACK or DROP on the connection (its _preparing.py).
PREPARED_ANEW = ("0A000", "26000")


@dataclass(slots=True)
class _Prepared:
    """What is prepared on one connection: text → name."""

    names: dict[str, bytes] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)


_PREPARED: WeakKeyDictionary[Connection, _Prepared] = WeakKeyDictionary()


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
    transaction-local setting made by the first ends with the second. `connection` is in autocommit and in no pipeline.
    Raises psycopg.Error; an interrupted or broken connection is closed and not reused.
    """
    try:
        return _run(connection, settings, text, parameters)
    except psycopg.Error as exc:
        if exc.sqlstate not in PREPARED_ANEW or connection.closed:
            raise
        _PREPARED.pop(connection, None)
        return _run(connection, settings, text, parameters)


def _run(
    connection: Connection, settings: Settings, text: str, parameters: Sequence[Parameter]
) -> list[tuple[Any, ...]]:
    prepared = _PREPARED.setdefault(connection, _Prepared())
    statements: list[tuple[bytes, list[bytes | None], list[int]]] = []
    if settings:
        flat = [part.encode() for setting in settings for part in setting]
        statements.append((_name(connection, prepared, _set_local(len(settings))), [*flat], [0] * len(flat)))
    values = [value.encode() if isinstance(value, str) else value for value in parameters]
    formats = [1 if isinstance(value, bytes) else 0 for value in parameters]
    statements.append((_name(connection, prepared, text), values, formats))
    try:
        result = _exchange(connection.pgconn, statements)
    except BaseException:
        # In the middle of an exchange nobody could tell whose answer comes next.
        connection.close()
        raise
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise _error(connection, result)
    transformer = Transformer(connection)
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def _set_local(count: int) -> str:
    calls = (f"pg_catalog.set_config(${2 * n + 1}, ${2 * n + 2}, true)" for n in range(count))
    return "SELECT " + ", ".join(calls)


def _name(connection: Connection, prepared: _Prepared, text: str) -> bytes:
    """The name under which `text` is prepared on this connection; prepares it at its first use, in a round trip."""
    name = prepared.names.get(text)
    if name is None:
        name = f"everindex_{next(prepared.numbers)}_{id(prepared)}".encode()
        result = connection.pgconn.prepare(name, text.encode())
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise _error(connection, result)
        prepared.names[text] = name
    return name


def _error(connection: Connection, result: pq.abc.PGresult) -> psycopg.Error:
    """The server's error; one that libpq made up because the connection was lost has no SQLSTATE and is operational."""
    error = error_from_result(result, encoding=connection.info.encoding)
    if connection.pgconn.status != pq.ConnStatus.OK and not isinstance(error, psycopg.OperationalError):
        return psycopg.OperationalError(str(error))
    return error


def _exchange(
    conn: pq.abc.PGconn, statements: Sequence[tuple[bytes, list[bytes | None], list[int]]]
) -> pq.abc.PGresult:
    """Sends all statements and a Sync in one write; the result of the last, or of the first that failed."""
    conn.enter_pipeline_mode()
    for name, values, formats in statements:
        conn.send_query_prepared(name, values, formats, 1)
    conn.pipeline_sync()
    _flush(conn)
    answer: pq.abc.PGresult | None = None
    while True:
        result = _next_result(conn)
        if result is None:
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            break
        if answer is None or answer.status == pq.ExecStatus.TUPLES_OK:
            answer = result
    conn.exit_pipeline_mode()
    assert answer is not None  # every statement has a result
    return answer


def _flush(conn: pq.abc.PGconn) -> None:
    while conn.flush():
        select.select([conn.socket], [conn.socket], [])
        conn.consume_input()


def _next_result(conn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while conn.is_busy():
        _wait_readable(conn.socket)
        conn.consume_input()
    return conn.get_result()


def _wait_readable(socket: int) -> None:
    waiter = select.poll()
    waiter.register(socket, select.POLLIN)
    waiter.poll()
