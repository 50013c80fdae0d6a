"""A transformer run by ONNX Runtime: texts, or pairs of texts, in; the model's output out.

Batches are bounded in tokens, and padded to their longest text. Results do not depend on the batch but for rounding, and for
models whose activations are quantised with one scale for the whole batch. Safe to share between threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from everindex.articles.embedding.local.files import ModelFiles
from everindex.errors import EmbeddingModelUnusable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

#: Texts in a batch, and tokens with the padding. all-MiniLM-L6-v2 takes a third less processor time than with 8,192 tokens, since
#: the activations stay in the caches, and 0.4 GB instead of 0.9 (1,024 texts of the sample, two cores).
BATCH_TEXTS = 64
BATCH_TOKENS = 2_048
#: Characters of a text that are tokenised at all, for each token of the window: the longest words of any script are shorter.
CHARS_PER_TOKEN = 40
#: Inputs of transformers that are filled; a model that needs another one is refused.
KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
#: Models in memory at once: one that embeds, one that ranks again, and one of each that replaces it.
KEPT_MODELS = 4

_loading = threading.Lock()

Texts = Sequence[str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutput:
    """What the model gave for some of the texts."""

    rows: list[int]
    """Which ones."""

    output: npt.NDArray[np.float32]
    """`(len(rows), …)`: the model's output of the wanted name, else its first."""

    mask: npt.NDArray[np.int64]
    """`(len(rows), tokens)`: 1 for a token of the text, 0 for padding."""

    cut: list[bool]
    """Of which texts the model read the beginning alone."""


class OnnxTransformer:
    """One model in memory. Raises EmbeddingModelUnusable for files that cannot be run."""

    def __init__(self, files: ModelFiles, *, max_tokens: int) -> None:
        assert files.onnx is not None
        self._session = _session(files.onnx)
        self._inputs = {each.name: each.type for each in self._session.get_inputs()}
        unknown = set(self._inputs) - KNOWN_INPUTS
        if unknown or "input_ids" not in self._inputs:
            raise EmbeddingModelUnusable(
                f"the model {files.name} cannot be run.",
                why=f"its inputs are {', '.join(self._inputs)}; those of a text model are {', '.join(sorted(KNOWN_INPUTS))}.",
                next_step="export it with a program that keeps these names, as  optimum-cli export onnx  does.",
            )
        self._files = files
        self._tokenizer, self._pad_id = _tokenizer(files)
        self._tokenizer.enable_truncation(max_tokens)
        self._max_tokens = max_tokens
        self.output_shapes: dict[str, list[Any]] = {each.name: each.shape for each in self._session.get_outputs()}
        """Name → shape, numbers and names of dimensions."""

    @property
    def max_tokens(self) -> int:
        """Tokens of an input, special ones included."""
        return self._max_tokens

    @property
    def special_tokens(self) -> int:
        """How many tokens the model adds to one text."""
        return int(self._tokenizer.num_special_tokens_to_add(False))

    @cached_property
    def _uncut(self) -> Tokenizer:
        return _tokenizer(self._files)[0]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """The tokens of a whole text without special ones, as (start, end) in characters."""
        return [(start, end) for start, end in self._uncut.encode(text, add_special_tokens=False).offsets]

    def run(self, texts: Texts, *, wanted: str | None = None) -> Iterator[BatchOutput]:
        """The model's output for every text or pair, in batches of texts of similar length."""
        longest = self._max_tokens * CHARS_PER_TOKEN
        shortened = [
            text[:longest] if isinstance(text, str) else (text[0][:longest], text[1][:longest]) for text in texts
        ]
        encodings = self._tokenizer.encode_batch_fast(shortened)
        names = [wanted] if wanted in self.output_shapes else [next(iter(self.output_shapes))]
        for rows in _batches([len(encoding) for encoding in encodings]):
            batch = [encodings[row] for row in rows]
            feed, mask = self._feed(batch)
            output = np.asarray(self._session.run(names, feed)[0], dtype=np.float32)
            cut = [bool(one.overflowing) or _length(texts[row]) > longest for row, one in zip(rows, batch, strict=True)]
            yield BatchOutput(rows=rows, output=output, mask=mask, cut=cut)

    def _feed(self, batch: Sequence[Encoding]) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.int64]]:
        width = max(1, max(len(encoding) for encoding in batch))
        values = {name: np.zeros((len(batch), width), dtype=np.int64) for name in KNOWN_INPUTS}
        values["input_ids"][:] = self._pad_id
        values["position_ids"][:] = np.arange(width)
        for row, encoding in enumerate(batch):
            values["input_ids"][row, : len(encoding)] = encoding.ids
            values["token_type_ids"][row, : len(encoding)] = encoding.type_ids
            values["attention_mask"][row, : len(encoding)] = 1
        feed = {
            name: values[name].astype(np.int32) if kind == "tensor(int32)" else values[name]
            for name, kind in self._inputs.items()
        }
        return feed, values["attention_mask"]


def loaded(files: ModelFiles, *, max_tokens: int) -> OnnxTransformer:
    """The model in memory: loaded at the first call (a second for 90 MB), in one thread, then shared by the process."""
    assert files.onnx is not None
    state = files.onnx.stat()
    with _loading:
        return _load(files, max_tokens, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=KEPT_MODELS)
def _load(files: ModelFiles, max_tokens: int, size: int, changed: int) -> OnnxTransformer:
    return OnnxTransformer(files, max_tokens=max_tokens)


def _session(path: Path) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise EmbeddingModelUnusable(
            f"the model {path} cannot be run.",
            why="onnxruntime is not installed here.",
            next_step="run  pip install 'everindex[local]'.",
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: what it warns of is about its own optimisations
    # Its threads would spin while they wait, a third of the processor time, beside a database that needs it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Of a pattern for every shape that has come: texts have all lengths.
    options.enable_mem_pattern = False
    usable = set(onnxruntime.get_available_providers())
    providers = [one for one in ("CUDAExecutionProvider", "CPUExecutionProvider") if one in usable]
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as exc:  # its errors have no common class but this
        raise EmbeddingModelUnusable(
            f"the model {path} cannot be loaded.",
            why=f"ONNX Runtime {onnxruntime.__version__}: {' '.join(str(exc).split())[:300].rstrip('.')}.",
            next_step="copy or fetch the model again, complete; where it is newer than this ONNX Runtime, upgrade that.",
        ) from None


def _tokenizer(files: ModelFiles) -> tuple[Tokenizer, int]:
    """The tokenizer, which neither pads nor cuts, and the number of the token that pads."""
    from tokenizers import Tokenizer

    path = files.folder / "tokenizer.json"
    if not path.is_file() and files.onnx is not None:
        path = files.onnx.parent / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # the library raises plain Exception
        missing = not path.is_file()
        raise EmbeddingModelUnusable(
            f"the model {files.name} cannot be used: it has no tokenizer.",
            why=f"{files.folder} has no tokenizer.json." if missing else f"{path}: {str(exc).rstrip('.')}.",
            next_step="save it there: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIRECTORY) of transformers does.",
        ) from None
    padding = tokenizer.padding
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if padding is not None:
        return tokenizer, int(padding.get("pad_id", 0))
    found = [tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>")]
    return tokenizer, next((number for number in found if number is not None), 0)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows of similar length together, so that little is padded: at most BATCH_TEXTS of them, and BATCH_TOKENS tokens."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) == BATCH_TEXTS or (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _length(text: str | tuple[str, str]) -> int:
    return len(text) if isinstance(text, str) else max(len(text[0]), len(text[1]))
