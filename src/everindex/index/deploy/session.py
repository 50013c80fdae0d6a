"""The session of an operation: one connection without time limits, which can be stopped and reports PostgreSQL's notices.

Driver errors are translated into ours, and every failure caused by stopping the operation into DeployStopped. Only one
operation at a time builds or drops in a database: the one that holds the advisory lock `build` (`build_lock`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from everindex.errors import DeployStopped, EverindexError
from everindex.index.build.operation import Operation, stopped
from everindex.index.deploy.cancellation import ended_by
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.locks import advisory_lock
from everindex.pg.sqlstate import statement_error


@contextmanager
def operation_session(operation: Operation, *, application_name: str) -> Iterator[Connection]:
    """A connection for the operation's statements, in autocommit mode."""
    with (
        _errors_translated(operation),
        connect(operation.conninfo, application_name=application_name) as connection,
        ended_by(operation.stop, connection),
    ):
        # A lock_timeout, for example, also applies while waiting for old snapshots, and leaves an INVALID index behind.
        lift_time_limits(connection)
        connection.add_notice_handler(lambda diagnostic: _on_notice(operation, diagnostic))
        yield connection


@contextmanager
def build_lock(operation: Operation) -> Iterator[None]:
    """Inside the block no other operation of everindex builds or drops in this database. Raises LockNotObtained."""
    with advisory_lock(
        operation.conninfo,
        "build",
        wait_seconds=max(0.0, operation.deadline - time.monotonic()),
        stop=operation.stop,
        on_wait=lambda holder: operation.reporter.say(f"waiting for another build: {holder}"),
    ):
        yield


def notice_text(diagnostic: psycopg.errors.Diagnostic) -> str:
    return f"{diagnostic.severity or 'NOTICE'}: {diagnostic.message_primary or ''}"


@contextmanager
def _errors_translated(operation: Operation) -> Iterator[None]:
    try:
        yield
    except DeployStopped:
        raise
    except (EverindexError, psycopg.Error) as exc:
        if operation.is_stopped:
            raise stopped(operation.spec) from exc
        if isinstance(exc, psycopg.Error):
            raise statement_error(exc, doing=f"working on index {operation.spec.qualified_name}") from exc
        raise


def _on_notice(operation: Operation, diagnostic: psycopg.errors.Diagnostic) -> None:
    text = diagnostic.message_primary or ""
    if "no longer fits into maintenance_work_mem" in text:
        operation.warn(f"{text}: the rest of the build is several times slower; {diagnostic.message_hint or ''}")
    operation.reporter.notice(notice_text(diagnostic))
