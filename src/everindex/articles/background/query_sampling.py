"""The sample of real queries of articles and collections: a few vectors in everindex_meta, to measure recall with them.

Only vectors are stored: no text, no filter, no time, no user. Each process samples its queries at random and stores a
few per minute; the table holds EVERINDEX_SAMPLE_QUERIES of them, and 0 disables sampling. It never delays a search.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from everindex.articles.instance import Instance
from everindex.articles.searchable import Searchable
from everindex.articles.table import read_table
from everindex.errors import EverindexError
from everindex.index.catalog.observe import in_search_path
from everindex.index.recall.query_sample import keep_queries
from everindex.pg.connections import connect
from everindex.settings import Settings

log = logging.getLogger(__name__)

#: How often a process stores its sample, and how many vectors at a time.
HAND_OVER_SECONDS = 60.0
DRAWN_AT_A_TIME = 20
STOP_SECONDS = 5.0


class QuerySampler:
    """A uniform random sample of a stream of query vectors; safe to use from many threads."""

    def __init__(self, size: int = DRAWN_AT_A_TIME) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._drawn: list[np.ndarray] = []
        self._seen = 0

    def note(self, vector: np.ndarray) -> None:
        """Offers the vector of one answered search. Source: Vitter, Random Sampling with a Reservoir (1985), algorithm R."""
        with self._lock:
            self._seen += 1
            if len(self._drawn) < self._size:
                self._drawn.append(vector)
                return
            place = random.randrange(self._seen)  # a draw, not security
            if place < self._size:
                self._drawn[place] = vector

    def take(self) -> list[np.ndarray]:
        """The vectors sampled since the last call, in random order."""
        with self._lock:
            drawn, self._drawn, self._seen = self._drawn, [], 0
        random.shuffle(drawn)
        return drawn


@contextmanager
def queries_sampled(instance: Instance, settings: Settings) -> Iterator[None]:
    """Samples the queries of `instance` for the duration of the block, unless EVERINDEX_SAMPLE_QUERIES is 0."""
    if settings.sample_queries == 0:
        yield
        return
    sampled: list[tuple[Searchable, QuerySampler]] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(HAND_OVER_SECONDS * random.uniform(0.8, 1.2)):
            store(sampled, budget=settings.sample_queries)
            sample_new(instance, sampled)
        store(sampled, budget=settings.sample_queries)

    thread = threading.Thread(target=run, name="everindex-queries", daemon=True)
    sample_new(instance, sampled)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
        for searched, _ in sampled:
            searched.searches.on_query = None


def store(sampled: list[tuple[Searchable, QuerySampler]], *, budget: int) -> None:
    """Stores what was sampled since the last time."""
    for searched, sampler in sampled:
        hand_over(searched, sampler, budget=budget)


def sample_new(instance: Instance, sampled: list[tuple[Searchable, QuerySampler]]) -> None:
    """Begins to sample the queries of the articles, and of the collections that are open, where that has not begun."""
    known = {id(searched) for searched, _ in sampled}
    for searched in (instance, *instance.opened.values()):
        if id(searched) not in known:
            sampler = QuerySampler()
            searched.searches.on_query = sampler.note
            sampled.append((searched, sampler))


def hand_over(searched: Searchable, sampler: QuerySampler, *, budget: int) -> None:
    """Stores the sampled vectors of the articles or a collection if possible, otherwise discards them. Raises nothing."""
    drawn = sampler.take()
    if not drawn:
        return
    try:
        # Vectors of different models must not be compared; this includes query vectors.
        model = searched.query_embedder.table_models().only or "unknown"
        with connect(searched.direct_conninfo, application_name="everindex queries") as connection:
            spec = in_search_path(connection, read_table(connection, searched.spec).index)
            keep_queries(connection, spec, [vector.tolist() for vector in drawn], model=model, budget=budget)
    except EverindexError as exc:
        log.debug("query vectors not stored: %s", exc.slug, extra={"event": "query-sample-not-stored"})
    except Exception:
        log.exception(
            "query sampling stopped because of a program error; nothing depends on it",
            extra={"event": "query-sample-failed"},
        )
