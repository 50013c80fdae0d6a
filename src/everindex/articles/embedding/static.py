"""The static embedding model included in the wheel: it needs no key, network or torch.

The files are in the format of model2vec and give the same vectors as model2vec (a test compares them), but are read
here: `import model2vec` would add joblib and huggingface_hub, a fifth of a second and a client of a model hub, to
compute a sum of rows. The rows are int8, so their sum is exact: a text has the same vector in every batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from everindex.articles.embedding.checks import text_problem
from everindex.articles.embedding.isometry import orthonormal_map
from everindex.articles.embedding.provider import EmbeddingBatch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_FOLDER = Path(__file__).parent / "static_model"
MODEL_DIMENSIONS = 256
#: Increased whenever the files in `static_model/` or the arithmetic below change a vector.
MODEL_VERSION = 1
#: A text is cut after this many characters and then tokens; the rest does not affect its vector.
MAX_CHARS = 8_000
MAX_TOKENS = 512
#: Texts and characters per pass: together they limit the memory of tokens and gathered rows to about 30 MB.
PASS_TEXTS = 512
PASS_CHARS = 200_000

_loading = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticModel:
    """The files in memory, 8 MB of rows and the tokenizer: read-only, shared by all threads."""

    rows: npt.NDArray[np.int8]
    """`(tokens, 256)`, all with the same scale, which does not affect the direction."""

    tokenizer: Tokenizer
    unknown: frozenset[int]
    """Tokens without meaning: the unknown token and the padding."""


def static_model() -> StaticModel:
    """The model, read once from the package's files at the first call (about 0.1 s)."""
    with _loading:
        return read_model()


@lru_cache(maxsize=1)
def read_model() -> StaticModel:
    """Reads them once in a process; for threads of their own see `static_model`."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL_FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    unknown = frozenset(
        number for number in (tokenizer.token_to_id("[UNK]"), tokenizer.token_to_id("[PAD]")) if number is not None
    )
    rows = load_file(MODEL_FOLDER / "model.safetensors")["embeddings"]
    return StaticModel(rows=rows, tokenizer=tokenizer, unknown=unknown)


@lru_cache(maxsize=1)
def _uncut_tokenizer() -> Tokenizer:
    """The tokenizer without MAX_TOKENS, for whoever counts the tokens of long texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODEL_FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


class StaticEmbedder:
    """The static model, its vectors mapped to a column of `width` dimensions. Never remote."""

    is_remote = False

    @property
    def is_instant(self) -> bool:
        """True once the model is in memory: a search text then takes some 0.1 ms."""
        return read_model.cache_info().currsize > 0

    def __init__(self, *, width: int) -> None:
        """Does not read the files yet. Raises EmbeddingModelUnusable for a column narrower than the model."""
        self.dimensions = width
        self.model = f"everindex/all-minilm-l6-v2-static-{MODEL_DIMENSIONS}@{MODEL_VERSION}+map{width}"
        self._map = orthonormal_map(width, MODEL_DIMENSIONS)

    def __repr__(self) -> str:
        return f"StaticEmbedder(width={self.dimensions})"

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text count."""
        return MAX_TOKENS

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """The tokens of a text of any length, as (start, end) in characters."""
        return list(_uncut_tokenizer().encode(text, add_special_tokens=False).offsets)

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        """`(len(texts), width)` float32 of length 1; a text without a known token is a failure."""
        vectors = np.full((len(texts), self.dimensions), np.nan, dtype=np.float32)
        failures: dict[int, str] = {}
        for start, stop in _passes(texts):
            inner, reasons = _directions(texts[start:stop])
            np.matmul(inner, self._map.T, out=vectors[start:stop])
            failures |= {start + row: reason for row, reason in reasons.items()}
        return EmbeddingBatch.checked(vectors, width=self.dimensions, failures=failures)


def _passes(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Slices `start:stop` of the texts, in order, of limited count and length."""
    start = chars = 0
    for stop, text in enumerate(texts):
        size = min(len(text), MAX_CHARS) if isinstance(text, str) else 0
        if stop > start and (stop - start == PASS_TEXTS or chars + size > PASS_CHARS):
            yield start, stop
            start, chars = stop, 0
        chars += size
    if len(texts) > start:
        yield start, len(texts)


def _directions(texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """The `(n, 256)` float32 directions of the texts before the map (zero for failures), and the failures."""
    model = static_model()
    failures = {row: reason for row, text in enumerate(texts) if (reason := text_problem(text)) is not None}
    readable = [row for row in range(len(texts)) if row not in failures]
    encodings = model.tokenizer.encode_batch_fast(
        [texts[row][:MAX_CHARS] for row in readable], add_special_tokens=False
    )
    rows: list[int] = []
    tokens: list[int] = []
    starts: list[int] = []
    for row, encoding in zip(readable, encodings, strict=True):
        known = [token for token in encoding.ids if token not in model.unknown]
        if not known:
            failures[row] = "the text has no word that the static model knows"
            continue
        rows.append(row)
        starts.append(len(tokens))
        tokens += known
    directions = np.zeros((len(texts), MODEL_DIMENSIONS), dtype=np.float32)
    if rows:
        sums = np.add.reduceat(model.rows[tokens], starts, axis=0, dtype=np.int32).astype(np.float64)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        directions[rows] = sums / np.where(norms == 0, 1.0, norms)  # a zero stays zero, and the check refuses it
    return directions, failures
