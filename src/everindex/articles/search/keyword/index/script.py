"""The index of the words as SQL for psql, for servers where everything is applied by script."""

from __future__ import annotations

from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.search.keyword.document import TextConfig, document
from everindex.articles.shape.spec import CollectionSpec


def script(text_search: str, collection: CollectionSpec = ARTICLES) -> list[str]:
    """Guard and CREATE INDEX for psql, for servers where everything is applied by script. To be run outside a
    transaction, on a UTF8 database."""
    schema, _, configuration = text_search.strip().rpartition(".")
    config = TextConfig(schema=schema, name=configuration, is_utf8=True)
    name = sql.Identifier(collection.words_index_name)
    table = (collection.table,) if collection.schema is None else (collection.schema, collection.table)
    create = sql.SQL("CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {} USING gin ({})").format(
        name, sql.Identifier(*table), document(config, collection)
    )
    return [_guard(name), create.as_string(None)]


_GUARD = """
DO $everindex$
BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass({text}) AND NOT indisvalid) THEN
        RAISE EXCEPTION {message}
            USING HINT = 'DROP INDEX CONCURRENTLY it, then run this script again.';
    END IF;
END $everindex$"""


def _guard(name: sql.Identifier) -> str:
    text = name.as_string(None)
    unquoted = text.strip('"').replace('""', '"').replace("%", "%%")  # RAISE reads %
    message = f"index {unquoted} is INVALID, left behind by an interrupted build"
    return sql.SQL(_GUARD).format(text=sql.Literal(text), message=sql.Literal(message)).as_string(None)
