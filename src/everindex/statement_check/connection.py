"""Queries on a connection of the caller, with any PostgreSQL driver; its transaction is left as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from everindex.errors import EverindexError, StatementNotCheckable
from everindex.pg.sqlstate import statement_error


class Refused(Exception):
    """PostgreSQL rejected a query: its message, and its SQLSTATE ("" if the driver does not provide it)."""

    def __init__(self, exc: Exception) -> None:
        super().__init__(str(exc))
        self.error = exc
        self.state = _state(exc)
        diagnosis = getattr(exc, "diag", None)
        first = next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
        self.text = str(getattr(diagnosis, "message_primary", None) or first)

    @property
    def is_of_a_foreign_server(self) -> bool:
        """Whether the server of a foreign table could not be reached (PostgreSQL, errcodes.txt, classes 08 and HV)."""
        return self.state[:2] in ("08", "HV") and self.state not in ("08003", "08006", "08P01")

    def as_ours(self, *, doing: str) -> EverindexError:
        """The same as an error of everindex."""
        if isinstance(self.error, psycopg.Error):
            return statement_error(self.error, doing=doing)
        return StatementNotCheckable(
            f"{doing} failed.",
            why=f"{self.text} (SQLSTATE {self.state or 'unknown'}).",
            next_step="correct the statement or what it needs, then check it again.",
        )


class CallerConnection:
    """A connection that takes queries as plain text: psycopg's, psycopg2's or another one with DB-API cursors.

    Not thread-safe. With psycopg's connections the extended protocol is used, which accepts only one statement at a time.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, question: str | sql.Composable) -> list[tuple[Any, ...]]:
        """The rows of a statement, none if it has no result. Raises Refused."""
        text = question if isinstance(question, str) else question.as_string(None)
        try:
            if isinstance(self._connection, psycopg.Connection):
                with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
                    # Requesting a binary result makes psycopg use the extended protocol.
                    cursor.execute(text.encode(), prepare=False, binary=True)
                    return cursor.fetchall() if cursor.description else []
            cursor = self._connection.cursor()
            try:
                cursor.execute(text)
                found = cursor.fetchall() if cursor.description else []
            finally:
                cursor.close()
            return [tuple(row.values()) if isinstance(row, Mapping) else tuple(row) for row in found]
        except Exception as exc:
            if not _state(exc) and not isinstance(exc, psycopg.Error):
                raise  # a programming error, not an error of the server
            raise Refused(exc) from exc

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        """A READ ONLY transaction for the block, or a savepoint in the open one; rolled back at the end."""
        if not self._is_idle():
            self.rows("SAVEPOINT everindex_check")
            try:
                # Ends with the savepoint: the transaction may write again (PostgreSQL, xact.c, prevXactReadOnly).
                self.rows("SET TRANSACTION READ ONLY")
                yield
            finally:
                self.rows("ROLLBACK TO SAVEPOINT everindex_check")
                self.rows("RELEASE SAVEPOINT everindex_check")
        elif self._begins_by_itself():
            try:
                self.rows("SET TRANSACTION READ ONLY")
                yield
            finally:
                self._connection.rollback()
        else:
            self.rows("BEGIN READ ONLY")
            try:
                yield
            finally:
                self.rows("ROLLBACK")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Inside `rolled_back`: an error in the block does not end the transaction; settings made in the block are reverted."""
        self.rows("SAVEPOINT everindex_attempt")
        try:
            yield
        finally:
            self.rows("ROLLBACK TO SAVEPOINT everindex_attempt")
            self.rows("RELEASE SAVEPOINT everindex_attempt")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside `rolled_back`: an error in the block does not end the transaction; settings made in the block remain."""
        self.rows("SAVEPOINT everindex_kept")
        try:
            yield
        except Refused:
            self.rows("ROLLBACK TO SAVEPOINT everindex_kept")
            raise
        finally:
            self.rows("RELEASE SAVEPOINT everindex_kept")

    def _is_idle(self) -> bool:
        if isinstance(self._connection, psycopg.Connection):
            return self._connection.info.transaction_status == TransactionStatus.IDLE
        status = getattr(self._connection, "get_transaction_status", None)  # psycopg2
        if status is not None:
            return bool(status() == 0)
        return not getattr(
            self._connection, "in_transaction", True
        )  # pg8000; if unknown, one is open, as DB-API requires

    def _begins_by_itself(self) -> bool:
        return not getattr(self._connection, "autocommit", False)


def _state(exc: Exception) -> str:
    state = getattr(exc, "sqlstate", None) or getattr(exc, "pgcode", None)
    if state is None and exc.args and isinstance(exc.args[0], dict):  # pg8000
        state = exc.args[0].get("C")
    return str(state or "")
