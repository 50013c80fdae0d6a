"""The index of the words of a collection as it is: its name, its place, and what the catalog has under that name."""

from __future__ import annotations

from dataclasses import dataclass, field

from everindex.articles.declared import ARTICLES
from everindex.articles.search.keyword.document import generation_names
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import regclass_text
from everindex.index.spec import BuildPolicy
from everindex.pg.connections import Connection

#: How long a build waits for a transaction that blocks it. Then its work is lost, which is seconds, not hours.
POLICY = BuildPolicy(wait_for_transactions_seconds=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextIndex:
    """The index that a collection declares, where its table lies, and how long a build may wait."""

    collection: CollectionSpec
    schema: str
    name: str
    build: BuildPolicy = field(default_factory=lambda: POLICY)

    @property
    def table(self) -> str:
        return self.collection.table

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the index, its successor and its predecessor during a replacement."""
        return generation_names(self.name)

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A relation with the name of the index, or of its next or previous generation."""

    oid: int
    name: str
    is_valid: bool
    expression: str | None
    """As pg_get_expr prints it; None unless it is a GIN index of this table over one expression and all rows."""

    has_no_statistics: bool
    """Set by the last action of a build: without it, the build was interrupted and the next call finishes it."""

    comment: str | None

    def is_for_words_of(self, collection: CollectionSpec) -> bool:
        """True for an index over the words of the collection's texts, even for another language or of another release."""
        found = self.expression or ""
        columns = (column.replace('"', '""') for column in collection.text)
        return all(part in found for part in ("to_tsvector(", "setweight(", *columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The state in the catalog."""

    index: TextIndex
    may_build: bool
    """The role owns the table, may create in its schema, and the server takes writes."""

    is_partitioned: bool
    is_empty: bool
    estimated_rows: int
    serving: Found | None
    successor: Found | None
    previous: Found | None

    @property
    def exists(self) -> bool:
        """A relation with the index's name exists; `serving` describes it."""
        return self.serving is not None


def observe(connection: Connection, collection: CollectionSpec = ARTICLES) -> Observed | None:
    """The state of the collection's index in the catalog; None without its table. Reads only."""
    name, successor, previous = generation_names(collection.words_index_name)
    rows = connection.execute(
        """
        SELECT n.nspname,
               NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.current_setting('transaction_read_only') = 'off'
               AND pg_catalog.pg_has_role(t.relowner, 'USAGE') AND pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
               t.relkind = 'p', t.relkind = 'r' AND pg_catalog.pg_relation_size(t.oid) = 0, t.reltuples::bigint,
               x.oid, x.relname, coalesce(i.indisvalid AND i.indisready, false),
               CASE WHEN i.indrelid = t.oid AND m.amname = 'gin' AND i.indnatts = 1 AND i.indpred IS NULL
                    THEN pg_catalog.pg_get_expr(i.indexprs, i.indrelid) END,
               EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.oid AND a.attnum = 1 AND a.attstattarget = 0),
               pg_catalog.obj_description(x.oid, 'pg_class')
        FROM pg_catalog.pg_class t
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
        LEFT JOIN pg_catalog.pg_class x ON x.relnamespace = t.relnamespace AND x.relname = ANY(%s)
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid
        LEFT JOIN pg_catalog.pg_am m ON m.oid = x.relam
        WHERE t.oid = pg_catalog.to_regclass(%s)
        """,
        ([name, successor, previous], regclass_text(collection)),
    ).fetchall()
    if not rows:
        return None
    found = {
        row[6]: Found(
            oid=row[5], name=row[6], is_valid=row[7], expression=row[8], has_no_statistics=row[9], comment=row[10]
        )
        for row in rows
        if row[5] is not None
    }
    return Observed(
        index=TextIndex(collection=collection, schema=rows[0][0], name=name),
        may_build=rows[0][1],
        is_partitioned=rows[0][2],
        is_empty=rows[0][3],
        estimated_rows=max(0, rows[0][4]),
        serving=found.get(name),
        successor=found.get(successor),
        previous=found.get(previous),
    )
