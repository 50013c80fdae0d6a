"""The uris of feed entries, resolved against the articles already in the table (docs/decisions/0020).

A feed shows only a few of its entries at a time, and an older version may have stored one under its link. So an entry
with its own id stays where it is: under its id, or under its link where the stored article is the same entry. A link
that belongs to another article is left to that. Ids are not stored: a changed id is recognised by all other fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from everindex.articles.model import Article, EntryIdentity
from everindex.articles.table import CollectionTable
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Title, summary, date and source of a stored article.
_Known = tuple[str | None, str | None, str | None, str | None]
#: Lengths of a stored date without and with minutes: 2026-02-01, 2026-02-01T10:00.
DAY_LENGTH, MINUTE_LENGTH = 10, 16
_BY_URI = sql.SQL(
    "SELECT uri, title::text, summary::text, publication_date::text, news_source::text FROM {} WHERE uri = ANY(%s)"
)
_BY_LINK = sql.SQL(
    "SELECT uri, title::text, summary::text, publication_date::text, news_source::text FROM {} "
    "WHERE pg_catalog.strpos(uri, '#') > 0 AND pg_catalog.split_part(uri, '#', 1) = ANY(%s)"
)


def settle_uris(connection: Connection, table: CollectionTable, articles: Sequence[Article]) -> list[Article]:
    """`articles` with the uris under which they belong in the table. Reads only; reads nothing without feed entries."""
    asked = {uri for article in articles if article.entry is not None for uri in _places(article, article.entry)}
    if not asked:
        return list(articles)
    with translate_errors("looking up entries of a feed"):
        rows = connection.execute(_BY_URI.format(table.identifier), (sorted(asked),))
        known: dict[str, _Known] = {row[0]: row[1:] for row in rows}
        beside = _beside(connection, table, [one for one in articles if _is_open(one, known)])
    taken = {article.entry.id_uri for article in articles if article.entry is not None}
    return [_settled(article, known, beside, taken) for article in articles]


def _places(article: Article, entry: EntryIdentity) -> list[str]:
    return [uri for uri in (article.uri, entry.id_uri, entry.link, *entry.former) if uri is not None]


def _is_open(article: Article, known: dict[str, _Known]) -> bool:
    """True where no stored article is certainly this entry, and its link may belong to other entries too."""
    entry = article.entry
    if entry is None or entry.link is None or entry.id_uri in known:
        return False
    if any(place in known and all(_agree(article, known[place])) for place in (entry.link, *entry.former)):
        return False
    return article.uri == entry.id_uri or article.uri in known


def _beside(
    connection: Connection, table: CollectionTable, articles: Sequence[Article]
) -> dict[str, dict[str, _Known]]:
    """{link: {uri: article}} of the articles stored under ids with these links. Reads the table unless there are
    none."""
    links = {article.entry.link for article in articles if article.entry is not None and article.entry.link is not None}
    found: dict[str, dict[str, _Known]] = {}
    if links:
        for uri, *rest in connection.execute(_BY_LINK.format(table.identifier), (sorted(map(_page, links)),)):
            for link in links:
                if uri.startswith((f"{link}#", f"{link}&")):
                    found.setdefault(link, {})[uri] = (rest[0], rest[1], rest[2], rest[3])
    return found


def _page(uri: str) -> str:
    return uri.partition("#")[0]


def _settled(
    article: Article, known: dict[str, _Known], beside: dict[str, dict[str, _Known]], taken: set[str]
) -> Article:
    entry = article.entry
    if entry is None or entry.id_uri in known:
        return article if entry is None else replace(article, uri=entry.id_uri)
    under_link = beside.get(entry.link or "", {})
    for place in (entry.link, *entry.former):
        if place is None or place not in known or place in taken:
            continue
        same_title, same_date, same_source = _agree(article, known[place])
        # Under a link that both the source and the table use for this entry alone, an equal title or date is enough;
        # otherwise all fields must agree.
        if (same_title and same_date and same_source) or (
            place == article.uri and not under_link and (same_title or (same_date and article.publication_date))
        ):
            taken.add(place)
            return replace(article, uri=place)
    for place, stored in under_link.items():
        if place not in taken and not entry.has_twin and _is_same_entry(article, stored):
            taken.add(place)
            return replace(article, uri=place)
    return replace(article, uri=entry.id_uri) if article.uri in known else article


def _is_same_entry(article: Article, known: _Known) -> bool:
    """Whether the entry is the stored one with a changed id: all else is equal, or at least the exact time and the
    title."""
    is_same = all(_agree(article, known))
    has_moment = len(article.publication_date or "") > DAY_LENGTH
    return is_same and (has_moment or _words(article.summary) == _words(known[1]))


def _agree(article: Article, known: _Known) -> tuple[bool, bool, bool]:
    """Whether title, date and source are those of the stored article. A note without a title is compared by its text.

    Two dates with a time are compared to the minute, as written: an earlier version may have lost the time zone.
    """
    title, summary, date, source = known
    ours, theirs = article.publication_date or "", date or ""
    length = MINUTE_LENGTH if min(len(ours), len(theirs)) > DAY_LENGTH else DAY_LENGTH
    return (
        _words(article.title or article.summary) == _words(title or summary),
        ours[:length] == theirs[:length],
        (article.news_source or "") == (source or ""),
    )


def _words(text: str | None) -> list[str]:
    return (text or "").casefold().split()
