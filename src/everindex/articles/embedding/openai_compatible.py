"""The embedding model behind an OpenAI-compatible endpoint; one bad text or response costs only itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from everindex.articles.embedding.checks import text_problem
from everindex.articles.embedding.endpoint import (
    BatchFailedError,
    Endpoint,
    EndpointUnusableError,
    RetryPolicy,
    TextsRefusedError,
)
from everindex.articles.embedding.provider import EmbeddingBatch, Vectors
from everindex.articles.embedding.response import ResponseUnusableError, read_response
from everindex.errors import EmbeddingModelUnusable

DEFAULT_MODEL = "text-embedding-3-small"
#: The widest vectors of the models that take `dimensions`. Source: OpenAI, "New embedding models and API updates".
SHORTENABLE = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
#: One request: at most 2,048 texts and 300,000 tokens (OpenAI API reference); small enough for a local server, too.
MAX_BATCH_TEXTS = 256
MAX_BATCH_CHARS = 200_000
#: 8,192 tokens, the window of text-embedding-3, are some 24,000 characters of European text; the rest is cut off.
MAX_TEXT_CHARS = 24_000
#: After so many refusals in a row, without a success between, the request itself is at fault and not one of the texts.
MAX_REFUSALS_IN_A_ROW = 64
#: After so many single texts in a row at which the server failed, it is asked for a text that it has answered before.
MAX_FAILED_TEXTS_IN_A_ROW = 3
#: So many requests of one call may fail on the server's side; each may take a time-out.
MAX_FAILED_REQUESTS = 100
#: After so many batches of a size that was found to work, twice as many texts are tried; after twice as many, when those fail.
BATCHES_UNTIL_LARGER = 32


class OpenAICompatibleEmbedder:
    """A model behind `POST {base_url}/embeddings`. Texts leave this machine; nothing is sent before `embed`."""

    is_remote = True

    def __init__(
        self,
        *,
        width: int,
        model_name: str = DEFAULT_MODEL,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_seconds: float = 30.0,
        retries: RetryPolicy | None = None,
    ) -> None:
        """`width` is the column's. Raises EmbeddingModelUnusable for a model known to be narrower than that."""
        widest = SHORTENABLE.get(model_name)
        if widest is not None and width > widest:
            raise EmbeddingModelUnusable(
                f"{model_name} cannot fill a column of {width} dimensions.",
                why=f"its vectors have at most {widest} dimensions.",
                next_step="set EMBEDDING_MODEL to a wider model or to `static`.",
            )
        self.dimensions = width
        self.model = f"openai-compatible/{model_name}@{width}"
        self._endpoint = Endpoint(
            model_name=model_name,
            dimensions=width if model_name.startswith("text-embedding-3-") else None,
            api_key=api_key,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
            retries=retries or RetryPolicy(),
        )
        self._size = _BatchSize()

    def __repr__(self) -> str:
        return f"OpenAICompatibleEmbedder(model={self.model!r})"

    def close(self) -> None:
        """Closes the connections to the endpoint; the next call opens others."""
        self._endpoint.close()

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        """`(len(texts), width)` float32. Every text without a usable vector is a failure; nothing is raised.

        When the endpoint as a whole fails (after the retries), the texts not yet sent fail with the same reason.
        """
        return _Run(self._endpoint, texts, self.dimensions, self._size).result()


class _BatchSize:
    """How many texts the endpoint takes at once, as far as is known. Of two threads that tell it something the last one wins:
    it costs a request, no text."""

    def __init__(self) -> None:
        self.texts = MAX_BATCH_TEXTS
        self._good = 0
        self._until_larger = BATCHES_UNTIL_LARGER

    def too_large(self, texts: int) -> None:
        """A batch of `texts` failed, and both its halves did not."""
        if self.texts < MAX_BATCH_TEXTS:
            self._until_larger *= 2
        self.texts, self._good = min(self.texts, max(1, texts // 2)), 0

    def good(self, texts: int) -> None:
        """A batch of `texts` was answered."""
        if texts < self.texts or self.texts == MAX_BATCH_TEXTS:
            return
        self._good += 1
        if self._good >= self._until_larger:
            self.texts, self._good = min(self.texts * 2, MAX_BATCH_TEXTS), 0


class _Run:
    """One call of `embed`: what has come so far."""

    def __init__(self, endpoint: Endpoint, texts: Sequence[str], width: int, size: _BatchSize) -> None:
        self._endpoint = endpoint
        self._texts = texts
        self._width = width
        self._size = size
        self._vectors: Vectors = np.full((len(texts), width), np.nan, dtype=np.float32)
        self._failures: dict[int, str] = {}
        self._refusals_in_a_row = 0
        self._failed_texts_in_a_row = 0
        self._failed_requests = 0
        self._answered: int | None = None
        self._given_up: str | None = None

    def result(self) -> EmbeddingBatch:
        sendable = []
        for row, text in enumerate(self._texts):
            if (reason := text_problem(text)) is None:
                sendable.append(row)
            else:
                self._failures[row] = reason
        for batch in _batches(sendable, self._texts):
            self._send(batch)
        return EmbeddingBatch.checked(self._vectors, width=self._width, failures=self._failures)

    def _send(self, rows: list[int], *, once: bool = False) -> bool:
        """Ask for the texts of `rows`, in as many requests as the endpoint is known to need; halve what it refuses or fails
        at until the text at fault stands alone. True when all of them were answered."""
        size = self._size.texts
        if len(rows) > size:
            parts = [self._send(rows[first : first + size], once=once) for first in range(0, len(rows), size)]
            return all(parts)
        if self._given_up is not None:
            self._fail(rows, self._given_up)
            return False
        # Of what is known to fail at many texts, fewer are the better retry.
        once = once or (len(rows) > 1 and size < MAX_BATCH_TEXTS)
        try:
            self._ask(rows, once=once)
        except EndpointUnusableError as exc:
            self._give_up(str(exc))
            self._fail(rows, str(exc))
        except ResponseUnusableError as exc:
            self._fail(rows, str(exc))
        except TextsRefusedError as exc:
            return self._refused(rows, str(exc))
        except BatchFailedError as exc:
            return self._failed(rows, str(exc), once=once)
        else:
            self._size.good(len(rows))
            return True
        return False

    def _ask(self, rows: list[int], *, once: bool) -> None:
        """One request, and its answer kept. Raises what the endpoint and its answer raise."""
        body = self._endpoint.ask([self._texts[row][:MAX_TEXT_CHARS] for row in rows], once=once)
        received = read_response(body, count=len(rows), width=self._width)
        self._refusals_in_a_row = self._failed_texts_in_a_row = 0
        self._answered = rows[0]
        self._vectors[rows] = received.vectors
        self._failures |= {rows[place]: reason for place, reason in received.failures.items()}

    def _refused(self, rows: list[int], reason: str) -> bool:
        self._refusals_in_a_row += 1
        if self._refusals_in_a_row >= MAX_REFUSALS_IN_A_ROW:
            self._give_up(f"the endpoint refuses whatever it is sent: {reason}")
        return self._halve(rows, reason)

    def _failed(self, rows: list[int], reason: str, *, once: bool) -> bool:
        """The server failed at `rows`: too many, one that it cannot take, or it takes none at all."""
        self._failed_requests += 1
        if self._failed_requests >= MAX_FAILED_REQUESTS:
            self._give_up(reason)
        elif len(rows) == 1:
            self._failed_texts_in_a_row += 1
            if self._failed_texts_in_a_row >= MAX_FAILED_TEXTS_IN_A_ROW and not self._still_answers():
                self._give_up(reason)
        elif (
            not once and self._answered is None and not any(self._is_answered(row) for row in {rows[0]: 0, rows[-1]: 0})
        ):
            # Retried to no avail, and neither of two single texts passes.
            self._give_up(reason)
        return self._halve(rows, reason)

    def _halve(self, rows: list[int], reason: str) -> bool:
        if len(rows) == 1 or self._given_up is not None:
            self._fail(rows, reason)
            return False
        middle = len(rows) // 2
        first = self._send(rows[:middle], once=True)
        if self._send(rows[middle:], once=True) and first:
            self._size.too_large(len(rows))
        return False

    def _still_answers(self) -> bool:
        return self._answered is not None and self._is_answered(self._answered)

    def _is_answered(self, row: int) -> bool:
        """Asks once for a single text."""
        try:
            self._ask([row], once=True)
        except (EndpointUnusableError, ResponseUnusableError, TextsRefusedError, BatchFailedError):
            return False
        return True

    def _give_up(self, reason: str) -> None:
        self._given_up = self._given_up or reason

    def _fail(self, rows: list[int], reason: str) -> None:
        self._failures |= dict.fromkeys(rows, reason)


def _batches(rows: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """`rows` in order, in runs of bounded count and length."""
    batch: list[int] = []
    chars = 0
    for row in rows:
        size = min(len(texts[row]), MAX_TEXT_CHARS)
        if batch and (len(batch) == MAX_BATCH_TEXTS or chars + size > MAX_BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append(row)
        chars += size
    if batch:
        yield batch
