"""How are texts embedded by an OpenAI-compatible endpoint, so that one bad text or answer costs only itself?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from everindex.articles.embedding.checks import text_problem
from everindex.articles.embedding.endpoint import Endpoint, EndpointUnusableError, RetryPolicy, TextsRefusedError
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

    def __repr__(self) -> str:
        return f"OpenAICompatibleEmbedder(model={self.model!r})"

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        """`(len(texts), width)` float32. Every text without a usable vector is a failure; nothing is raised.

        When the endpoint as a whole fails (after the retries), the texts not yet sent fail with the same reason.
        """
        return _Run(self._endpoint, texts, self.dimensions).result()


class _Run:
    """One call of `embed`: what has come so far."""

    def __init__(self, endpoint: Endpoint, texts: Sequence[str], width: int) -> None:
        self._endpoint = endpoint
        self._texts = texts
        self._width = width
        self._vectors: Vectors = np.full((len(texts), width), np.nan, dtype=np.float32)
        self._failures: dict[int, str] = {}
        self._refusals_in_a_row = 0
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

    def _send(self, rows: list[int]) -> None:
        """Ask for the texts of `rows`; halve what is refused until the text at fault stands alone."""
        if self._given_up is not None:
            self._fail(rows, self._given_up)
            return
        try:
            body = self._endpoint.ask([self._texts[row][:MAX_TEXT_CHARS] for row in rows])
            received = read_response(body, count=len(rows), width=self._width)
        except EndpointUnusableError as exc:
            self._given_up = str(exc)
            self._fail(rows, self._given_up)
        except ResponseUnusableError as exc:
            self._fail(rows, str(exc))
        except TextsRefusedError as exc:
            self._refused(rows, str(exc))
        else:
            self._refusals_in_a_row = 0
            self._vectors[rows] = received.vectors
            self._failures |= {rows[place]: reason for place, reason in received.failures.items()}

    def _refused(self, rows: list[int], reason: str) -> None:
        self._refusals_in_a_row += 1
        if self._refusals_in_a_row >= MAX_REFUSALS_IN_A_ROW:
            self._given_up = f"the endpoint refuses whatever it is sent: {reason}"
        if len(rows) == 1:
            self._fail(rows, reason)
            return
        middle = len(rows) // 2
        self._send(rows[:middle])
        self._send(rows[middle:])

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
