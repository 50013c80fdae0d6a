"""The cut, the way back, and the end of old vectors.

Which generation serves is one row of everindex_meta.model_generation: it changes in one short transaction, for which writers of
the articles wait and readers do not. Searches that have begun end with the generation that they began with. Its vectors stay
until they are dropped, so the same change back is possible at any time before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from everindex.articles.embedding import Embedder
from everindex.articles.ingest.generation_vectors import Coverage, read_coverage, read_due
from everindex.articles.ingest.other_generations import catch_up, store_batch
from everindex.articles.model_generations import COLUMN
from everindex.articles.model_switch.state import filling_of, previous_of
from everindex.articles.search.vector.engine import SERVING_SECONDS
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import EverindexError, LockNotObtained, ModelSwitchRefused
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: So long after a generation was begun every process knows that there is one: they read the catalog again that often.
KNOWN_AFTER_SECONDS = 2 * SERVING_SECONDS
#: How long the cut waits for a writer of the articles, in milliseconds; then it lets all of them pass and tries again.
LOCK_WAIT_MS = 300
TRIES = 50
#: Articles that may be embedded while writers wait: those that were written in the last moment.
FEW = 16
#: Rows of one transaction where the vectors of the column are removed.
ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A change of the generation that serves."""

    before: int
    after: int
    model: str | None
    locked_ms: float
    """How long writers of the articles waited at most."""

    coverage: Coverage
    """Of the generation that serves now, at the moment of the change."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "before": self.before, "serves": self.after, "model": self.model, "locked_ms": round(self.locked_ms, 1),
            "articles": self.coverage.rows, "without_vector": self.coverage.lacking,
        }  # fmt: skip


def cut_over(connection: Connection, embedder: Embedder, *, keep_hours: float, known_after_seconds: float) -> Cut:
    """Makes the filled generation serve; the old one is kept for `keep_hours`. Raises ModelSwitchRefused where no switch is
    under way, LockNotObtained where writers of the articles never pause."""
    table = read_table(connection)
    filling = filling_of(table)
    if filling is None:
        raise _nothing("no switch of the model is under way.", "everindex model switch NAME  begins one.")
    _wait_until_known(connection, filling.number, known_after_seconds)
    return _change(
        connection, table, table.of_generation(filling.number), embedder, keep_hours=keep_hours, most_seconds=30.0
    )


def roll_back(connection: Connection, embedder_of: Callable[[CollectionTable], Embedder], *, keep_hours: float) -> Cut:
    """Makes the generation that served before serve again, within seconds: an article that lacks a vector in it gets one if the
    model is at hand, and otherwise later. Raises ModelSwitchRefused where its vectors are gone."""
    table = read_table(connection)
    previous = previous_of(table)
    if previous is None:
        raise _nothing("there are no old vectors to go back to.", "everindex model  shows the generations that exist.")
    before = table.of_generation(previous.number)
    try:
        embedder: Embedder | None = embedder_of(before)
    except EverindexError:
        embedder = None
    return _change(connection, table, before, embedder, keep_hours=keep_hours, most_seconds=2.0)


def _nothing(what: str, next_step: str) -> ModelSwitchRefused:
    return ModelSwitchRefused(what, why="only vectors that exist can serve.", next_step=next_step)


def _wait_until_known(connection: Connection, number: int, seconds: float) -> None:
    """Waits until every process has read that this generation exists: from then on its searches name the one that answers."""
    row = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - began_at)::float8 FROM everindex_meta.model_generation WHERE number = %s",
        (number,),
    ).fetchone()
    age = 0.0 if row is None else float(row[0])
    time.sleep(max(0.0, seconds - age))


def _change(
    connection: Connection,
    table: CollectionTable,
    to: CollectionTable,
    embedder: Embedder | None,
    *,
    keep_hours: float,
    most_seconds: float,
) -> Cut:
    deadline = time.monotonic() + most_seconds
    for _ in range(TRIES):
        if embedder is not None:
            catch_up(connection, to, embedder)
        is_last = embedder is None or time.monotonic() >= deadline
        try:
            found = _change_now(connection, table, to, embedder, keep_hours=keep_hours, is_last=is_last)
        except psycopg.errors.LockNotAvailable:
            time.sleep(0.2)
            continue
        if found is not None:
            return found
    raise LockNotObtained(
        "the model was not changed: writers of the articles never paused.",
        why=f"the change needs them to wait for a moment, and waited itself {LOCK_WAIT_MS} ms each of {TRIES} times.",
        next_step="nothing was changed. See who writes for so long (pg_stat_activity), and run the command again.",
    )


def _change_now(
    connection: Connection,
    table: CollectionTable,
    to: CollectionTable,
    embedder: Embedder | None,
    *,
    keep_hours: float,
    is_last: bool,
) -> Cut | None:
    """One transaction; None where too many articles lack a vector. SHARE on the articles: writers wait, readers do not."""
    is_done = False
    with connection.transaction() as transaction:
        connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (f"{LOCK_WAIT_MS}ms",))
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table.identifier))
        began = time.perf_counter()
        due = read_due(connection, to, limit=FEW + 1)
        if due and not is_last:
            if len(due) > FEW or embedder is None or embedder.is_remote:
                raise psycopg.Rollback(transaction)
            store_batch(connection, to, due, embedder)
        connection.execute(
            "UPDATE everindex_meta.model_generation SET state = 'kept', "
            "kept_until = clock_timestamp() + pg_catalog.make_interval(secs => %s) WHERE number = %s",
            (keep_hours * 3600, table.number),
        )
        connection.execute(
            "UPDATE everindex_meta.model_generation SET state = 'serving', kept_until = NULL, "
            "served_at = clock_timestamp() WHERE number = %s",
            (to.number,),
        )
        is_done, locked_ms = True, (time.perf_counter() - began) * 1000
    if not is_done:
        return None
    model = next((each.model for each in table.generations if each.number == to.number), None)
    return Cut(
        before=table.number, after=to.number, model=model, locked_ms=locked_ms, coverage=read_coverage(connection, to)
    )


def drop_generation(connection: Connection, number: int) -> str:
    """Drops the vectors of a generation that does not serve; returns what was done. The articles' own column stays, empty, since
    migrations and other programs name it. Raises ModelSwitchRefused."""
    table = read_table(connection)
    found = next((each for each in table.generations if each.number == number), None)
    if found is None and number == COLUMN and table.generation is not None:
        return _cleared(connection, table)  # a drop that was killed
    if found is None or found.state == "serving":
        raise ModelSwitchRefused(
            f"generation {number} cannot be dropped.",
            why="it serves all searches." if found is not None else "there is none with vectors.",
            next_step="everindex model  shows the generations, and which of them serves.",
        )
    with translate_errors("dropping old vectors"):
        # First nobody may go back to it, then its vectors go.
        connection.execute(
            "UPDATE everindex_meta.model_generation SET state = 'dropped', kept_until = NULL WHERE number = %s",
            (number,),
        )
        connection.execute("DELETE FROM everindex_meta.model_failure WHERE generation = %s", (number,))
        if number != COLUMN:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(found.identifier))
            return f"dropped {found.identifier.as_string(connection)}"
        return _cleared(connection, table)


def _cleared(connection: Connection, whole: CollectionTable) -> str:
    """Sets the vectors of the column to NULL, some rows at a time."""
    table, cleared = whole.of_generation(COLUMN), 0
    statement = sql.SQL(
        "UPDATE {table} SET {vector} = NULL WHERE {key} IN (SELECT {key} FROM {table} WHERE {vector} IS NOT NULL LIMIT {rows})"
    ).format(table=table.identifier, vector=table.vector, key=table.key, rows=sql.Literal(ROWS_AT_ONCE))
    while count := connection.execute(statement).rowcount:
        cleared += count
    if table.has_embedding_records:
        connection.execute("DELETE FROM everindex_meta.embedding_record")
    return f"cleared {cleared} vectors of column {table.spec.vector}"
