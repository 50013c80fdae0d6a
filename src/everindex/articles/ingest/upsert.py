"""The upsert of rows: binary COPY into a staging table, then one statement that touches only what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pgvector import HalfVector, Vector
from psycopg import sql

from everindex.articles.expiry import store_expiry
from everindex.articles.ingest.rows import Row, Texts
from everindex.articles.ingest.vector_records import forget_records, forget_unknown, record_vectors, text_columns
from everindex.articles.table import CollectionTable
from everindex.articles.table_models import declared_sql, is_record_of, is_zero, records, without_record
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: A vector of one row, (dim,) float32, or None where there is none yet.
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


def needs_vector(
    connection: Connection, table: CollectionTable, rows: Sequence[Row], *, model: str
) -> dict[int, Texts]:
    """The texts of each of `rows` that must be embedded: new ones, those with a changed text, without a vector, with a zero
    vector, or with one known to be of another model.

    The texts are those in the table after the upsert: where a row lacks one, it is the stored one. The keys are indexes
    into `rows`. Reads only.
    """
    record = (
        sql.SQL("(SELECT r.model FROM {} r WHERE {})").format(records(table), is_record_of(table))
        if table.has_embedding_records
        else sql.SQL("NULL")
    )
    other_model = sql.SQL("coalesce({}, {}) <> %(model)s").format(record, declared_sql(table, "model"))
    with translate_errors("comparing rows"):
        known: dict[str, tuple[Texts, bool]] = {
            row[0]: (row[2:], row[1])
            for row in connection.execute(
                sql.SQL(
                    "SELECT a.{key}::pg_catalog.text, "
                    "a.{vector} IS NULL OR {is_zero} OR coalesce({other_model}, false){texts} "
                    "FROM {table} a WHERE a.{key} = ANY({keys})"
                ).format(
                    key=table.key,
                    vector=table.vector,
                    is_zero=is_zero(table),
                    other_model=other_model,
                    texts=sql.Composed([sql.SQL(", a.{}").format(column) for column in text_columns(table)]),
                    table=table.identifier,
                    keys=keys_parameter(table),
                ),
                {"keys": [row.key for row in rows], "model": model},
            )
        }
    needed: dict[int, Texts] = {}
    for number, row in enumerate(rows):
        texts = row.texts(table.spec)
        found = known.get(row.key)
        if found is None:
            needed[number] = texts
        elif found[1] or _merged(texts, found[0]) != found[0]:
            needed[number] = _merged(texts, found[0])
    return needed


def keys_parameter(table: CollectionTable) -> sql.Composed:
    """The parameter `keys`, a list of texts, as an array of the key's type."""
    return sql.SQL("%(keys)s::pg_catalog.text[]::{}[]").format(table.key_type)


def texts_of_keys(table: CollectionTable) -> sql.Composed:
    """A statement that reads key and texts of the rows with the keys of parameter `keys`."""
    return sql.SQL("SELECT a.{key}::pg_catalog.text{texts} FROM {table} a WHERE a.{key} = ANY({keys})").format(
        key=table.key,
        texts=sql.Composed([sql.SQL(", a.{}").format(column) for column in text_columns(table)]),
        table=table.identifier,
        keys=keys_parameter(table),
    )


def _merged(texts: Texts, known: Texts) -> Texts:
    """The texts as they will be after the upsert: one that is None leaves the stored one."""
    return tuple(text if text is not None else stored for text, stored in zip(texts, known, strict=True))


def upsert(
    connection: Connection,
    table: CollectionTable,
    rows: Sequence[Row],
    vectors: Sequence[MaybeVector],
    *,
    model: str | None,
    embedded: Mapping[int, Texts] | None = None,
    keeps_unrecorded: bool = False,
    replaces_metadata: bool = False,
) -> Stored:
    """Writes `rows` (each key only once) with their `vectors` in one transaction.

    A column that is None keeps the stored value; with `replaces_metadata` a metadata column that is None or absent loses it.
    A row that would not change is not written. A changed text without a
    new vector loses its old one: a vector of another text is worse than none. `embedded` gives the texts from which each
    vector was made (index into `rows`); where the stored ones differ in the end, because another writer changed one that
    the row does not contain, the row has no vector. With `keeps_unrecorded` a vector without a record stays when its text
    changes: its model is unknown, so it could not be made again (docs/decisions/0016). `model` is recorded with each new
    vector (None: unknown). Takes ROW EXCLUSIVE on the tables it writes. Raises PermissionDenied, ReadOnlyServer,
    StatementFailed.
    """
    replaced = frozenset(table.spec.metadata if replaces_metadata else ())
    columns = _columns(table, rows, replaced)
    with translate_errors(f"writing {table.spec.name}"), connection.transaction():
        _stage(connection, table, columns, rows, vectors, embedded or {})
        inserted, updated = _merge(connection, table, columns, replaced, keeps_unrecorded=keeps_unrecorded)
        if embedded and table.dimensions is not None:
            connection.execute(_drop_of_other_text(table))
        if table.has_raw_articles and any(row.raw_text is not None for row in rows):
            connection.execute(_MERGE_RAW)
        moments = {row.key: row.expires_at for row in rows if row.expires_at is not None}
        if moments:
            store_expiry(connection, moments)
        if table.has_embedding_records and table.dimensions is not None:
            connection.execute(forget_records(table))
            connection.execute(forget_unknown(table) if model is None else record_vectors(table), {"model": model})
        connection.execute("DROP TABLE pg_temp.everindex_staging, pg_temp.everindex_written")
    return Stored(inserted=inserted, updated=updated, unchanged=len(rows) - inserted - updated)


def _columns(table: CollectionTable, rows: Sequence[Row], replaced: frozenset[str]) -> tuple[str, ...]:
    """The columns that the batch writes, the key first."""
    named = {column for row in rows for column in row.values} | replaced
    return (table.spec.key, *(column for column in table.columns if column in named and column != table.spec.key))


def _embedded(table: CollectionTable) -> list[sql.Identifier]:
    """The staging table's columns of the texts that a vector was made of."""
    return [sql.Identifier(f"everindex_embedded_{number}") for number in range(len(table.spec.text))]


_VECTOR = sql.Identifier("everindex_vector")
_RAW = sql.Identifier("everindex_raw_text")
_HAS_EMBEDDED = sql.Identifier("everindex_has_embedded")


def _stage(
    connection: Connection,
    table: CollectionTable,
    columns: Sequence[str],
    rows: Sequence[Row],
    vectors: Sequence[MaybeVector],
    embedded: Mapping[int, Texts],
) -> None:
    texts = [*map(sql.Identifier, columns), _RAW, *_embedded(table), _HAS_EMBEDDED]
    has_vectors = table.dimensions is not None
    connection.execute(
        sql.SQL("CREATE TEMP TABLE everindex_staging ({texts}, {name} {kind})").format(
            texts=sql.SQL(", ").join(sql.SQL("{} text").format(column) for column in texts),
            name=_VECTOR,
            kind=table.vector_type_name if has_vectors else sql.SQL("text"),
        )
    )
    copy = sql.SQL("COPY pg_temp.everindex_staging ({}) FROM STDIN (FORMAT binary)").format(
        sql.SQL(", ").join([*texts, _VECTOR])
    )
    as_stored = Vector if table.vector_type == "vector" else HalfVector
    none = (None,) * (len(table.spec.text) + 1)
    with connection.cursor() as cursor, cursor.copy(copy) as writer:
        vector_oid = connection.adapters.types.get(table.vector_type) if has_vectors else None
        writer.set_types(["text"] * len(texts) + [vector_oid.oid if vector_oid else "text"])
        for number, (row, vector) in enumerate(zip(rows, vectors, strict=True)):
            of_texts = (*embedded[number], "yes") if number in embedded else none
            writer.write_row(
                [
                    *(row.values.get(column) for column in columns),
                    row.raw_text,
                    *of_texts,
                    None if vector is None else as_stored(vector),
                ]
            )
    if not table.has_text_key:  # as PostgreSQL writes it, whatever the caller wrote: records are found by it
        connection.execute(
            sql.SQL("UPDATE pg_temp.everindex_staging SET {key} = {key}::{key_type}::pg_catalog.text").format(
                key=table.key, key_type=table.key_type
            )
        )


def _is_new(table: CollectionTable) -> sql.Composable:
    """The condition that the row `a`, just written by the statement, is new.

    For a partitioned table PostgreSQL does not return system columns (0A000); there the statement's snapshot decides,
    in which a row that another session has stored meanwhile also counts as new.
    """
    if not table.is_partitioned:
        return sql.SQL("(a.xmax = 0)")
    return sql.SQL("NOT EXISTS (SELECT FROM {table} AS before WHERE before.{key} = a.{key})").format(
        table=table.identifier, key=table.key
    )


def _merge(
    connection: Connection,
    table: CollectionTable,
    columns: Sequence[str],
    replaced: frozenset[str],
    *,
    keeps_unrecorded: bool,
) -> tuple[int, int]:
    """One INSERT … ON CONFLICT over the staging table; (inserted, updated). Columns in `replaced` take a NULL too."""
    others = [column for column in columns if column != table.spec.key]
    written = [column for column in table.spec.text if column in columns]
    text_changes: sql.Composable = sql.SQL("false")
    if written:
        text_changes = sql.SQL("({}) IS DISTINCT FROM ({})").format(
            sql.SQL(", ").join(sql.SQL("a.{}").format(sql.Identifier(column)) for column in written),
            sql.SQL(", ").join(
                sql.SQL("coalesce(excluded.{0}, a.{0})").format(sql.Identifier(column)) for column in written
            ),
        )
    kept = sql.SQL(
        "CASE WHEN excluded.{vector} IS NOT NULL THEN excluded.{vector} WHEN {text_changes}{of_known_model} THEN NULL "
        "ELSE a.{vector} END"
    ).format(
        vector=table.vector,
        text_changes=text_changes,
        of_known_model=sql.SQL(" AND NOT {}").format(without_record(table)) if keeps_unrecorded else sql.SQL(""),
    )
    has_vectors = table.dimensions is not None
    # pgvector's own operator by its qualified name: IS DISTINCT FROM resolves `=` by the search_path.
    other_vector = sql.SQL(
        "(excluded.{vector} IS NOT NULL AND (a.{vector} IS NULL OR a.{vector} OPERATOR({schema}.<>) excluded.{vector}))"
    ).format(vector=table.vector, schema=sql.Identifier(table.extension_schema or "public"))
    assignments = [
        sql.SQL("{0} = excluded.{0}" if column in replaced else "{0} = coalesce(excluded.{0}, a.{0})").format(
            sql.Identifier(column)
        )
        for column in others
    ] + ([sql.SQL("{} = {}").format(table.vector, kept)] if has_vectors else [])
    changes = [_differs(table, column, to_null=column in replaced) for column in others] + (
        [other_vector] if has_vectors else []
    )
    names = list(map(sql.Identifier, columns)) + ([table.vector] if has_vectors else [])
    values = [
        sql.SQL("s.{}::{}").format(sql.Identifier(column), sql.SQL(table.columns[column])) for column in columns
    ] + ([sql.SQL("s.{}").format(_VECTOR)] if has_vectors else [])
    connection.execute(
        sql.SQL(
            """
            CREATE TEMP TABLE everindex_written ON COMMIT DROP AS SELECT NULL::text AS key, NULL::boolean AS is_new LIMIT 0;
            """
        )
    )
    row = connection.execute(
        sql.SQL(
            """
            WITH merged AS (
                INSERT INTO {table} AS a ({names}) SELECT {values} FROM pg_temp.everindex_staging s
                -- In one order everywhere: two importers of the same rows wait for each other and do not deadlock.
                ORDER BY s.{key}
                ON CONFLICT ({key}) DO {action}
                RETURNING a.{key}::pg_catalog.text AS key, {is_new} AS is_new
            ), kept AS (
                INSERT INTO pg_temp.everindex_written SELECT key, is_new FROM merged RETURNING is_new
            )
            SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM kept
            """
        ).format(
            table=table.identifier,
            key=table.key,
            is_new=_is_new(table),
            names=sql.SQL(", ").join(names),
            values=sql.SQL(", ").join(values),
            action=sql.SQL("UPDATE SET {} WHERE {}").format(
                sql.SQL(", ").join(assignments), sql.SQL(" OR ").join(changes)
            )
            if assignments
            else sql.SQL("NOTHING"),
        )
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _differs(table: CollectionTable, column: str, *, to_null: bool) -> sql.Composable:
    """The condition that a column is given, or also where it is not if it may change `to_null`, and is not what is stored.
    Type json has no equality."""
    compared = "::pg_catalog.text" if table.columns[column] == "json" else ""
    return sql.SQL(
        "excluded.{0}{1} IS DISTINCT FROM a.{0}{1}"
        if to_null
        else "(excluded.{0} IS NOT NULL AND excluded.{0}{1} IS DISTINCT FROM a.{0}{1})"
    ).format(sql.Identifier(column), sql.SQL(compared))


#: Full texts go into their own table, and only where they changed.
_MERGE_RAW = """
    INSERT INTO raw_articles AS r (uri, raw_markdown, submission_date, last_updated, topic)
    SELECT s.uri, s.everindex_raw_text, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
           to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), s.topic
    FROM pg_temp.everindex_staging s WHERE s.everindex_raw_text IS NOT NULL ORDER BY s.uri
    ON CONFLICT (uri) DO UPDATE SET raw_markdown = excluded.raw_markdown, last_updated = excluded.last_updated
    WHERE r.raw_markdown IS DISTINCT FROM excluded.raw_markdown
"""


def _drop_of_other_text(table: CollectionTable) -> sql.Composed:
    """By now the rows of all staged keys are locked, including those that the upsert left unchanged, so the compared texts
    stay as they are."""
    return sql.SQL(
        """
        WITH other AS (
            UPDATE {table} a SET {vector} = NULL FROM pg_temp.everindex_staging s
            WHERE a.{key} = s.{key}::{key_type} AND s.everindex_vector IS NOT NULL AND s.everindex_has_embedded IS NOT NULL
              AND ROW({texts}) IS DISTINCT FROM ROW({embedded})
            RETURNING a.{key}::pg_catalog.text AS key
        ), unstaged AS (
            UPDATE pg_temp.everindex_staging s SET everindex_vector = NULL FROM other WHERE other.key = s.{key}
        )
        INSERT INTO pg_temp.everindex_written SELECT key, false FROM other
        """
    ).format(
        table=table.identifier,
        vector=table.vector,
        key=table.key,
        key_type=table.key_type,
        texts=sql.SQL(", ").join(sql.SQL("a.{}::pg_catalog.text").format(column) for column in text_columns(table)),
        embedded=sql.SQL(", ").join(sql.SQL("s.{}").format(column) for column in _embedded(table)),
    )
