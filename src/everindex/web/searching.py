"""How is a search of the web answered? A ready vector in one thread hop; a text by whichever model embeds it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from everindex.articles.embedding import Embedder, embed_queries
from everindex.articles.meanings import check_query
from everindex.articles.model import DEFAULT_MODE, Answer, Mode
from everindex.articles.search.hybrid import NO_MEANING, Meaning, text_to_embed
from everindex.articles.searches import Options
from everindex.errors import (
    EmbeddingModelUnrecorded,
    EmbeddingModelUnusable,
    EverindexError,
    QueryInapplicable,
    QueryInvalid,
)
from everindex.web.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A search as it was asked: a text or a ready vector ((dim,) float32), with its bounds."""

    text: str | None = None
    vector: np.ndarray | None = None
    mode: Mode | None = None
    """None: DEFAULT_MODE for a text; a vector is searched by meaning, and cannot be otherwise."""

    options: Options = field(default_factory=Options)


async def answer(site: Site, question: Question) -> Answer:
    """Raises what `Instance.search` raises, and ServerBusy or EmbeddingFailed when no place became free in time."""
    if question.vector is not None:
        given = question.vector
        if question.mode not in (None, "semantic"):
            raise QueryInapplicable(
                f"a vector cannot be searched in mode {question.mode}.", why="it has a meaning and no words.",
                next_step="leave the mode out, or send a text.",
            )  # fmt: skip
        return await site.in_database(lambda: site.instance.answer_vector(given, question.options))
    if not (question.text or "").strip() and not question.options.filters.is_empty:
        return await site.in_database(lambda: site.instance.answer_filters(question.options))
    text = check_query(question.text or "")
    match question.mode or DEFAULT_MODE:
        case "keyword":
            return await site.in_database(lambda: site.instance.answer_text(text, "keyword", question.options))
        case "hybrid":
            return await _by_both(site, text, question.options)
        case "semantic":
            try:
                embedder = await _embedder(site)
                vector = await _remote_vector(site, embedder, text) if embedder.is_remote else None
            except (EmbeddingModelUnrecorded, EmbeddingModelUnusable):
                vector = None  # `answer_text` answers by words where the table's model is not known
            if vector is None:
                return await site.in_database(lambda: site.instance.answer_text(text, "semantic", question.options))
            return await site.in_database(lambda: site.instance.answer_vector(vector, question.options, text=text))


async def _by_both(site: Site, text: str, options: Options) -> Answer:
    """Words answer alone where the text gets no vector."""
    meaning: Meaning
    try:
        embedder = await _embedder(site)
        if not embedder.is_remote:
            return await site.in_database(lambda: site.instance.answer_text(text, "hybrid", options))
        wanted = text_to_embed(text)
        meaning = wanted if isinstance(wanted, EverindexError) else await _remote_vector(site, embedder, wanted)
    except NO_MEANING as exc:
        meaning = exc
    return await site.in_database(lambda: site.instance.answer_both(text, meaning, options.checked()))


async def _embedder(site: Site) -> Embedder:
    known = site.known_query_embedder
    return known if known is not None else await site.in_database(site.query_embedder)


async def _remote_vector(site: Site, embedder: Embedder, text: str) -> np.ndarray:
    """Two hops, so that neither a connection nor a database thread is held while the endpoint thinks."""
    recent = site.instance.meanings.recent
    await site.in_database(lambda: site.instance.meanings.require_one_model(embedder))
    known = recent.known(embedder, text)
    return known if known is not None else await site.in_embedding(lambda: recent.vector(embedder, text))


async def answer_many(
    site: Site, texts: Sequence[str], vectors: Sequence[np.ndarray] | None, options: Options
) -> list[Answer]:
    """An answer by meaning for each text, or for each vector where they are given. Raises as `answer`."""
    instance = site.instance
    if vectors is None:
        cleaned = [check_query(text) for text in texts]
        remote: Embedder | None = None
        with suppress(EmbeddingModelUnrecorded, EmbeddingModelUnusable):  # as in `answer`
            embedder = await _embedder(site)
            if embedder.is_remote:
                await site.in_database(lambda: instance.meanings.require_one_model(embedder))
                remote = embedder
        if remote is None:
            return await site.in_database(lambda: instance.answer_many(cleaned, options))
        asked = remote
        vectors = list(await site.in_embedding(lambda: embed_queries(asked, cleaned)))
    found = vectors
    return await site.in_database(lambda: instance.answer_many(found, options))


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
