"""A LlamaIndex vector store on PostgreSQL: store nodes, filter them, retrieve by meaning and by words.

Run it with  pip install 'everindex[llamaindex]' ; DATABASE_URL names the server; without it, an embedded one is started. Replace
`OwnModel` with the embedding model of your application.
"""

from typing import Any

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from everindex.articles.embedding.static import StaticEmbedder
from everindex.llamaindex import EverindexVectorStore

MODEL = StaticEmbedder(width=256)


class OwnModel(BaseEmbedding):
    """The small model that is included in everindex, so that the example needs no key and no network."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector: list[float] = MODEL.embed([text]).vectors[0].tolist()
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def node(name: str, text: str, **metadata: Any) -> TextNode:
    # The metadata filters; it is neither embedded nor shown to a language model here.
    return TextNode(id_=name, text=text, metadata=metadata, excluded_embed_metadata_keys=[*metadata])


NODES = [
    node("tiger", "A tiger sleeps in the tall grass.", topic="animals", year=2021),
    node("whale", "Whales sing to each other for hours.", topic="animals", year=2024),
    node("rates", "The central bank raised its interest rate.", topic="money", year=2024),
    node("error", "Error E4711: the valve did not open.", topic="machines", year=2023),
]

if __name__ == "__main__":
    store = EverindexVectorStore(collection_name="llamaindex_example")
    index = VectorStoreIndex(
        NODES, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=OwnModel()
    )

    nearest = index.as_retriever(similarity_top_k=2)
    print("by meaning:", [found.node_id for found in nearest.retrieve("big cats")])

    recent = MetadataFilters(filters=[MetadataFilter(key="year", operator=FilterOperator.GTE, value=2023)])
    print(
        "filtered:",
        [found.node_id for found in index.as_retriever(similarity_top_k=2, filters=recent).retrieve("big cats")],
    )

    hybrid = index.as_retriever(similarity_top_k=1, vector_store_query_mode="hybrid")
    print("retrieved:", [found.node_id for found in hybrid.retrieve("E4711")])
    store.close()
