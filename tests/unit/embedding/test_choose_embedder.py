"""Which model the settings mean."""

from __future__ import annotations

import pytest

from everindex.articles.embedding import OpenAICompatibleEmbedder, StaticEmbedder, choose_embedder
from everindex.errors import EmbeddingModelUnusable
from everindex.settings import read_settings


def chosen(monkeypatch: pytest.MonkeyPatch, *, width: int = 1536, **environment: str) -> object:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return choose_embedder(read_settings(), width=width)


def test_without_a_key_the_static_model_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = chosen(monkeypatch)
    assert isinstance(embedder, StaticEmbedder)
    assert embedder.model == "everindex/all-minilm-l6-v2-static-256@1+map1536"
    assert (embedder.dimensions, embedder.is_remote) == (1536, False)


def test_with_a_key_the_endpoint_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = chosen(monkeypatch, OPENAI_API_KEY="sk-x")
    assert isinstance(embedder, OpenAICompatibleEmbedder)
    assert embedder.model == "openai-compatible/text-embedding-3-small@1536"
    assert (embedder.dimensions, embedder.is_remote) == (1536, True)


def test_an_address_without_a_key_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = chosen(
        monkeypatch, width=768, OPENAI_BASE_URL="http://127.0.0.1:1/v1", EMBEDDING_MODEL="nomic-embed-text"
    )
    assert isinstance(embedder, OpenAICompatibleEmbedder)
    assert embedder.model == "openai-compatible/nomic-embed-text@768"


def test_the_static_model_can_be_asked_for_beside_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(chosen(monkeypatch, OPENAI_API_KEY="sk-x", EMBEDDING_MODEL="Static"), StaticEmbedder)


def test_a_model_of_an_endpoint_without_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbeddingModelUnusable, match="text-embedding-3-small") as raised:
        chosen(monkeypatch, EMBEDDING_MODEL="text-embedding-3-small")
    assert "OPENAI_API_KEY" in raised.value.why


def test_a_column_too_narrow_for_the_static_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbeddingModelUnusable, match="64"):
        chosen(monkeypatch, width=64)
