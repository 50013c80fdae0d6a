"""What this application declares: the collection of articles and its vector index, where every deploy, search and page starts."""

from __future__ import annotations

from everindex.articles.shape.spec import CollectionSpec
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

#: Everindex's own tables, in schema everindex_meta: the passages of the articles' whole texts, and how each text was cut.
PASSAGE_TABLE, CUT_TABLE = "article_passage", "article_cut"

PASSAGES = CollectionSpec(
    name="articles.passages",
    table=PASSAGE_TABLE,
    schema="everindex_meta",
    key="id",
    text=("text",),
    metadata=("uri", "number", "starts_at", "ends_at"),
    is_owned=True,
)

ARTICLES = CollectionSpec(
    name="articles",
    table="articles",
    key="uri",
    text=("title", "summary"),
    vector="embedding",
    metadata=("news_source", "category", "topic", "publication_date"),
    date="publication_date",
    index=EMBEDDING_INDEX,
    words_index="articles_text_search_idx",
    is_flat=True,
)
