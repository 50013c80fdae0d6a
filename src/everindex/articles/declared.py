"""What this application declares: the collection of articles and its vector index, where every deploy, search and page starts."""

from __future__ import annotations

from everindex.articles.shape.spec import CollectionSpec, index_name
from everindex.articles.shape.whole_text import WholeTexts
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

#: The schema of everindex's own tables.
OWN_SCHEMA = "everindex_meta"

PASSAGES = CollectionSpec(
    name="articles.passages",
    table="article_passage",
    schema=OWN_SCHEMA,
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

#: The bodies of articles, in table raw_articles.
ARTICLE_TEXTS = WholeTexts(passages=PASSAGES, cuts="article_cut", owner="uri", column=None)


def whole_texts_of(spec: CollectionSpec) -> WholeTexts | None:
    """The whole texts of a collection; None where it declares none."""
    if spec is ARTICLES:
        return ARTICLE_TEXTS
    if spec.passages is None:
        return None
    return WholeTexts(
        passages=CollectionSpec(
            name=f"{spec.name}.passages",
            table=index_name(f"collection_{spec.name}", "passage"),
            schema=OWN_SCHEMA,
            key="id",
            text=("text",),
            metadata=("row_key", "number", "starts_at", "ends_at"),
            metric=spec.metric,
            is_owned=True,
        ),
        cuts=index_name(f"collection_{spec.name}", "cut"),
        owner="row_key",
        column=spec.passages,
    )
