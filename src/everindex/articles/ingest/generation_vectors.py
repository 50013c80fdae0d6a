"""The vectors of a generation in a table of its own: storing them, and the articles that lack one.

Each vector is stored with the digest of the texts from which it was made, read before they were embedded: one whose text has
changed since is recognized whoever changed it, and no lock is held while a model works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from psycopg import sql

from everindex.articles.ingest.rows import Texts, text_to_embed
from everindex.articles.model_generations import COLUMN, ModelGeneration, digest_of, digest_sql
from everindex.articles.table import CollectionTable
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import as_binary, as_half_binary

#: (key, digest of the texts, vector (dim,) float32)
Made = tuple[str, bytes, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An article that lacks a vector of its present text in a generation."""

    key: str
    texts: Texts
    digest: bytes

    @property
    def text(self) -> str:
        return text_to_embed(self.texts)


def store_made(connection: Connection, table: CollectionTable, made: Sequence[Made]) -> int:
    """Stores vectors in the table of the generation that `table` describes, each in place of an older one, in one transaction;
    those of articles that are gone are left out. Returns how many. Takes ROW EXCLUSIVE on that table alone."""
    generation = table.generation
    if generation is None or not made:
        return 0
    in_binary = as_binary if generation.vector_type == "vector" else as_half_binary
    with translate_errors("storing vectors"), connection.transaction():
        connection.execute(
            sql.SQL("CREATE TEMP TABLE everindex_made (key text, digest bytea, vector {}) ON COMMIT DROP").format(
                table.vector_type_name
            )
        )
        with connection.cursor().copy("COPY pg_temp.everindex_made FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["text", "bytea", "bytea"])  # the last as the column's type reads it
            for key, digest, vector in made:
                copy.write_row((key, digest, in_binary(vector)))
        stored = connection.execute(_store(table, generation)).rowcount
        connection.execute(_solved(generation))
        if generation.state == "serving" and table.has_embedding_records:
            connection.execute(
                "DELETE FROM everindex_meta.embedding_failure f USING pg_temp.everindex_made m WHERE f.uri = m.key"
            )
        connection.execute("DROP TABLE pg_temp.everindex_made")
    return stored


def _store(table: CollectionTable, generation: ModelGeneration) -> sql.Composed:
    return sql.SQL(
        """
        INSERT INTO {vectors} AS v ({key}, vector_digest, {vector})
        SELECT m.key::{key_type}, m.digest, m.vector FROM pg_temp.everindex_made m
        WHERE EXISTS (SELECT FROM {table} a WHERE a.{key} = m.key::{key_type}) ORDER BY m.key::{key_type}
        ON CONFLICT ({key}) DO UPDATE SET (vector_digest, {vector}) = (excluded.vector_digest, excluded.{vector})
        WHERE v.vector_digest OPERATOR(pg_catalog.<>) excluded.vector_digest
        """
    ).format(
        vectors=generation.identifier,
        key=table.key,
        key_type=table.key_type,
        vector=sql.Identifier(generation.column),
        table=table.identifier,
    )


def _solved(generation: ModelGeneration) -> sql.Composed:
    return sql.SQL(
        "DELETE FROM everindex_meta.model_failure f USING pg_temp.everindex_made m "
        "WHERE f.generation = {} AND f.uri = m.key"
    ).format(sql.Literal(generation.number))


def lacks_vector(table: CollectionTable, alias: str = "a") -> sql.Composable:
    """The condition that a row of `table.rows` has no vector of its present texts in that generation."""
    row = sql.Identifier(alias)
    if table.generation is None:
        return sql.SQL("{}.{} IS NULL").format(row, table.vector)
    # The operator without a schema would be found by the search_path.
    return sql.SQL("({0}.vector_digest IS NULL OR {0}.vector_digest OPERATOR(pg_catalog.<>) {1})").format(
        row, digest_sql(alias)
    )


def read_due(
    connection: Connection,
    table: CollectionTable,
    *,
    after: str | None = None,
    keys: Sequence[str] | None = None,
    limit: int,
    with_failed: bool = False,
) -> list[Due]:
    """Up to `limit` articles that lack a vector in the generation that `table` describes, in the order of their keys from
    `after` on, or those of `keys`. Those that failed with the same text are left out, unless `with_failed`. Reads only."""
    conditions: list[sql.Composable] = [lacks_vector(table)]
    if after is not None:
        conditions.append(sql.SQL("a.{} > %(after)s::{}").format(table.key, table.key_type))
    if keys is not None:
        conditions.append(sql.SQL("a.{} = ANY(%(keys)s::pg_catalog.text[]::{}[])").format(table.key, table.key_type))
    if not with_failed:
        conditions.append(_has_not_failed(table))
    statement = sql.SQL(
        "SELECT a.{key}::pg_catalog.text, a.title::pg_catalog.text, a.summary::pg_catalog.text FROM {rows} a "
        "WHERE {conditions} ORDER BY a.{key} LIMIT {limit}"
    ).format(key=table.key, rows=table.rows, conditions=sql.SQL(" AND ").join(conditions), limit=sql.Literal(limit))
    with translate_errors("looking for articles without a vector"):
        found = connection.execute(statement, {"after": after, "keys": None if keys is None else list(keys)}).fetchall()
    return [Due(key=row[0], texts=(row[1], row[2]), digest=digest_of(row[1], row[2])) for row in found]


def _has_not_failed(table: CollectionTable) -> sql.Composable:
    return sql.SQL(
        "NOT EXISTS (SELECT FROM everindex_meta.model_failure f WHERE f.generation = {} "
        "AND f.uri = a.{}::pg_catalog.text AND f.digest OPERATOR(pg_catalog.=) {})"
    ).format(sql.Literal(table.number), table.key, digest_sql("a"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many articles have a vector of their present text in one generation."""

    rows: int
    lacking: int
    """Without one, whatever the reason."""

    failed: int
    """Those of them that the model could not embed as they are; the reasons are recorded."""


def read_coverage(connection: Connection, table: CollectionTable) -> Coverage:
    """Counts. Reads every text once."""
    statement = sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE {lacks}), count(*) FILTER (WHERE {lacks} AND NOT {open}) FROM {rows} a"
    ).format(lacks=lacks_vector(table), open=_has_not_failed(table), rows=table.rows)
    with translate_errors("counting articles without a vector"):
        row = connection.execute(statement).fetchone()
    assert row is not None
    return Coverage(rows=row[0], lacking=row[1], failed=row[2])


def record_reasons(
    connection: Connection, table: CollectionTable, due: Iterable[Due], reasons: Mapping[int, str]
) -> None:
    """Records why articles have no vector (position in `due` → reason)."""
    rows = list(due)
    with translate_errors("recording failed embeddings"), connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO everindex_meta.model_failure AS f (generation, uri, digest, reason) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (generation, uri) DO UPDATE SET digest = excluded.digest, reason = excluded.reason, "
            "attempts = f.attempts + 1, failed_at = now()",
            [(table.number, rows[number].key, rows[number].digest, reason) for number, reason in reasons.items()],
        )


def is_of_generation(table: CollectionTable, model: str | None) -> bool:
    """Whether vectors of `model` belong into the generation that `table` describes. A writer chose its model before it read the
    table, and the generation that serves may have changed in between."""
    known = next((each.model for each in table.generations if each.number == table.number), None)
    return known is None or model is None or model == known


def remove_outdated(connection: Connection, table: CollectionTable, keys: Sequence[str]) -> None:
    """Removes the vectors of these articles that were made of another text, in every generation: none is better than that of
    another text. Belongs into the transaction that changed the texts."""
    for generation in table.generations:
        if generation.number != COLUMN:
            connection.execute(
                sql.SQL(
                    # Locked in the order in which vectors are stored: who stores and who removes do not deadlock.
                    "WITH other AS MATERIALIZED (SELECT v.{key} FROM {vectors} v JOIN {table} a USING ({key}) "
                    "WHERE v.{key} = ANY(%(keys)s::pg_catalog.text[]::{key_type}[]) "
                    "AND v.vector_digest OPERATOR(pg_catalog.<>) {digest} ORDER BY v.{key} FOR UPDATE OF v) "
                    "DELETE FROM {vectors} v USING other WHERE v.{key} = other.{key}"
                ).format(
                    vectors=generation.identifier,
                    table=table.identifier,
                    key=table.key,
                    key_type=table.key_type,
                    digest=digest_sql("a"),
                ),
                {"keys": list(keys)},
            )


def remove_orphans(connection: Connection, table: CollectionTable) -> int:
    """Removes the vectors of articles that are gone, from the generation that `table` describes; how many."""
    if table.generation is None:
        return 0
    with translate_errors("removing vectors of articles that are gone"):
        return connection.execute(
            sql.SQL("DELETE FROM {vectors} v WHERE NOT EXISTS (SELECT FROM {table} a WHERE a.{key} = v.{key})").format(
                vectors=table.generation.identifier, table=table.identifier, key=table.key
            )
        ).rowcount
