"""The uris of entries of feeds, settled by what the table already holds (docs/decisions/0020).

A feed shows a few of its entries at a time, and an older version may have stored one under its link. So an entry that has
an id of its own goes on where it is: under its id, or under its link where the article there is this one. A link that holds
another article is left to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from everindex.articles.model import Article, EntryIdentity
from everindex.articles.table import ArticleTable
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours

#: Title, summary, date and source of a stored article.
_Known = tuple[str | None, str | None, str | None, str | None]


def settle_uris(connection: Connection, table: ArticleTable, articles: Sequence[Article]) -> list[Article]:
    """`articles` with the uris under which they belong into the table. Reads only, and nothing without entries of feeds."""
    asked = {uri for article in articles if article.entry is not None for uri in _places(article, article.entry)}
    if not asked:
        return list(articles)
    statement = sql.SQL(
        "SELECT uri, title::text, summary::text, publication_date::text, news_source::text FROM {} WHERE uri = ANY(%s)"
    )
    with told_as_ours("looking for entries of a feed"):
        rows = connection.execute(statement.format(table.identifier), (sorted(asked),))
        known: dict[str, _Known] = {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}
    taken: set[str] = set()
    return [_settled(article, known, taken) for article in articles]


def _places(article: Article, entry: EntryIdentity) -> list[str]:
    return [uri for uri in (article.uri, entry.id_uri, entry.link, *entry.former) if uri is not None]


def _settled(article: Article, known: dict[str, _Known], taken: set[str]) -> Article:
    entry = article.entry
    if entry is None or entry.id_uri in known:
        return article if entry is None else replace(article, uri=entry.id_uri)
    for place in (entry.link, *entry.former):
        if place is None or place not in known or place in taken:
            continue
        # Under a link that the source gives to this entry alone, title or day is enough; else all has to agree.
        same_title, same_day, same_source = _agree(article, known[place])
        if (same_title and same_day and same_source) or (
            place == article.uri and (same_title or (same_day and article.publication_date))
        ):
            taken.add(place)
            return replace(article, uri=place)
    return replace(article, uri=entry.id_uri) if article.uri in known else article


def _agree(article: Article, known: _Known) -> tuple[bool, bool, bool]:
    """Whether title, day and source are those of the stored article. A note without a title is known by its text."""
    title, summary, date, source = known
    ours, theirs = (article.title or article.summary), (title or summary)
    return (
        " ".join((ours or "").casefold().split()) == " ".join((theirs or "").casefold().split()),
        (article.publication_date or "")[:10] == (date or "")[:10],
        (article.news_source or "") == (source or ""),
    )
