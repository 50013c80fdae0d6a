"""The whole texts of a table in SQL: where they are, and where their passages and cuts are kept.

Articles have their bodies in raw_articles; a row of another collection has its text in one of its own columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from everindex.articles.declared import ARTICLES, OWN_SCHEMA
from everindex.articles.shape.whole_text import WholeTexts
from everindex.articles.table import CollectionTable


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTables:
    """The relations of one table's whole texts."""

    table: CollectionTable
    declared: WholeTexts

    @property
    def passages(self) -> sql.Identifier:
        return sql.Identifier(OWN_SCHEMA, self.declared.passages.table)

    @property
    def cuts(self) -> sql.Identifier:
        return sql.Identifier(OWN_SCHEMA, self.declared.cuts)

    @property
    def owner(self) -> sql.Identifier:
        """The column of both with the key, as text, of the row."""
        return sql.Identifier(self.declared.owner)

    def key_of(self, alias: str) -> sql.Composed:
        """The key of the row that a passage or a cut belongs to, in the type of the key, so that its index finds the row."""
        return sql.SQL("{}.{}::{}").format(sql.Identifier(alias), self.owner, self.table.key_type)

    @property
    def texts(self) -> sql.Composed:
        """The relation t: `key`, `text` (never empty), and as `short` the other texts of the row, of every row that has one."""
        others = [name for name in self.table.spec.text if name != self.declared.column]
        columns = sql.SQL(", ").join(sql.SQL("a.{}").format(sql.Identifier(name)) for name in others)
        short = sql.SQL("pg_catalog.concat_ws(' ', {})").format(columns) if others else sql.SQL("''::text")
        if self.table.spec is ARTICLES:
            return sql.SQL(
                "(SELECT r.uri AS key, r.raw_markdown AS text, {short} AS short FROM raw_articles r "
                "JOIN {table} a ON a.{key} = r.uri WHERE r.raw_markdown <> '') AS t"
            ).format(short=short, table=self.table.identifier, key=self.table.key)
        return sql.SQL(
            "(SELECT a.{key} AS key, a.{text} AS text, {short} AS short FROM {table} a WHERE a.{text} <> '') AS t"
        ).format(
            key=self.table.key, text=sql.Identifier(self.declared.column or ""), short=short,
            table=self.table.identifier,
        )  # fmt: skip

    @property
    def stored_texts(self) -> sql.Composed:
        """The relation t: `key` and `text`, without a look at the rows that the texts belong to."""
        if self.table.spec is ARTICLES:
            return sql.SQL("(SELECT r.uri AS key, r.raw_markdown AS text FROM raw_articles r) AS t").format()
        return sql.SQL("(SELECT a.{} AS key, a.{} AS text FROM {} a) AS t").format(
            self.table.key, sql.Identifier(self.declared.column or ""), self.table.identifier
        )

    def without_text(self, alias: str) -> sql.Composed:
        """The condition that the text, or the row, of a passage or a cut is gone."""
        return sql.SQL("NOT EXISTS (SELECT FROM {} WHERE t.key = {})").format(self.texts, self.key_of(alias))


def text_tables(table: CollectionTable) -> TextTables | None:
    """Of a collection whose rows have, or could have, whole texts; None of any other."""
    declared = table.whole_texts
    return None if declared is None else TextTables(table=table, declared=declared)
