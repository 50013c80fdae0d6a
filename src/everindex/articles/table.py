"""The article table as this instance has it: its columns, their types, the width of its vectors. Reads only.

Existing instances have other types and more columns; needed are the seven of `model.REQUIRED_COLUMNS` and `embedding`.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from everindex.articles.model import ARTICLE_COLUMNS, REQUIRED_COLUMNS
from everindex.errors import ColumnMismatch, NotMigrated
from everindex.index.catalog.key import cast_sql
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class ArticleTable:
    """The table as it is: where it lies, its columns with their types, and where pgvector's operators are."""

    schema: str
    columns: dict[str, str]
    """Column → type as SQL writes it (`format_type`), without a length: a cast to varchar(20) would cut off silently."""

    dimensions: int | None
    """Width of `embedding`; None before revision 8eadb2079747."""

    extension_schema: str | None
    has_raw_articles: bool
    has_embedding_records: bool
    """Whether this role may read which model made a vector; where it may not, that counts as not recorded."""

    has_declared_models: bool = False
    is_partitioned: bool = False
    records_hidden_from: str | None = None
    """This role, where there are records that it may not read."""

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, "articles")

    @property
    def writable_columns(self) -> tuple[str, ...]:
        """Those of `Article`'s columns that this table has, in its order."""
        return tuple(column for column in ARTICLE_COLUMNS if column in self.columns)

    @property
    def vector_type(self) -> sql.Composed:
        return sql.SQL("{}").format(sql.Identifier(self.extension_schema or "public", "vector"))

    @property
    def distance(self) -> sql.Composed:
        """pgvector's cosine distance operator, qualified: the extension may lie outside the search_path."""
        return sql.SQL("OPERATOR({}.<=>)").format(sql.Identifier(self.extension_schema or "public"))

    def code(self, value: sql.Composable, key_type: str) -> sql.Composable:
        """A vector as an index of that type holds it: `embedding::halfvec(1536)`, or its sign bits."""
        cast = cast_sql(value, "vector", key_type, self.dimensions or 0, self.extension_schema)
        return sql.SQL("({})").format(cast)

    def code_distance(self, key_type: str) -> sql.Composed:
        """The operator that orders such codes as cosine distance orders their vectors, qualified."""
        symbol = sql.SQL("<~>" if key_type == "bit" else "<=>")
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.extension_schema or "public"), symbol)


def read_table(connection: Connection) -> ArticleTable:
    """Looks at the table that `articles` leads to. Raises NotMigrated when there is none, ColumnMismatch when it lacks a
    column that everything needs."""
    with translate_errors("reading the article table"):
        rows = connection.execute(
            """
            SELECT n.nspname, a.attname, pg_catalog.format_type(a.atttypid, -1),
                   pg_catalog.format_type(a.atttypid, a.atttypmod), t.typname,
                   nullif(a.atttypmod, -1), c.relkind = 'p'
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE c.oid = to_regclass('articles')
            """
        ).fetchall()
        other = connection.execute(
            """
            SELECT to_regclass('raw_articles') IS NOT NULL,
                   coalesce(bool_or(kept.is_readable) FILTER (WHERE kept.name = 'embedding_record'), false),
                   coalesce(bool_or(kept.is_readable) FILTER (WHERE kept.name = 'declared_model'), false),
                   CASE WHEN bool_or(NOT kept.is_readable) FILTER (WHERE kept.name = 'embedding_record')
                        THEN current_user::text END,
                   (SELECT n.nspname FROM pg_catalog.pg_extension e
                    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector')
            FROM (SELECT c.relname AS name, pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                         AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS is_readable
                  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = 'everindex_meta' AND c.relkind = 'r') AS kept
            """
        ).fetchone()
    if not rows or other is None:
        raise NotMigrated(
            "this database has no article table.",
            why="the migrations have not been applied here.",
            next_step="run  everindex migrate  (or alembic upgrade head).",
        )
    columns = {row[1]: row[2] for row in rows}
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise ColumnMismatch(
            f"table articles lacks {', '.join(missing)}.",
            why="searches and pages read these columns, whatever their types.",
            next_step="run  everindex migrate , which adds what is missing."
            if read_attachment(connection) is None
            else "add them in a revision of the application: this database is attached, and everindex adds no column to it.",
        )
    embedding = next((row for row in rows if row[1] == "embedding"), None)
    if embedding is not None and embedding[4] != "vector":
        raise ColumnMismatch(
            f"column articles.embedding has type {embedding[3]}.",
            why="everindex stores embeddings as pgvector's type vector.",
            next_step="convert it:  ALTER TABLE articles ALTER COLUMN embedding TYPE vector(N) USING embedding::vector(N).",
        )
    return ArticleTable(
        schema=rows[0][0],
        columns={name: kind for name, kind in columns.items() if name != "embedding"},
        dimensions=embedding[5] if embedding is not None else None,
        extension_schema=other[4],
        has_raw_articles=other[0],
        has_embedding_records=other[1],
        has_declared_models=other[2],
        is_partitioned=rows[0][6],
        records_hidden_from=other[3],
    )
