"""Embedding models on this machine, run for real: all-MiniLM-L6-v2, and small ONNX models of which the result is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import onnx_models
from everindex.articles.embedding import TokenWindow, choose_embedder, embed_query
from everindex.articles.embedding.choose import embedder_named
from everindex.articles.embedding.local.embedder import LocalEmbedder, pool
from everindex.articles.embedding.static import StaticEmbedder
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


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "EMBEDDING_MODEL",
        "EVERINDEX_QUERY_PROMPT",
        "EVERINDEX_DOCUMENT_PROMPT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.minilm(tmp_path_factory.mktemp("models") / "all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.bag_of_words(tmp_path_factory.mktemp("models") / "bag")


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


def test_queries_and_documents_get_the_prompts_of_the_models_configuration(tmp_path: Path) -> None:
    folder = onnx_models.bag_of_words(tmp_path / "bag", prompts={"query": "question: ", "passage": "answer: "})
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
def test_a_known_family_has_its_prompts_by_name(tmp_path: Path, name: str, query: str, document: str) -> None:
    folder = onnx_models.bag_of_words(tmp_path / name, prompts={"query": "", "document": ""})
    prompts = LocalEmbedder(str(folder), width=256).prompts
    assert (prompts.query, prompts.document) == (query, document)


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


def test_the_static_model_counts_its_tokens_in_the_same_way() -> None:
    static = StaticEmbedder(width=256)
    assert isinstance(static, TokenWindow)
    assert static.max_tokens == 512
    assert len(static.token_spans("cat " * 700)) == 700


def test_a_text_that_cannot_be_embedded_costs_only_itself(bag: Path) -> None:
    batch = LocalEmbedder(str(bag), width=256).embed(["zip", "  ", "\ud800", "tar"])
    assert set(batch.failures) == {1, 2}
    assert np.isfinite(batch.vectors[[0, 3]]).all()


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


def test_a_model_without_stated_pooling_is_refused_and_not_guessed(tmp_path: Path) -> None:
    folder = onnx_models.minilm(tmp_path / "model", with_pooling=False)
    (reason,) = LocalEmbedder(str(folder), width=384).embed(["zip"]).failures.values()
    assert "1_Pooling/config.json" in reason


def test_weights_that_onnx_runtime_cannot_run_need_sentence_transformers(tmp_path: Path) -> None:
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(EmbeddingModelUnusable) as raised:
        LocalEmbedder(str(folder), width=384)
    assert "sentence-transformers" in raised.value.next_step


def test_a_broken_model_file_is_told(bag: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bag, tmp_path / "broken")
    (folder / "model.onnx").write_bytes(b"not a model")
    (reason,) = LocalEmbedder(str(folder), width=256).embed(["zip"]).failures.values()
    assert "ONNX Runtime" in reason


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\x00"])
def test_a_configuration_that_is_no_json_object_is_told(bag: Path, tmp_path: Path, content: str) -> None:
    folder = shutil.copytree(bag, tmp_path / "model")
    (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(EmbeddingModelUnusable, match=r"config\.json cannot be read"):
        LocalEmbedder(str(folder), width=256)


def test_a_missing_tokenizer_is_told(bag: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bag, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (reason,) = LocalEmbedder(str(folder), width=256).embed(["zip"]).failures.values()
    assert "tokenizer.json" in reason


def test_the_window_is_what_the_directory_states(bag: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bag, tmp_path / "model")
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
