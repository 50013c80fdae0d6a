"""A LangChain vector store on PostgreSQL: store documents, filter, search by meaning and by words, retrieve.

Run it with  pip install 'everindex[langchain]' ; DATABASE_URL names the server; without it, an embedded one is started. Replace
`OwnModel` with the embedding model of your application.
"""

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from everindex.articles.embedding.static import StaticEmbedder
from everindex.langchain import EverindexRetriever, EverindexVectorStore


class OwnModel(Embeddings):
    """The small model that is included in everindex, so that the example needs no key and no network."""

    def __init__(self) -> None:
        self._model = StaticEmbedder(width=256)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._model.embed(texts).vectors.tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


DOCUMENTS = [
    Document(id="tiger", page_content="A tiger sleeps in the tall grass.", metadata={"topic": "animals", "year": 2021}),
    Document(
        id="whale", page_content="Whales sing to each other for hours.", metadata={"topic": "animals", "year": 2024}
    ),
    Document(
        id="rates", page_content="The central bank raised its interest rate.", metadata={"topic": "money", "year": 2024}
    ),
    Document(
        id="error", page_content="Error E4711: the valve did not open.", metadata={"topic": "machines", "year": 2023}
    ),
]

if __name__ == "__main__":
    with EverindexVectorStore(OwnModel(), collection_name="langchain_example") as store:
        store.add_documents(DOCUMENTS)

        print("by meaning:", [found.id for found in store.similarity_search("big cats", k=2)])
        print(
            "filtered:",
            [found.id for found in store.similarity_search("big cats", k=2, filter={"year": {"$gte": 2023}})],
        )

        retriever = EverindexRetriever(vectorstore=store, k=1)  # hybrid: also finds words that no model knows
        print("retrieved:", [found.id for found in retriever.invoke("E4711")])
