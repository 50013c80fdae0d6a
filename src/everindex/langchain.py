"""LangChain's vector store and retriever over a collection; needs the extra `everindex[langchain]`.

`EverindexVectorStore` stores documents with the vectors of a LangChain embedding model, and searches them by meaning, by words
or by both. `EverindexRetriever` is the retriever over it, hybrid by default. The async methods run the synchronous ones in
threads of the framework's executor.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from everindex.articles.instance import Instance
from everindex.articles.model import Mode
from everindex.articles.shape.spec import Metric, VectorType
from everindex.documents import DocumentStore, StoredDocument
from everindex.errors import ExtraMissing, QueryInvalid

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as exc:
    raise ExtraMissing("langchain", package="langchain-core", exc=exc) from exc

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun

__all__ = ["EverindexRetriever", "EverindexVectorStore"]

#: How many documents LangChain's searches return by default.
DEFAULT_K = 4


class EverindexVectorStore(VectorStore):
    """The documents of one collection.

    `connection` is an address (postgresql://…), an open `Instance`, or None for the address of the settings. The first
    documents create the collection, as wide as their vectors, with `metric` (cosine, l2, inner_product), `vector_type` (vector,
    halfvec) and `metadata_columns` (name → PostgreSQL type, for members that filters often name). `model` is the name that is
    recorded for the model of the vectors. `close()` ends the connections; the store is a context manager.

    Every search takes `filter`, a mapping of metadata members in the `$` language, `ef_search`, and `exact`.
    """

    def __init__(
        self,
        embedding: Embeddings,
        *,
        collection_name: str,
        connection: str | Instance | None = None,
        metric: Metric | None = None,
        vector_type: VectorType = "vector",
        metadata_columns: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> None:
        self._embedding = embedding
        self.store = DocumentStore(
            collection_name=collection_name, connection=connection, metric=metric, vector_type=vector_type,
            metadata_columns=metadata_columns, model=model,
        )  # fmt: skip

    @property
    def embeddings(self) -> Embeddings:
        """The embedding model."""
        return self._embedding

    def close(self) -> None:
        """Closes the connections that the store opened."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store that holds `texts`; `kwargs` are those of the constructor."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embeds and stores texts; returns their ids. A text without an id gets one; one whose id exists is replaced."""
        texts = list(texts)
        return self.add_embeddings(texts, self._embedding.embed_documents(texts) if texts else [], metadatas, ids=ids)

    def add_embeddings(
        self,
        texts: Sequence[str],
        embeddings: Sequence[Sequence[float]] | np.ndarray,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Stores texts with their vectors ((n, dim)); otherwise as `add_texts`."""
        for what, given in (("metadatas", metadatas), ("ids", ids), ("embeddings", embeddings)):
            if given is not None and len(given) != len(texts):
                raise QueryInvalid(
                    f"there are {len(given)} {what} for {len(texts)} texts.",
                    why="each text needs one of its own.",
                    next_step=f"pass as many {what} as texts; nothing was stored.",
                )
        keys = [key or str(uuid.uuid4()) for key in (ids or [None] * len(texts))]
        self.store.add(keys, texts, metadatas or [{}] * len(texts), embeddings)
        return keys

    def delete(
        self, ids: list[str] | None = None, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> bool | None:
        """Deletes documents by id, by filter, or those that are in both. Raises QueryInvalid where neither is given."""
        self.store.delete(ids, filters=filter)
        return True

    def drop_collection(self) -> None:
        """Drops the collection, and its table where everindex made it."""
        self.store.drop()

    # --- reading ---------------------------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; those that do not exist are left out."""
        return [_document(found) for found in self.store.get(ids)]

    def similarity_search(
        self,
        query: str,
        k: int = DEFAULT_K,
        *,
        filter: Mapping[str, Any] | None = None,
        mode: Mode = "semantic",
        **kwargs: Any,
    ) -> list[Document]:
        """The k documents that answer `query` best: by meaning (`mode` semantic), by words (keyword), or by both (hybrid)."""
        vector = None if mode == "keyword" else self._embedding.embed_query(query)
        return [
            _document(found)
            for found in self.store.search(query, vector, mode=mode, k=k, filters=filter, **_options(kwargs))
        ]

    def similarity_search_by_vector(
        self, embedding: Sequence[float], k: int = DEFAULT_K, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[Document]:
        """The k documents nearest to a vector, nearest first."""
        return [_document(found) for found in self.store.nearest(embedding, k=k, filters=filter, **_options(kwargs))]

    def similarity_search_with_score(
        self, query: str, k: int = DEFAULT_K, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search` by meaning, each with pgvector's distance: the smaller, the nearer."""
        vector = self._embedding.embed_query(query)
        return self.similarity_search_with_score_by_vector(vector, k, filter=filter, **kwargs)

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = DEFAULT_K, *, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_by_vector`, each with pgvector's distance."""
        return [
            (_document(found), found.distance)
            for found in self.store.nearest(embedding, k=k, filters=filter, **_options(kwargs))
            if found.distance is not None
        ]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = DEFAULT_K,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """k of the `fetch_k` nearest documents, chosen for relevance (`lambda_mult` 1) and variety (0)."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter=filter, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = DEFAULT_K,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a vector."""
        found = self.store.nearest(embedding, k=max(fetch_k, k), filters=filter, **_options(kwargs))
        vectors = self.store.vectors([one.key for one in found])
        candidates = [one for one in found if one.key in vectors]
        stored: list[Any] = [vectors[one.key] for one in candidates]
        chosen = maximal_marginal_relevance(np.asarray(embedding, dtype=np.float32), stored, lambda_mult, k)
        return [_document(candidates[number]) for number in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """LangChain's relevance, 0 to 1, of a distance by the collection's metric."""
        match self.store.metric:
            case "cosine":
                return self._cosine_relevance_score_fn
            case "l2":
                return self._euclidean_relevance_score_fn
            case "inner_product":
                return self._max_inner_product_relevance_score_fn


class EverindexRetriever(BaseRetriever):
    """A retriever over a store: by meaning and by words (hybrid) unless `mode` says otherwise.

    `invoke` takes `k`, `filter` and `mode` for one call.
    """

    vectorstore: EverindexVectorStore
    k: int = DEFAULT_K
    mode: Mode = "hybrid"
    filter: dict[str, Any] | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        wanted = {"k": self.k, "mode": self.mode, "filter": self.filter} | options
        return self.vectorstore.similarity_search(query, **wanted)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a search that are everindex's; other stores' are ignored, as LangChain's own are."""
    return {name: given[name] for name in ("ef_search", "exact") if name in given}


def _document(found: StoredDocument) -> Document:
    return Document(id=found.key, page_content=found.text, metadata=found.metadata)
