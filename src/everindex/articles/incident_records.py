"""The incidents of an instance with what belongs to them: linked articles and searches, and notes.

The table of incidents is fixed by the migrations, so links and notes are in schema `everindex_meta`. A note is never changed. An
article or saved search that is gone leaves its link, which says so.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from everindex.articles.incidents import (
    Incident,
    change_status,
    create_incident,
    find_incident,
    list_incidents,
    storable,
)
from everindex.articles.lookup import read_article
from everindex.articles.model import VISIBLE
from everindex.articles.saved_searches import SavedSearches
from everindex.articles.search.request.search_request import check_query
from everindex.articles.searchable import Searchable
from everindex.articles.table import CollectionTable
from everindex.errors import IncidentLinkNotFound, QueryInapplicable, QueryInvalid
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

MAX_NOTE_CHARS = 10_000
#: Links, and notes, of one incident that are read: the newest.
MOST = 500
WHAT = "links and notes of incidents"

LinkKind = Literal["article", "saved_search", "query"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What an incident is linked to: an article, a saved search, or a text to search for."""

    kind: LinkKind
    target: str
    """The uri of the article, the name of the saved search, or the text."""

    title: str | None
    """Of an article: its title now, or where it is gone the one that it had when it was linked."""

    is_gone: bool
    """Whether the article or saved search no longer exists."""

    linked_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note to an incident."""

    text: str
    noted_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRecord:
    """An incident with what belongs to it, the newest first."""

    incident: Incident
    links: tuple[Link, ...]
    notes: tuple[Note, ...]


class Incidents:
    """The incidents of an open instance; safe to use from many threads. All methods raise NotMigrated where the table is
    missing, PermissionDenied and ServerUnreachable; QueryInvalid for a name or topic that none can have."""

    def __init__(
        self,
        articles: Searchable,
        saved_searches: SavedSearches,
        connection: Callable[[], AbstractContextManager[Connection]],
    ) -> None:
        """`connection` makes a context manager of a connection to the primary."""
        self._articles = articles
        self._saved_searches = saved_searches
        self._connection = connection

    def all(self, *, status: str | None = None, limit: int = 500) -> list[Incident]:
        """The incidents, last changed first; `status` narrows them. Reads only."""
        with self._connection() as connection:
            return list_incidents(connection, status=status, limit=limit)

    def create(self, *, incident_name: str, topic: str, status: str | None = None) -> Incident:
        """Creates an incident, with the first of the offered statuses if none is given. Raises IncidentExists."""
        with self._connection() as connection:
            return create_incident(connection, incident_name=incident_name, topic=topic, status=status)

    def change_status(self, *, incident_name: str, topic: str, status: str) -> Incident:
        """Sets the status of an incident. Raises IncidentNotFound."""
        with self._connection() as connection:
            return change_status(connection, incident_name=incident_name, topic=topic, status=status)

    def find(self, *, incident_name: str, topic: str) -> IncidentRecord:
        """An incident with its links and notes. Raises IncidentNotFound. Reads only."""
        table = self._articles.engine.known()[0]  # before the connection is taken: it may need one itself
        saved = frozenset(search.name for search in self._saved_searches.all())
        with self._connection() as connection:
            incident = find_incident(connection, incident_name=incident_name, topic=topic)
            with translate_errors("reading what belongs to an incident"):
                return IncidentRecord(
                    incident=incident,
                    links=_links(connection, incident, table, saved),
                    notes=_notes(connection, incident),
                )

    def of_article(self, uri: str) -> list[Incident]:
        """The incidents that are linked to an article, last changed first; none for an unknown one. Reads only."""
        with self._connection() as connection, translate_errors("reading the incidents of an article"):
            if not own_schema.require_readable(connection, "incident_link", what=WHAT):
                return []
            rows = connection.execute(
                "SELECT incident_name, topic FROM everindex_meta.incident_link WHERE kind = 'article' AND target = %s",
                (storable(uri),),
            ).fetchall()
            return list_incidents(connection, among=[(row[0], row[1]) for row in rows]) if rows else []

    def link(
        self,
        *,
        incident_name: str,
        topic: str,
        article: str | None = None,
        saved_search: str | None = None,
        query: str | None = None,
    ) -> Link:
        """Links an incident to one of: an article (its uri), a saved search (its name), a text to search for. Linking again
        changes nothing. Raises IncidentNotFound, ArticleNotFound, SavedSearchNotFound, QueryInapplicable where not
        exactly one is given."""
        kind, target = _one_of(article, saved_search, query)
        title: str | None = None
        match kind:
            case "article":
                title = read_article(self._articles.reading, self._articles.engine.known()[0], target).title
            case "saved_search":
                self._saved_searches.find(target)
            case "query":
                target = check_query(storable(target))
        with self._connection() as connection:
            incident = find_incident(connection, incident_name=incident_name, topic=topic)
            with translate_errors("linking an incident"):
                self._require_writable(connection, "incident_link")
                # A row that is there is touched, so that RETURNING gives it.
                row = connection.execute(
                    """
                    INSERT INTO everindex_meta.incident_link AS l
                        (incident_name, topic, kind, target, target_digest, title)
                    VALUES (%s, %s, %s, %s, %s, %s)
                    ON CONFLICT (incident_name, topic, kind, target_digest) DO UPDATE SET linked_at = l.linked_at
                    RETURNING linked_at
                    """,
                    (incident.incident_name, incident.topic, kind, target, _digest(target), title),
                ).fetchone()
        assert row is not None
        return Link(kind=kind, target=target, title=title, is_gone=False, linked_at=row[0])

    def unlink(
        self,
        *,
        incident_name: str,
        topic: str,
        article: str | None = None,
        saved_search: str | None = None,
        query: str | None = None,
    ) -> None:
        """Removes a link, also one to what is gone. Raises IncidentLinkNotFound, QueryInapplicable where not exactly one is
        given."""
        kind, target = _one_of(article, saved_search, query)
        removed = 0
        with self._connection() as connection, translate_errors("unlinking an incident"):
            if own_schema.require_readable(connection, "incident_link", what=WHAT):
                self._require_writable(connection, "incident_link")
                removed = connection.execute(
                    "DELETE FROM everindex_meta.incident_link "
                    "WHERE incident_name = %s AND topic = %s AND kind = %s AND target_digest = %s",
                    (storable(incident_name), storable(topic), kind, _digest(target)),
                ).rowcount
        if not removed:
            raise IncidentLinkNotFound(
                f"incident {incident_name[:200]!r} of topic {topic[:200]!r} has no such link.",
                why=f"it is not linked to {kind.replace('_', ' ')} {target[:200]!r}.",
                next_step="see its links:  GET /api/incident , or its page.",
            )

    def add_note(self, *, incident_name: str, topic: str, text: str) -> Note:
        """Adds a note, which nothing changes later. Raises IncidentNotFound, QueryInvalid for an empty or overlong text."""
        checked = _checked_note(text)
        with self._connection() as connection:
            incident = find_incident(connection, incident_name=incident_name, topic=topic)
            with translate_errors("adding a note"):
                self._require_writable(connection, "incident_note")
                row = connection.execute(
                    "INSERT INTO everindex_meta.incident_note (incident_name, topic, note) VALUES (%s, %s, %s) "
                    "RETURNING noted_at",
                    (incident.incident_name, incident.topic, checked),
                ).fetchone()
        assert row is not None
        return Note(text=checked, noted_at=row[0])

    def _require_writable(self, connection: Connection, table: str) -> None:
        own_schema.require_writable(connection, table, conninfo=self._articles.direct_conninfo, what=WHAT)


def _links(
    connection: Connection, incident: Incident, table: CollectionTable, saved: AbstractSet[str]
) -> tuple[Link, ...]:
    """`saved`: the names of the saved searches."""
    if not own_schema.require_readable(connection, "incident_link", what=WHAT):
        return ()
    rows = connection.execute(
        sql.SQL(
            """
            SELECT l.kind, l.target, coalesce(a.title, l.title), a.uri IS NULL, l.linked_at
            FROM everindex_meta.incident_link l
            LEFT JOIN {} a ON l.kind = 'article' AND a.uri = l.target
            WHERE l.incident_name = %s AND l.topic = %s ORDER BY l.linked_at DESC, l.kind, l.target LIMIT {}
            """
        ).format(table.identifier, sql.Literal(MOST)),
        (incident.incident_name, incident.topic),
    ).fetchall()
    return tuple(
        Link(
            kind=kind, target=target, title=title, linked_at=linked_at,
            is_gone=is_gone if kind == "article" else kind == "saved_search" and target not in saved,
        )
        for kind, target, title, is_gone, linked_at in rows
    )  # fmt: skip


def _notes(connection: Connection, incident: Incident) -> tuple[Note, ...]:
    if not own_schema.require_readable(connection, "incident_note", what=WHAT):
        return ()
    rows = connection.execute(
        "SELECT note, noted_at FROM everindex_meta.incident_note WHERE incident_name = %s AND topic = %s "
        "ORDER BY id DESC LIMIT %s",
        (incident.incident_name, incident.topic, MOST),
    ).fetchall()
    return tuple(Note(text=row[0], noted_at=row[1]) for row in rows)


def _one_of(article: str | None, saved_search: str | None, query: str | None) -> tuple[LinkKind, str]:
    kinds: tuple[tuple[LinkKind, str | None], ...] = (
        ("article", article), ("saved_search", saved_search), ("query", query),
    )  # fmt: skip
    given = [(kind, target) for kind, target in kinds if target is not None]
    if len(given) != 1:
        raise QueryInapplicable(
            "it is not clear what to link the incident to.",
            why=f"{len(given)} of article, saved_search and query are given.",
            next_step="give exactly one of them.",
        )
    return given[0]


def _checked_note(text: str) -> str:
    try:
        text.encode()
        is_storable = "\0" not in text
    except UnicodeEncodeError:
        is_storable = False
    if not is_storable or not VISIBLE.search(text) or len(text) > MAX_NOTE_CHARS:
        raise QueryInvalid(
            "the note cannot be stored.",
            why=f"it needs 1 to {MAX_NOTE_CHARS:,} characters, at least one of them visible, and no NUL or half of a "
            "surrogate pair.",
            next_step="write another text.",
        )
    return text.strip()


def _digest(target: str) -> bytes:
    """Stands for a target in the key of its link: a text of 10,000 characters fits no index entry."""
    return hashlib.blake2b(target.encode("utf-8", "surrogatepass"), digest_size=16).digest()
