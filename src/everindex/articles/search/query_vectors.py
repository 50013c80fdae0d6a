"""Query vectors: made from a search text by the model that made the table's vectors.

Guarantees that a text is never compared with vectors of another model. Which model made a vector that a caller passes
is not known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from everindex.articles.connections.reading import Reading
from everindex.articles.embedding import Embedder, OpenAICompatibleEmbedder, choose_embedder, embed_queries
from everindex.articles.embedding.recent import RecentVectors
from everindex.articles.model import VISIBLE
from everindex.articles.search.request.search_request import SearchRequest, check_query
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.table_models import TableModels, read_table_models, unrecorded_error
from everindex.errors import (
    EmbeddingFailed,
    EmbeddingModelsMixed,
    EmbeddingModelUnrecorded,
    EmbeddingModelUnusable,
    EverindexError,
    QueryInapplicable,
    QueryInvalid,
)
from everindex.pg import waiting
from everindex.pg.connections import Connection
from everindex.settings import Settings
from everindex.units import count_text

#: Which models made the table's vectors is read again after MODELS_SECONDS. Whether some are unrecorded is read again
#: after MODELS_TIMES the duration of that comparison, where this is longer (a large table).
MODELS_SECONDS = 10.0
MODELS_TIMES = 100

#: The vector of a search ((dim,) float32), or why there is none.
QueryVector = np.ndarray | EverindexError
#: With these errors a text has no vector, but keyword search can still find its words.
NO_VECTOR = (
    EmbeddingFailed, EmbeddingModelUnusable, EmbeddingModelsMixed, EmbeddingModelUnrecorded, QueryInvalid,
)  # fmt: skip


class QueryEmbedder:
    """The vectors of search texts; safe to use from many threads."""

    def __init__(self, reading: Reading, engine: SearchEngine, settings: Settings) -> None:
        self._reading = reading
        self._engine = engine
        self._settings = settings
        self._embedder: Embedder | None = None
        self._embedder_lock = threading.Lock()
        self.recent = RecentVectors()
        self._models: tuple[float, TableModels] | None = None
        self._unrecorded: tuple[float, bool] | None = None

    @property
    def embedder(self) -> Embedder:
        """The model that embeds queries and articles, loaded at its first use. Raises EmbeddingModelUnusable, NotMigrated."""
        known = self._embedder
        return waiting.beside(self._loaded) if known is None else known

    @embedder.setter
    def embedder(self, embedder: Embedder) -> None:
        with self._embedder_lock:
            self._embedder = embedder

    def _loaded(self) -> Embedder:
        with self._embedder_lock:
            if self._embedder is None:
                table, _ = self._engine.known()
                self._embedder = choose_embedder(self._settings, width=table.dimensions or self._settings.dimensions)
            return self._embedder

    def close(self) -> None:
        """Closes the connections to the model's endpoint where it has one."""
        with self._embedder_lock:
            if isinstance(self._embedder, OpenAICompatibleEmbedder):
                self._embedder.close()

    def load(self) -> None:
        """Loads the model where it runs in this process, some 0.2 s; a remote one is not called. Raises as
        `embedder`."""
        if not self.embedder.is_remote:
            embed_queries(self.embedder, ["everindex"])

    def of(self, request: SearchRequest) -> QueryVector:
        """The vector of a request's text, (dim,) float32, or why there is none."""
        text = text_to_embed(request)
        if isinstance(text, EverindexError):
            return text
        try:
            return self.of_text(text)
        except NO_VECTOR as exc:
            return exc

    def of_text(self, text: str) -> np.ndarray:
        """The vector of a search text as `check_query` gives it, (dim,) float32, of the model that made the table's vectors."""
        self.require_known_model()
        embedder = self.embedder
        self.require_one_model(embedder)
        with _as_query_error(embedder):
            return self.recent.vector(embedder, text)

    def require_known_model(self) -> None:
        """Raises EmbeddingModelUnrecorded where the table has vectors without a record of the model that made them."""
        if self.table_models().is_unrecorded:
            raise unrecorded_error(self._engine.known()[0])

    def require_one_model(self, embedder: Embedder) -> None:
        """Raises EmbeddingModelsMixed where the table holds vectors of a model other than `embedder`'s, and
        EmbeddingModelUnrecorded where that is not known."""
        self.require_known_model()
        models = self.table_models()
        others = models.names - {embedder.model}
        if others:
            names = ", ".join(
                f"{model} ({count_text(models.recorded[model], 'row')})"
                if model in models.recorded
                else f"{model} (declared)"
                for model in sorted(others)
            )
            raise EmbeddingModelsMixed(
                f"the query would be embedded with {embedder.model}, but the table also holds vectors of other models.",
                why=f"distances between vectors of two models mean nothing. In the table: {names}.",
                next_step="run  everindex embed  to bring every article to this model, or set EMBEDDING_MODEL back.",
            )

    def of_each(self, queries: Sequence[str | np.ndarray] | np.ndarray) -> list[np.ndarray]:
        """The vectors of queries, in their order."""
        if isinstance(queries, str):
            raise QueryInvalid(
                "the queries are one text.",
                why="this call takes several searches at once, as a list of texts or vectors.",
                next_step="pass a list, or call `search` for one text.",
            )
        texts = {number: check_query(query) for number, query in enumerate(queries) if isinstance(query, str)}
        vectors = [np.empty(0) if isinstance(query, str) else query for query in queries]
        if texts:
            self.require_known_model()
            embedder = self.embedder
            self.require_one_model(embedder)
            with _as_query_error(embedder):
                found = embed_queries(embedder, list(texts.values()))
            for number, vector in zip(texts, found, strict=True):
                vectors[number] = vector
        return vectors

    def embedding_models(self) -> dict[str, int]:
        """Model name → number of the table's vectors it is recorded to have made; cached for a few seconds."""
        return dict(self.table_models().recorded)

    def table_models(self, connection: Connection | None = None) -> TableModels:
        """What is recorded about the models that made the table's vectors; cached for a few seconds. Read over
        `connection` where one is passed: a writer must read the primary."""
        cached, now = self._models, time.monotonic()
        if cached is not None and now <= cached[0]:
            return cached[1]
        table, _ = self._engine.known()
        known = self._unrecorded
        has_unrecorded = known[1] if known is not None and now <= known[0] else None

        def read(connection: Connection) -> TableModels:
            return read_table_models(connection, table, has_unrecorded=has_unrecorded)

        models = self._reading.read(read) if connection is None else read(connection)
        if has_unrecorded is None:
            took = time.monotonic() - now
            self._unrecorded = (now + max(MODELS_SECONDS, MODELS_TIMES * took), models.has_unrecorded)
        self._models = (now + MODELS_SECONDS, models)
        return models

    def invalidate(self) -> None:
        """Discards the cache: the next use reads the models again."""
        self._models = self._unrecorded = None

    def forget_recorded(self) -> None:
        """Like `invalidate`, but after a write that recorded all its vectors: the table need not be compared with the
        records again."""
        self._models = None


@contextmanager
def _as_query_error(embedder: Embedder) -> Iterator[None]:
    """Turns EmbeddingFailed of a local model into QueryInapplicable: there the text is the cause. A remote model may
    succeed next time."""
    try:
        yield
    except EmbeddingFailed as exc:
        if embedder.is_remote:
            raise
        raise QueryInapplicable(exc.what, why=exc.why, next_step="search with other words.") from exc


def text_to_embed(request: SearchRequest) -> str | EverindexError:
    """The part of a request's text to embed: all of it in a semantic search, otherwise all but the words with a
    minus."""
    wanted = request.text if request.mode == "semantic" else request.words.wanted
    if wanted and VISIBLE.search(wanted):
        return wanted
    return QueryInapplicable(
        "the query only excludes words.",
        why="every word in it has a minus.",
        next_step="add a word to search for.",
    )
