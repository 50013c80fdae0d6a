"""The state shared by all handlers: the instance, the threads that run its work, and the caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from everindex.access.authenticator import Authenticator
from everindex.articles.collections.collection import Collection
from everindex.articles.embedding import Embedder, OpenAICompatibleEmbedder
from everindex.articles.embedding.choose import choose_embedder
from everindex.articles.embedding.endpoint import RetryPolicy
from everindex.articles.instance import Instance
from everindex.errors import EmbeddingFailed, EverindexError, ServerBusy
from everindex.metrics.database_families import database_families
from everindex.metrics.exposition import OF_PROCESS, Families, WithoutCreated, as_text
from everindex.metrics.process_families import process_families
from everindex.metrics.refresh import LatestObservation
from everindex.pg.capabilities import Capabilities, look
from everindex.web.http.cached import AsyncCache
from everindex.web.http.request_times import RequestTimes
from everindex.web.http.thread_slots import ThreadSlots
from everindex.web.index_watch import IndexWatch
from everindex.web.reports.facets import Facet, read_facets
from everindex.web.reports.readiness import ReadyProbe

T = TypeVar("T")

#: Work that only computes (pages, JSON of long answers, long bodies) runs in one thread for short and one for long
#: work: more threads would compete with the event loop for the same interpreter. From LONG_CHARACTERS characters on,
#: work is long.
LONG_CHARACTERS = 100_000
COMPUTING_WAIT_SECONDS = 10.0

#: The number of concurrent requests to a remote embedding endpoint, and how long a reader waits for one of these slots.
EMBEDDING_SLOTS = 8
EMBEDDING_WAIT_SECONDS = 3.0
#: The number of passwords that are compared at once: each takes a tenth of a second of a core, and 64 MiB.
PASSWORD_SLOTS = 1
#: How long a reader waits for a database connection before the page says that the server is busy.
DATABASE_WAIT_SECONDS = 10.0
#: A search page cannot wait as long as an import: one retry, and no attempt after this time.
QUERY_RETRIES = RetryPolicy(attempts=2, total_seconds=5.0, longest_wait_seconds=1.0, longest_retry_after_seconds=2.0)
QUERY_TIMEOUT_SECONDS = 15.0


class Site:
    """The shared parts of one application."""

    def __init__(
        self,
        instance: Instance,
        times: RequestTimes,
        *,
        authenticator: Authenticator,
        facets_seconds: float,
        index_seconds: float,
        verification_seconds: float,
    ) -> None:
        self.instance = instance
        self.authenticator = authenticator
        self.observation = LatestObservation(instance.conninfo, recall_floor=instance.settings.recall_floor)
        instance.on_close.append(self.observation.close)
        self._metrics = (
            Families(lambda: database_families(self.observation.latest())),
            Families(lambda: process_families(instance)), *map(WithoutCreated, times.collectors), *OF_PROCESS,
        )  # fmt: skip
        self._watch_seconds = {"index_seconds": index_seconds, "verification_seconds": verification_seconds}
        self._watches: dict[str, IndexWatch] = {}
        self.ready = ReadyProbe(instance.conninfo, reading=instance.reading)
        self._database = ThreadSlots(
            instance.settings.pool_size, wait_seconds=DATABASE_WAIT_SECONDS, refusal=self._refusal
        )
        self._embedding = ThreadSlots(EMBEDDING_SLOTS, wait_seconds=EMBEDDING_WAIT_SECONDS, refusal=_embedding_busy)
        self._short = ThreadSlots(1, wait_seconds=COMPUTING_WAIT_SECONDS, refusal=_computing_busy)
        self._long = ThreadSlots(1, wait_seconds=COMPUTING_WAIT_SECONDS, refusal=_computing_busy)
        self._passwords = ThreadSlots(PASSWORD_SLOTS, wait_seconds=COMPUTING_WAIT_SECONDS, refusal=_passwords_busy)
        self._scrapes = ThreadSlots(1, wait_seconds=COMPUTING_WAIT_SECONDS, refusal=_computing_busy)
        self._query_embedder: Embedder | None = None
        self.facets: AsyncCache[dict[str, list[Facet]]] = AsyncCache(
            lambda: self.in_database(lambda: read_facets(instance)), seconds=facets_seconds
        )
        self.versions: AsyncCache[Capabilities] = AsyncCache(
            lambda: self.in_database(self._look), seconds=facets_seconds
        )

    def close(self) -> None:
        """Closes the connections to the endpoint of the embedding model, and ends the observation for metrics; the instance
        stays open."""
        self.observation.close()
        if isinstance(self._query_embedder, OpenAICompatibleEmbedder):
            self._query_embedder.close()

    async def watch(self, collection: str | None = None) -> IndexWatch:
        """The checks and the report of the articles' index, or of a collection's. Raises CollectionNotFound."""
        searched = self.instance if collection is None else await self.collection(collection)
        found = self._watches.get(searched.spec.name)
        if found is None or found.searched is not searched:
            found = IndexWatch(self.instance, searched, self.in_database, **self._watch_seconds)
            self._watches[searched.spec.name] = found
        return found

    async def collection(self, name: str) -> Collection:
        """An open collection. Raises CollectionNotFound."""
        opened: Collection | None = self.instance.opened.get(name)
        return opened if opened is not None else await self.in_database(lambda: self.instance.collection(name))

    def _refusal(self) -> EverindexError:
        """Why no slot became free: the server is unreachable, or there are too many requests."""
        return self.instance.why_unreachable() or _database_busy()

    def _look(self) -> Capabilities:
        with self.instance.connection() as connection:
            return look(connection)

    async def in_database(self, work: Callable[[], T]) -> T:
        """Runs work that uses one connection of the pool at a time. Raises ServerBusy when none becomes free."""
        return await self._database.run(work)

    async def in_embedding(self, work: Callable[[], T]) -> T:
        """Runs a request to a remote embedding endpoint without holding a database connection."""
        return await self._embedding.run(work)

    async def comparing_passwords(self, work: Callable[[], T]) -> T:
        """Runs work that compares a password with a hash, and may use one connection. Raises ServerBusy."""
        return await self._passwords.run(work)

    async def compute(self, work: Callable[[], T], *, characters: int) -> T:
        """Runs work that only computes outside the event loop, so that no request waits for another one's page. Raises
        ServerBusy. Context variables are those of the caller."""
        return await (self._long if characters >= LONG_CHARACTERS else self._short).run(work)

    async def metrics(self) -> bytes:
        """The metrics of this process and its database as Prometheus reads them. Queries nothing. Raises ServerBusy."""
        return await self._scrapes.run(lambda: as_text(*self._metrics))

    def query_embedder(self) -> Embedder:
        """The model that embeds queries; a remote one with short timeouts. May query the database once."""
        if self._query_embedder is None:
            chosen = self.instance.embedder
            if chosen.is_remote:
                settings = self.instance.settings
                patience = min(settings.embedding_timeout_seconds, QUERY_TIMEOUT_SECONDS)
                chosen = choose_embedder(
                    settings.model_copy(update={"embedding_timeout_seconds": patience}), width=chosen.dimensions,
                    retries=QUERY_RETRIES,
                )  # fmt: skip
            self._query_embedder = chosen
        return self._query_embedder

    @property
    def known_query_embedder(self) -> Embedder | None:
        """The model that embeds queries if it is already chosen; None before the first use."""
        return self._query_embedder


def site_of(request: Request) -> Site:
    """The site of the application that handles `request`."""
    site: Site = request.app.state.site
    return site


def _database_busy() -> EverindexError:
    return ServerBusy(
        "too many requests are waiting for the database.",
        why=f"every connection of the pool was in use for {DATABASE_WAIT_SECONDS:g} seconds.",
        next_step="try again in a moment; raise EVERINDEX_POOL_SIZE if it happens under normal load.",
    )


def _computing_busy() -> EverindexError:
    return ServerBusy(
        "too many large responses are being written.",
        why=f"this one waited {COMPUTING_WAIT_SECONDS:g} seconds for its turn.",
        next_step="try again in a moment; request fewer articles at once (k).",
    )


def _passwords_busy() -> EverindexError:
    return ServerBusy(
        "too many people are signing in.",
        why=f"this sign-in waited {COMPUTING_WAIT_SECONDS:g} seconds for its turn.",
        next_step="try again in a moment.",
    )


def _embedding_busy() -> EverindexError:
    return EmbeddingFailed(
        "the search text could not be embedded in time.",
        why=f"the embedding endpoint is slow: {EMBEDDING_SLOTS} requests to it were still running after "
        f"{EMBEDDING_WAIT_SECONDS:g} seconds.",
        next_step="try again in a moment; searches by vector and the other pages still work.",
    )
