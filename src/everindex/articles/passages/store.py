"""The table of passages of a collection and the record of how its texts were cut: made at first need, and what in them is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from everindex.articles.collections.registry import find_collection, forget_collection, record_collection
from everindex.articles.declared import ARTICLES, OWN_SCHEMA
from everindex.articles.shape.cut import PassageCounts, TextCut
from everindex.articles.shape.spec import index_name, invalid
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_texts import TextTables, text_tables
from everindex.errors import TableNotFound
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

if TYPE_CHECKING:  # `status` counts passages and cuts none
    from everindex.articles.passages.splitter import Cut

#: A text as it is compared with the one that was cut, whatever the collation of the column.
DIGEST = sql.SQL('pg_catalog.hashtextextended(t.text COLLATE "C", 0)')


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeText:
    """A whole text that is due to be cut."""

    key: str
    """The key, as text, of the row that it belongs to."""

    text: str
    digest: int
    is_repeated: bool
    """The other texts of the row already have all of it."""

    is_in_vector: bool = False
    """It is one of the texts that the row's vector is made of: a single passage would say the same again."""


def make_table(connection: Connection, table: CollectionTable) -> bool:
    """Makes and records the table of passages, as wide as the vectors of `table`, in one transaction; True where it was not
    there, or was of another width. Raises CollectionInvalid where another collection has its name, PermissionDenied,
    StatementFailed."""
    texts = _tables(table)
    passages = texts.declared.passages
    with translate_errors("making the table of passages"), connection.transaction():
        recorded = find_collection(connection, passages.name)
        if recorded is not None and (recorded.schema, recorded.table) != (passages.schema, passages.table):
            raise invalid(
                passages.name, "it is another collection already", f"the passages of {table.spec.name} have that name.",
                "rename or drop the other one.",
            )  # fmt: skip
        try:
            width = read_table(connection, passages).dimensions
        except TableNotFound:
            width = None
        if recorded is not None and width == table.dimensions:
            return False
        forget_collection(connection, passages.name)
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(texts.passages))
        make_cuts(connection, table)
        connection.execute(sql.SQL("DELETE FROM {} WHERE passages > 0").format(texts.cuts))
        connection.execute(
            sql.SQL(
                """
                CREATE TABLE {table} (
                    id uuid PRIMARY KEY,
                    {owner} text NOT NULL,
                    number integer NOT NULL,
                    starts_at integer NOT NULL,
                    ends_at integer NOT NULL,
                    text text NOT NULL,
                    embedding {vector}({width})
                )
                """
            ).format(
                table=texts.passages, owner=texts.owner, vector=table.vector_type_name,
                width=sql.Literal(table.dimensions),
            )
        )  # fmt: skip
        index = sql.Identifier(index_name(passages.table, f"{texts.declared.owner}_idx"))
        connection.execute(sql.SQL("CREATE INDEX {} ON {} ({})").format(index, texts.passages, texts.owner))
        whose = "the articles' whole texts" if table.spec is ARTICLES else f"collection {table.spec.name}"
        connection.execute(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(
                texts.passages, sql.Literal(f"passages of {whose}, with their vectors (docs/whole-texts.md)")
            )
        )
        record_collection(connection, passages, schema=OWN_SCHEMA)
    return True


def make_cuts(connection: Connection, table: CollectionTable) -> None:
    """Makes the table that records how the texts of a collection are cut, where it is missing; that of the articles comes with
    the schema."""
    texts = _tables(table)
    if table.spec is ARTICLES or own_schema.is_readable(connection, texts.declared.cuts):
        return
    with translate_errors("making the record of cuts"):
        connection.execute(
            sql.SQL(
                """
                CREATE TABLE {} (
                    {} text PRIMARY KEY,
                    digest bigint NOT NULL,
                    characters integer NOT NULL,
                    tokens integer,
                    passages integer NOT NULL,
                    passage_tokens integer NOT NULL,
                    model text NOT NULL,
                    cut_at timestamptz NOT NULL DEFAULT now()
                )
                """
            ).format(texts.cuts, texts.owner)
        )
        index = sql.Identifier(index_name(texts.declared.cuts, "model_idx"))
        connection.execute(sql.SQL("CREATE INDEX {} ON {} (model)").format(index, texts.cuts))


def read_cut(connection: Connection, table: CollectionTable, key: str) -> TextCut | None:
    """How the whole text of a row was cut. Reads only."""
    texts = _tables(table)
    with translate_errors("reading how a whole text was cut"):
        row = connection.execute(
            sql.SQL(
                "SELECT passages, characters, tokens, passage_tokens, model, "
                "to_char(cut_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM {} WHERE {} = %s"
            ).format(texts.cuts, texts.owner),
            (key,),
        ).fetchone()
    if row is None:
        return None
    return TextCut(
        passages=row[0], characters=row[1], tokens=row[2], passage_tokens=row[3], model=row[4], cut_at=row[5]
    )


def read_counts(connection: Connection, table: CollectionTable) -> PassageCounts | None:
    """The counts; None where no row has a whole text. Reads no text of an article."""
    texts = text_tables(table)
    if texts is None:
        return None
    with translate_errors("counting whole texts"):
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(texts.texts)).fetchone()
        found = int(row[0]) if row else 0
        cuts = None
        if table.has_passages:
            cuts = connection.execute(
                sql.SQL(
                    "SELECT count(*), coalesce(sum(c.passages), 0), coalesce(sum(c.characters), 0), "
                    "coalesce(array_agg(DISTINCT c.model), '{{}}'), count(*) FILTER (WHERE {}) FROM {} c"
                ).format(texts.without_text("c"), texts.cuts)
            ).fetchone()
    if not found and (cuts is None or not cuts[0]):
        return None
    cut, passages, characters, models, orphans = cuts or (0, 0, 0, [], 0)
    return PassageCounts(
        texts=found, cut=cut, passages=int(passages), characters=int(characters), models=tuple(models),
        orphans=orphans, collection=table.spec.name,
    )  # fmt: skip


def has_whole_texts(connection: Connection, table: CollectionTable, keys: Sequence[str] | None = None) -> bool:
    """Whether any row (or one of `keys`) has a whole text."""
    texts = text_tables(table)
    if texts is None:
        return False
    with translate_errors("looking for whole texts"):
        row = connection.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {}{})").format(texts.texts, _of_keys(table, keys)), {"keys": keys}
        ).fetchone()
    return row is not None and bool(row[0])


def read_due(
    connection: Connection, table: CollectionTable, *, model: str, passage_tokens: int, keys: Sequence[str] | None
) -> list[str]:
    """The keys of the rows (of `keys`) whose whole text has changed since it was cut, was never cut, was cut for another
    model or length, or has lost passages. Reads every text (of `keys`)."""
    texts = _tables(table)
    is_due: sql.Composable = sql.SQL("true")
    with translate_errors("looking for whole texts that are not cut"):
        if own_schema.is_readable(connection, texts.declared.cuts):
            lost: sql.Composable = sql.SQL("c.passages > 0")
            if table.has_passages:
                lost = sql.SQL("c.passages <> (SELECT count(*) FROM {} p WHERE p.{owner} = c.{owner})").format(
                    texts.passages, owner=texts.owner
                )
            is_due = sql.SQL(
                "NOT EXISTS (SELECT FROM {cuts} c WHERE c.{owner} = t.key::pg_catalog.text AND c.model = %(model)s "
                "AND c.passage_tokens = %(passage_tokens)s AND c.digest = {digest} AND NOT ({lost}))"
            ).format(cuts=texts.cuts, owner=texts.owner, digest=DIGEST, lost=lost)
        rows = connection.execute(
            sql.SQL("SELECT t.key::pg_catalog.text FROM {}{} {} {} ORDER BY 1").format(
                texts.texts, _of_keys(table, keys), sql.SQL("WHERE" if keys is None else "AND"), is_due
            ),
            {"model": model, "passage_tokens": passage_tokens, "keys": None if keys is None else list(keys)},
        ).fetchall()
    return [row[0] for row in rows]


def read_texts(connection: Connection, table: CollectionTable, keys: Sequence[str]) -> list[WholeText]:
    """The whole texts of these rows."""
    texts = _tables(table)
    with translate_errors("reading whole texts"):
        rows = connection.execute(
            sql.SQL(
                """
                SELECT t.key::pg_catalog.text, t.text, {digest},
                       pg_catalog.strpos(t.short, pg_catalog.btrim(t.text)) > 0
                FROM {texts}{of_keys} ORDER BY 1
                """
            ).format(digest=DIGEST, texts=texts.texts, of_keys=_of_keys(table, keys)),
            {"keys": list(keys)},
        ).fetchall()
    is_in_vector = texts.declared.column in table.spec.text
    return [
        WholeText(key=row[0], text=row[1], digest=row[2], is_repeated=row[3], is_in_vector=is_in_vector) for row in rows
    ]


def _of_keys(table: CollectionTable, keys: Sequence[str] | None) -> sql.Composable:
    """The condition that a text is of one of the keys of the parameter; nothing for all."""
    if keys is None:
        return sql.SQL("")
    return sql.SQL(" WHERE t.key = ANY(%(keys)s::pg_catalog.text[]::{}[])").format(table.key_type)


def finish(
    connection: Connection,
    table: CollectionTable,
    done: Sequence[tuple[WholeText, Cut, Sequence[str]]],
    *,
    model: str,
    passage_tokens: int,
) -> int:
    """Records how texts were cut, and removes the passages that are not among the keys of the new ones, with what is recorded of
    them, in one transaction; how many were removed. A text that has changed meanwhile is left as it is: it is due again."""
    texts = _tables(table)
    removed = 0
    with translate_errors("recording how whole texts were cut"), connection.transaction():
        for text, cut, keys in done:
            recorded = connection.execute(
                sql.SQL(
                    """
                    INSERT INTO {cuts} AS c ({owner}, digest, characters, tokens, passages, passage_tokens, model)
                    SELECT t.key::pg_catalog.text, {digest}, %(characters)s, %(tokens)s, %(passages)s, %(passage_tokens)s,
                           %(model)s
                    FROM {texts} WHERE t.key = %(key)s::pg_catalog.text::{key_type} AND {digest} = %(digest)s
                    ON CONFLICT ({owner}) DO UPDATE SET (digest, characters, tokens, passages, passage_tokens, model, cut_at)
                        = (excluded.digest, excluded.characters, excluded.tokens, excluded.passages,
                           excluded.passage_tokens, excluded.model, now())
                    """
                ).format(
                    cuts=texts.cuts, owner=texts.owner, digest=DIGEST, texts=texts.stored_texts, key_type=table.key_type
                ),
                {
                    "key": text.key, "digest": text.digest, "characters": len(text.text), "tokens": cut.tokens,
                    "passages": len(keys), "passage_tokens": passage_tokens, "model": model,
                },
            ).rowcount  # fmt: skip
            if recorded and table.has_passages:
                removed += _remove(
                    connection,
                    texts,
                    sql.SQL("p.{} = %(key)s AND p.id <> ALL(%(keys)s::pg_catalog.uuid[])").format(texts.owner),
                    {"key": text.key, "keys": list(keys)},
                )
    return removed


def remove_orphans(connection: Connection, table: CollectionTable) -> int:
    """Removes the passages and records of texts or rows that are gone, in one transaction; how many passages."""
    texts = _tables(table)
    with translate_errors("removing passages of texts that are gone"), connection.transaction():
        removed = _remove(connection, texts, texts.without_text("p"), {})
        connection.execute(sql.SQL("DELETE FROM {} c WHERE {}").format(texts.cuts, texts.without_text("c")))
    return removed


def _tables(table: CollectionTable) -> TextTables:
    texts = text_tables(table)
    assert texts is not None  # whoever cuts has looked
    return texts


def _remove(connection: Connection, texts: TextTables, which: sql.Composable, parameters: dict[str, object]) -> int:
    row = connection.execute(
        sql.SQL(
            """
            WITH gone AS (DELETE FROM {passages} p WHERE {which} RETURNING p.id::pg_catalog.text AS key),
                 no_record AS (DELETE FROM everindex_meta.collection_record r USING gone
                               WHERE r.collection = {name} AND r.key = gone.key),
                 no_failure AS (DELETE FROM everindex_meta.collection_failure f USING gone
                                WHERE f.collection = {name} AND f.key = gone.key)
            SELECT count(*) FROM gone
            """
        ).format(passages=texts.passages, which=which, name=sql.Literal(texts.declared.passages.name)),
        parameters,
    ).fetchone()
    return 0 if row is None else int(row[0])
