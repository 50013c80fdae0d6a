"""The table of a collection as this database has it: its columns, their types, the width of its vectors. Reads only.

Existing tables have other types and more columns than were declared; needed are those that the collection names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

from everindex.articles.declared import ARTICLES, whole_texts_of
from everindex.articles.model import ARTICLE_COLUMNS
from everindex.articles.shape.spec import VECTOR_TYPES, CollectionSpec
from everindex.articles.shape.whole_text import WholeTexts
from everindex.errors import ColumnMismatch, NotMigrated, TableNotFound
from everindex.index.catalog.key import cast_sql
from everindex.index.spec import IndexSpec
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Types whose values Python's `str` writes as PostgreSQL does. A key of another type is read as text.
_KEYS_AS_THEY_ARE = ("text", "character varying", "uuid", "smallint", "integer", "bigint")

#: Of a column whose moment ends a row.
EXPIRY_TYPES = ("timestamp with time zone", "timestamp without time zone", "date")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionTable:
    """The table's location, its columns with their types, and the schema of pgvector's operators."""

    spec: CollectionSpec
    schema: str
    columns: dict[str, str]
    """Column → type as SQL writes it (`format_type`), without a length: a cast to varchar(20) would truncate silently."""

    dimensions: int | None
    """Width of the vectors; None where the column is missing (of the articles before revision 8eadb2079747) or has none."""

    vector_type: str = "vector"
    """vector or halfvec."""

    extension_schema: str | None
    has_raw_articles: bool
    has_embedding_records: bool
    """Whether this role may read the records of embedding models; otherwise vectors count as not recorded."""

    has_passages: bool = False
    """Whether passages of the rows' whole texts are stored, and this role may read them."""

    hides_passages: bool = False
    """Whether passages are stored that this role may not read."""

    has_declared_models: bool = False
    has_expiry_records: bool = False
    """Of the articles: whether any has ever had a moment at which it expires (articles/expiry.py)."""

    expiry_hidden_from: str | None = None
    """The name of this role where such moments exist that it may not read."""

    is_partitioned: bool = False
    records_hidden_from: str | None = None
    """The name of this role where records exist that it may not read."""

    date_at: int | None = None
    """Where among the columns of a hit the articles' date stands, if it is of another type than text: a hit has its text."""

    has_text_key: bool = field(init=False)
    """Whether a hit's key is text: stored as such, or read so."""

    can_expire: bool = field(init=False)
    """Whether rows of this table can expire."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "can_expire", self.has_expiry_records or self.spec.expires is not None)
        kind = self.columns[self.spec.key]
        is_text = kind in ("text", "character varying") or kind not in _KEYS_AS_THEY_ARE
        object.__setattr__(self, "has_text_key", is_text)

    @property
    def whole_texts(self) -> WholeTexts | None:
        """Of a collection whose rows have, or could have, whole texts in this database."""
        return None if self.spec is ARTICLES and not self.has_raw_articles else whole_texts_of(self.spec)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.spec.table)

    @property
    def key(self) -> sql.Identifier:
        return sql.Identifier(self.spec.key)

    @property
    def key_type(self) -> sql.SQL:
        return sql.SQL(self.columns[self.spec.key])

    @property
    def has_plain_key(self) -> bool:
        """Whether a hit's key is the stored value; else it is its text."""
        return self.columns[self.spec.key] in _KEYS_AS_THEY_ARE

    @property
    def key_text(self) -> sql.Composed:
        """The key as text, in the order of its bytes, which is that of Python's text, whatever the collation."""
        return sql.SQL('{}::pg_catalog.text COLLATE pg_catalog."C"').format(self.key)

    @property
    def title_and_body(self) -> sql.Composed:
        """The texts of a row as two expressions: its title, where the collection has one, and the others as one text."""
        columns = [sql.SQL("a.{}").format(sql.Identifier(column)) for column in self.spec.text]
        if self.spec.has_title and len(columns) == 2:
            return sql.SQL("{}, {}").format(*columns)
        title = columns[0] if self.spec.has_title else sql.SQL("NULL::text")
        bodies = columns[1:] if self.spec.has_title else columns
        body = sql.SQL(", ").join([sql.Literal("\n\n"), *(sql.SQL("nullif({}, '')").format(each) for each in bodies)])
        return sql.SQL("{}, pg_catalog.concat_ws({})").format(title, body)

    @property
    def vector(self) -> sql.Identifier:
        return sql.Identifier(self.spec.vector)

    @property
    def vector_read(self) -> sql.Composed:
        """The vector as type vector, which every connection reads."""
        if self.vector_type == "vector":
            return sql.Composed([self.vector])
        return sql.SQL("{}::{}").format(self.vector, sql.Identifier(self.extension_schema or "public", "vector"))

    @property
    def selected(self) -> sql.Composed:
        """The columns of a hit: the key, the texts, the metadata."""
        key = self.key if self.has_plain_key else sql.SQL("{0}::pg_catalog.text AS {0}").format(self.key)
        return sql.SQL(", ").join([key, *map(sql.Identifier, self.spec.columns.names[1:])])

    @property
    def names(self) -> sql.Composed:
        """The same of a subquery that has selected them."""
        return sql.SQL(", ").join(map(sql.Identifier, self.spec.columns.names))

    @property
    def index(self) -> IndexSpec:
        """The vector index that the collection declares for this table."""
        return self.spec.vector_index(schema=self.schema, vector_type=self.vector_type, dimensions=self.dimensions)

    @property
    def writable_columns(self) -> tuple[str, ...]:
        """The columns of `Article` that this table has, in the order of `Article`."""
        return tuple(column for column in ARTICLE_COLUMNS if column in self.columns)

    @property
    def vector_type_name(self) -> sql.Composed:
        return sql.SQL("{}").format(sql.Identifier(self.extension_schema or "public", self.vector_type))

    @property
    def distance(self) -> sql.Composed:
        """pgvector's distance operator of the collection, qualified: the extension's schema may not be in the search_path."""
        return sql.SQL("OPERATOR({}.{})").format(
            sql.Identifier(self.extension_schema or "public"), sql.SQL(self.spec.operator)
        )

    @property
    def query_vector(self) -> sql.Composed:
        """The parameter `vector` of a search, in the type of the column."""
        if self.vector_type == "vector":
            return sql.Composed([sql.SQL("%(vector)b")])
        return sql.SQL("%(vector)b::{}::{}").format(
            sql.Identifier(self.extension_schema or "public", "vector"), self.vector_type_name
        )

    @property
    def typed_query_vector(self) -> sql.Composed:
        """The same with its type, where it is cast further."""
        if self.vector_type == "vector":
            return sql.SQL("%(vector)b::{}").format(self.vector_type_name)
        return self.query_vector

    def code(self, value: sql.Composable, key_type: str) -> sql.Composable:
        """A vector in the form that an index of this key type stores: `embedding::halfvec(1536)`, or its sign bits."""
        cast = cast_sql(value, self.vector_type, key_type, self.dimensions or 0, self.extension_schema)
        return sql.SQL("({})").format(cast)

    def code_distance(self, key_type: str) -> sql.Composed:
        """The operator that orders such codes as the distance orders their vectors, qualified."""
        symbol = sql.SQL("<~>" if key_type == "bit" else self.spec.operator)
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.extension_schema or "public"), symbol)


def read_table(connection: Connection, spec: CollectionSpec = ARTICLES) -> CollectionTable:
    """Looks at the table that the collection names. Raises NotMigrated (of the articles) or TableNotFound when there is none,
    ColumnMismatch when it lacks a column that everything needs."""
    texts = whole_texts_of(spec)
    with translate_errors("reading the article table" if spec is ARTICLES else f"reading table {spec.table}"):
        rows = connection.execute(
            """
            SELECT n.nspname, a.attname, pg_catalog.format_type(a.atttypid, -1),
                   pg_catalog.format_type(a.atttypid, a.atttypmod), t.typname,
                   nullif(a.atttypmod, -1), c.relkind = 'p'
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE c.oid = to_regclass(%s)
            """,
            (regclass_text(spec),),
        ).fetchall()
        other = connection.execute(
            """
            SELECT to_regclass('raw_articles') IS NOT NULL,
                   coalesce(bool_or(kept.is_readable) FILTER (WHERE kept.name = %s), false),
                   coalesce(bool_or(kept.is_readable) FILTER (WHERE kept.name = 'declared_model'), false),
                   CASE WHEN bool_or(NOT kept.is_readable) FILTER (WHERE kept.name = %s)
                        THEN current_user::text END,
                   coalesce(bool_or(kept.is_readable) FILTER (WHERE kept.name = 'article_expiry'), false),
                   CASE WHEN bool_or(NOT kept.is_readable) FILTER (WHERE kept.name = 'article_expiry')
                        THEN current_user::text END,
                   bool_or(kept.is_readable) FILTER (WHERE kept.name = %s),
                   (SELECT n.nspname FROM pg_catalog.pg_extension e
                    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector')
            FROM (SELECT c.relname AS name, pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                         AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS is_readable
                  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = 'everindex_meta' AND c.relkind = 'r') AS kept
            """,
            (*(records_table(spec),) * 2, None if texts is None else texts.passages.table),
        ).fetchone()
    if not rows or other is None:
        raise _no_table(spec)
    columns = {row[1]: row[2] for row in rows}
    missing = [column for column in spec.columns.names if column not in columns]
    if missing:
        raise _columns_missing(connection, spec, missing)
    vector = next((row for row in rows if row[1] == spec.vector), None)
    if vector is None and spec is not ARTICLES:
        raise _columns_missing(connection, spec, [spec.vector])
    types = ("vector",) if spec is ARTICLES else VECTOR_TYPES
    if vector is not None and vector[4] not in types:
        raise ColumnMismatch(
            f"column {spec.table}.{spec.vector} has type {vector[3]}.",
            why=f"everindex stores embeddings as pgvector's type {' or '.join(types)}.",
            next_step=f"convert it:  ALTER TABLE {spec.table} ALTER COLUMN {spec.vector} TYPE vector(N) "
            f"USING {spec.vector}::vector(N).",
        )
    if spec.expires is not None and columns[spec.expires] not in EXPIRY_TYPES:
        raise ColumnMismatch(
            f"column {spec.table}.{spec.expires} has type {columns[spec.expires]}.",
            why=f"collection {spec.name!r} declares that its rows expire then, which a date or a timestamp can say.",
            next_step=f"convert it:  ALTER TABLE {spec.table} ALTER COLUMN {spec.expires} TYPE timestamptz , or declare the "
            "collection without expires.",
        )
    return CollectionTable(
        spec=spec,
        schema=rows[0][0],
        columns={name: kind for name, kind in columns.items() if name != spec.vector},
        dimensions=vector[5] if vector is not None else None,
        vector_type=vector[4] if vector is not None else "vector",
        extension_schema=other[7],
        has_raw_articles=spec is ARTICLES and other[0],
        has_passages=other[6] is True and (other[0] or spec is not ARTICLES),
        hides_passages=other[6] is False,
        has_embedding_records=other[1],
        has_declared_models=other[2],
        is_partitioned=rows[0][6],
        records_hidden_from=other[3],
        has_expiry_records=spec is ARTICLES and other[4],
        expiry_hidden_from=other[5] if spec is ARTICLES else None,
        date_at=_date_at(spec, columns),
    )


def _date_at(spec: CollectionSpec, columns: dict[str, str]) -> int | None:
    if not spec.is_flat or spec.date is None or columns[spec.date] in ("text", "character varying"):
        return None
    return spec.columns.names.index(spec.date)


def records_table(spec: CollectionSpec) -> str:
    """The table of schema everindex_meta that says which model made each vector."""
    return "embedding_record" if spec is ARTICLES else "collection_record"


def regclass_text(spec: CollectionSpec) -> str:
    """The table as text that to_regclass reads: without a schema, the search_path leads to it."""
    name = sql.Identifier(spec.table) if spec.schema is None else sql.Identifier(spec.schema, spec.table)
    return name.as_string(None)


def _no_table(spec: CollectionSpec) -> NotMigrated:
    if spec is ARTICLES:
        return NotMigrated(
            "this database has no article table.",
            why="the migrations have not been applied here.",
            next_step="run  everindex migrate  (or alembic upgrade head).",
        )
    where = spec.table if spec.schema is None else f"{spec.schema}.{spec.table}"
    return TableNotFound(
        f"collection {spec.name!r} has no table {where}.",
        why="it was dropped or renamed, or is in a schema that is not in the search_path.",
        next_step="name the table with its schema, or make the collection anew.",
    )


def _columns_missing(connection: Connection, spec: CollectionSpec, missing: list[str]) -> ColumnMismatch:
    lacks = f"table {spec.table} lacks {', '.join(missing)}."
    if spec is not ARTICLES:
        return ColumnMismatch(
            lacks,
            why=f"collection {spec.name!r} names these columns, and every search reads them.",
            next_step="declare the collection with the columns that the table has.",
        )
    return ColumnMismatch(
        lacks,
        why="searches and pages read these columns, whatever their types.",
        next_step="run  everindex migrate , which adds what is missing."
        if read_attachment(connection) is None
        else "add them in a revision of the application: this database is attached, so everindex adds no columns to "
        "it.",
    )
