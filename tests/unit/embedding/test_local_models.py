"""Embedding models on this machine: what their directories state, and small ONNX models of which the result is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import onnx_models
from everindex.articles.embedding import TokenWindow, embed_query
from everindex.articles.embedding.local.embedder import LocalEmbedder, pool
from everindex.articles.embedding.static import StaticEmbedder
from everindex.errors import EmbeddingModelUnusable


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.bag_of_words(tmp_path_factory.mktemp("models") / "bag")


def test_mean_pooling_of_the_static_models_rows_is_the_static_model(bag: Path) -> None:
    texts = ["memory leak in the parser", "Zip files and ünïcode, 42%!", "asyncio.Queue " * 100]
    ours = LocalEmbedder(str(bag), width=1536).embed(texts).vectors
    theirs = StaticEmbedder(width=1536).embed(texts).vectors
    assert np.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("cls", [1, 0]), ("lasttoken", [3, 4]), ("max", [3, 4]), ("mean", [2, 2]), ("mean_sqrt_len_tokens", [8**0.5, 8**0.5])],
)  # fmt: skip
def test_padding_counts_in_no_pooling(how: str, expected: list[float]) -> None:
    tokens = np.array([[[1, 0], [3, 4], [9, 9]]], dtype=np.float32)
    assert np.allclose(pool(tokens, np.array([[1, 1, 0]]), how), [expected])  # type: ignore[arg-type]


def test_queries_and_documents_get_the_prompts_of_the_models_configuration(bag: Path, tmp_path: Path) -> None:
    folder = onnx_models.copied(bag, tmp_path / "bag", prompts={"query": "question: ", "passage": "answer: "})
    embedder = LocalEmbedder(str(folder), width=256)
    plain = LocalEmbedder(str(folder), width=256, query_prompt="", document_prompt="")
    assert np.allclose(embedder.embed(["zip"]).vectors, plain.embed(["answer: zip"]).vectors)
    assert np.allclose(embed_query(embedder, "zip"), plain.embed(["question: zip"]).vectors[0])
    assert np.allclose(embed_query(plain, "zip"), plain.embed(["zip"]).vectors[0])


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("e5-small-v2", "query: ", "passage: "),
        ("multilingual-e5-base", "query: ", "passage: "),
        ("bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("bge-m3", "", ""),
        ("all-MiniLM-L6-v2", "", ""),
    ],
)
def test_a_known_family_has_its_prompts_by_name(
    bag: Path, tmp_path: Path, name: str, query: str, document: str
) -> None:
    folder = onnx_models.copied(bag, tmp_path / name, prompts={"query": "", "document": ""})
    prompts = LocalEmbedder(str(folder), width=256).prompts
    assert (prompts.query, prompts.document) == (query, document)


def test_the_static_model_counts_its_tokens_in_the_same_way() -> None:
    static = StaticEmbedder(width=256)
    assert isinstance(static, TokenWindow)
    assert static.max_tokens == 512
    assert len(static.token_spans("cat " * 700)) == 700


def test_a_text_that_cannot_be_embedded_costs_only_itself(bag: Path) -> None:
    batch = LocalEmbedder(str(bag), width=256).embed(["zip", "  ", "\ud800", "tar"])
    assert set(batch.failures) == {1, 2}
    assert np.isfinite(batch.vectors[[0, 3]]).all()


def test_a_model_that_is_not_there_is_told_with_the_command_that_fetches_it() -> None:
    with pytest.raises(EmbeddingModelUnusable) as raised:
        LocalEmbedder("intfloat/e5-small-v2", width=384)
    assert "nothing is downloaded" in raised.value.why
    assert "everindex model fetch intfloat/e5-small-v2" in raised.value.next_step


@pytest.mark.parametrize("name", ["./missing", "/nowhere/model", "~/missing", "a/b/c"])
def test_a_path_that_is_not_there_is_told_as_a_path(name: str) -> None:
    with pytest.raises(EmbeddingModelUnusable, match="is not there"):
        LocalEmbedder(name, width=384)


def test_a_directory_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingModelUnusable, match="holds no model"):
        LocalEmbedder(str(tmp_path), width=384)


def test_weights_that_onnx_runtime_cannot_run_need_sentence_transformers(tmp_path: Path) -> None:
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(EmbeddingModelUnusable) as raised:
        LocalEmbedder(str(folder), width=384)
    assert "sentence-transformers" in raised.value.next_step


def test_a_broken_model_file_is_told(bag: Path, tmp_path: Path) -> None:
    folder = onnx_models.copied(bag, tmp_path / "broken")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(b"not a model")
    (reason,) = LocalEmbedder(str(folder), width=256).embed(["zip"]).failures.values()
    assert "ONNX Runtime" in reason


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\x00"])
def test_a_configuration_that_is_no_json_object_is_told(bag: Path, tmp_path: Path, content: str) -> None:
    folder = onnx_models.copied(bag, tmp_path / "model")
    (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(EmbeddingModelUnusable, match=r"config\.json cannot be read"):
        LocalEmbedder(str(folder), width=256)


def test_a_missing_tokenizer_is_told(bag: Path, tmp_path: Path) -> None:
    folder = onnx_models.copied(bag, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (reason,) = LocalEmbedder(str(folder), width=256).embed(["zip"]).failures.values()
    assert "tokenizer.json" in reason


def test_the_window_is_what_the_directory_states(bag: Path, tmp_path: Path) -> None:
    folder = onnx_models.copied(bag, tmp_path / "model")
    for config, tokenizer, expected in (
        ({"model_type": "bag", "hidden_size": 256}, {}, 512),
        ({"model_type": "bag", "hidden_size": 256, "max_position_embeddings": 64}, {"model_max_length": 1e30}, 64),
        ({"model_type": "xlm-roberta", "hidden_size": 256, "max_position_embeddings": 514}, {}, 512),
        ({"model_type": "bag", "hidden_size": 256, "max_position_embeddings": 512}, {"model_max_length": 32}, 32),
        ({"model_type": "bag", "hidden_size": 256, "max_position_embeddings": 32_768}, {}, 8192),
    ):
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        assert LocalEmbedder(str(folder), width=256).max_tokens == expected
