"""A model run by sentence-transformers, for directories without an ONNX file or with modules that are not computed here.

The library is no dependency of everindex: whoever installs it has torch, a gigabyte or more. Code that a model brings is
never run (`trust_remote_code` stays off), and nothing is downloaded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from everindex.articles.embedding.local.files import ModelFiles
from everindex.errors import EmbeddingModelUnusable

BATCH_TEXTS = 32

_loading = threading.Lock()


class TorchEncoder:
    """A SentenceTransformer. Safe to share between threads: inference changes nothing."""

    def __init__(self, files: ModelFiles) -> None:
        library = _library(files)
        try:
            self._model = library.SentenceTransformer(str(files.folder), local_files_only=True)
        except Exception as exc:  # of torch, transformers and the model's own files
            raise _not_loaded(files, exc) from None
        # Until its version 5 the method had the longer name, which newer ones warn of.
        dimension = (
            getattr(self._model, "get_embedding_dimension", None) or self._model.get_sentence_embedding_dimension
        )
        width = dimension()
        if width is None:
            raise _not_loaded(files, ValueError("the model does not state the width of its vectors"))
        self.width = int(width)
        self.max_tokens = int(self._model.max_seq_length or 512)

    @property
    def special_tokens(self) -> int:
        return int(self._model.tokenizer.num_special_tokens_to_add(False))

    def spans(self, text: str) -> list[tuple[int, int]]:
        found = self._model.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        return [(int(start), int(end)) for start, end in found["offset_mapping"]]

    def encode(self, texts: Sequence[str], *, is_query: bool) -> tuple[npt.NDArray[np.float32], list[bool]]:
        """`(n, width)` float32 as the model gives them, and which texts were cut. The prompt is in the texts already."""
        encode = self._model.encode_query if is_query else self._model.encode_document
        vectors = encode(list(texts), prompt="", batch_size=BATCH_TEXTS, show_progress_bar=False, convert_to_numpy=True)
        room = self.max_tokens - self.special_tokens
        return np.asarray(vectors, dtype=np.float32), [len(self.spans(text)) > room for text in texts]


class TorchCrossEncoder:
    """A CrossEncoder."""

    def __init__(self, files: ModelFiles) -> None:
        library = _library(files)
        try:
            self._model = library.CrossEncoder(str(files.folder), local_files_only=True)
        except Exception as exc:  # as above
            raise _not_loaded(files, exc) from None

    def scores(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """`(n,)` float32, higher is better."""
        found = self._model.predict(list(pairs), batch_size=BATCH_TEXTS, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)


def loaded_encoder(files: ModelFiles) -> TorchEncoder:
    """The model in memory, loaded at the first call, shared by the process."""
    with _loading:
        return _encoder(files)


def loaded_cross_encoder(files: ModelFiles) -> TorchCrossEncoder:
    """The model in memory, loaded at the first call, shared by the process."""
    with _loading:
        return _cross_encoder(files)


@lru_cache(maxsize=2)
def _encoder(files: ModelFiles) -> TorchEncoder:
    return TorchEncoder(files)


@lru_cache(maxsize=2)
def _cross_encoder(files: ModelFiles) -> TorchCrossEncoder:
    return TorchCrossEncoder(files)


def _library(files: ModelFiles) -> Any:
    try:
        import sentence_transformers
    except ImportError:
        has = (
            "an ONNX model with modules that everindex does not compute" if files.onnx else "no ONNX model (model.onnx)"
        )
        raise EmbeddingModelUnusable(
            f"the model {files.name} cannot be run.",
            why=f"{files.folder} has {has}, and sentence-transformers, which would run it, is not installed here.",
            next_step="run  pip install sentence-transformers , or export the model:  optimum-cli export onnx --model "
            "NAME DIRECTORY.",
        ) from None
    return sentence_transformers


def _not_loaded(files: ModelFiles, exc: Exception) -> EmbeddingModelUnusable:
    return EmbeddingModelUnusable(
        f"the model {files.name} cannot be loaded.",
        why=f"sentence-transformers: {' '.join(str(exc).split())[:300].rstrip('.')} ({type(exc).__name__}).",
        next_step="copy or fetch the model again, complete; sentence-transformers has to know its architecture.",
    )
