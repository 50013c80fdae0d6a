"""The collections that this database records beside the articles, and the indexes that all of them declare.

A declaration is stored once, in `everindex_meta.collection`; every process opens the collection from there. Without the schema,
or the right to read it, there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from everindex.articles.declared import ARTICLES, EMBEDDING_INDEX
from everindex.articles.partial_indexes import PartialIndex, read_partial_indexes
from everindex.articles.shape.spec import CollectionSpec, invalid
from everindex.articles.table import read_table
from everindex.errors import CollectionInvalid, CollectionNotFound, ColumnMismatch, NotMigrated
from everindex.index.spec import IndexSpec
from everindex.migrate.standing import has_article_schema
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: What a declaration consists of, as it is stored.
_STORED = (
    "key", "text", "vector", "metadata", "date", "expires", "passages", "metric", "rest", "words_index", "is_owned",
)  # fmt: skip


def read_collections(connection: Connection) -> list[CollectionSpec]:
    """Those beside the articles, by name. Reads only."""
    with translate_errors("reading the collections"):
        if not own_schema.is_readable(connection, "collection"):
            return []
        rows = connection.execute(
            "SELECT name, table_schema, table_name, declaration FROM everindex_meta.collection ORDER BY name"
        ).fetchall()
    return [_spec(*row) for row in rows]


def all_collections(connection: Connection) -> list[CollectionSpec]:
    """The articles, where this database has them, and then those beside them. Reads only."""
    return [*([ARTICLES] if has_article_schema(connection) else []), *read_collections(connection)]


def find_collection(connection: Connection, name: str) -> CollectionSpec | None:
    """The collection of that name, the articles among them; None without one. Reads only."""
    if name == ARTICLES.name:
        return ARTICLES
    return next((spec for spec in read_collections(connection) if spec.name == name), None)


def require_collection(connection: Connection, name: str) -> CollectionSpec:
    """The collection of that name. Raises CollectionNotFound, with the names that exist, and PermissionDenied where this role
    may not read the declarations. Reads only."""
    found = find_collection(connection, name)
    if found is None:
        with translate_errors("reading the collections"):
            own_schema.require_readable(connection, "collection", what="which collections the database has")
        names = [spec.name for spec in all_collections(connection)]
        raise CollectionNotFound(
            f"there is no collection {name[:80]!r}.",
            why=f"this database has: {', '.join(names)}." if names else "this database has none yet.",
            next_step=f"correct the name, or make it with  instance.collection({name[:80]!r}, dim=…).",
        )
    return found


def record_collection(connection: Connection, spec: CollectionSpec, *, schema: str) -> None:
    """Records a collection whose table is in `schema`. Raises CollectionInvalid where the name or the table is taken."""
    with translate_errors(f"recording collection {spec.name}"):
        taken = connection.execute(
            "SELECT name FROM everindex_meta.collection WHERE name = %s OR (table_schema, table_name) = (%s, %s)",
            (spec.name, schema, spec.table),
        ).fetchone()
        if taken is not None:
            raise CollectionInvalid(
                f"collection {spec.name!r} cannot be recorded.",
                why=f"collection {taken[0]!r} has that name or that table already.",
                next_step=f"open it with  instance.collection({taken[0]!r}) , or drop it first.",
            )
        connection.execute(
            "INSERT INTO everindex_meta.collection (name, table_schema, table_name, declaration) VALUES (%s, %s, %s, %s)",
            (spec.name, schema, spec.table, Jsonb(as_stored(spec))),
        )


def record_passages(connection: Connection, spec: CollectionSpec) -> None:
    """Records that texts of a recorded collection are cut into passages from now on."""
    with translate_errors(f"recording collection {spec.name}"):
        connection.execute(
            "UPDATE everindex_meta.collection SET declaration = %s WHERE name = %s",
            (Jsonb(as_stored(spec)), spec.name),
        )


def forget_collection(connection: Connection, name: str) -> bool:
    """Deletes the record, and with it who made which vector; False where there was none."""
    with translate_errors(f"forgetting collection {name}"):
        return connection.execute("DELETE FROM everindex_meta.collection WHERE name = %s", (name,)).rowcount > 0


def declared_indexes(connection: Connection, collection: str | None = None) -> list[IndexSpec]:
    """The vector indexes that this database declares: that of the articles, where they exist, and those of its collections, each
    with its partial ones. A collection whose table is gone declares none. Reads only.

    With a name: those of that collection alone. Raises CollectionNotFound then, and what `read_table` raises."""
    partial = read_partial_indexes(connection)
    if collection is not None:
        spec = require_collection(connection, collection)
        return _with_partial(EMBEDDING_INDEX if spec is ARTICLES else read_table(connection, spec).index, partial)
    found = _with_partial(EMBEDDING_INDEX, partial) if has_article_schema(connection) else []
    for spec in read_collections(connection):
        try:
            table = read_table(connection, spec)
        except (NotMigrated, ColumnMismatch):
            continue
        if table.dimensions is not None:
            found += _with_partial(table.index, partial)
    return found


def _with_partial(whole: IndexSpec, partial: Sequence[PartialIndex]) -> list[IndexSpec]:
    """The index of all rows, and the partial ones of its table."""
    return [
        whole,
        *(
            each.as_declared(whole)
            for each in partial
            if each.table == whole.table and (each.schema == whole.schema or not whole.is_located)
        ),
    ]


def as_stored(spec: CollectionSpec) -> dict[str, Any]:
    """The declaration as JSON."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name in _STORED for value in (getattr(spec, name),)
    }


def _spec(name: str, schema: str, table: str, declaration: Mapping[str, Any]) -> CollectionSpec:
    known = {name: declaration[name] for name in _STORED if name in declaration}
    for column in ("text", "metadata"):
        known[column] = tuple(known.get(column, ()))
    try:
        return CollectionSpec(name=name, schema=schema, table=table, **known)
    except TypeError as exc:
        raise invalid(name, f"its record cannot be read ({exc})", "another version of everindex wrote it.") from None
