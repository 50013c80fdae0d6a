"""A table whose vectors a model on this machine makes: stored, found, recorded, and never mixed with those of another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import model_hub
import onnx_models
import warm
from everindex.articles.connect import connect_instance
from everindex.articles.embedding.local.embedder import LocalEmbedder
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.errors import EmbeddingModelsMixed
from everindex.settings import Settings

ARTICLES = [
    Article(uri="cat", title="The kitten sleeps on a rug", summary="Small pets like warm places."),
    Article(
        uri="leak", title="Memory is never freed by the XML reader", summary="A document that is read twice leaks."
    ),
    Article(uri="regex", title="Regular expressions compile faster", summary="The matcher caches its programs."),
    Article(uri="tax", title="Parliament lowers the tax on books", summary="Prices fall from January."),
]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_models.minilm(tmp_path_factory.mktemp("models") / "all-MiniLM-L6-v2")


@pytest.fixture
def local(migrated: str, minilm: Path) -> Iterator[Instance]:
    with connect_instance(migrated, settings=Settings(embedding_model=f"local:{minilm}")) as instance:
        instance.upsert(ARTICLES)
        yield instance


def test_articles_are_found_by_a_meaning_that_shares_no_word(local: Instance) -> None:
    for query, uri in (
        ("a cat on a carpet", "cat"),
        ("RAM exhausted by parsing markup", "leak"),
        ("cheaper literature", "tax"),
    ):
        answer = local.search(query, mode="semantic", k=2)
        assert answer.hits[0].uri == uri, query
        assert answer.strategy != "keyword"


def test_the_recorded_model_is_the_files_digest(local: Instance, minilm: Path) -> None:
    name = LocalEmbedder(str(minilm), width=1536).model
    assert dict(local.models().recorded) == {name: len(ARTICLES)}


def test_another_model_of_this_machine_does_not_search_among_its_vectors(local: Instance, tmp_path: Path) -> None:
    other = Settings(embedding_model=f"local:{onnx_models.bag_of_words(tmp_path / 'bag')}")
    with connect_instance(local.conninfo, settings=other) as instance, pytest.raises(EmbeddingModelsMixed):
        instance.search("a cat on a carpet", mode="semantic")


def test_vectors_of_another_program_are_declared_as_the_local_models(local: Instance, minilm: Path) -> None:
    with local.connection() as connection:
        connection.execute("DELETE FROM everindex_meta.embedding_record")
    environment = {"DATABASE_URL": local.conninfo, "EVERINDEX_WAIT": "0"}
    done = warm.run(["everindex", "model", "declare", f"local:{minilm}"], env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 agree" in done.stdout
    local.invalidate()
    assert local.search("a cat on a carpet", mode="semantic", k=1).hits[0].uri == "cat"


def test_fetching_offline_is_told_in_three_lines() -> None:
    done = warm.run(["everindex", "model", "fetch", "intfloat/e5-small-v2"], env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 1
    assert "embedding-model-unusable: the model intfloat/e5-small-v2 cannot be fetched." in done.stderr
    assert "HF_HUB_OFFLINE" in done.stderr


def test_a_fetched_model_is_used_by_its_name_and_without_a_network(tmp_path: Path) -> None:
    folder = onnx_models.bag_of_words(tmp_path / "bag")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model_quantized.onnx").write_bytes(b"not wanted")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    with model_hub.running({"acme/bag": folder}) as (address, downloaded):
        command = [str(Path(sys.executable).with_name("everindex")), "model", "fetch"]
        online = environment | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"}
        missing = subprocess.run([*command, "acme/none"], env=online, capture_output=True, text=True, timeout=60)
        done = subprocess.run([*command, "acme/bag"], env=online, capture_output=True, text=True, timeout=60)
    assert missing.returncode == 1
    assert "cannot be fetched" in missing.stderr
    assert done.returncode == 0, done.stderr
    assert "EMBEDDING_MODEL=local:acme/bag" in done.stdout
    assert sorted(set(downloaded)) == ["config.json", "model.onnx", "tokenizer.json"]
    script = """
import socket
def refuse(*_): raise SystemExit("a connection was opened")
socket.socket.connect = refuse
from everindex.articles.embedding.local.embedder import LocalEmbedder
assert not LocalEmbedder("acme/bag", width=256).embed(["zip"]).failures
print(LocalEmbedder("acme/bag", width=256).model)
"""
    used = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert used.stdout.strip() == LocalEmbedder(str(folder), width=256).model, used.stderr


def test_nothing_that_runs_a_model_is_imported_before_it_is_used(minilm: Path) -> None:
    script = """
import sys
from everindex.articles.embedding import choose_embedder
from everindex.articles.instance import Instance
from everindex.settings import Settings
import everindex.articles.embedding.local.embedder
heavy = {"onnxruntime", "sentence_transformers", "torch", "huggingface_hub", "ir_measures", "pytrec_eval"}
assert not choose_embedder(Settings(), width=1536).embed(["a text"]).failures
chosen = choose_embedder(Settings(embedding_model="local:" + sys.argv[1]), width=384)
chosen.model
print(*sorted(heavy & set(sys.modules)))
assert not chosen.embed(["a text"]).failures
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(minilm)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n") == ["", "onnxruntime", ""]
