"""What is known of tables and vector indexes while the statements of a migration are read one after the other.

It begins empty, or with what a database has, and changes as the statements would change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from everindex.migration_check.ddl import VECTOR_METHODS
from everindex.migration_check.operations import CreateIndex, Name
from everindex.pg.connections import Connection
from everindex.pg.index_catalog import catalog_indexes, indexes_query


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownIndex:
    """One vector index."""

    name: Name
    table: Name
    key: str
    """The column or expression with its operator class, lower case, blanks collapsed."""

    column: str | None
    predicate: str
    is_valid: bool = True

    def replaces(self, other: KnownIndex) -> bool:
        """Whether the searches that use `other` can use this one."""
        return (
            self.is_valid
            and self.table.is_same(other.table)
            and self.key == other.key
            and self.predicate in ("", other.predicate)
        )


@dataclass(slots=True, kw_only=True)
class KnownSchema:
    """Tables and vector indexes, as far as they are known."""

    has_catalog: bool = False
    """It began with what a database has, so an index that it does not know is no vector index."""

    indexes: list[KnownIndex] = field(default_factory=list)
    new_tables: list[Name] = field(default_factory=list)
    """Created by the statements read so far: nobody uses them yet."""

    vector_columns: list[tuple[Name, str]] = field(default_factory=list)
    rows: dict[tuple[str | None, str], int] = field(default_factory=dict)
    """{(schema, table): estimated rows}, of tables with vector columns in a database."""

    def is_new(self, table: Name) -> bool:
        return any(table.is_same(new) for new in self.new_tables)

    def index(self, name: Name) -> KnownIndex | None:
        return next((index for index in self.indexes if index.name.is_same(name)), None)

    def indexes_of(self, table: Name) -> list[KnownIndex]:
        return [index for index in self.indexes if index.table.is_same(table)]

    def is_vector_column(self, table: Name, column: str) -> bool:
        return any(table.is_same(known) and column == name for known, name in self.vector_columns)

    def rows_of(self, table: Name) -> int | None:
        return next(
            (n for (schema, name), n in self.rows.items() if table.is_same(Name(schema=schema, name=name))), None
        )

    def add_index(self, created: CreateIndex) -> None:
        """Remembers a vector index that a statement creates."""
        column, key = _key_parts(created.key)
        name = created.name or Name(schema=None, name=f"{created.table.name}_{column or 'expr'}_idx")
        if self.index(name) is None:
            self.indexes.append(
                KnownIndex(name=name, table=created.table, key=key, column=column, predicate=created.predicate)
            )

    def remove_index(self, name: Name) -> None:
        self.indexes = [index for index in self.indexes if not index.name.is_same(name)]

    def remove_table(self, table: Name) -> None:
        self.indexes = [index for index in self.indexes if not index.table.is_same(table)]
        self.new_tables = [new for new in self.new_tables if not new.is_same(table)]
        self.vector_columns = [known for known in self.vector_columns if not known[0].is_same(table)]

    def rename_index(self, name: Name, new_name: str) -> None:
        self.indexes = [
            replace(index, name=replace(index.name, name=new_name)) if index.name.is_same(name) else index
            for index in self.indexes
        ]

    def rename_table(self, table: Name, new_name: str) -> None:
        renamed = replace(table, name=new_name)
        self.indexes = [
            replace(index, table=renamed) if index.table.is_same(table) else index for index in self.indexes
        ]
        self.new_tables = [renamed if new.is_same(table) else new for new in self.new_tables]
        self.vector_columns = [
            (renamed if known.is_same(table) else known, column) for known, column in self.vector_columns
        ]


def schema_of_database(connection: Connection) -> KnownSchema:
    """The vector columns and vector indexes of a database. Reads only; locks nothing."""
    known = KnownSchema(has_catalog=True)
    for schema, table, column, rows in connection.execute(_VECTOR_COLUMNS).fetchall():
        known.vector_columns.append((Name(schema=schema, name=table), column))
        known.rows[schema, table] = rows
    for index in catalog_indexes(connection.execute(_VECTOR_INDEXES, {"methods": [*VECTOR_METHODS]})):
        column = index.column.lower() if index.column else None
        known.indexes.append(
            KnownIndex(
                name=Name(schema=index.schema, name=index.name),
                table=Name(schema=index.table_schema, name=index.table),
                key=f"{_plain(index.key or column or '')} {index.opclass}",
                column=column,
                predicate=_plain(index.predicate or ""),
                is_valid=index.is_valid,
            )
        )
    return known


_VECTOR_INDEXES = indexes_query("am.amname = ANY (%(methods)s)", "key")
_VECTOR_COLUMNS = """
SELECT n.nspname::text, c.relname::text, a.attname::text, greatest(c.reltuples, 0)::bigint
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND t.typname IN ('vector', 'halfvec', 'sparsevec')
ORDER BY 1, 2, 3
"""


def _key_parts(key: str) -> tuple[str | None, str]:
    """The column of a key (None for an expression), and the key in comparable form."""
    words = key.replace('"', "").split()
    column = words[0] if words and words[0] != "(" else None
    return column, _plain(key)


def _plain(text: str) -> str:
    return " ".join(text.lower().replace('"', "").replace("(", " ( ").replace(")", " ) ").split())
