"""The interface of an embedding model: a vector for each text, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from everindex.articles.embedding.checks import check_vectors
from everindex.errors import EmbeddingFailed
from everindex.pg import waiting

Vectors = npt.NDArray[np.float32]

#: An instant embedder makes the vectors of this many search texts in less than a millisecond or two.
MOST_INSTANT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingBatch:
    """The vectors of some texts, in the order of the texts."""

    vectors: Vectors
    """`(n, dimensions)` float32; the row of a text without a vector is all NaN."""

    failures: dict[int, str]
    """Index of the text → why it has no vector, in words for the operator; never a secret."""

    truncated: frozenset[int] = frozenset()
    """Indexes of the texts of which the model read the beginning alone, as far as the embedder knows."""

    @classmethod
    def checked(
        cls,
        vectors: Vectors,
        *,
        width: int,
        failures: Mapping[int, str] | None = None,
        truncated: frozenset[int] = frozenset(),
    ) -> Self:
        """A batch in which every row unusable for search is a failure. Copies what it changes."""
        known = dict(failures or {})
        found = {row: reason for row, reason in check_vectors(vectors, width).items() if row not in known}
        together = dict(sorted((known | found).items()))
        if together:
            vectors = vectors.copy()
            vectors[list(together)] = np.nan
        return cls(vectors=vectors, failures=together, truncated=truncated)


class Embedder(Protocol):
    """A model that turns texts into vectors of one width. Implementations must be thread-safe."""

    @property
    def model(self) -> str:
        """The name recorded with each vector; two vectors may be compared only if their names are equal."""

    @property
    def dimensions(self) -> int:
        """The width of the vectors, which is that of the column."""

    @property
    def is_remote(self) -> bool:
        """True when texts leave this process for an endpoint."""

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        """The vectors of `texts`. Never raises because of a text or an endpoint: such errors are in `failures`."""


class AsymmetricEmbedder(Embedder, Protocol):
    """A model that wants another prompt before a query than before a document."""

    def embed_queries(self, texts: Sequence[str]) -> EmbeddingBatch:
        """The vectors of search texts, to be compared with those that `embed` gives documents. Never raises, as `embed`."""


@runtime_checkable
class TokenWindow(Protocol):
    """What is known of an embedder that runs in this process: how much of a text it reads, counted in its own tokens."""

    @property
    def max_tokens(self) -> int:
        """How many tokens of a document it reads; what follows does not change the vector."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """The tokens of a text of any length, as (start, end) in characters, in order."""


def embed_query(embedder: Embedder, text: str) -> Vectors:
    """The vector of one search text, `(dimensions,)` float32. Raises EmbeddingFailed with the reason."""
    vector: Vectors = embed_queries(embedder, [text])[0]
    return vector


def embed_queries(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """The vectors of search texts, `(n, dimensions)` float32, in one call. Raises EmbeddingFailed where one has none."""
    # By name: a check against the protocol would read every property, at each search.
    embed = getattr(embedder, "embed_queries", None) or embedder.embed
    is_instant = len(texts) <= MOST_INSTANT and getattr(embedder, "is_instant", False)
    batch: EmbeddingBatch = embed(texts) if is_instant else waiting.beside(partial(embed, texts))
    if not batch.failures:
        return batch.vectors
    number, reason = min(batch.failures.items())
    which = "the search text" if len(texts) == 1 else f"search text {number + 1} of {len(texts)}"
    if embedder.is_remote:
        next_step = "check OPENAI_API_KEY, OPENAI_BASE_URL and EMBEDDING_MODEL, or use keyword search meanwhile."
    else:
        next_step = "search with other words, or use keyword search."
    raise EmbeddingFailed(f"{which} has no vector from {embedder.model}.", why=f"{reason}.", next_step=next_step)
