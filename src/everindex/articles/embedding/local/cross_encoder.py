"""A cross-encoder on this machine: reads a query and a text together, and says how well the text answers.

Scores order the texts of one query. They are between 0 and 1, unless the model's directory states that its outputs stand as they
are; they are no probabilities either way, and scores of two models or two queries are not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from everindex.articles.embedding.local import onnx, torch
from everindex.articles.embedding.local.configuration import read_configuration
from everindex.articles.embedding.local.files import find
from everindex.errors import EmbeddingModelUnusable

Scores = npt.NDArray[np.float32]


class CrossEncoder:
    """A cross-encoder given by a directory, an .onnx file or a hub name. Safe to share between threads."""

    def __init__(self, name: str, *, variable: str = "EVERINDEX_RERANK_MODEL") -> None:
        """Finds the model and reads its configuration; loads nothing. `variable` is the setting that names it. Raises
        EmbeddingModelUnusable."""
        self._files = find(name, variable=variable)
        self._configuration = read_configuration(self._files.folder)
        if self._files.onnx is not None and self._configuration.labels not in (1, None):
            raise EmbeddingModelUnusable(
                f"the model {name} cannot re-rank.",
                why=f"its config.json states {self._configuration.labels} labels; a cross-encoder for search gives one score.",
                next_step=f"set {variable} to a re-ranking model, as cross-encoder/ms-marco-MiniLM-L6-v2.",
            )

    @property
    def name(self) -> str:
        """What people read: the hub name or the directory's, and the digest of its files. Reads the weights once."""
        return f"{self._files.name.rstrip('/').rpartition('/')[2] or self._files.name}@{self._files.digest()}"

    def scores(self, query: str, texts: Sequence[str]) -> Scores:
        """`(len(texts),)` float32, higher is better. Loads the model at the first call. Raises EmbeddingModelUnusable, and
        what the runtime raises."""
        pairs = [(query, text) for text in texts]
        if self._files.onnx is None:
            return torch.loaded_cross_encoder(self._files).scores(pairs)
        model = onnx.loaded(self._files, max_tokens=self._configuration.max_tokens)
        logits = np.zeros(len(texts), dtype=np.float32)
        for batch in model.run(pairs, wanted="logits"):
            if batch.output.reshape(len(batch.rows), -1).shape[1] != 1:
                raise EmbeddingModelUnusable(
                    f"the model {self._files.name} cannot re-rank.",
                    why=f"its output has the shape {batch.output.shape} for {len(batch.rows)} pairs, and not one score for each.",
                    next_step="choose a re-ranking model, as cross-encoder/ms-marco-MiniLM-L6-v2.",
                )
            logits[batch.rows] = batch.output.reshape(-1)
        if self._configuration.cross_encoder_activation == "Identity":
            return logits
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -60, 60))), dtype=np.float32)
