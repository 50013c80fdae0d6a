"""Query vectors: made of a search text by the model that made the table's vectors, or given by a caller and checked.

Guarantees that a text is compared with no vectors of another model. Whose vector a caller gives is not known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from everindex.articles.connections.reading import Reading
from everindex.articles.embedding import Embedder, choose_embedder, embed_queries
from everindex.articles.embedding.recent import RecentVectors
from everindex.articles.model import VISIBLE
from everindex.articles.search.request import SearchRequest, check_query
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
from everindex.pg.connections import Connection
from everindex.settings import Settings
from everindex.units import count_text

#: Which models made the table's vectors is asked anew after so many seconds; whether some are unrecorded, on a table so large
#: that the comparison takes longer than a hundredth of that, after a hundred times what it took.
MODELS_SECONDS = 10.0
MODELS_TIMES = 100

#: The vector of a search ((dim,) float32), or why there is none.
QueryVector = np.ndarray | EverindexError
#: These keep a text from having a vector, and not from being looked for by its words.
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
        with self._embedder_lock:
            if self._embedder is None:
                table, _ = self._engine.known()
                self._embedder = choose_embedder(self._settings, width=table.dimensions or self._settings.dimensions)
            return self._embedder

    @embedder.setter
    def embedder(self, embedder: Embedder) -> None:
        with self._embedder_lock:
            self._embedder = embedder

    def load(self) -> None:
        """Loads the model where it runs in this process, some 0.2 s; a remote one is not asked. Raises as `embedder`."""
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
        with _told_as_query(embedder):
            return self.recent.vector(embedder, text)

    def require_known_model(self) -> None:
        """Raises EmbeddingModelUnrecorded where vectors are there of which nothing says what made them."""
        if self.table_models().is_unrecorded:
            raise unrecorded_error(self._engine.known()[0])

    def require_one_model(self, embedder: Embedder) -> None:
        """Raises EmbeddingModelsMixed when the table holds vectors of another model than `embedder`'s, and
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
                why="several searches are asked for at once: a list of texts or vectors.",
                next_step="pass a list, or call `search` for one text.",
            )
        texts = {number: check_query(query) for number, query in enumerate(queries) if isinstance(query, str)}
        vectors = [np.empty(0) if isinstance(query, str) else query for query in queries]
        if texts:
            self.require_known_model()
            embedder = self.embedder
            self.require_one_model(embedder)
            with _told_as_query(embedder):
                found = embed_queries(embedder, list(texts.values()))
            for number, vector in zip(texts, found, strict=True):
                vectors[number] = vector
        return vectors

    def embedding_models(self) -> dict[str, int]:
        """Which models made how many of the table's vectors, as far as it is recorded; kept for a few seconds."""
        return dict(self.table_models().recorded)

    def table_models(self, connection: Connection | None = None) -> TableModels:
        """What is known about who made the table's vectors; kept for a few seconds. Read over `connection` where one is given:
        who writes asks the primary."""
        kept, now = self._models, time.monotonic()
        if kept is not None and now <= kept[0]:
            return kept[1]
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
        """Reads the models anew at the next use."""
        self._models = self._unrecorded = None

    def forget_recorded(self) -> None:
        """The same after a write that recorded all its vectors: no comparison of table and records is due for it."""
        self._models = None


@contextmanager
def _told_as_query(embedder: Embedder) -> Iterator[None]:
    """A text that our own model cannot embed is at fault itself; a remote one may do better the next time."""
    try:
        yield
    except EmbeddingFailed as exc:
        if embedder.is_remote:
            raise
        raise QueryInapplicable(exc.what, why=exc.why, next_step="search with other words.") from exc


def text_to_embed(request: SearchRequest) -> str | EverindexError:
    """What of a text has a meaning to look for: all of it by meaning alone, else all but what it leaves out."""
    wanted = request.text if request.mode == "semantic" else request.words.wanted
    if wanted and VISIBLE.search(wanted):
        return wanted
    return QueryInapplicable(
        "the query only says what to leave out.",
        why="every word of it has a minus.",
        next_step="add a word to look for.",
    )
