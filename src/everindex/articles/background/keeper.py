"""The keeper of this application's indexes: what it maintains, when it waits, and how it runs beside the web pages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import assert_never

from everindex.articles.background.declared_model_watch import DeclaredModelTask
from everindex.articles.background.expired_rows import ExpiredRowsTask
from everindex.articles.collections.description import has_only_collections
from everindex.articles.collections.registry import declared_indexes, read_collections
from everindex.articles.declared import ARTICLES
from everindex.articles.instance import Instance
from everindex.articles.recall_queries import RecallQueries
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.articles.shape.spec import CollectionSpec
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.keeper.loop import PATIENCE_SECONDS, Keeper, PeriodicTask
from everindex.index.keeper.round import Finding, KeptIndex, Round
from everindex.index.plan.policy import HEAL, KEEP
from everindex.index.reporter import in_background
from everindex.index.spec import IndexSpec
from everindex.migrate.standing import read_standing
from everindex.pg.connections import Connection, connect
from everindex.pg.locks import holder_of
from everindex.settings import Settings

log = logging.getLogger(__name__)

#: Longer than a cancelled build takes to clean up after itself (index/build/vector_index.py).
STOP_SECONDS = 15.0


def article_indexes(settings: Settings) -> Callable[[Connection], Iterable[IndexSpec]]:
    """The declared indexes of the articles and of every collection, where they lie on a connection, with the recall floor of
    the settings."""

    def declared(connection: Connection) -> list[IndexSpec]:
        return [
            effective_spec(connection, replace(spec, recall_floor=settings.recall_floor))
            for spec in declared_indexes(connection)
        ]

    return declared


def reason_to_wait(connection: Connection) -> str | None:
    """Why no index may be changed now; None when the database is at this release's revision. Reads only.

    Before head the index is not due yet, or a first load is running; beyond head a later release with its own keeper
    may have declared another index or none. In an attached database the index is always due, and in one of collections
    alone, which has no migrations.
    """
    migrating = holder_of(connection, "migrate")
    if migrating is not None:
        return f"the database is being migrated by {migrating.split(' (')[0]}"
    standing = read_standing(connection)
    if standing.attachment is not None and standing.attachment.is_being_detached:
        return "everindex is being detached from this database (everindex detach)"
    match standing.kind:
        case "attached" | "head":
            return None
        case "none":
            if has_only_collections(connection):
                return None
            return "the database is not migrated yet (everindex migrate)"
        case "unknown":
            return (
                f"the database is at revision {', '.join(standing.current)}, which this release does not know: a later "
                "release keeps the index, or its application has its own migrations (everindex attach)"
            )
        case "unreadable":
            return f"{standing.sentence} ({standing.grant})"
        case "behind":
            return (
                f"the database is at revision {', '.join(standing.current)}, head is {standing.head} (everindex "
                f"migrate)"
            )
        case _:
            assert_never(standing.kind)


def article_keeper(
    conninfo: str, settings: Settings, *, on_round: Callable[[Round], None] = lambda round_: None
) -> Keeper:
    """The keeper of the articles' indexes, configured by the settings."""
    return Keeper(
        conninfo,
        article_indexes(settings),
        interval_seconds=settings.keep_seconds,
        policy=HEAL if settings.keep_drift == "replace" else KEEP,
        recall_seconds=settings.keep_recall_seconds,
        warm_seconds=settings.warm_seconds,
        reason_to_wait=reason_to_wait,
        on_round=on_round,
        search_queries=RecallQueries(settings),
        tasks=article_tasks(conninfo, settings),
    )


def article_tasks(conninfo: str, settings: Settings) -> tuple[PeriodicTask, ...]:
    """The further tasks of the articles' keeper, beside the declared indexes."""
    return (
        KeywordIndexTask(conninfo, settings.text_search),
        CollectionWordsTask(conninfo, settings.text_search),
        DeclaredModelTask(conninfo, settings),
        *((ExpiredRowsTask(conninfo),) if settings.keep_expired == "delete" else ()),
    )


class KeywordIndexTask:
    """Sees to a collection's index of words in each round of the keeper. Reports what was done or left, but not that a role
    may not build it."""

    def __init__(self, conninfo: str, text_search: str, collection: CollectionSpec = ARTICLES) -> None:
        self.index = collection.words_index_name
        self._collection = collection
        self._conninfo = conninfo
        self._text_search = text_search
        self._replaces = True

    def __call__(self, stop: threading.Event) -> KeptIndex | None:
        """Raises what `ensure_words` raises."""
        done = ensure_words(
            self._conninfo,
            self._collection,
            text_search=self._text_search,
            reporter=in_background(),
            wait_seconds=PATIENCE_SECONDS,
            replaces=self._replaces,
            stop=stop,
        )
        # If two processes have different languages, the one that becomes leader later is the newer one. After its first
        # round it leaves an index for another language to the next start; otherwise the two would replace each other's
        # index forever.
        self._replaces = False
        if not done.did and done.reason is None:
            return None
        finding = None
        if done.reason is not None:
            finding = Finding(index=self.index, slug="left", text=done.reason, is_failure=False)
        return KeptIndex(index=self.index, outcome=done.outcome, did=done.did, finding=finding)


class CollectionWordsTask:
    """The same for every collection beside the articles that has text, as they are recorded at the time."""

    index = "indexes of the collections' words"

    def __init__(self, conninfo: str, text_search: str) -> None:
        self._conninfo = conninfo
        self._text_search = text_search
        self._tasks: dict[CollectionSpec, KeywordIndexTask] = {}

    def __call__(self, stop: threading.Event) -> KeptIndex | None:
        """Sees to one collection after the other; reports the first that had something to be done. Raises what `ensure_words`
        raises."""
        with connect(self._conninfo, application_name="everindex keeper") as connection:
            collections = [spec for spec in read_collections(connection) if spec.text]
        for spec in collections:
            task = self._tasks.setdefault(spec, KeywordIndexTask(self._conninfo, self._text_search, spec))
            done = task(stop)
            if done is not None:
                return done
        return None


@contextmanager
def kept_in_background(instance: Instance, settings: Settings) -> Iterator[Callable[[], None]]:
    """Runs the keeper in a thread for the duration of the block, unless EVERINDEX_KEEP=off.

    Yields a function that tells it to stop, for a signal handler. The end of the block also stops it and waits at most
    STOP_SECONDS for it to clean up.
    """
    stop = threading.Event()
    if settings.keep == "off":
        yield stop.set
        return

    def forget_what_was(round_: Round) -> None:
        instance.keeper_rounds.note(round_)
        if round_.has_changed:
            instance.invalidate()

    keeper = article_keeper(instance.direct_conninfo, settings, on_round=forget_what_was)
    thread = threading.Thread(target=keeper.run, args=(stop,), name="everindex-keeper", daemon=True)
    thread.start()
    try:
        yield stop.set
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            log.warning(
                "keeper: it did not stop within %.0f s; what it left behind is healed at the next start",
                STOP_SECONDS,
                extra={"event": "keeper-not-stopped"},
            )
