"""Which vector indexes does this application declare? Every deploy, verify and page starts from here."""

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
