"""Vectors for texts: from the static model of the package, or from an OpenAI-compatible endpoint; never made up."""

from everindex.articles.embedding.checks import check_vectors
from everindex.articles.embedding.choose import choose_embedder
from everindex.articles.embedding.endpoint import RetryPolicy
from everindex.articles.embedding.isometry import orthonormal_map
from everindex.articles.embedding.openai_compatible import OpenAICompatibleEmbedder
from everindex.articles.embedding.provider import Embedder, EmbeddingBatch, embed_queries, embed_query
from everindex.articles.embedding.static import StaticEmbedder

__all__ = [
    "Embedder",
    "EmbeddingBatch",
    "OpenAICompatibleEmbedder",
    "RetryPolicy",
    "StaticEmbedder",
    "check_vectors",
    "choose_embedder",
    "embed_queries",
    "embed_query",
    "orthonormal_map",
]
