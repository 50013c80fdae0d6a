"""The table of passages and the record of how texts were cut: made at first need, and what in them is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from everindex.articles.collections.registry import find_collection, forget_collection, record_collection
from everindex.articles.declared import CUT_TABLE, PASSAGES
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import TableNotFound
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import count_text

if TYPE_CHECKING:  # `status` counts passages and cuts none
    from everindex.articles.passages.splitter import Cut

#: A text as it is compared with the one that was cut, whatever the collation of the column.
DIGEST = sql.SQL('pg_catalog.hashtextextended(t.raw_markdown COLLATE "C", 0)')
_PASSAGES = sql.Identifier(PASSAGES.schema or "", PASSAGES.table)
_CUTS = sql.Identifier(PASSAGES.schema or "", CUT_TABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeText:
    """A whole text that is due to be cut."""

    uri: str
    text: str
    digest: int
    is_repeated: bool
    """Title and summary already have all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCut:
    """How the whole text of one article was cut."""

    passages: int
    characters: int
    tokens: int | None
    """Of the whole text; None where the model's tokenizer is elsewhere."""

    passage_tokens: int
    """The most that a passage has."""

    model: str
    """The model that it was cut for, and that made the vectors of its passages."""

    cut_at: str
    """When, as ISO-8601 text in UTC."""

    @property
    def sentence(self) -> str:
        tokens = "" if self.tokens is None else f" and {self.tokens:,} tokens"
        if not self.passages:
            return f"{self.characters:,} characters{tokens}: title and summary have all of it"
        return (
            f"{self.characters:,} characters{tokens}, cut into {count_text(self.passages, 'passage')} of at most "
            f"{self.passage_tokens} tokens for {self.model}, {self.cut_at}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageCounts:
    """The whole texts of a database and their passages."""

    texts: int
    """Articles that have a whole text."""

    cut: int
    passages: int
    characters: int
    """Of the texts that were cut."""

    models: tuple[str, ...]
    """The models that texts were cut for."""

    orphans: int
    """Cut texts whose article or text is gone."""

    @property
    def due(self) -> int:
        """Texts that were never cut; those that have changed since are found by `everindex embed`, which reads them."""
        return max(self.texts - (self.cut - self.orphans), 0)

    @property
    def sentence(self) -> str:
        cut, passages = self.cut - self.orphans, count_text(self.passages, "passage")
        parts = [f"{cut:,} of {count_text(self.texts, 'text')} cut into {passages}"]
        parts += [f"for {', '.join(self.models)}"] if self.models else []
        due = f"; {self.due:,} due: run  everindex embed" if self.due else ""
        orphans = f"; {self.orphans:,} of articles that are gone: run  everindex embed" if self.orphans else ""
        return f"{' '.join(parts)}{due}{orphans}"

    def as_dict(self) -> dict[str, Any]:
        """As `--json` gives it."""
        return {
            "texts": self.texts, "cut": self.cut, "passages": self.passages, "characters": self.characters,
            "models": [*self.models], "orphans": self.orphans, "due": self.due,
        }  # fmt: skip


def make_table(connection: Connection, articles: CollectionTable) -> bool:
    """Makes and records the table of passages, as wide as the articles' vectors, in one transaction; True where it was not
    there, or was of another width. Raises PermissionDenied, StatementFailed."""
    with translate_errors("making the table of passages"), connection.transaction():
        is_recorded = find_collection(connection, PASSAGES.name) is not None
        try:
            width = read_table(connection, PASSAGES).dimensions
        except TableNotFound:
            width = None
        if is_recorded and width == articles.dimensions:
            return False
        forget_collection(connection, PASSAGES.name)
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_PASSAGES))
        connection.execute(sql.SQL("DELETE FROM {} WHERE passages > 0").format(_CUTS))
        connection.execute(
            sql.SQL(
                """
                CREATE TABLE {table} (
                    id uuid PRIMARY KEY,
                    uri text NOT NULL,
                    number integer NOT NULL,
                    starts_at integer NOT NULL,
                    ends_at integer NOT NULL,
                    text text NOT NULL,
                    embedding {vector}({width})
                )
                """
            ).format(table=_PASSAGES, vector=articles.vector_type_name, width=sql.Literal(articles.dimensions))
        )
        connection.execute(sql.SQL("CREATE INDEX article_passage_uri_idx ON {} (uri)").format(_PASSAGES))
        connection.execute(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(
                _PASSAGES,
                sql.Literal("passages of the articles' whole texts, with their vectors (docs/whole-texts.md)"),
            )
        )
        record_collection(connection, PASSAGES, schema=PASSAGES.schema or "")
    return True


def read_cut(connection: Connection, uri: str) -> TextCut | None:
    """How the whole text of an article was cut. Reads only."""
    with translate_errors("reading how a whole text was cut"):
        row = connection.execute(
            sql.SQL(
                "SELECT passages, characters, tokens, passage_tokens, model, "
                "to_char(cut_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM {} WHERE uri = %s"
            ).format(_CUTS),
            (uri,),
        ).fetchone()
    if row is None:
        return None
    return TextCut(
        passages=row[0], characters=row[1], tokens=row[2], passage_tokens=row[3], model=row[4], cut_at=row[5]
    )


def read_counts(connection: Connection, articles: CollectionTable) -> PassageCounts | None:
    """The counts; None where no article has a whole text. Reads no text."""
    if not articles.has_raw_articles:
        return None
    with translate_errors("counting whole texts"):
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM raw_articles t JOIN {} a ON a.{} = t.uri WHERE t.raw_markdown <> ''").format(
                articles.identifier, articles.key
            )
        ).fetchone()
        texts = int(row[0]) if row else 0
        cuts = None
        if articles.has_passages:
            cuts = connection.execute(
                sql.SQL(
                    "SELECT count(*), coalesce(sum(c.passages), 0), coalesce(sum(c.characters), 0), "
                    "coalesce(array_agg(DISTINCT c.model), '{{}}'), count(*) FILTER (WHERE NOT EXISTS (SELECT "
                    "FROM raw_articles t JOIN {} a ON a.{} = t.uri WHERE t.uri = c.uri AND t.raw_markdown <> '')) FROM {} c"
                ).format(articles.identifier, articles.key, _CUTS)
            ).fetchone()
    if not texts and (cuts is None or not cuts[0]):
        return None
    cut, passages, characters, models, orphans = cuts or (0, 0, 0, [], 0)
    return PassageCounts(
        texts=texts, cut=cut, passages=int(passages), characters=int(characters), models=tuple(models), orphans=orphans
    )


def has_whole_texts(connection: Connection, keys: Sequence[str] | None = None) -> bool:
    """Whether any article (or one of `keys`) has a whole text."""
    with translate_errors("looking for whole texts"):
        row = connection.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM raw_articles t WHERE t.raw_markdown <> ''{})").format(
                sql.SQL("" if keys is None else " AND t.uri = ANY(%(keys)s)")
            ),
            {"keys": keys if keys is None else list(keys)},
        ).fetchone()
    return row is not None and bool(row[0])


def read_due(
    connection: Connection, articles: CollectionTable, *, model: str, passage_tokens: int, keys: Sequence[str] | None
) -> list[str]:
    """The uris of the articles (of `keys`) whose whole text has changed since it was cut, was never cut, was cut for another
    model or length, or has lost passages. Reads every text (of `keys`)."""
    of_keys = sql.SQL("" if keys is None else " AND t.uri = ANY(%(keys)s)")
    is_due: sql.Composable = sql.SQL("true")
    with translate_errors("looking for whole texts that are not cut"):
        if own_schema.is_readable(connection, CUT_TABLE):
            lost: sql.Composable = sql.SQL("c.passages > 0")
            if articles.has_passages:
                lost = sql.SQL("c.passages <> (SELECT count(*) FROM {} p WHERE p.uri = c.uri)").format(_PASSAGES)
            is_due = sql.SQL(
                "NOT EXISTS (SELECT FROM {cuts} c WHERE c.uri = t.uri AND c.model = %(model)s "
                "AND c.passage_tokens = %(passage_tokens)s AND c.digest = {digest} AND NOT ({lost}))"
            ).format(cuts=_CUTS, digest=DIGEST, lost=lost)
        rows = connection.execute(
            sql.SQL(
                "SELECT t.uri::pg_catalog.text FROM raw_articles t JOIN {articles} a ON a.{key} = t.uri "
                "WHERE t.raw_markdown <> ''{of_keys} AND {is_due} ORDER BY 1"
            ).format(articles=articles.identifier, key=articles.key, of_keys=of_keys, is_due=is_due),
            {"model": model, "passage_tokens": passage_tokens, "keys": None if keys is None else list(keys)},
        ).fetchall()
    return [row[0] for row in rows]


def read_texts(connection: Connection, articles: CollectionTable, keys: Sequence[str]) -> list[WholeText]:
    """The whole texts of these articles."""
    with translate_errors("reading whole texts"):
        rows = connection.execute(
            sql.SQL(
                """
                SELECT t.uri::pg_catalog.text, t.raw_markdown, {digest},
                       pg_catalog.strpos(pg_catalog.concat_ws(' ', a.title, a.summary), pg_catalog.btrim(t.raw_markdown)) > 0
                FROM raw_articles t JOIN {articles} a ON a.{key} = t.uri
                WHERE t.raw_markdown <> '' AND t.uri = ANY(%(keys)s) ORDER BY 1
                """
            ).format(digest=DIGEST, articles=articles.identifier, key=articles.key),
            {"keys": list(keys)},
        ).fetchall()
    return [WholeText(uri=row[0], text=row[1], digest=row[2], is_repeated=row[3]) for row in rows]


def finish(
    connection: Connection,
    articles: CollectionTable,
    texts: Sequence[tuple[WholeText, Cut, Sequence[str]]],
    *,
    model: str,
    passage_tokens: int,
) -> int:
    """Records how texts were cut, and removes the passages that are not among the keys of the new ones, with what is recorded of
    them, in one transaction; how many were removed. A text that has changed meanwhile is left as it is: it is due again."""
    removed = 0
    with translate_errors("recording how whole texts were cut"), connection.transaction():
        for text, cut, keys in texts:
            recorded = connection.execute(
                sql.SQL(
                    """
                    INSERT INTO {cuts} AS c (uri, digest, characters, tokens, passages, passage_tokens, model)
                    SELECT t.uri, {digest}, %(characters)s, %(tokens)s, %(passages)s, %(passage_tokens)s, %(model)s
                    FROM raw_articles t WHERE t.uri = %(uri)s AND {digest} = %(digest)s
                    ON CONFLICT (uri) DO UPDATE SET (digest, characters, tokens, passages, passage_tokens, model, cut_at)
                        = (excluded.digest, excluded.characters, excluded.tokens, excluded.passages,
                           excluded.passage_tokens, excluded.model, now())
                    """
                ).format(cuts=_CUTS, digest=DIGEST),
                {
                    "uri": text.uri, "digest": text.digest, "characters": len(text.text), "tokens": cut.tokens,
                    "passages": len(keys), "passage_tokens": passage_tokens, "model": model,
                },
            ).rowcount  # fmt: skip
            if recorded and articles.has_passages:
                removed += _remove(
                    connection,
                    sql.SQL("p.uri = %(uri)s AND p.id <> ALL(%(keys)s::pg_catalog.uuid[])"),
                    {"uri": text.uri, "keys": list(keys)},
                )
    return removed


def remove_orphans(connection: Connection, articles: CollectionTable) -> int:
    """Removes the passages and records of texts or articles that are gone, in one transaction; how many passages."""

    def gone(alias: str) -> sql.Composed:
        return sql.SQL(
            "NOT EXISTS (SELECT FROM raw_articles t JOIN {} a ON a.{} = t.uri WHERE t.uri = {}.uri AND t.raw_markdown <> '')"
        ).format(articles.identifier, articles.key, sql.Identifier(alias))

    with translate_errors("removing passages of texts that are gone"), connection.transaction():
        removed = _remove(connection, gone("p"), {})
        connection.execute(sql.SQL("DELETE FROM {} c WHERE {}").format(_CUTS, gone("c")))
    return removed


def _remove(connection: Connection, which: sql.Composable, parameters: dict[str, object]) -> int:
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
        ).format(passages=_PASSAGES, which=which, name=sql.Literal(PASSAGES.name)),
        parameters,
    ).fetchone()
    return 0 if row is None else int(row[0])
