"""The saved searches of an instance: of its articles or a collection, by name in `everindex_meta.saved_search`.

A text, a mode and filters are stored, never a vector: a saved search goes on after a change of the embedding model. Nothing
records what somebody has read; new is what comes first, by date.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from everindex.articles.model import DEFAULT_MODE, MAX_K, VISIBLE_PATTERN, Answer, Filters, Mode
from everindex.articles.search.filters import NAMES
from everindex.articles.search.filters.days import first_day
from everindex.articles.search.request.search_request import SearchRequest, as_filters, check_numbers, choose_mode
from everindex.articles.searchable import Searchable
from everindex.articles.shape.hit import Hit
from everindex.articles.shape.spec import CollectionSpec
from everindex.errors import QueryInvalid, SavedSearchExists, SavedSearchNotFound
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Of a name: it is part of an address, so no slash; and neither a dot first nor space at either end.
_ENDS = VISIBLE_PATTERN.replace("[^", r"[^/\\", 1)
NAME_PATTERN = rf"^(?!\.){_ENDS}(?:[^\x00-\x1f\x7f-\x9f/\\]*{_ENDS})?$"
MAX_NAME_CHARS = 100
_NAME = re.compile(NAME_PATTERN)
#: Articles that `newest` gives unless told otherwise, and a feed has.
NEWEST = 50
WHAT = "saved searches"
CUT = f"only the {MAX_K:,} most similar articles were put in the order of their dates"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSearch:
    """One saved search."""

    name: str
    text: str | None
    """None: the filters alone."""

    mode: Mode
    filter: Mapping[str, Any]
    """A mapping of the filter language, also of the five named filters; empty: all articles."""

    min_similarity: float | None
    """Of its newest answers; None: the most similar ones, whatever their similarity."""

    collection: str | None = None
    """The collection that is searched; None: the articles."""

    saved_at: dt.datetime | None = field(default=None, compare=False)

    @property
    def named_filters(self) -> Filters | None:
        """The filters, where they are no others than the five named ones."""
        if self.collection is None and all(
            name in NAMES and isinstance(value, str) for name, value in self.filter.items()
        ):
            return Filters(**self.filter)
        return None

    def as_dict(self) -> dict[str, Any]:
        """As `--json` and the API give it."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return told | {"saved_at": None if self.saved_at is None else self.saved_at.isoformat()}


class SavedSearches:
    """The saved searches of an open instance; safe to use from many threads. Without schema everindex_meta there are none.
    All methods raise PermissionDenied where this role may not read, or write, them, and ServerUnreachable."""

    def __init__(
        self,
        articles: Searchable,
        connection: Callable[[], AbstractContextManager[Connection]],
        collection: Callable[[str], Searchable],
    ) -> None:
        """`connection` makes a context manager of a connection to the primary; `collection` opens the one of that name."""
        self._articles = articles
        self._connection = connection
        self._collection = collection

    def _searched(self, search: SavedSearch) -> Searchable:
        """What a saved search is about. Raises CollectionNotFound."""
        return self._articles if search.collection is None else self._collection(search.collection)

    def all(self) -> list[SavedSearch]:
        """All, by name. Reads only."""
        with self._connection() as connection:
            return _read(connection, name=None)

    def find(self, name: str) -> SavedSearch:
        """The one of that name. Raises SavedSearchNotFound. Reads only."""
        with self._connection() as connection:
            found = _read(connection, name=name) if _is_name(name) else []
        if not found:
            raise _not_found(name)
        return found[0]

    def add(
        self,
        name: str,
        text: str | None = None,
        *,
        mode: Mode = DEFAULT_MODE,
        filters: Filters | Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        collection: str | None = None,
    ) -> SavedSearch:
        """Saves a search for `text`, or without one for what passes `filters`, of the articles or of a `collection`.

        `name` has 1 to 100 characters and no slash. `min_similarity` (−1 to 1) says how similar an article must be to be among
        the newest answers. Raises QueryInvalid for a search that cannot be answered, FilterInvalid, SavedSearchExists,
        CollectionNotFound.
        """
        search = SavedSearch(
            name=_checked(name), text=text, mode=mode,
            filter=_plain_filter(filters, is_of_articles=collection is None), min_similarity=min_similarity,
            collection=collection,
        )  # fmt: skip
        searched = self._searched(search)
        request = newest_request(search, searched.spec)
        if request.text is not None and not _is_unicode(request.text):
            raise QueryInvalid(
                "the search text cannot be stored.",
                why="it has half of a surrogate pair, which is no character.",
                next_step="write it without that.",
            )
        if request.is_filtered:
            request.bound(searched.engine.known()[0])
        with self._connection() as connection, translate_errors("saving a search"):
            own_schema.require_writable(connection, "saved_search", conninfo=self._articles.direct_conninfo, what=WHAT)
            if not own_schema.is_readable(connection, "saved_search", column="collection"):
                own_schema.ensure(self._articles.direct_conninfo)
            row = connection.execute(
                """
                INSERT INTO everindex_meta.saved_search (name, search_text, mode, filter, min_similarity, collection)
                VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING RETURNING saved_at
                """,
                (search.name, request.text, search.mode, Jsonb(dict(search.filter)), search.min_similarity, collection),
            ).fetchone()
        if row is None:
            raise SavedSearchExists(
                f"there is a saved search {name!r} already.",
                why="a name stands for one search, and readers may have subscribed to its feed.",
                next_step="choose another name, or remove that one first.",
            )
        return replace(search, text=request.text, saved_at=row[0])

    def remove(self, name: str) -> None:
        """Forgets a saved search; no article changes. Raises SavedSearchNotFound."""
        self.find(name)
        with self._connection() as connection, translate_errors("removing a saved search"):
            own_schema.require_writable(connection, "saved_search", conninfo=self._articles.direct_conninfo, what=WHAT)
            connection.execute("DELETE FROM everindex_meta.saved_search WHERE name = %s", (name,))

    def newest(self, name: str, *, k: int = NEWEST) -> Answer:
        """The newest articles that answer a saved search, newest first, at most `k` (1 to 1000).

        With `min_similarity`: of all that are that similar (1,000 at most, and the answer says so). Without: of the k that answer
        best, so that a new article is among them as soon as it answers better than another one. Of filters alone: all that
        pass. Articles without a date come last; rows of a collection without a date column stay in the order of the search.
        Raises SavedSearchNotFound, CollectionNotFound, and what `Instance.search` raises.
        """
        search = self.find(name)
        searched = self._searched(search)
        found = searched.searches.answer(newest_request(search, searched.spec, k=k))
        return newest_first(found, search, searched.spec, k=k)

    def changed_at(self, search: SavedSearch, hits: Sequence[Hit]) -> dt.datetime | None:
        """When the newest answers of a search last gained an article, or an article a new text: when the latest of their vectors
        was made, or the search saved. None where no record says so. Reads only."""
        with self._connection() as connection, translate_errors("reading when articles came"):
            records = "embedding_record" if search.collection is None else "collection_record"
            if search.saved_at is None or not own_schema.is_readable(connection, records):
                return None
            row = connection.execute(
                "SELECT max(embedded_at) FROM everindex_meta.embedding_record WHERE uri = ANY(%(keys)s)"
                if search.collection is None
                else "SELECT max(embedded_at) FROM everindex_meta.collection_record "
                "WHERE collection = %(collection)s AND key = ANY(%(keys)s)",
                {"keys": [str(hit.key) for hit in hits], "collection": search.collection},
            ).fetchone()
        return search.saved_at if row is None or row[0] is None else max(search.saved_at, row[0])


def newest_request(search: SavedSearch, spec: CollectionSpec, *, k: int = NEWEST) -> SearchRequest:
    """The search, of the collection `spec`, whose answer `newest_first` puts in order. Raises QueryInvalid, FilterInvalid."""
    filters = as_filters(search.filter, spec)
    mode = choose_mode(search.mode, text=search.text, vector=None, filters=filters)
    check_numbers(k, None)
    return SearchRequest(
        mode=mode, text=search.text, filters=filters, min_similarity=search.min_similarity,
        k=k if search.min_similarity is None else MAX_K,
    )  # fmt: skip


def newest_first(found: Answer, search: SavedSearch, spec: CollectionSpec, *, k: int = NEWEST) -> Answer:
    """The first k of an answer to `newest_request`, newest first."""
    date = spec.date
    if search.text is None:
        return replace(found, more=None)
    hits = found.hits if date is None else sorted(found.hits, key=lambda hit: _age(hit, date))
    notices = [CUT] if len(hits) == MAX_K and search.min_similarity is not None else []
    return replace(found, hits=hits[:k], k=k, notices=[*found.notices, *notices], more=None)


def moment_of(date: str | None) -> dt.datetime | None:
    """The moment that an article's date says, in UTC; a year or month is its first day, and what is no date None."""
    text = (date or "").strip()
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        try:
            first = first_day(text, name="date")
        except QueryInvalid:
            return None
        moment = dt.datetime.combine(first, dt.time())
    try:
        return moment.astimezone(dt.UTC) if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    except OverflowError:  # the first or last day of the calendar, in a far zone
        return None


def filter_of(named: Filters, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The named filters of a form, a command or an address, and a mapping of the filter language, as one mapping."""
    told = {name: value for name in NAMES if (value := getattr(named, name))}
    if not more:
        return told
    return {"$and": [told, dict(more)]} if told else dict(more)


def _read(connection: Connection, *, name: str | None) -> list[SavedSearch]:
    with translate_errors("reading saved searches"):
        if not own_schema.require_readable(connection, "saved_search", what="the saved searches"):
            return []
        # A database that another version of everindex keeps may lack the column.
        has_collection = own_schema.is_readable(connection, "saved_search", column="collection")
        rows = connection.execute(
            sql.SQL(
                "SELECT name, search_text, mode, filter, min_similarity, saved_at, {} FROM everindex_meta.saved_search "
                "WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY name"
            ).format(sql.SQL("collection" if has_collection else "NULL")),
            {"name": name},
        ).fetchall()
    return [
        SavedSearch(
            name=row[0],
            text=row[1],
            mode=row[2],
            filter=row[3],
            min_similarity=row[4],
            saved_at=row[5],
            collection=row[6],
        )
        for row in rows
    ]


def date_of(hit: Hit, date: str | None) -> dt.datetime | None:
    """The moment of a hit by its column `date`, as `moment_of` reads it."""
    value = None if date is None else hit[date]
    return None if value is None else moment_of(str(value))


def _age(hit: Hit, date: str) -> tuple[float, str]:
    """In this order the newest come first, and those without a date last; of one moment by key."""
    moment = date_of(hit, date)
    return (float("inf") if moment is None else -moment.timestamp()), str(hit.key)


def _plain_filter(filters: Filters | Mapping[str, Any] | None, *, is_of_articles: bool) -> dict[str, Any]:
    """The filters as JSON keeps them: dates as text. Raises FilterInvalid for what no filter can be."""
    if filters is None:
        return {}
    if isinstance(filters, Filters):
        return filter_of(filters)
    if is_of_articles:
        as_filters(filters)
    kept: dict[str, Any] = json.loads(json.dumps(dict(filters), default=_as_json))
    if not is_of_articles:
        return kept
    return {name: value for name, value in kept.items() if name not in NAMES or value not in (None, "")}


def _as_json(value: Any) -> Any:
    """A value of the filter language that JSON does not have."""
    if isinstance(value, (dt.date, dt.datetime)):
        return value.isoformat()
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    try:
        return float(value)  # Decimal, numpy's numbers
    except (TypeError, ValueError):
        return str(value)


def _checked(name: str) -> str:
    if _is_name(name):
        return name
    raise QueryInvalid(
        "a saved search cannot have this name.",
        why=f"its name is part of an address: 1 to {MAX_NAME_CHARS} characters without a slash or control character, with no "
        "dot or space first and no space last.",
        next_step="choose another name, such as  memory leaks .",
    )


def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME_CHARS and _NAME.fullmatch(name) is not None and _is_unicode(name)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_found(name: str) -> SavedSearchNotFound:
    return SavedSearchNotFound(
        f"there is no saved search {name[:MAX_NAME_CHARS]!r}.",
        why="it was never saved, was removed, or has another name.",
        next_step="see their list:  everindex saved , or the page  /saved .",
    )
