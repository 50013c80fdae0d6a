"""The embedding model on this machine: an ONNX model, or one of sentence-transformers, carried to the column's width.

Its recorded name is `local/KIND-WIDTH@DIGEST`: the digest is of the weights, the tokenizer and what else decides a document's
vector, not of the directory's path: two processes with the same files can write to and search one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from everindex.articles.embedding.checks import text_problem
from everindex.articles.embedding.isometry import orthonormal_map
from everindex.articles.embedding.local import onnx, torch
from everindex.articles.embedding.local.configuration import ModelConfiguration, Pooling, read_configuration
from everindex.articles.embedding.local.files import ModelFiles, find
from everindex.articles.embedding.local.prompts import Prompts, prompts_of
from everindex.articles.embedding.provider import EmbeddingBatch, Vectors
from everindex.errors import EmbeddingModelUnusable

#: An output that is pooled already.
SENTENCE_OUTPUT = "sentence_embedding"
#: Token vectors, by the names that exporters give them.
TOKEN_OUTPUTS = ("last_hidden_state", "token_embeddings")


class LocalEmbedder:
    """A model on this machine. Remote: never. Safe to share between threads."""

    is_remote = False

    def __init__(
        self, name: str, *, width: int | None, query_prompt: str | None = None, document_prompt: str | None = None
    ) -> None:
        """Finds the model and reads its configuration; loads it only where that does not state a width.

        `width` is the column's; None takes the model's own, as do prompts that are None. Raises EmbeddingModelUnusable.
        """
        self._files = find(name, variable="EMBEDDING_MODEL")
        self._configuration = read_configuration(self._files.folder)
        self.prompts: Prompts = prompts_of(self._configuration, name, query=query_prompt, document=document_prompt)
        self._encoder = _encoder_of(self._files, self._configuration)
        inner = self._encoder.width
        width = inner if width is None else width
        self.dimensions = width
        if inner > width:
            raise EmbeddingModelUnusable(
                f"the model {name} cannot fill a column of {width} dimensions.",
                why=f"its vectors have {inner} dimensions, and no map to fewer dimensions preserves their distances.",
                next_step=f"choose a model of at most {width} dimensions, or set EVERINDEX_DIMENSIONS to {inner} or "
                f"more before "
                "the table is made.",
            )
        self._map = orthonormal_map(width, inner) if inner < width else None

    def __repr__(self) -> str:
        return f"LocalEmbedder({self._files.name!r}, width={self.dimensions})"

    @cached_property
    def model(self) -> str:
        """The recorded name. Reads the weights once in a process."""
        configuration, inner = self._configuration, self._encoder.width
        settings = repr((self._encoder.kind, self._encoder.max_tokens, configuration.pooling, self.prompts.document))
        carried = f"+map{self.dimensions}" if self._map is not None else ""
        return f"local/{configuration.kind}-{inner}@{self._files.digest(settings)}{carried}"

    @property
    def max_tokens(self) -> int:
        """How many tokens of a document the model reads, besides special ones and the prompt. Loads the model."""
        prompt = len(self.token_spans(self.prompts.document)) if self.prompts.document else 0
        return max(1, self._encoder.max_tokens - self._encoder.special_tokens - prompt)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """The model's tokens of a text of any length, as (start, end) in characters. Loads the tokenizer."""
        return self._encoder.spans(text)

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        """`(len(texts), dimensions)` float32 of length 1, of documents."""
        return self._embed(texts, prompt=self.prompts.document, is_query=False)

    def embed_queries(self, texts: Sequence[str]) -> EmbeddingBatch:
        """The same of search texts, which some models want another prompt for."""
        return self._embed(texts, prompt=self.prompts.query, is_query=True)

    def _embed(self, texts: Sequence[str], *, prompt: str, is_query: bool) -> EmbeddingBatch:
        vectors: Vectors = np.full((len(texts), self.dimensions), np.nan, dtype=np.float32)
        failures = {row: reason for row, text in enumerate(texts) if (reason := text_problem(text)) is not None}
        rows = [row for row in range(len(texts)) if row not in failures]
        truncated: frozenset[int] = frozenset()
        if rows:
            try:
                inner, cut = self._encoder.encode([prompt + texts[row] for row in rows], is_query=is_query)
            except Exception as exc:  # the promise of `embed`: what a runtime does with a text is a reason
                why = exc.why.rstrip(".") if isinstance(exc, EmbeddingModelUnusable) else _reason(exc)
                failures |= dict.fromkeys(rows, why)
            else:
                vectors[rows] = _carried(inner, self._map)
                truncated = frozenset(row for row, is_cut in zip(rows, cut, strict=True) if is_cut)
        return EmbeddingBatch.checked(vectors, width=self.dimensions, failures=failures, truncated=truncated)


class OnnxEncoder:
    """Sentence vectors of an ONNX model: its own, or pooled from its token vectors as its directory says."""

    kind = "onnx"

    def __init__(self, files: ModelFiles, configuration: ModelConfiguration) -> None:
        self._files = files
        self._pooling = configuration.pooling
        self.max_tokens = configuration.max_tokens
        self.width = configuration.width or self._width()

    @property
    def special_tokens(self) -> int:
        return self._model.special_tokens

    @property
    def _model(self) -> onnx.OnnxTransformer:
        return onnx.loaded(self._files, max_tokens=self.max_tokens)

    def spans(self, text: str) -> list[tuple[int, int]]:
        return self._model.spans(text)

    def encode(self, texts: Sequence[str], *, is_query: bool) -> tuple[npt.NDArray[np.float32], list[bool]]:
        model = self._model
        names = [SENTENCE_OUTPUT, *TOKEN_OUTPUTS]
        wanted = next((name for name in names if name in model.output_shapes), None)
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        cut = [False] * len(texts)
        for batch in model.run(texts, wanted=wanted):
            pooled = (
                batch.output if batch.output.ndim == 2 else pool(batch.output, batch.mask, self._required_pooling())
            )
            vectors[batch.rows] = pooled
            for row, is_cut in zip(batch.rows, batch.cut, strict=True):
                cut[row] = is_cut
        return vectors, cut

    def _width(self) -> int:
        shapes = self._model.output_shapes
        last = next((shape[-1] for name, shape in shapes.items() if name in (SENTENCE_OUTPUT, *TOKEN_OUTPUTS)), None)
        if not isinstance(last, int):
            raise EmbeddingModelUnusable(
                f"the model {self._files.name} does not state the width of its vectors.",
                why=f"{self._files.folder / 'config.json'} has no hidden_size, and the ONNX model no fixed width.",
                next_step="copy the model's config.json beside it.",
            )
        return last

    def _required_pooling(self) -> Pooling:
        if self._pooling is None:
            raise EmbeddingModelUnusable(
                f"the model {self._files.name} gives a vector for each token, and does not state how to pool them.",
                why=f"{self._files.folder} has no 1_Pooling/config.json. A wrong guess would give vectors that mean "
                f"little.",
                next_step='write there {"pooling_mode": "mean"} or {"pooling_mode": "cls"}, whichever the model\'s page says.',
            )
        return self._pooling


class _TorchSentences:
    """The same by sentence-transformers, loaded at its first use."""

    kind = "sentence-transformers"

    def __init__(self, files: ModelFiles, configuration: ModelConfiguration) -> None:
        self._files = files
        # Its modules may change the width, so that config.json alone does not say it.
        self.width = self._model.width
        self.max_tokens = self._model.max_tokens

    @property
    def special_tokens(self) -> int:
        return self._model.special_tokens

    @property
    def _model(self) -> torch.TorchEncoder:
        return torch.loaded_encoder(self._files)

    def spans(self, text: str) -> list[tuple[int, int]]:
        return self._model.spans(text)

    def encode(self, texts: Sequence[str], *, is_query: bool) -> tuple[npt.NDArray[np.float32], list[bool]]:
        return self._model.encode(texts, is_query=is_query)


def _encoder_of(files: ModelFiles, configuration: ModelConfiguration) -> OnnxEncoder | _TorchSentences:
    if files.onnx is None or configuration.other_modules:
        return _TorchSentences(files, configuration)
    return OnnxEncoder(files, configuration)


def pool(tokens: npt.NDArray[np.float32], mask: npt.NDArray[np.int64], how: Pooling) -> npt.NDArray[np.float32]:
    """`(n, tokens, width)` and `(n, tokens)` → `(n, width)`. Source: sentence-transformers, models/Pooling.py."""
    weights = mask[..., None].astype(np.float32)
    counts = np.maximum(weights.sum(axis=1), 1.0)
    match how:
        case "cls":
            return tokens[:, 0]
        case "lasttoken":
            last = np.maximum(mask.sum(axis=1) - 1, 0)
            found: npt.NDArray[np.float32] = tokens[np.arange(len(tokens)), last]
            return found
        case "max":
            largest: npt.NDArray[np.float32] = np.where(weights > 0, tokens, -np.inf).max(axis=1)
            return largest
        case "mean":
            return np.asarray((tokens * weights).sum(axis=1) / counts, dtype=np.float32)
        case "mean_sqrt_len_tokens":
            return np.asarray((tokens * weights).sum(axis=1) / np.sqrt(counts), dtype=np.float32)


def _carried(inner: npt.NDArray[np.float32], to_width: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """Of length 1, in the column's width; a zero stays zero, and the check refuses it."""
    norms = np.linalg.norm(inner.astype(np.float64), axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = (inner / np.where(norms == 0, 1.0, norms)).astype(np.float32)
    if to_width is None:
        return unit
    wide: npt.NDArray[np.float32] = np.matmul(unit, to_width.T)
    return wide


def _reason(exc: Exception) -> str:
    return f"the model failed: {' '.join(str(exc).split())[:200].rstrip('.')} ({type(exc).__name__})"
