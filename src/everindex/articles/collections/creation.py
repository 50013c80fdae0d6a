"""The creation of a collection's table, and the comparison of a declaration with a table that exists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from psycopg import sql

from everindex.articles.collections.registry import forget_collection
from everindex.articles.declared import ARTICLES, OWN_SCHEMA, whole_texts_of
from everindex.articles.shape.spec import (
    MAX_COLUMN_DIMENSIONS,
    SINGLE_KEY,
    VECTOR_TYPES,
    CollectionSpec,
    Metric,
    VectorType,
    invalid,
)
from everindex.articles.table import CollectionTable
from everindex.errors import CollectionInvalid
from everindex.index.catalog.observe import observe
from everindex.index.plan.preconditions import check_column
from everindex.index.spec import MAX_DIMENSIONS
from everindex.pg.capabilities import HALFVEC_AND_BIT_PGVECTOR, Capabilities, look, require_pgvector, version_text
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: The JSON column of a table that everindex makes: what a row has beyond the declared columns.
REST = "metadata"
#: The name of a type as SQL writes it, with arguments and brackets: no other words of SQL.
_TYPE = re.compile(r'[A-Za-z_"][A-Za-z0-9_ ".]*(\(\s*\d+\s*(,\s*\d+\s*)?\))?(\s*\[\])?')


def new_spec(
    name: str,
    *,
    table: str | None,
    schema: str | None,
    key: str,
    text: Sequence[str],
    metadata: Mapping[str, str] | Sequence[str],
    date: str | None,
    expires: str | None,
    passages: str | None,
    metric: Metric,
) -> CollectionSpec:
    """The declaration of a collection whose table everindex makes. Raises CollectionInvalid."""
    if name == ARTICLES.name:
        raise invalid(
            name, "the name is that of the articles", "these are a collection already.", "choose another name."
        )
    columns = tuple(column for column in metadata if column != REST)
    return CollectionSpec(
        name=name, table=table or name, schema=schema, key=key, text=tuple(text), metadata=(*columns, REST), date=date,
        expires=expires, passages=passages, metric=metric, rest=REST, is_owned=True,
    )  # fmt: skip


def column_types(spec: CollectionSpec, metadata: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Metadata column → type; text where only names are given. Raises CollectionInvalid for what is no type's name."""
    given = metadata if isinstance(metadata, Mapping) else dict.fromkeys(metadata, "text")
    for column, kind in given.items():
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind.strip()):
            raise invalid(
                spec.name, f"column {column} has no type {kind!r}", "it is not the name of a PostgreSQL type."
            )
    return {**given, REST: "jsonb"}


def require_dimensions(spec: CollectionSpec, dim: int, kind: VectorType) -> None:
    """Raises CollectionInvalid for a width or a type that pgvector does not store."""
    if kind not in VECTOR_TYPES:
        raise invalid(spec.name, f"vectors have no type {kind!r}", f"pgvector's types are {', '.join(VECTOR_TYPES)}.")
    if not 1 <= dim <= MAX_COLUMN_DIMENSIONS:
        raise invalid(spec.name, f"dim = {dim}", f"pgvector stores 1 to {MAX_COLUMN_DIMENSIONS} dimensions.")


_NOT_TABLES = {
    "v": ("a view", "make it a materialized view with a unique index, or declare the collection over its table."),
    "f": ("a foreign table", "declare the collection on the server that has its rows."),
}
_ABOUT_TABLE = """
    SELECT c.relkind::text, c.relpersistence::text,
           coalesce(bool_or(i.indnkeyatts = 1), false), coalesce(bool_or(true) FILTER (WHERE i.indexrelid IS NOT NULL), false),
           (SELECT pg_catalog.string_agg(a.attname, ', ' ORDER BY pg_catalog.array_position(p.indkey::int2[], a.attnum))
            FROM pg_catalog.pg_index p JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (p.indkey)
            WHERE p.indrelid = c.oid AND p.indisprimary)
    FROM pg_catalog.pg_class c
    LEFT JOIN pg_catalog.pg_attribute k ON k.attrelid = c.oid AND k.attname = %(key)s AND NOT k.attisdropped
    LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
         AND k.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE c.oid = pg_catalog.to_regclass(%(table)s)
    GROUP BY c.oid, c.relkind, c.relpersistence
"""


def require_usable(connection: Connection, table: CollectionTable, *, deploys: bool) -> None:
    """Raises CollectionInvalid for an existing table that cannot be a collection: a relation that is no table, is dropped with
    its session, or whose key does not identify a row; with `deploys` also SpecIllegal or ExtensionTooOld for a column that no
    vector index can hold here. Reads only."""
    spec = table.spec
    named = table.identifier.as_string(None)
    with translate_errors(f"reading table {spec.table}"):
        row = connection.execute(_ABOUT_TABLE, {"table": named, "key": spec.key}).fetchone()
    assert row is not None  # read_table has found it
    kind, persistence, is_unique, is_part_of_unique, primary = row
    if kind in _NOT_TABLES:
        what, next_step = _NOT_TABLES[kind]
        raise invalid(
            spec.name,
            f"{named} is {what}",
            "no index can be built on it, so every search would read all of it.",
            next_step,
        )
    if persistence == "t":
        raise invalid(
            spec.name, f"{named} is a temporary table", "it is gone with the session that made it, and no other sees it.",
            "store the rows in an ordinary table.",
        )  # fmt: skip
    # Across partitions PostgreSQL keeps no column unique that is not what they are divided by.
    if not is_unique and not (kind == "p" and is_part_of_unique):
        of = f"its primary key is ({primary})" if primary else "no unique index is on it alone"
        raise invalid(spec.name, f"column {spec.key} does not identify a row of {named}", f"{of}.", SINGLE_KEY)
    if deploys:
        check_column(table.index, observe(connection, table.index))


def require_supported(spec: CollectionSpec, server: Capabilities, dim: int, kind: VectorType) -> None:
    """Raises CollectionInvalid for vectors that this server's pgvector does not have, or cannot index."""
    version = server.extension_version or server.available_version
    if version is None or version >= HALFVEC_AND_BIT_PGVECTOR:
        return
    update = "install pgvector 0.7.0 or later on the server and run  ALTER EXTENSION vector UPDATE , or "
    if kind == "halfvec":
        raise invalid(
            spec.name, f"pgvector {version_text(version)} has no type halfvec", "halfvec came with pgvector 0.7.0.",
            f"{update}use vector_type='vector'.",
        )  # fmt: skip
    if dim > MAX_DIMENSIONS["vector"]:
        raise invalid(
            spec.name, f"pgvector {version_text(version)} cannot index vectors of {dim} dimensions",
            f"it indexes up to {MAX_DIMENSIONS['vector']}; wider ones through halfvec and bit, which came with pgvector 0.7.0.",
            f"{update}use a model with fewer dimensions.",
        )  # fmt: skip


def create_table(
    connection: Connection,
    spec: CollectionSpec,
    *,
    dim: int,
    kind: VectorType,
    key_type: str,
    types: Mapping[str, str],
) -> str:
    """Makes the table, where it does not exist; the schema in which it lies. One short transaction of the caller's.

    Raises ExtensionUnavailable and its kin, CollectionInvalid for a table of that name that something else made.
    """
    if not _TYPE.fullmatch(key_type.strip()):
        raise invalid(spec.name, f"the key has no type {key_type!r}", "it is not the name of a PostgreSQL type.")
    server = look(connection)
    require_pgvector(server)
    if server.extension_version is None:
        with translate_errors("creating extension vector"):
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        server = look(connection)
    require_supported(spec, server, dim, kind)
    columns = [
        sql.SQL("{} {} PRIMARY KEY").format(sql.Identifier(spec.key), sql.SQL(key_type)),
        *(sql.SQL("{} text").format(sql.Identifier(column)) for column in spec.text),
        *(sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(types[column])) for column in spec.metadata),
        sql.SQL("{} {}({})").format(
            sql.Identifier(spec.vector), sql.Identifier(server.extension_schema or "public", kind), sql.Literal(dim)
        ),
    ]
    name = sql.Identifier(spec.table) if spec.schema is None else sql.Identifier(spec.schema, spec.table)
    with translate_errors(f"making the table of collection {spec.name}"):
        found = connection.execute("SELECT pg_catalog.to_regclass(%s)::oid", (name.as_string(None),)).fetchone()
        if found is not None and found[0] is not None:
            raise CollectionInvalid(
                f"collection {spec.name!r} cannot be made.",
                why=f"something named {spec.table} exists already, and is not a collection of everindex.",
                next_step=f"declare a collection over it with  instance.collection_of(table={spec.table!r}, …) , or choose "
                "another name.",
            )
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(", ").join(columns)))
        row = connection.execute(
            "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.oid = pg_catalog.to_regclass(%s)",
            (name.as_string(None),),
        ).fetchone()
    assert row is not None  # made a moment ago, in this transaction
    return str(row[0])


def drop_passages(connection: Connection, spec: CollectionSpec) -> None:
    """Drops the passages of a collection's texts, how these were cut, and the record of the passages; nothing of a collection
    that has none."""
    texts = whole_texts_of(spec)
    if texts is None:
        return
    with translate_errors(f"dropping the passages of collection {spec.name}"):
        forget_collection(connection, texts.passages.name)
        for name in (texts.passages.table, texts.cuts):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(OWN_SCHEMA, name)))


def drop_table(connection: Connection, spec: CollectionSpec) -> None:
    """Drops the table of a collection that everindex made."""
    assert spec.is_owned  # only what everindex created is dropped
    assert spec.schema is not None  # as it was recorded
    with translate_errors(f"dropping the table of collection {spec.name}"):
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(spec.schema, spec.table)))
