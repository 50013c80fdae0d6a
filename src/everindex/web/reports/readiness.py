"""The readiness of this process: checked over its own database connection, and always answered in time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from everindex.articles.collections.registry import read_collections
from everindex.articles.connections.reading import Reading, Source
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import EverindexError
from everindex.index.build.serving_state import WORST_FIRST, IndexState, index_state
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import serving_spec
from everindex.index.catalog.set_aside import aside_words
from everindex.index.plan.partitions import broken_words
from everindex.message_text import with_backticks
from everindex.migrate.standing import has_article_schema, read_standing
from everindex.pg.connections import Connection, connect
from everindex.pg.pooler import limit, limited
from everindex.pg.sqlstate import translate_errors

#: A Kubernetes probe gives up after one to a few seconds; the answer must come before that.
ANSWER_SECONDS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The result of one check of what a search needs."""

    is_ready: bool
    is_degraded: bool
    """Every search is answered, but more slowly than it should be, or the database is not at head."""

    revision: str | None = None
    head: str | None = None
    is_attached: bool = False
    """The application has its own migrations, so no revision is read."""

    index_state: IndexState | None = None
    percent: float | None = None
    """The progress of a running build, where PostgreSQL reports it."""

    reads: Source | None = None
    """The server that answers searches and article reads; None where not checked."""

    collections: dict[str, IndexState | None] = field(default_factory=dict)
    """The state of the index of each collection beside the articles; None for one that cannot be searched."""

    reasons: list[str] = field(default_factory=list)
    read_at: float = field(default_factory=time.monotonic)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ready": self.is_ready, "degraded": self.is_degraded,
            "database": "unreachable" if self.head is None and not self.is_ready else "reachable",
            "revision": {"current": self.revision, "head": self.head, "attached": self.is_attached},
            "index": {"state": self.index_state, "percent": self.percent},
            **({"collections": self.collections} if self.collections else {}),
            "reads": None if self.reads is None else self.reads.as_dict(),
            "age_seconds": round(time.monotonic() - self.read_at, 3),
            "reasons": [with_backticks(reason) for reason in self.reasons],
        }  # fmt: skip


class ReadyProbe:
    """Runs one check at a time, in a thread that no caller must wait for: a database that hangs holds one thread.

    Calls during a running check share the next one: a result is never older than its request.
    """

    def __init__(self, conninfo: str, *, reading: Reading | None = None) -> None:
        """`reading` reports the server that answers reads, and is used where the primary does not respond."""
        self._conninfo = conninfo
        self._reading = reading
        self._lock = threading.Lock()
        self._looking: Future[Readiness] | None = None
        self._next: Future[Readiness] | None = None

    def look(self) -> Future[Readiness]:
        """The result of a check that begins after this call; never raises."""
        with self._lock:
            if self._looking is None:
                return self._begin(Future())
            if self._next is None:
                self._next = Future()
            return self._next

    def _begin(self, looking: Future[Readiness]) -> Future[Readiness]:
        self._looking = looking
        threading.Thread(target=self._run, args=(looking,), name="everindex-ready", daemon=True).start()
        return looking

    def _run(self, looking: Future[Readiness]) -> None:
        try:
            with connect(self._conninfo, application_name="everindex probe") as connection:
                found = read_readiness(connection)
        except Exception as exc:  # any failure to look is the answer "not ready"
            found = unreachable(exc.what if isinstance(exc, EverindexError) else type(exc).__name__)
            if self._reading is not None and self._reading.source().is_replica:
                found = _without_primary(self._reading, found)
        if self._reading is not None:
            found = _with_source(found, self._reading.source())
        with self._lock:
            self._looking = None
            following, self._next = self._next, None
            if following is not None:
                self._begin(following)
        looking.set_result(found)


def _without_primary(reading: Reading, found: Readiness) -> Readiness:
    """The readiness without the primary: searches are answered while a replica is available; writes are not."""
    try:
        on_replica = reading.read(_read_readiness)
    except (EverindexError, psycopg.Error):
        return found
    why = [f"read-only, served by the replica: {reason}" for reason in found.reasons]
    return replace(on_replica, is_degraded=on_replica.is_ready, reasons=[*why, *on_replica.reasons])


def _with_source(found: Readiness, source: Source) -> Readiness:
    if source.reason is None:
        return replace(found, reads=source)
    return replace(
        found,
        is_degraded=found.is_ready,
        reads=source,
        reasons=[*found.reasons, f"reads go to the primary: {source.reason}"],
    )


def unreachable(reason: str) -> Readiness:
    return Readiness(is_ready=False, is_degraded=False, reasons=[reason])


def read_readiness(connection: Connection) -> Readiness:
    """Reads only; takes ACCESS SHARE on catalogs."""
    limit(connection, {"statement_timeout": 5000})
    with limited(connection):
        return _read_readiness(connection)


def _read_readiness(connection: Connection) -> Readiness:
    """That of the articles, and of the collections beside them; a database of collections alone is ready when one of them can
    be searched."""
    specs = read_collections(connection)
    if not specs:
        return _of_articles(connection)
    states: dict[str, IndexState | None] = {}
    reasons: list[str] = []
    for spec in specs:
        states[spec.name], why = _of_collection(connection, spec)
        reasons += [] if why is None else [f"collection {spec.name}: {why}"]
    if has_article_schema(connection):
        found = _of_articles(connection)
        return replace(
            found, is_degraded=found.is_ready and bool(found.reasons or reasons), collections=states,
            reasons=[*found.reasons, *reasons],
        )  # fmt: skip
    standing = read_standing(connection)
    is_ready = any(state is not None for state in states.values())
    return Readiness(
        is_ready=is_ready, is_degraded=is_ready and bool(reasons), head=standing.head,
        index_state=next((state for state in WORST_FIRST if state in states.values()), None), collections=states,
        reasons=reasons,
    )  # fmt: skip


def _of_collection(connection: Connection, collection: CollectionSpec) -> tuple[IndexState | None, str | None]:
    """The state of its index, and what its searches suffer from."""
    try:
        table = read_table(connection, collection)
        try_search(connection, table)
    except EverindexError as exc:
        return None, exc.what
    spec = effective_spec(connection, table.index)
    observed = observe(connection, spec)
    state, percent = index_state(connection, spec, observed)
    if state == "building":
        how_far = "the index is being built" if percent is None else f"index {percent:.0f} %"
        return state, f"serving exact search, {how_far}"
    if state != "valid":
        return state, f"the vector index is {state}: every search reads all rows (exact search)"
    return state, None


def _of_articles(connection: Connection) -> Readiness:
    standing = read_standing(connection)
    head, current = standing.head, ", ".join(standing.current) or None
    try:
        table = read_table(connection)
    except EverindexError as exc:
        return Readiness(
            is_ready=False, is_degraded=False, revision=current, head=head, is_attached=standing.is_attached,
            reasons=[exc.what],
        )  # fmt: skip
    if table.dimensions is None:
        reason = "articles.embedding is missing: run  everindex migrate"
        return Readiness(
            is_ready=False, is_degraded=False, revision=current, head=head, is_attached=standing.is_attached,
            reasons=[reason],
        )  # fmt: skip
    try:
        try_search(connection, table)
    except EverindexError as exc:
        return Readiness(
            is_ready=False, is_degraded=False, revision=current, head=head, is_attached=standing.is_attached,
            reasons=[f"{exc.what} {exc.why}"],
        )  # fmt: skip
    spec = effective_spec(connection, EMBEDDING_INDEX)
    observed = observe(connection, spec)
    state, percent = index_state(connection, spec, observed)
    reasons = [] if standing.is_right or standing.kind == "unreadable" else [standing.sentence]
    if state == "building":
        # A build does not delay readiness: the container is ready and reports the progress meanwhile.
        how_far = "the index is being built" if percent is None else f"index {percent:.0f} %"
        reasons.append(f"serving exact search, {how_far}")
    elif (serving := serving_spec(spec, observed)) is not None and (broken := broken_words(observed, serving[1])):
        reasons.append(f"the vector index is incomplete: {broken}; searches read these partitions in full")
    elif state == "missing" and (aside := aside_words(connection, spec)) is not None:
        reasons.append(f"{aside[0]}: every search reads all rows (exact search)")
    elif state != "valid":
        reasons.append(f"the vector index is {state}: every search reads all rows (exact search)")
    return Readiness(
        is_ready=True, is_degraded=bool(reasons), revision=current, head=head, is_attached=standing.is_attached,
        index_state=state, percent=percent, reasons=reasons,
    )  # fmt: skip


def try_search(connection: Connection, table: CollectionTable) -> None:
    """Starts a search without reading a row: PostgreSQL checks privileges, columns and operators when a statement
    starts. Raises as a search would."""
    with translate_errors("searching"):
        connection.execute(
            sql.SQL("SELECT {columns}, {vector} {distance} {vector} FROM {table} LIMIT 0").format(
                columns=table.selected, vector=table.vector, distance=table.distance, table=table.identifier
            )
        )
