"""How is a search of the web answered? A ready vector in one thread hop; a text by whichever model embeds it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import numpy as np

from everindex.articles.embedding import embed_query
from everindex.articles.instance import check_query
from everindex.articles.model import Answer, Filters
from everindex.errors import QueryInvalid
from everindex.web.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A search as it was asked: a text or a ready vector ((dim,) float32), with its bounds."""

    text: str | None = None
    vector: np.ndarray | None = None
    k: int = 10
    filters: Filters = field(default_factory=Filters)
    ef_search: int | None = None
    exact: bool = False


async def answer(site: Site, question: Question) -> Answer:
    """Raises what `Instance.search` raises, and ServerBusy or EmbeddingFailed when no place became free in time."""
    if question.vector is not None:
        vector = question.vector
        return await site.in_database(lambda: _by_vector(site, question, vector))
    text = check_query(question.text or "")
    embedder = site.known_query_embedder
    if embedder is None:
        embedder = await site.in_database(site.query_embedder)
    if not embedder.is_remote:
        return await site.in_database(lambda: _by_text(site, question, text))
    # Three hops, so that neither a connection nor a database thread is held while the endpoint thinks.
    await site.in_database(lambda: site.instance.require_one_model(embedder))
    vector = await site.in_embedding(lambda: embed_query(embedder, text))
    return await site.in_database(lambda: _by_vector(site, question, vector))


def _by_vector(site: Site, question: Question, vector: np.ndarray) -> Answer:
    return site.instance.search_vector(
        vector, k=question.k, filters=question.filters, ef_search=question.ef_search, exact=question.exact
    )


def _by_text(site: Site, question: Question, text: str) -> Answer:
    return site.instance.search(
        text, k=question.k, filters=question.filters, ef_search=question.ef_search, exact=question.exact
    )


def vector_of(numbers: list[float]) -> np.ndarray:
    """The numbers of a request as (n,) float32. Raises QueryInvalid for one that float32 cannot hold."""
    with np.errstate(over="ignore"):
        vector = np.asarray(numbers, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise QueryInvalid(
            "the query vector holds a number that float32 cannot.", why="it is not finite, or beyond 3.4e38.",
            next_step="pass finite numbers of ordinary size.",
        )  # fmt: skip
    return vector


def vector_of_base64(text: str) -> np.ndarray:
    """The vector of an address: base64 (either alphabet) of little-endian float32, as OpenAI's `encoding_format=base64`.

    Raises QueryInvalid for what is none."""
    try:
        # In a query string + means a space, and padding is often left out.
        plain = text.strip().replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
        content = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        return np.frombuffer(content, dtype="<f4").astype(np.float32)
    except ValueError:
        raise QueryInvalid(
            "the query vector cannot be read.", why="it is not base64 of float32 numbers, 4 bytes each, little-endian.",
            next_step="encode it as OpenAI's encoding_format=base64 does, or POST it as a list of numbers.",
        ) from None  # fmt: skip
