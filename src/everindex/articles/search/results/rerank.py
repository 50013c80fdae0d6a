"""Re-ranking: the first candidates of any search by a text, put in the order of a cross-encoder.

A cross-encoder reads the query and the article together. It orders better than distances and words do, and costs milliseconds for
each candidate, so it reads only those that a search has found. If it fails, the answer is that of the search, and says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from everindex.articles.embedding.choose import LOCAL_PREFIX
from everindex.articles.embedding.local.cross_encoder import CrossEncoder
from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.query_vectors import text_to_embed
from everindex.articles.search.request.search_request import SearchRequest
from everindex.articles.shape.hit import Hit
from everindex.errors import EmbeddingModelUnusable, EverindexError, QueryInapplicable
from everindex.pg import waiting
from everindex.settings import Settings

log = logging.getLogger("everindex.search")


class Reranker:
    """The cross-encoder of one instance; safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        """Loads nothing."""
        self._name = (settings.rerank_model or "").strip().removeprefix(LOCAL_PREFIX).strip()
        self.candidates = settings.rerank if self._name else 0
        """How many candidates are re-ranked where a request does not say it."""

        self._model: CrossEncoder | None = None
        self._loading = threading.Lock()

    def answer(self, request: SearchRequest, search: Callable[[SearchRequest], Answer]) -> Answer:
        """The answer of `search`, re-ranked where the request or the settings ask for it.

        Raises QueryInapplicable where a request asks for it and the settings name no model, and what `search` raises.
        """
        candidates = self._wanted(request)
        if not candidates:
            return search(request)
        started = time.perf_counter()
        found = search(replace(request, k=min(max(request.k, candidates), MAX_K), rerank=0))
        if not found.hits:
            return replace(found, k=request.k)
        try:
            answer = waiting.beside(lambda: self._ordered(request, found, candidates))
        except Exception as exc:  # a model's failure must not cost the answer, whatever library it comes from
            log.warning("re-ranking failed: %s", exc, extra={"event": "rerank-failed"})
            notice = f"not re-ranked: {_told(exc)}"
            answer = replace(
                found,
                hits=found.hits[: request.k],
                k=request.k,
                notices=[*found.notices, notice],
                more=None,
                cursor_after=None,
            )
        return replace(answer, elapsed_ms=(time.perf_counter() - started) * 1000)

    def _wanted(self, request: SearchRequest) -> int:
        """How many candidates are re-ranked; 0 where none are."""
        if request.rerank is None:
            # The settings re-rank what can be re-ranked; pages after the first continue in the order of the search.
            applies = request.text is not None and request.after is None and request.diversity is None
            return self.candidates if applies else 0
        if request.rerank and not self._name:
            raise QueryInapplicable(
                "the answer cannot be re-ranked.",
                why="no cross-encoder is configured: EVERINDEX_RERANK_MODEL is not set.",
                next_step="set EVERINDEX_RERANK_MODEL to local: and the directory or name of one, or leave rerank out.",
            )
        return request.rerank

    def _ordered(self, request: SearchRequest, found: Answer, candidates: int) -> Answer:
        model = self._loaded()
        text = text_to_embed(request)
        if isinstance(text, EverindexError):
            raise text
        first, rest = found.hits[:candidates], found.hits[candidates:]
        scores = model.scores(text, [text_of(hit) for hit in first])
        if not np.isfinite(scores).all():
            raise ValueError("the model gave a score that is not a finite number")
        # Stable: equal scores stay in the order of the search.
        order = np.argsort(-scores, kind="stable")
        hits = [replace(first[number], rerank_score=float(scores[number])) for number in order]
        return replace(
            found,
            hits=[*hits, *rest][: request.k],
            k=request.k,
            reranked=len(first),
            reranked_by=model.name,
            more=None,
            cursor_after=None,
        )

    def _loaded(self) -> CrossEncoder:
        with self._loading:
            if self._model is None:
                self._model = CrossEncoder(self._name)
            return self._model


def text_of(hit: Hit) -> str:
    """What the model reads of a row: its text columns, and the passage of its whole text that answers best."""
    return joined_text(hit.texts if hit.passage is None else (*hit.texts, hit.passage.text))


def joined_text(texts: Sequence[str | None]) -> str:
    """The texts of a row as one, without a title that the text after it repeats."""
    parts = [text.strip() for text in texts if text and text.strip()]
    return "\n\n".join(
        part for part, following in zip(parts, [*parts[1:], ""], strict=True) if not following.startswith(part)
    )


def _told(exc: Exception) -> str:
    if isinstance(exc, EmbeddingModelUnusable):
        return f"{exc.what} {exc.why[:1].upper()}{exc.why[1:]}".rstrip(".")
    return f"the cross-encoder failed: {' '.join(str(exc).split())[:200].rstrip('.')} ({type(exc).__name__})"
