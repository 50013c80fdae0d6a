"""Vectors for texts: from the static model, a local one, or an OpenAI-compatible endpoint; never made up."""

from everindex.articles.embedding.checks import check_vectors
from everindex.articles.embedding.choose import choose_embedder
from everindex.articles.embedding.endpoint import RetryPolicy
from everindex.articles.embedding.isometry import orthonormal_map
from everindex.articles.embedding.openai_compatible import OpenAICompatibleEmbedder
from everindex.articles.embedding.provider import (
    AsymmetricEmbedder,
    Embedder,
    EmbeddingBatch,
    TokenWindow,
    embed_queries,
    embed_query,
)
from everindex.articles.embedding.static import StaticEmbedder

__all__ = [
    "AsymmetricEmbedder",
    "Embedder",
    "EmbeddingBatch",
    "OpenAICompatibleEmbedder",
    "RetryPolicy",
    "StaticEmbedder",
    "TokenWindow",
    "check_vectors",
    "choose_embedder",
    "embed_queries",
    "embed_query",
    "orthonormal_map",
]
