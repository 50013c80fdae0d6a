"""The choice of threads for a search: a database thread, and another one while an embedding endpoint is called.

How a request is searched is decided in `articles/search/service.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from everindex.articles.embedding import Embedder, embed_queries
from everindex.articles.model import Answer
from everindex.articles.search.query_vectors import NO_VECTOR, QueryVector, text_to_embed
from everindex.articles.search.request.search_request import SearchRequest, check_query
from everindex.articles.searchable import Searchable
from everindex.errors import EmbeddingModelUnrecorded, EmbeddingModelUnusable, EverindexError, QueryInvalid
from everindex.web.site import Site


async def answer(site: Site, request: SearchRequest, collection: Searchable | None = None) -> Answer:
    """The answer of the articles, or of another collection. Raises what `SearchService.answer` raises, and ServerBusy when no
    thread became free in time."""
    if (
        collection is not None
    ):  # its width is its own, and so is its model: an endpoint is asked in the database's thread
        searches = collection.searches
        return await site.in_database(lambda: searches.answer(request))
    query_vector = await _remote_vector(site, request) if request.is_embedded else None
    return await site.in_database(lambda: site.instance.searches.answer(request, query_vector))


async def answer_many(
    site: Site, request: SearchRequest, texts: Sequence[str], vectors: Sequence[np.ndarray] | None
) -> list[Answer]:
    """A semantic answer for each text, or for each vector if vectors are passed. Raises as `answer`."""
    queries: Sequence[str | np.ndarray] = vectors if vectors is not None else [check_query(text) for text in texts]
    if vectors is None:
        with suppress(
            EmbeddingModelUnrecorded, EmbeddingModelUnusable
        ):  # the service answers by words, or says why not
            embedder = await _embedder(site)
            if embedder.is_remote:
                await site.in_database(lambda: site.instance.query_embedder.require_one_model(embedder))
                cleaned = [str(query) for query in queries]
                queries = list(await site.in_embedding(lambda: embed_queries(embedder, cleaned)))
    found = queries
    return await site.in_database(lambda: site.instance.searches.answer_many(request, found))


async def _embedder(site: Site) -> Embedder:
    known = site.known_query_embedder
    return known if known is not None else await site.in_database(site.query_embedder)


async def _remote_vector(site: Site, request: SearchRequest) -> QueryVector | None:
    """The vector from an endpoint, or why there is none; None where the model runs in this process, or is unusable.

    Uses two threads in turn, so that neither a connection nor a database thread is held while the endpoint is
    called."""
    try:
        embedder = await _embedder(site)
        if not embedder.is_remote:
            return None
        text = text_to_embed(request)
        if isinstance(text, EverindexError):
            return text
        recent = site.instance.query_embedder.recent
        await site.in_database(lambda: site.instance.query_embedder.require_one_model(embedder))
        known = recent.known(embedder, text)
        return known if known is not None else await site.in_embedding(lambda: recent.vector(embedder, text))
    except EmbeddingModelUnusable:
        return None  # the service says so, or what keeps it from asking the model at all
    except NO_VECTOR as exc:
        return exc


def vector_of(numbers: list[float]) -> np.ndarray:
    """The numbers of a request as (n,) float32. Raises QueryInvalid for a number that float32 cannot represent."""
    with np.errstate(over="ignore"):
        vector = np.asarray(numbers, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise QueryInvalid(
            "the query vector contains a number that float32 cannot represent.", why="it is not finite, or beyond "
            "3.4e38.",
            next_step="pass finite numbers of ordinary size.",
        )  # fmt: skip
    return vector


def vector_of_base64(text: str) -> np.ndarray:
    """The vector in a URL: base64 (either alphabet) of little-endian float32, like OpenAI's `encoding_format=base64`.

    Raises QueryInvalid for anything else."""
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
