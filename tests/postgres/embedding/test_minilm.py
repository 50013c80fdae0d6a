"""all-MiniLM-L6-v2 on this machine, run for real: it takes half a second to load, which is why it is tested here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import onnx_models
from everindex.articles.embedding import TokenWindow, choose_embedder
from everindex.articles.embedding.choose import embedder_named
from everindex.articles.embedding.local.embedder import LocalEmbedder
from everindex.errors import EmbeddingModelUnusable
from everindex.settings import read_settings

TEXTS = [
    "memory leak in the parser",
    "a cat sat on the mat and looked out of the window " * 5,
    "faster regular expressions",
    "the kitten sits on a rug",
]
#: Cosines of these texts by sentence-transformers 6.2 with the float32 weights of all-MiniLM-L6-v2.
REFERENCE = np.array(
    [
        [1.0, 0.0560000017285347, 0.2460000067949295, -0.05900000035762787],
        [0.0560000017285347, 1.0, 0.03200000151991844, 0.42500001192092896],
        [0.2460000067949295, 0.03200000151991844, 1.0, -0.07100000232458115],
        [-0.05900000035762787, 0.42500001192092896, -0.07100000232458115, 1.0],
    ]
)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.minilm(tmp_path_factory.mktemp("models") / "all-MiniLM-L6-v2")


def test_a_real_model_gives_the_vectors_that_sentence_transformers_gives(minilm: Path) -> None:
    embedder = LocalEmbedder(str(minilm), width=384)
    batch = embedder.embed(TEXTS)
    assert not batch.failures
    assert batch.vectors.shape == (4, 384)
    assert np.allclose(np.linalg.norm(batch.vectors, axis=1), 1, atol=1e-5)
    # The weights of the package's model are int8.
    assert np.abs(batch.vectors @ batch.vectors.T - REFERENCE).max() < 0.02


def test_a_wider_column_leaves_every_cosine_as_it_is(minilm: Path) -> None:
    narrow, wide = LocalEmbedder(str(minilm), width=384), LocalEmbedder(str(minilm), width=1536)
    a, b = narrow.embed(TEXTS).vectors, wide.embed(TEXTS).vectors
    assert b.shape == (4, 1536)
    assert np.allclose(a @ a.T, b @ b.T, atol=1e-5)
    assert wide.model == f"{narrow.model}+map1536"


def test_a_narrower_column_is_refused(minilm: Path) -> None:
    with pytest.raises(EmbeddingModelUnusable, match="256 dimensions") as raised:
        LocalEmbedder(str(minilm), width=256)
    assert "384" in raised.value.why


def test_a_text_has_the_same_vector_alone_and_in_a_batch(minilm: Path) -> None:
    embedder = LocalEmbedder(str(minilm), width=384)
    together = embedder.embed(TEXTS * 40).vectors
    alone = np.vstack([embedder.embed([text]).vectors for text in TEXTS])
    assert np.allclose(together, np.tile(alone, (40, 1)), atol=1e-4)


def test_the_recorded_name_depends_on_the_files_and_not_on_their_place(minilm: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(minilm, tmp_path / "elsewhere", symlinks=True)
    first = LocalEmbedder(str(minilm), width=384)
    assert LocalEmbedder(str(copy), width=384).model == first.model
    assert first.model.startswith("local/bert-384@")
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 128}', encoding="utf-8")
    assert LocalEmbedder(str(copy), width=384).model != first.model
    assert LocalEmbedder(str(minilm), width=384, document_prompt="passage: ").model != first.model
    assert LocalEmbedder(str(minilm), width=384, query_prompt="query: ").model == first.model


def test_an_onnx_file_can_be_named_itself(minilm: Path) -> None:
    named = LocalEmbedder(str(minilm / "onnx" / "model.onnx"), width=384)
    assert named.model == LocalEmbedder(str(minilm), width=384).model


def test_what_a_model_does_not_read_is_told_and_its_tokens_can_be_counted(minilm: Path) -> None:
    embedder = LocalEmbedder(str(minilm), width=384)
    assert isinstance(embedder, TokenWindow)
    assert embedder.max_tokens == 254  # of 256: [CLS] and [SEP]
    long = "cat " * 255
    spans = embedder.token_spans(long)
    assert len(spans) == 255
    assert [long[start:end] for start, end in spans[:2]] == ["cat", "cat"]
    batch = embedder.embed(["cat", long, "cat " * 254])
    assert batch.truncated == {1}
    assert np.allclose(batch.vectors[1], batch.vectors[2], atol=1e-4)


def test_settings_name_it_and_everindex_model_finds_it_by_its_recorded_name(
    minilm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_MODEL", f"local:{minilm}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    chosen = choose_embedder(read_settings(), width=1536)
    assert isinstance(chosen, LocalEmbedder)
    assert embedder_named(chosen.model, read_settings(), width=1536).model == chosen.model
    with pytest.raises(EmbeddingModelUnusable, match="is not available here"):
        embedder_named("local/bert-384@000000000000+map1536", read_settings(), width=1536)


def test_a_model_without_stated_pooling_is_refused_and_not_guessed(tmp_path: Path) -> None:
    folder = onnx_models.minilm(tmp_path / "model", with_pooling=False)
    (reason,) = LocalEmbedder(str(folder), width=384).embed(["zip"]).failures.values()
    assert "1_Pooling/config.json" in reason
