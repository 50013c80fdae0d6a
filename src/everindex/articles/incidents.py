"""Incidents and their status, in the table `incident_status`: one row for each incident name and topic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from everindex.articles.model import VISIBLE
from everindex.errors import IncidentExists, IncidentNotFound, NotMigrated, QueryInvalid, StatementFailed
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.settings import current_settings

#: At most this many statuses found in rows are offered beside those of the setting.
MOST_STATUSES = 50
MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One incident of a topic."""

    incident_name: str
    topic: str
    status: str
    created_at: dt.datetime | None
    updated_at: dt.datetime | None


def list_incidents(
    connection: Connection,
    *,
    status: str | None = None,
    among: Collection[tuple[str, str]] | None = None,
    limit: int = 500,
) -> list[Incident]:
    """The incidents, last changed first; `among` these names and topics only. Reads only."""
    names, topics = (None, None) if among is None else ([one[0] for one in among], [one[1] for one in among])
    with _incident_table("reading incidents"):
        rows = connection.execute(
            """
            SELECT incident_name, topic, status, created_at, updated_at FROM incident_status
            WHERE (%(status)s::text IS NULL OR status = %(status)s)
              AND (%(names)s::text[] IS NULL
                   OR (incident_name, topic) IN (SELECT * FROM unnest(%(names)s::text[], %(topics)s::text[])))
            ORDER BY updated_at DESC NULLS LAST, incident_name, topic LIMIT %(limit)s
            """,
            {"status": status, "names": names, "topics": topics, "limit": limit},
        ).fetchall()
    return [
        Incident(incident_name=row[0], topic=row[1], status=row[2], created_at=row[3], updated_at=row[4])
        for row in rows
    ]


def find_incident(connection: Connection, *, incident_name: str, topic: str) -> Incident:
    """The incident of that name and topic. Raises IncidentNotFound. Reads only."""
    with _incident_table("reading an incident"):
        row = connection.execute(
            "SELECT incident_name, topic, status, created_at, updated_at FROM incident_status "
            "WHERE incident_name = %s AND topic = %s",
            (storable(incident_name), storable(topic)),
        ).fetchone()
    if row is None:
        raise _not_found(incident_name, topic)
    return Incident(incident_name=row[0], topic=row[1], status=row[2], created_at=row[3], updated_at=row[4])


def offered_statuses() -> tuple[str, ...]:
    """The statuses of EVERINDEX_INCIDENT_STATUSES; the first is that of a new incident."""
    return current_settings().statuses_of_incidents


def stored_statuses(connection: Connection) -> list[str]:
    """The statuses of stored incidents, at most MOST_STATUSES; an existing instance may have others than the setting.
    Reads only."""
    with _incident_table("reading incidents"):
        rows = connection.execute(
            "SELECT DISTINCT status FROM incident_status WHERE status <> '' ORDER BY status LIMIT %s", (MOST_STATUSES,)
        ).fetchall()
    return [row[0] for row in rows]


def create_incident(connection: Connection, *, incident_name: str, topic: str, status: str | None = None) -> Incident:
    """Creates an incident, with the first offered status if none is passed. Raises QueryInvalid for an empty or
    overlong name or an unknown status; IncidentExists."""
    name, topic = _checked("incident_name", incident_name), _checked("topic", topic)
    offered = offered_statuses()
    status = offered[0] if status is None else status
    _check_status(status, offered)
    with _incident_table("creating an incident"):
        row = connection.execute(
            """
            INSERT INTO incident_status (incident_name, topic, status) VALUES (%s, %s, %s)
            ON CONFLICT (incident_name, topic) DO NOTHING RETURNING created_at, updated_at
            """,
            (name, topic, status),
        ).fetchone()
    if row is None:
        raise IncidentExists(
            f"incident {name!r} of topic {topic!r} already exists.",
            why="name and topic together identify an incident, so they must be unique.",
            next_step="change its status, or choose another name.",
        )
    return Incident(incident_name=name, topic=topic, status=status, created_at=row[0], updated_at=row[1])


def change_status(connection: Connection, *, incident_name: str, topic: str, status: str) -> Incident:
    """Sets the status of an incident to an offered one, or to the one it already has. Raises IncidentNotFound, QueryInvalid."""
    offered: Sequence[str] = offered_statuses()
    if status not in offered and "\0" not in status and _is_unicode(status):
        offered = [*offered, *_status_of(connection, incident_name=incident_name, topic=topic)]
    _check_status(status, offered)
    with _incident_table("changing an incident"):
        row = connection.execute(
            """
            UPDATE incident_status SET status = %s, updated_at = now() WHERE incident_name = %s AND topic = %s
            RETURNING created_at, updated_at
            """,
            (status, _checked("incident_name", incident_name), _checked("topic", topic)),
        ).fetchone()
    if row is None:
        raise _not_found(incident_name, topic)
    return Incident(
        incident_name=incident_name.strip(), topic=topic.strip(), status=status, created_at=row[0], updated_at=row[1]
    )


def _not_found(incident_name: str, topic: str) -> IncidentNotFound:
    return IncidentNotFound(
        f"there is no incident {incident_name[:MAX_NAME_CHARS]!r} of topic {topic[:MAX_NAME_CHARS]!r}.",
        why="it was never created, or has another name or topic.",
        next_step="see the list of incidents (/incidents).",
    )


def storable(text: str) -> str:
    """The text as PostgreSQL can compare it; one with NUL or half of a surrogate pair equals nothing that is stored."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _status_of(connection: Connection, *, incident_name: str, topic: str) -> list[str]:
    """The current status of an incident, in a list; empty where no such incident exists."""
    with _incident_table("reading an incident"):
        rows = connection.execute(
            "SELECT status FROM incident_status WHERE incident_name = %s AND topic = %s AND status IS NOT NULL",
            (_checked("incident_name", incident_name), _checked("topic", topic)),
        ).fetchall()
    return [row[0] for row in rows]


@contextmanager
def _incident_table(doing: str) -> Iterator[None]:
    """Translates driver errors inside the block; NotMigrated where the table is missing, as it may be in an attached database."""
    try:
        with translate_errors(doing):
            yield
    except StatementFailed as exc:
        if not isinstance(exc.__cause__, psycopg.errors.UndefinedTable):
            raise
        raise NotMigrated(
            "this database has no table incident_status.",
            why="everindex revision b6a5ff4214f5 creates it; in an attached database the application does.",
            next_step="run  everindex migrate ; in an attached database, create it in the application's migrations. "
            "Search and articles do not need it.",
        ) from exc


def _checked(what: str, value: str) -> str:
    text = value.strip()
    if not VISIBLE.search(text) or len(value) > MAX_NAME_CHARS or "\0" in text or not _is_unicode(text):
        raise QueryInvalid(
            f"{what} cannot be used.",
            why=f"it needs 1 to {MAX_NAME_CHARS} characters, at least one of them visible, and no NUL or half of a "
            f"surrogate pair.",
            next_step=f"choose another {what}.",
        )
    return text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_status(status: str, offered: Sequence[str]) -> None:
    if status not in offered:
        raise QueryInvalid(
            f"status {status[:40]!r} is unknown.",
            why=f"the statuses are {', '.join(offered)} (EVERINDEX_INCIDENT_STATUSES).",
            next_step="choose one of them, or add it to that setting.",
        )
