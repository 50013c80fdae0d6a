"""The state that keyword search depends on: the table, its text search configuration and its index of the words."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

from everindex.articles.search.keyword.document import TextConfig, find_config, generation_names, mark
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.statement_texts import StatementTexts


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What keyword search knows about the instance."""

    table: CollectionTable
    config: TextConfig
    is_indexed: bool
    """True when a valid index for this configuration exists; the planner decides whether to use it."""

    has_places: bool
    """True for a plain table, whose rows can be found by their ctid; false where it has partitions or children."""

    estimated_rows: int
    texts: StatementTexts = field(default_factory=StatementTexts, compare=False)
    """The statements over this table, by shape."""


def look_at(connection: Connection, collection: CollectionSpec, *, text_search: str) -> Known:
    """The current state. `text_search`: the name of the configuration. Reads only. Raises SettingInvalid, NotMigrated."""
    with translate_errors("reading the index of keyword search"):
        table = read_table(connection, collection)
        config = find_config(connection, text_search)
        row = connection.execute(
            sql.SQL(
                """
                SELECT coalesce(bool_or(x.relname IN ({names}) AND i.indisvalid AND pg_catalog.strpos(
                           pg_catalog.pg_get_indexdef(x.oid),
                           pg_catalog.quote_literal({config}::pg_catalog.text) || '::regconfig') > 0
                           AND pg_catalog.strpos(pg_catalog.pg_get_indexdef(x.oid), {mark}) > 0), false),
                       max(t.reltuples), coalesce(bool_and(t.relkind = 'r' AND NOT t.relhassubclass), false)
                FROM pg_catalog.pg_class t LEFT JOIN pg_catalog.pg_index i ON i.indrelid = t.oid
                LEFT JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                WHERE t.oid = pg_catalog.to_regclass({table})
                """
            ).format(
                # During a replacement, the index that the planner uses may have a generation's name.
                names=sql.SQL(", ").join(map(sql.Literal, generation_names(collection.words_index_name))),
                config=config.constant,
                mark=mark(),
                table=sql.Literal(table.identifier.as_string(None)),
            )
        ).fetchone()
    assert row is not None  # an aggregate
    return Known(
        table=table, config=config, is_indexed=row[0], estimated_rows=max(0, int(row[1] or 0)), has_places=row[2]
    )
