"""The partial vector indexes that a database declares, each for one filter of the articles or of a collection.

A declaration is a row of `everindex_meta.partial_index`: the filter as it was given, and the predicate that it stands for. The
index itself is declared, built, proven and kept like every other; a search under exactly that filter goes through it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg.types.json import Json

from everindex.articles.search.filters import as_condition, literal_where
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import FilterInvalid
from everindex.index.catalog.effective_spec import as_tuned, delete_tuned
from everindex.index.catalog.observe import observe
from everindex.index.catalog.partial_names import partial_name
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.plan.policy import DEPLOY
from everindex.index.reporter import Reporter
from everindex.index.spec import IndexSpec
from everindex.pg import own_schema
from everindex.pg.connections import Connection, connect
from everindex.pg.sqlstate import translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialIndex:
    """One declaration."""

    schema: str
    table: str
    name: str
    filters: Mapping[str, Any]
    predicate: str

    def as_declared(self, whole: IndexSpec) -> IndexSpec:
        """The index, beside the one of all rows."""
        return replace(
            whole, name=self.name, schema=self.schema, table=self.table, predicate=self.predicate, is_located=True
        )

    @property
    def words(self) -> str:
        """The filter as it is given to a command."""
        return json.dumps(self.filters, ensure_ascii=False)


def partial_index_for(table: CollectionTable, filters: Mapping[str, Any]) -> PartialIndex:
    """The partial index of the rows that pass these filters. Raises FilterInvalid."""
    condition = parse_condition(filters)
    if condition is None:
        raise FilterInvalid(
            "a partial index needs a filter.",
            why="it holds the rows that pass one; the index of all rows is declared already.",
            next_step='name it, as in  {"category": "Security"}.',
        )
    return PartialIndex(
        schema=table.schema,
        table=table.spec.table,
        name=partial_name(table.spec.table, as_condition(condition).digest),
        filters=filters,
        predicate=literal_where(table, condition),
    )


def read_partial_indexes(connection: Connection, table: tuple[str, str] | None = None) -> list[PartialIndex]:
    """The declarations of this database, or of one table (schema, name), by name; none without the schema, or the right to read
    it. Reads only."""
    with translate_errors("reading the partial indexes"):
        if not own_schema.is_readable(connection, "partial_index"):
            return []
        rows = connection.execute(
            "SELECT table_schema, table_name, index_name, filters, predicate FROM everindex_meta.partial_index "
            "WHERE %(schema)s::text IS NULL OR (table_schema, table_name) = (%(schema)s::text, %(table)s::text) "
            "ORDER BY table_schema, index_name",
            {"schema": table and table[0], "table": table and table[1]},
        ).fetchall()
    return [PartialIndex(schema=row[0], table=row[1], name=row[2], filters=row[3], predicate=row[4]) for row in rows]


def record_partial_index(connection: Connection, declared: PartialIndex) -> None:
    """Records it; one that is recorded stays as it is. Raises PermissionDenied."""
    with translate_errors("recording a partial index"):
        connection.execute(
            "INSERT INTO everindex_meta.partial_index (table_schema, table_name, index_name, filters, predicate) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (table_schema, index_name) DO NOTHING",
            (
                declared.schema, declared.table, declared.name,
                Json(declared.filters, dumps=lambda filters: json.dumps(filters, default=str)), declared.predicate,
            ),
        )  # fmt: skip


def forget_partial_index(connection: Connection, declared: PartialIndex) -> bool:
    """Deletes the record; False where there was none."""
    with translate_errors("forgetting a partial index"):
        return (
            connection.execute(
                "DELETE FROM everindex_meta.partial_index WHERE (table_schema, index_name) = (%s, %s)",
                (declared.schema, declared.name),
            ).rowcount
            > 0
        )


def forget_partial_indexes(connection: Connection, table: tuple[str, str]) -> None:
    """Deletes all records of a table (schema, name), in the caller's transaction."""
    with translate_errors("forgetting partial indexes"):
        if own_schema.is_readable(connection, "partial_index"):
            connection.execute(
                "DELETE FROM everindex_meta.partial_index WHERE (table_schema, table_name) = (%s, %s)", table
            )


def deploy_partial_index(
    conninfo: str, collection: CollectionSpec, filters: Mapping[str, Any], *, reporter: Reporter | None = None
) -> Deployed:
    """Declares the partial index of the rows that pass `filters`, and builds it online. Raises FilterInvalid, SpecIllegal for a
    condition that no index can have, and what a deploy raises; it stays declared where only the build failed."""
    with connect(conninfo, application_name="everindex deploy") as connection:
        declared = partial_index_for(read_table(connection, collection), filters)
        spec = declared.as_declared(read_table(connection, collection).index)
        observe(connection, spec)  # whether PostgreSQL takes the predicate
        own_schema.ensure(conninfo)
        record_partial_index(connection, declared)
        spec = as_tuned(connection, spec)
    return deploy(conninfo, spec, reporter=reporter, policy=DEPLOY)


def drop_partial_index(
    conninfo: str, collection: CollectionSpec, filters: Mapping[str, Any], *, reporter: Reporter | None = None
) -> bool:
    """Forgets it and drops it online; False where there was neither a declaration nor an index. Raises FilterInvalid."""
    with connect(conninfo, application_name="everindex deploy") as connection:
        table = read_table(connection, collection)
        declared = partial_index_for(table, filters)
        # Forgotten first: what would be dropped before could be built anew by a keeper.
        was_declared = forget_partial_index(connection, declared)
        spec = declared.as_declared(table.index)
        if own_schema.is_readable(connection, "tuned"):
            delete_tuned(connection, spec)
    return drop(conninfo, spec, reporter=reporter) or was_declared
