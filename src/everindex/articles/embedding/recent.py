"""The cache of recent query vectors: all pages of one search use the same vector and pay for it once.

A remote model may return a slightly different vector each time it is called.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from everindex.articles.embedding.provider import Embedder, Vectors, embed_query

#: About 1.5 MB at 1536 dimensions.
KEPT = 256


class RecentVectors:
    """The vectors of the last search texts sent to a remote model; safe to use from many threads."""

    def __init__(self, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._vectors: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def vector(self, embedder: Embedder, text: str) -> Vectors:
        """The vector of a search text, (dim,) float32, read-only: the cached one, otherwise a new one. A local model is
        always called, since it returns the same vector. Raises EmbeddingFailed."""
        if not embedder.is_remote:
            return embed_query(embedder, text)
        found = self.known(embedder, text)
        return self._keep(embedder, text, embed_query(embedder, text)) if found is None else found

    def known(self, embedder: Embedder, text: str) -> Vectors | None:
        """The cached vector of a text, without a request."""
        key = (embedder.model, text)
        with self._lock:
            found = self._vectors.get(key)
            if found is not None:
                self._vectors.move_to_end(key)
        return found

    def _keep(self, embedder: Embedder, text: str, vector: Vectors) -> Vectors:
        """Caches a vector and returns the cached one: two concurrent callers both get the first."""
        kept = vector.copy()
        kept.flags.writeable = False
        with self._lock:
            first = self._vectors.setdefault((embedder.model, text), kept)
            while len(self._vectors) > self._kept:
                self._vectors.popitem(last=False)
        return first
