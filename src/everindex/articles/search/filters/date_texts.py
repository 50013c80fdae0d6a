"""The count of dates that `since` and `until` cannot compare, cached for the notices in answers.

On an existing instance the column is text, and a filter compares it as text, which is correct for ISO-8601 dates only.
Guarantees a bounded read, at most one per KNOWN_SECONDS, and only where an answer is filtered by date.
"""

from __future__ import annotations

import logging
import time

from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.model import Answer
from everindex.articles.table import CollectionTable
from everindex.errors import EverindexError
from everindex.pg.connections import Connection
from everindex.pg.date_text import NOT_ISO
from everindex.pg.sqlstate import translate_errors

log = logging.getLogger(__name__)

KNOWN_SECONDS = 300.0
#: At most this many rows are read; a larger table is sampled by page.
SAMPLED_ROWS = 50_000


class DateTexts:
    """The count of one instance; safe to use from many threads."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._known: tuple[float, str | None] | None = None

    def notice(self, table: CollectionTable) -> str | None:
        """The notice for an answer filtered by date; None where all dates can be compared."""
        date = table.spec.date
        if date is None or table.columns[date] not in ("text", "character varying"):
            return None
        known = self._known
        if known is None or time.monotonic() - known[0] > KNOWN_SECONDS:
            known = self._known = (time.monotonic(), self._look(table))
        return known[1]

    def invalidate(self) -> None:
        """Discards the count: the next search filtered by date counts again."""
        self._known = None

    def _look(self, table: CollectionTable) -> str | None:
        try:
            counted, strange, is_sample = self._reading.read(
                lambda connection: count_strange(connection, table, sql.Identifier(str(table.spec.date)))
            )
        except EverindexError as exc:
            # The answer is ready and must not fail because of a notice.
            log.debug("publication dates were not checked: %s", exc.slug, extra={"event": "dates-not-checked"})
            return None
        if not strange:
            return None
        of = f"{strange:,} of {counted:,}{' sampled' if is_sample else ''}"
        if table.spec is not ARTICLES:
            return f"{of} dates in {table.spec.date} are not written as YYYY-MM-DD, and since and until compare them as text"
        return (
            f"{of} publication dates are not written as YYYY-MM-DD, and since and until compare them as text: articles "
            f"may be "
            "missing or wrong (everindex doctor prints the statement that normalises them)"
        )


def count_strange(connection: Connection, table: CollectionTable, date: sql.Identifier) -> tuple[int, int, bool]:
    """(dates read, dates that are not ISO-8601, whether that was a sample). Reads only."""
    with translate_errors("checking publication dates"):
        row = connection.execute(
            "SELECT greatest(reltuples, 0), relkind = 'r' FROM pg_catalog.pg_class WHERE oid = "
            "pg_catalog.to_regclass(%s)",
            (table.identifier.as_string(None),),
        ).fetchone()
        estimated, is_plain = row or (0, False)
        is_sample = bool(is_plain and estimated > 2 * SAMPLED_ROWS)
        share = (
            sql.SQL(" TABLESAMPLE SYSTEM ({})").format(sql.Literal(round(100 * SAMPLED_ROWS / estimated, 4)))
            if is_sample
            else None
        )
        found = connection.execute(
            sql.SQL(
                "SELECT count(*), count(*) FILTER (WHERE {date} {not_iso}) FROM (SELECT {date} FROM {table}{share} "
                "WHERE {date} IS NOT NULL LIMIT {most}) AS looked_at"
            ).format(
                date=date, not_iso=sql.SQL(NOT_ISO), table=table.identifier, share=share or sql.SQL(""),
                most=sql.Literal(4 * SAMPLED_ROWS),
            )
        ).fetchone()  # fmt: skip
    return (0, 0, False) if found is None else (found[0], found[1], is_sample)


def with_notice(answer: Answer, notice: str | None) -> Answer:
    """The answer with the notice about dates, if there is one."""
    if notice is not None:
        answer.notices = [*answer.notices, notice]
    return answer
