"""The upsert of articles: binary COPY into a staging table, then one statement that touches only what changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pgvector import Vector
from psycopg import sql

from everindex.articles.model import ARTICLE_COLUMNS, Article
from everindex.articles.table import CollectionTable
from everindex.articles.table_models import declared_sql, is_zero, without_record
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: The vector of one article, (dim,) float32, or None where it has none yet.
MaybeVector = np.ndarray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What an upsert did, in rows."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: Stored) -> Stored:
        return Stored(
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
        )


#: Title and summary of one article.
Texts = tuple[str | None, str | None]


def needs_vector(
    connection: Connection, table: CollectionTable, articles: Sequence[Article], *, model: str
) -> dict[int, Texts]:
    """The title and summary of each of `articles` that must be embedded: new ones, those with a changed text, without a
    vector, with a zero vector, or with one known to be of another model.

    The texts are those in the table after the upsert: where an article has only one of the two, the other is the stored
    one. The keys are indexes into `articles`. Reads only.
    """
    record = (
        sql.SQL("(SELECT r.model FROM everindex_meta.embedding_record r WHERE r.uri = a.uri)")
        if table.has_embedding_records
        else sql.SQL("NULL")
    )
    other_model = sql.SQL("coalesce({}, {}) <> %(model)s").format(record, declared_sql(table, "model"))
    with translate_errors("comparing articles"):
        known = {
            row[0]: (row[1], row[2], row[3])
            for row in connection.execute(
                sql.SQL(
                    "SELECT a.uri, a.title, a.summary, a.embedding IS NULL OR {is_zero} OR coalesce({other_model}, "
                    "false) "
                    "FROM {table} a WHERE a.uri = ANY(%(uris)s)"
                ).format(is_zero=is_zero(table), other_model=other_model, table=table.identifier),
                {"uris": [article.uri for article in articles], "model": model},
            )
        }
    needed: dict[int, Texts] = {}
    for number, article in enumerate(articles):
        found = known.get(article.uri)
        if found is None:
            needed[number] = (article.title, article.summary)
        elif found[2] or _merged(article, found) != (found[0], found[1]):
            needed[number] = _merged(article, found)
    return needed


def _merged(article: Article, known: tuple[Any, Any, Any]) -> Texts:
    """Title and summary as they will be after the upsert: a field that is None leaves the stored one."""
    return (
        article.title if article.title is not None else known[0],
        article.summary if article.summary is not None else known[1],
    )


def upsert(
    connection: Connection,
    table: CollectionTable,
    articles: Sequence[Article],
    vectors: Sequence[MaybeVector],
    *,
    model: str | None,
    embedded: Mapping[int, Texts] | None = None,
    keeps_unrecorded: bool = False,
) -> Stored:
    """Writes `articles` (each uri only once) with their `vectors` in one transaction.

    A field that is None keeps the stored value. A row that would not change is not written. A changed text without a
    new vector loses its old one: a vector of another text is worse than none. `embedded` gives the title and summary
    from which each vector was made (index into `articles`); where the stored ones differ in the end, because another
    writer changed the half that the article does not contain, the row has no vector. With `keeps_unrecorded` a vector
    without a record stays when its text changes: its model is unknown, so it could not be made again
    (docs/decisions/0016). `model` is recorded with each new vector (None: unknown). Takes ROW EXCLUSIVE on the tables
    it writes. Raises PermissionDenied, ReadOnlyServer, StatementFailed.
    """
    columns = table.writable_columns
    with translate_errors("writing articles"), connection.transaction():
        _stage(connection, table, columns, articles, vectors, embedded or {})
        inserted, updated = _merge(connection, table, columns, keeps_unrecorded=keeps_unrecorded)
        if embedded and table.dimensions is not None:
            connection.execute(sql.SQL(_DROP_OF_OTHER_TEXT).format(table=table.identifier))
        if table.has_raw_articles and any(article.raw_text is not None for article in articles):
            connection.execute(_MERGE_RAW)
        if table.has_embedding_records and table.dimensions is not None:
            connection.execute(_FORGET_RECORDS)
            connection.execute(_FORGET_UNKNOWN if model is None else _RECORD, {"model": model})
        connection.execute("DROP TABLE pg_temp.everindex_staging, pg_temp.everindex_written")
    return Stored(inserted=inserted, updated=updated, unchanged=len(articles) - inserted - updated)


def last_of_each(articles: Iterable[Article]) -> list[Article]:
    """The articles with each uri once; the last row wins."""
    return list({article.uri: article for article in articles}.values())


def _stage(
    connection: Connection,
    table: CollectionTable,
    columns: Sequence[str],
    articles: Sequence[Article],
    vectors: Sequence[MaybeVector],
    embedded: Mapping[int, Texts],
) -> None:
    connection.execute(
        sql.SQL(
            "CREATE TEMP TABLE everindex_staging ({columns}, raw_text text, embedded_title text, embedded_summary "
            "text, "
            "has_embedded text, embedding {vector})"
        ).format(
            columns=sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column)) for column in columns),
            vector=table.vector_type_name if table.dimensions is not None else sql.SQL("text"),
        )
    )
    names = [*columns, "raw_text", "embedded_title", "embedded_summary", "has_embedded", "embedding"]
    copy = sql.SQL("COPY pg_temp.everindex_staging ({}) FROM STDIN (FORMAT binary)").format(
        sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with connection.cursor() as cursor, cursor.copy(copy) as writer:
        vector_oid = connection.adapters.types.get("vector")
        writer.set_types(["text"] * (len(names) - 1) + [vector_oid.oid if vector_oid else "text"])
        for number, (article, vector) in enumerate(zip(articles, vectors, strict=True)):
            values = [_as_text(getattr(article, column)) for column in columns]
            of_text = (None, None, None) if number not in embedded else (*embedded[number], "yes")
            writer.write_row([*values, article.raw_text, *of_text, None if vector is None else Vector(vector)])


def _as_text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case tuple():
            return json.dumps(list(value), ensure_ascii=False)
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _is_new(table: CollectionTable) -> sql.Composable:
    """The condition that the row `a`, just written by the statement, is new.

    For a partitioned table PostgreSQL does not return system columns (0A000); there the statement's snapshot decides,
    in which a row that another session has stored meanwhile also counts as new.
    """
    if not table.is_partitioned:
        return sql.SQL("(a.xmax = 0)")
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS before WHERE before.uri = a.uri)").format(table.identifier)


def _merge(
    connection: Connection, table: CollectionTable, columns: Sequence[str], *, keeps_unrecorded: bool
) -> tuple[int, int]:
    """One INSERT … ON CONFLICT over the staging table; (inserted, updated)."""
    others = [column for column in columns if column != "uri"]
    text_changes = sql.SQL(
        "(a.title, a.summary) IS DISTINCT FROM (coalesce(excluded.title, a.title), coalesce(excluded.summary, "
        "a.summary))"
    )
    kept = sql.SQL(
        "CASE WHEN excluded.embedding IS NOT NULL THEN excluded.embedding WHEN {text_changes}{of_known_model} THEN "
        "NULL "
        "ELSE a.embedding END"
    ).format(
        text_changes=text_changes,
        of_known_model=sql.SQL(" AND NOT {}").format(without_record(table)) if keeps_unrecorded else sql.SQL(""),
    )
    has_vectors = table.dimensions is not None
    # pgvector's own operator by its qualified name: IS DISTINCT FROM resolves `=` by the search_path.
    other_vector = sql.SQL(
        "(excluded.embedding IS NOT NULL AND (a.embedding IS NULL OR a.embedding OPERATOR({}.<>) excluded.embedding))"
    ).format(sql.Identifier(table.extension_schema or "public"))
    assignments = [
        sql.SQL("{0} = coalesce(excluded.{0}, a.{0})").format(sql.Identifier(column)) for column in others
    ] + ([sql.SQL("embedding = {}").format(kept)] if has_vectors else [])
    changes = [
        sql.SQL("(excluded.{0} IS NOT NULL AND excluded.{0} IS DISTINCT FROM a.{0})").format(sql.Identifier(column))
        for column in others
    ] + ([other_vector] if has_vectors else [])
    names = list(map(sql.Identifier, columns)) + ([sql.Identifier("embedding")] if has_vectors else [])
    values = [
        sql.SQL("s.{}::{}").format(sql.Identifier(column), sql.SQL(table.columns[column])) for column in columns
    ] + ([sql.SQL("s.embedding")] if has_vectors else [])
    connection.execute(
        sql.SQL(
            """
            CREATE TEMP TABLE everindex_written ON COMMIT DROP AS SELECT NULL::text AS uri, NULL::boolean AS is_new LIMIT 0;
            """
        )
    )
    row = connection.execute(
        sql.SQL(
            """
            WITH merged AS (
                INSERT INTO {table} AS a ({names}) SELECT {values} FROM pg_temp.everindex_staging s
                -- In one order everywhere: two importers of the same articles wait for each other and do not deadlock.
                ORDER BY s.uri
                ON CONFLICT (uri) DO UPDATE SET {assignments} WHERE {changes}
                RETURNING a.uri, {is_new} AS is_new
            ), kept AS (
                INSERT INTO pg_temp.everindex_written SELECT uri, is_new FROM merged RETURNING is_new
            )
            SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM kept
            """
        ).format(
            table=table.identifier,
            is_new=_is_new(table),
            names=sql.SQL(", ").join(names),
            values=sql.SQL(", ").join(values),
            assignments=sql.SQL(", ").join(assignments),
            changes=sql.SQL(" OR ").join(changes),
        )
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


#: Full texts go into their own table, and only where they changed.
_MERGE_RAW = """
    INSERT INTO raw_articles AS r (uri, raw_markdown, submission_date, last_updated, topic)
    SELECT s.uri, s.raw_text, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), s.topic
    FROM pg_temp.everindex_staging s WHERE s.raw_text IS NOT NULL ORDER BY s.uri
    ON CONFLICT (uri) DO UPDATE SET raw_markdown = excluded.raw_markdown, last_updated = excluded.last_updated
    WHERE r.raw_markdown IS DISTINCT FROM excluded.raw_markdown
"""

#: By now the rows of all staged articles are locked, including those that the upsert left unchanged, so the compared
#: texts cannot change.
_DROP_OF_OTHER_TEXT = """
    WITH other AS (
        UPDATE {table} a SET embedding = NULL FROM pg_temp.everindex_staging s
        WHERE a.uri = s.uri AND s.embedding IS NOT NULL AND s.has_embedded IS NOT NULL
          AND (a.title::text, a.summary::text) IS DISTINCT FROM (s.embedded_title, s.embedded_summary)
        RETURNING a.uri
    ), unstaged AS (
        UPDATE pg_temp.everindex_staging s SET embedding = NULL FROM other WHERE other.uri = s.uri
    )
    INSERT INTO pg_temp.everindex_written SELECT uri, false FROM other
"""

#: A vector that was dropped because its text changed has no model any more.
_FORGET_RECORDS = """
    DELETE FROM everindex_meta.embedding_record r
    USING pg_temp.everindex_written w, pg_temp.everindex_staging s
    WHERE r.uri = w.uri AND s.uri = w.uri AND s.embedding IS NULL AND NOT w.is_new
      AND EXISTS (SELECT FROM articles a WHERE a.uri = w.uri AND a.embedding IS NULL)
"""

#: A vector without a named model replaces one that had a record.
_FORGET_UNKNOWN = """
    WITH forgotten AS (
        DELETE FROM everindex_meta.embedding_record r USING pg_temp.everindex_staging s
        WHERE r.uri = s.uri AND s.embedding IS NOT NULL AND %(model)s::text IS NULL
    )
    DELETE FROM everindex_meta.embedding_failure f USING pg_temp.everindex_staging s
    WHERE f.uri = s.uri AND s.embedding IS NOT NULL
"""

_RECORD = """
    WITH recorded AS (
        INSERT INTO everindex_meta.embedding_record (uri, model)
        SELECT s.uri, %(model)s FROM pg_temp.everindex_staging s WHERE s.embedding IS NOT NULL ORDER BY s.uri
        ON CONFLICT (uri) DO UPDATE SET model = excluded.model, embedded_at = now()
        RETURNING uri
    )
    DELETE FROM everindex_meta.embedding_failure f USING recorded WHERE f.uri = recorded.uri
"""


def record_failures(connection: Connection, table: CollectionTable, failures: dict[str, str]) -> None:
    """Records why articles (uri → reason) have no vector, for `everindex embed` and the web pages."""
    if not failures or not table.has_embedding_records:
        return
    with translate_errors("recording failed embeddings"), connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO everindex_meta.embedding_failure AS f (uri, reason) VALUES (%s, %s)
            ON CONFLICT (uri) DO UPDATE SET reason = excluded.reason, attempts = f.attempts + 1, failed_at = now()
            """,
            list(failures.items()),
        )


def set_vectors(
    connection: Connection,
    table: CollectionTable,
    rows: Sequence[tuple[str, str | None, str | None, np.ndarray]],
    *,
    model: str,
) -> int:
    """Stores the vectors of (uri, title, summary, vector) unless the text has changed meanwhile; returns how many were
    stored."""
    if not rows:
        return 0
    update = sql.SQL(
        "UPDATE {} SET embedding = %s WHERE uri = %s AND (title, summary) IS NOT DISTINCT FROM (%s, %s)"
    ).format(table.identifier)
    if table.has_embedding_records:
        # Only updated rows are recorded: a row that has another text, or was deleted, got no vector.
        update = sql.SQL(
            """
            WITH done AS ({update} RETURNING uri), solved AS (
                DELETE FROM everindex_meta.embedding_failure f USING done WHERE f.uri = done.uri
            )
            INSERT INTO everindex_meta.embedding_record (uri, model) SELECT uri, {model} FROM done
            ON CONFLICT (uri) DO UPDATE SET model = excluded.model, embedded_at = now()
            """
        ).format(update=update, model=sql.Literal(model))
    with translate_errors("storing vectors"), connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(update, [(Vector(vector), uri, title, summary) for uri, title, summary, vector in rows])
        return cursor.rowcount


__all__ = [
    "ARTICLE_COLUMNS",
    "MaybeVector",
    "Stored",
    "Texts",
    "last_of_each",
    "needs_vector",
    "record_failures",
    "set_vectors",
    "upsert",
]
