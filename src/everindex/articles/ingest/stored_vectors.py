"""The comparison of stored vectors with their texts, for models that always give a text the same vector.

Only this finds a vector of an outdated text (an edit by a program that does not embed, an upsert of half a text by an
older release). It compares the vectors that are recorded or declared as made by the given model; unrecorded ones cannot
be judged and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.embedding import Embedder, choose_embedder
from everindex.articles.embedding.declaration import AGREEMENT, SAMPLE_ROWS
from everindex.articles.embedding.text_forms import OWN_FORM, text_of
from everindex.articles.ingest.vector_records import set_vectors
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_models import declared_sql, is_zero, read_table_models, without_record
from everindex.doctor.compared_vectors import ComparedVectors, CompareVectors
from everindex.errors import ColumnMismatch, EmbeddingModelUnusable, NotMigrated, UsageError
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import register_vector
from everindex.settings import Settings

#: Rows of one round.
CHECK_ROWS = 500


@dataclass(slots=True, kw_only=True)
class Compared:
    """Counts of compared vectors."""

    recorded: int = 0
    """Compared vectors that are recorded as made by the model."""

    recorded_other: int = 0
    """Those of them that are not the vector of the stored text."""

    declared: int = 0
    declared_other: int = 0
    re_embedded: int = 0

    @property
    def other(self) -> int:
        return self.recorded_other + self.declared_other

    @property
    def rows(self) -> int:
        return self.recorded + self.declared


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    uri: str
    title: str | None
    summary: str | None
    vector: np.ndarray
    has_record: bool
    form: str

    @property
    def text(self) -> str:
        return text_of(self.form, self.title, self.summary)


def require_repeatable(embedder: Embedder) -> None:
    """Raises UsageError for a model behind an endpoint: every text would cost money and may get a slightly different
    vector."""
    if embedder.is_remote:
        raise UsageError(
            f"vectors of {embedder.model} are not compared with their texts.",
            why="only a model in this process always gives a text the same vector, and free of charge.",
            next_step="compare a sample with  everindex model declare  where nothing is recorded; to replace vectors, "
            "set them to NULL and run  everindex embed.",
        )


def check_all(
    connection: Connection, embedder: Embedder, *, repair: bool = True, on_rows: Callable[[int], None] | None = None
) -> Compared:
    """Compares every vector of the model with its text and, with `repair`, replaces those made from another text. Can be
    interrupted at any point: finished work is kept. Raises UsageError for a remote model."""
    require_repeatable(embedder)
    table = read_table(connection)
    total = Compared()
    after = ""
    while rows := _read(
        connection, table, embedder.model, sql.SQL("a.uri > {} ORDER BY a.uri").format(sql.Literal(after)), CHECK_ROWS
    ):
        after = rows[-1].uri
        wrong = _compare(rows, embedder, total)
        if repair and wrong:
            own = [text_of(OWN_FORM, row.title, row.summary) for row in wrong]
            embedded = embedder.embed(own)
            new = [
                (row.uri, (row.title, row.summary), embedded.vectors[i])
                for i, row in enumerate(wrong)
                if i not in embedded.failures
            ]
            total.re_embedded += set_vectors(connection, table, new, model=embedder.model)
        if on_rows is not None:
            on_rows(len(rows))
    return total


def check_sample(
    connection: Connection,
    table: CollectionTable,
    embedder: Embedder,
    *,
    max_seconds: float,
    rows: int = SAMPLE_ROWS,
    also_recorded: bool = True,
) -> Compared:
    """Compares a random sample: `rows` of the vectors declared as made by the model, and with `also_recorded` as many
    of the recorded ones. Reads only, over an autocommit connection; no statement runs longer than `max_seconds`.
    Nothing is compared for a remote model. Raises StatementTimedOut."""
    total = Compared()
    if embedder.is_remote or table.dimensions is None:
        return total
    register_vector(connection)
    model = sql.Literal(embedder.model)
    draws = [
        sql.SQL(
            "SELECT a.uri FROM {} a WHERE {} = {} AND a.embedding IS NOT NULL AND {} ORDER BY random() LIMIT {}"
        ).format(table.identifier, declared_sql(table, "model"), model, without_record(table), sql.Literal(rows))
    ]
    if also_recorded and table.has_embedding_records:
        draws.append(
            sql.SQL(
                "SELECT r.uri FROM everindex_meta.embedding_record r WHERE r.model = {} ORDER BY random() LIMIT {}"
            ).format(model, sql.Literal(rows))
        )
    with translate_errors("sampling vectors"), connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(max(1, int(max_seconds * 1000))),))
        drawn = [row[0] for draw in draws for row in connection.execute(draw)]
        found = _read(
            connection, table, embedder.model, sql.SQL("a.uri = ANY({})").format(sql.Literal(drawn)), len(drawn)
        )
    _compare(found, embedder, total)
    return total


def sample_comparison(settings: Settings) -> CompareVectors:
    """The comparison passed to the doctor: with the model of these settings, where its vectors are repeatable."""

    def compare(connection: Connection, max_seconds: float) -> ComparedVectors | None:
        try:
            table = read_table(connection)
            embedder = choose_embedder(settings, width=table.dimensions or settings.dimensions)
        except (NotMigrated, ColumnMismatch, EmbeddingModelUnusable):
            return None
        quoted = table.identifier.as_string(None)
        if embedder.is_remote:
            declared = read_table_models(connection, table, has_unrecorded=True).declared
            if declared != embedder.model:
                return None
            return ComparedVectors(
                quoted=quoted,
                model=declared,
                recorded=0,
                recorded_other=0,
                declared=0,
                declared_other=0,
                is_remote=True,
            )
        found = check_sample(connection, table, embedder, max_seconds=max_seconds)
        return ComparedVectors(
            quoted=quoted,
            model=embedder.model,
            recorded=found.recorded,
            recorded_other=found.recorded_other,
            declared=found.declared,
            declared_other=found.declared_other,
        )

    return compare


def _read(
    connection: Connection, table: CollectionTable, model: str, which: sql.Composable, limit: int
) -> Sequence[_Row]:
    record = sql.SQL(
        "(SELECT r.model FROM everindex_meta.embedding_record r WHERE r.uri = a.uri)"
        if table.has_embedding_records
        else "NULL"
    )
    statement = sql.SQL(
        """
        SELECT a.uri, a.title, a.summary, a.embedding, NOT {unrecorded}, coalesce({form}, {own})
        FROM {table} a
        WHERE a.embedding IS NOT NULL AND NOT {is_zero} AND coalesce({record}, {declared}) = {model} AND {which} LIMIT {limit}
        """
    ).format(
        unrecorded=without_record(table),
        form=declared_sql(table, "text_form"),
        own=sql.Literal(OWN_FORM),
        table=table.identifier,
        is_zero=is_zero(table),
        record=record,
        declared=declared_sql(table, "model"),
        model=sql.Literal(model),
        which=which,
        limit=sql.Literal(limit),
    )
    with translate_errors("reading vectors with their texts"):
        found: list[tuple[Any, ...]] = connection.execute(statement, binary=True).fetchall()
    return [
        _Row(
            uri=row[0], title=row[1], summary=row[2], vector=row[3].to_numpy(), has_record=row[4],
            form=OWN_FORM if row[4] else row[5],
        )
        for row in found
    ]  # fmt: skip


def _compare(rows: Sequence[_Row], embedder: Embedder, total: Compared) -> list[_Row]:
    """The rows whose vector is not that of their text; adds all to `total`. Texts that cannot be embedded are not
    compared."""
    embedded = embedder.embed([row.text for row in rows])
    wrong = []
    for i, row in enumerate(rows):
        if i in embedded.failures:
            continue
        made, stored = embedded.vectors[i].astype(np.float64), row.vector.astype(np.float64)
        cosine = float(made @ stored / (np.linalg.norm(made) * np.linalg.norm(stored)))
        is_other = not cosine >= AGREEMENT
        if row.has_record:
            total.recorded += 1
            total.recorded_other += is_other
        else:
            total.declared += 1
            total.declared_other += is_other
        if is_other:
            wrong.append(row)
    return wrong
