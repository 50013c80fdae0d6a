"""The import of rows: read, validate, embed the new ones, store. A bad row is left out; the good ones are stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.embedding import Embedder, check_vectors
from everindex.articles.ingest import upsert as store
from everindex.articles.ingest.entry_uris import settle_uris
from everindex.articles.ingest.passage_report import PassageReport
from everindex.articles.ingest.rows import Row, Texts, article_rows, last_of_each, row_or_problem, text_to_embed
from everindex.articles.ingest.upsert import MaybeVector, Stored
from everindex.articles.ingest.vector_records import record_failures, set_vectors
from everindex.articles.model import Article, RowProblem
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_models import is_zero, without_record
from everindex.errors import EverindexError, QueryInvalid, StatementFailed
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import sqlstate_of, translate_errors

log = logging.getLogger(__name__)

#: Rows of one transaction: large enough for COPY to pay, small enough to keep at most 50 MB of vectors in memory.
BATCH_ROWS = 5000
#: How often an article is embedded again when its text changes while its vector is made.
LOST_ROUNDS = 3
#: Problems kept for the report; all of them are counted.
KEPT_PROBLEMS = 1000


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What an import did: rows stored, rows left out, articles stored without a vector."""

    stored: Stored = field(default_factory=Stored)
    problems: list[RowProblem] = field(default_factory=list)
    problem_count: int = 0
    notes: list[RowProblem] = field(default_factory=list)
    """Fields of stored articles that could not be read, and entries replaced by newer ones; at most 1,000 of
    `note_count`."""

    note_count: int = 0
    without_vector: int = 0
    failure_reason: str | None = None
    """The reason of the first article that got no vector."""

    next_step: str | None = None
    """What must be done before `embed` can make them; None where nothing is needed."""

    kept_vectors: int = 0
    """Articles whose text changed but whose vector, of an unrecorded model, was kept."""

    passages: PassageReport = field(default_factory=PassageReport)
    """What was done with the whole texts of the articles."""

    def __add__(self, other: ImportReport) -> ImportReport:
        return ImportReport(
            stored=self.stored + other.stored,
            problems=[*self.problems, *other.problems][:KEPT_PROBLEMS],
            problem_count=self.problem_count + other.problem_count,
            notes=[*self.notes, *other.notes][:KEPT_PROBLEMS],
            note_count=self.note_count + other.note_count,
            without_vector=self.without_vector + other.without_vector,
            failure_reason=self.failure_reason or other.failure_reason,
            next_step=self.next_step or other.next_step,
            kept_vectors=self.kept_vectors + other.kept_vectors,
            passages=self.passages + other.passages,
        )

    @property
    def rows(self) -> int:
        return self.stored.inserted + self.stored.updated + self.stored.unchanged


def import_rows(
    connection: Connection,
    rows: Iterable[Article | RowProblem],
    embedder: Embedder | EverindexError,
    *,
    on_rows: Callable[[int], None] | None = None,
    stored_uris: set[str] | None = None,
    require_expiry: Callable[[], None] = lambda: None,
) -> ImportReport:
    """Stores every good row of `rows`, each batch in a transaction of its own, with vectors for what is new or changed.

    An error in place of the embedder says why no vector may be made: then only texts are stored. `on_rows(n)` is called
    after each batch with its number of rows, including bad ones; the uris of what was stored are added to
    `stored_uris`; `require_expiry` is called before the first one that says when it expires is stored. An article that
    cannot be embedded is stored without a vector and stays queued for `embed_missing`.
    """
    table = read_table(connection)
    report = ImportReport()
    can_expire = False
    iterator = iter(rows)
    while batch := list(islice(iterator, BATCH_ROWS)):
        good = settle_uris(connection, table, note_problems(batch, report))
        if not can_expire and any(article.expires_at for article in good):
            require_expiry()
            can_expire = True
        if good:
            _store(connection, table, last_of_each(article_rows(table, good)), embedder, report)
            if stored_uris is not None:
                stored_uris.update(article.uri for article in good)
        if on_rows is not None:
            on_rows(len(batch))
    return report


def store_rows(
    connection: Connection, table: CollectionTable, rows: Sequence[Row], embedder: Embedder | EverindexError
) -> ImportReport:
    """Stores `rows`, each batch in a transaction of its own, with vectors for what is new or changed; as `import_rows`."""
    report = ImportReport()
    for start in range(0, len(rows), BATCH_ROWS):
        _store(connection, table, last_of_each(rows[start : start + BATCH_ROWS]), embedder, report)
    return report


def store_objects(
    connection: Connection,
    table: CollectionTable,
    items: Sequence[tuple[int, Mapping[str, Any]] | RowProblem],
    embedder: Embedder | EverindexError,
    *,
    source: str,
    stored_keys: set[str],
) -> ImportReport:
    """Stores a batch of a source, (line, row); one that cannot be stored is left out and reported. The keys of the others are
    added to `stored_keys`."""
    report = ImportReport()
    found = [row_or_problem(table, item, source) for item in items]
    note_problems([row for row in found if isinstance(row, RowProblem)], report)
    good = [
        (item[0], row)
        for item, row in zip(items, found, strict=True)
        if isinstance(row, Row) and not isinstance(item, RowProblem)
    ]
    unique = list({row.key: (line, row) for line, row in good}.values())
    return report + _store_good(connection, table, unique, embedder, source, stored_keys)


def _store_good(
    connection: Connection,
    table: CollectionTable,
    rows: Sequence[tuple[int, Row]],
    embedder: Embedder | EverindexError,
    source: str,
    stored_keys: set[str],
) -> ImportReport:
    """Stores the rows together; where the server refuses a value, each half by itself, down to the row that has it."""
    report = ImportReport()
    if not rows:
        return report
    try:
        _store(connection, table, [row for _, row in rows], embedder, report)
    except StatementFailed as exc:
        if (sqlstate_of(exc) or "")[:2] not in _ABOUT_A_VALUE:
            raise
        if len(rows) == 1:
            line, row = rows[0]
            note_problems([RowProblem(source=source, line=line, reason=exc.why.rstrip("."), uri=row.key)], report)
            return report
        middle = len(rows) // 2
        first = _store_good(connection, table, rows[:middle], embedder, source, stored_keys)
        return first + _store_good(connection, table, rows[middle:], embedder, source, stored_keys)
    stored_keys.update(row.key for _, row in rows)
    return report


#: SQLSTATE classes of a value that does not fit its column: data exceptions and constraints.
_ABOUT_A_VALUE = ("22", "23")


def store_vectors(
    connection: Connection,
    table: CollectionTable,
    rows: Sequence[Row],
    vectors: np.ndarray,
    *,
    model: str | None,
    replaces_metadata: bool = False,
) -> ImportReport:
    """Stores `rows` with `vectors` ((n, dim) float32) unchanged; `model` names the model that made them. `replaces_metadata` is
    that of `upsert`.

    Raises QueryInvalid when `vectors` does not fit the rows or contains a vector that no search could use.
    """
    array = np.asarray(vectors, dtype=np.float32)
    width = table.dimensions or 0
    fits = array.ndim == 2 and len(array) == len(rows)
    bad = check_vectors(array, width) if fits else {0: f"shape {array.shape}"}
    if fits and table.spec.metric != "cosine" and array.shape[1:] == (width,):
        bad = {} if np.isfinite(array).all() else dict.fromkeys(_not_finite(array), "it holds NaN or infinity")
    if bad:
        row, reason = next(iter(bad.items()))
        raise QueryInvalid(
            f"the vectors cannot be stored: row {row}.",
            why=f"{reason}.",
            next_step=f"pass one finite vector of {width} numbers for each of the {len(rows)} rows; nothing was stored.",
        )
    report = ImportReport()
    last = {row.key: number for number, row in enumerate(rows)}
    for start in range(0, len(last), BATCH_ROWS):
        numbers = list(last.values())[start : start + BATCH_ROWS]
        report.stored += store.upsert(
            connection, table, [rows[i] for i in numbers], [array[i] for i in numbers], model=model,
            replaces_metadata=replaces_metadata,
        )  # fmt: skip
    return report


def _not_finite(array: np.ndarray) -> list[int]:
    """The rows that hold NaN or infinity."""
    return [int(number) for number in np.flatnonzero(~np.isfinite(array).all(axis=1))]


def note_problems(batch: Sequence[Article | RowProblem], report: ImportReport) -> list[Article]:
    """The articles of a batch; its problems are counted, and the first of them kept."""
    good: list[Article] = []
    for row in batch:
        if isinstance(row, Article):
            good.append(row)
        elif row.is_note:
            report.note_count += 1
            if len(report.notes) < KEPT_PROBLEMS:
                report.notes.append(row)
        else:
            report.problem_count += 1
            if len(report.problems) < KEPT_PROBLEMS:
                report.problems.append(row)
    return good


def _store(
    connection: Connection,
    table: CollectionTable,
    rows: Sequence[Row],
    embedder: Embedder | EverindexError,
    report: ImportReport,
) -> None:
    if isinstance(embedder, EverindexError):
        _store_texts(connection, table, rows, embedder, report)
        return
    vectors: list[MaybeVector] = [None] * len(rows)
    texts: dict[int, Texts] = {}
    failures: dict[str, str] = {}
    if table.dimensions is not None:
        texts = store.needs_vector(connection, table, rows, model=embedder.model)
        # Outside any transaction: a slow provider must not hold one open.
        if texts:
            embedded = embedder.embed([text_to_embed(texts[number]) for number in texts])
            for position, number in enumerate(texts):
                if position in embedded.failures:
                    failures[rows[number].key] = embedded.failures[position]
                else:
                    vectors[number] = embedded.vectors[position]
    stored = store.upsert(connection, table, rows, vectors, model=embedder.model, embedded=texts)
    report.stored += stored
    note_failures(connection, table, failures, report)
    if table.dimensions is not None and stored.inserted + stored.updated:
        _embed_lost(connection, table, [row.key for row in rows if row.key not in failures], embedder, report)


def _store_texts(
    connection: Connection, table: CollectionTable, rows: Sequence[Row], why: EverindexError, report: ImportReport
) -> None:
    """Stores the texts without making vectors. A vector of an unrecorded model stays, even beside a changed text."""
    needed: Mapping[int, Texts] = {}
    if table.dimensions is not None:
        needed = store.needs_vector(connection, table, rows, model="")
    report.stored += store.upsert(connection, table, rows, [None] * len(rows), model=None, keeps_unrecorded=True)
    if not needed:
        return
    with translate_errors("looking for rows without a vector"):
        found = connection.execute(
            sql.SQL(
                "SELECT a.{key}::pg_catalog.text, a.{vector} IS NULL OR {is_zero}, {unrecorded} FROM {table} a "
                "WHERE a.{key} = ANY({keys})"
            ).format(
                key=table.key,
                vector=table.vector,
                is_zero=is_zero(table),
                unrecorded=without_record(table),
                table=table.identifier,
                keys=store.keys_parameter(table),
            ),
            {"keys": [rows[number].key for number in needed]},
        ).fetchall()
    report.kept_vectors += sum(not is_empty and is_unrecorded for _, is_empty, is_unrecorded in found)
    reason = f"{why.what.rstrip('.')} ({why.slug})"
    report.next_step = why.next_step
    note_failures(connection, table, {key: reason for key, is_empty, _ in found if is_empty}, report)


def _embed_lost(
    connection: Connection, table: CollectionTable, keys: list[str], embedder: Embedder, report: ImportReport
) -> None:
    """Embeds rows that have no vector after their upsert although nothing failed: between comparison and upsert
    another writer stored its own text, or the half that this import does not contain. The text is left as found; after
    LOST_ROUNDS attempts the row stays in the queue."""
    statement = sql.SQL("{} AND a.{} IS NULL ORDER BY a.{}").format(store.texts_of_keys(table), table.vector, table.key)
    for _ in range(LOST_ROUNDS):
        with translate_errors("looking for missing vectors"):
            lost = [(row[0], row[1:]) for row in connection.execute(statement, {"keys": keys}).fetchall()]
        if not lost:
            return
        embedded = embedder.embed([text_to_embed(texts) for _, texts in lost])
        found = [(*row, embedded.vectors[i]) for i, row in enumerate(lost) if i not in embedded.failures]
        done = set_vectors(connection, table, found, model=embedder.model)
        note_failures(connection, table, {lost[i][0]: why for i, why in embedded.failures.items()}, report)
        if done == len(found):
            return
        keys = [row[0] for row in found]


def note_failures(
    connection: Connection, table: CollectionTable, failures: dict[str, str], report: ImportReport
) -> None:
    """Records why rows (key → reason) have no vector, in the database and in the report."""
    report.without_vector += len(failures)
    if failures and report.failure_reason is None:
        report.failure_reason = next(iter(failures.values()))
    record_failures(connection, table, failures)
