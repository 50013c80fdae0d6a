"""The embedding model behind an OpenAI-compatible endpoint; a bad text or response affects only itself."""

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
#: The widest vectors of the models that accept `dimensions`. Source: OpenAI, "New embedding models and API updates".
SHORTENABLE = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
#: OpenAI accepts 2,048 texts and 300,000 tokens per request (API reference); these limits suit a local server too.
MAX_BATCH_TEXTS = 256
MAX_BATCH_CHARS = 200_000
#: 8,192 tokens, the window of text-embedding-3, are about 24,000 characters of European text; the rest is cut off.
MAX_TEXT_CHARS = 24_000
#: After this many consecutive refusals the request itself is considered at fault, not one of the texts.
MAX_REFUSALS_IN_A_ROW = 64
#: After this many consecutive failures on single texts, the server is tested with a text that it has answered before.
MAX_FAILED_TEXTS_IN_A_ROW = 3
#: How many requests of one call may fail on the server's side; each may take a timeout.
MAX_FAILED_REQUESTS = 100
#: After this many successful batches of a reduced size, twice as many texts are tried; when that fails, after twice as
#: many batches.
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
        """`width` is that of the column. Raises EmbeddingModelUnusable for a model known to be narrower."""
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
        """`(len(texts), width)` float32. Every text without a usable vector is in `failures`; raises nothing.

        When the endpoint as a whole fails (after the retries), the texts not yet sent fail with the same reason.
        """
        return _Run(self._endpoint, texts, self.dimensions, self._size).result()


class _BatchSize:
    """The largest batch that the endpoint is known to accept. Between two threads the last update wins, which at worst
    costs one request and no text."""

    def __init__(self) -> None:
        self.texts = MAX_BATCH_TEXTS
        self._good = 0
        self._until_larger = BATCHES_UNTIL_LARGER

    def too_large(self, texts: int) -> None:
        """Notes that a batch of `texts` failed while both its halves succeeded."""
        if self.texts < MAX_BATCH_TEXTS:
            self._until_larger *= 2
        self.texts, self._good = min(self.texts, max(1, texts // 2)), 0

    def good(self, texts: int) -> None:
        """Notes that a batch of `texts` was answered."""
        if texts < self.texts or self.texts == MAX_BATCH_TEXTS:
            return
        self._good += 1
        if self._good >= self._until_larger:
            self.texts, self._good = min(self.texts * 2, MAX_BATCH_TEXTS), 0


class _Run:
    """The state of one call of `embed`."""

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
        """Sends the texts of `rows` in requests of the accepted size, and halves a refused or failed batch until the
        bad text is alone. True when all were answered."""
        size = self._size.texts
        if len(rows) > size:
            parts = [self._send(rows[first : first + size], once=once) for first in range(0, len(rows), size)]
            return all(parts)
        if self._given_up is not None:
            self._fail(rows, self._given_up)
            return False
        # Where large batches are known to fail, a smaller batch is the better retry.
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
        """Sends one request and keeps its vectors. Raises what the endpoint and the response parser raise."""
        body = self._endpoint.ask([self._texts[row][:MAX_TEXT_CHARS] for row in rows], once=once)
        received = read_response(body, count=len(rows), width=self._width)
        self._refusals_in_a_row = self._failed_texts_in_a_row = 0
        self._answered = rows[0]
        self._vectors[rows] = received.vectors
        self._failures |= {rows[place]: reason for place, reason in received.failures.items()}

    def _refused(self, rows: list[int], reason: str) -> bool:
        self._refusals_in_a_row += 1
        if self._refusals_in_a_row >= MAX_REFUSALS_IN_A_ROW:
            self._give_up(f"the endpoint refuses every request: {reason}")
        return self._halve(rows, reason)

    def _failed(self, rows: list[int], reason: str, *, once: bool) -> bool:
        """Handles a server failure on `rows`: too many, one that the server cannot process, or an outage."""
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
            # Retries failed, and neither of two single texts succeeded.
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
        """Sends a single text once."""
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
    """`rows` in order, in batches of limited count and length."""
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
