"""The vector indexes that this application declares; every deploy, verification and page starts from them."""

from __future__ import annotations

from everindex.index.spec import IndexSpec

EMBEDDING_INDEX = IndexSpec(
    name="articles_embedding_hnsw_idx",
    table="articles",
    column="embedding",
    opclass="vector_cosine_ops",
    m=16,
    ef_construction=64,
)

DECLARED_INDEXES = (EMBEDDING_INDEX,)
