"""LlamaIndex's vector store over a collection; needs the extra `everindex[llamaindex]`.

Nodes are stored with their embeddings as LlamaIndex's other stores do: the text in a column, the rest of the node in the
metadata. The async methods run the synchronous ones in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from everindex.articles.instance import Instance
from everindex.articles.model import Mode
from everindex.articles.shape.spec import Metric, VectorType
from everindex.documents import DocumentStore, StoredDocument
from everindex.errors import ExtraMissing, QueryInapplicable, QueryInvalid

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as exc:
    raise ExtraMissing("llamaindex", package="llama-index-core", exc=exc) from exc

__all__ = ["EverindexVectorStore"]

#: LlamaIndex's modes, as everindex's.
MODES: Mapping[VectorStoreQueryMode, Mode] = {
    VectorStoreQueryMode.DEFAULT: "semantic",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    VectorStoreQueryMode.TEXT_SEARCH: "keyword",
    VectorStoreQueryMode.SPARSE: "keyword",
}
#: Candidates of a search for variety, as a multiple of its answer.
MMR_PREFETCH_FACTOR = 4
#: Comparisons that everindex's filter language writes the same way.
OPERATORS = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
    FilterOperator.ANY: "$in",  # of an array: one of them
    FilterOperator.CONTAINS: "$eq",  # of an array: has it
}


class EverindexVectorStore(BasePydanticVectorStore):
    """The nodes of one collection.

    `connection` is an address (postgresql://…), an open `Instance`, or None for the address of the settings. The first
    nodes create the collection, as wide as their embeddings, with `metric` (cosine, l2, inner_product), `vector_type` (vector,
    halfvec) and `metadata_columns` (name → PostgreSQL type, for members that filters often name). `model` is the name that is
    recorded for the model of the vectors. `close()` ends the connections.
    """

    stores_text: bool = True
    collection_name: str
    _store: DocumentStore = PrivateAttr()

    def __init__(
        self,
        *,
        collection_name: str,
        connection: str | Instance | None = None,
        metric: Metric | None = None,
        vector_type: VectorType = "vector",
        metadata_columns: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> None:
        fields: dict[str, Any] = {"collection_name": collection_name}
        super().__init__(**fields)
        self._store = DocumentStore(
            collection_name=collection_name, connection=connection, metric=metric, vector_type=vector_type,
            metadata_columns=metadata_columns, model=model,
        )  # fmt: skip

    @classmethod
    def class_name(cls) -> str:
        return "EverindexVectorStore"

    @property
    def client(self) -> Instance:
        """The open everindex instance."""
        return self._store.instance

    def close(self) -> None:
        """Closes the connections that the store opened."""
        self._store.close()

    # --- writing ---------------------------------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Stores nodes with their embeddings; returns their ids. A node whose id exists is replaced."""
        keys = [node.node_id for node in nodes]
        self._store.add(
            keys,
            [node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes],
            [node_to_metadata_dict(node, remove_text=True, flat_metadata=False) for node in nodes],
            [node.get_embedding() for node in nodes],
        )
        return keys

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        self._store.delete(None, filters={"ref_doc_id": ref_doc_id})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Deletes nodes by id, by filter, or those that are in both. Raises QueryInvalid where neither is given."""
        self._store.delete(node_ids, filters=as_mapping(filters))

    def clear(self) -> None:
        """Deletes all nodes; the collection stays."""
        self._store.clear()

    # --- reading ---------------------------------------------------------------------------------------------------

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes with these ids, in their order, or those that pass the filter, or that are in both; all without either."""
        if node_ids is not None and not node_ids:
            return []
        if node_ids is not None and filters is None:
            return [_node(found) for found in self._store.get(node_ids)]
        return [_node(found) for found in self._store.find(as_mapping(filters), keys=node_ids)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that answer best, with similarities: of hybrid and keyword searches what orders them; of the Euclidean
        distance 1 / (1 + distance).

        Modes DEFAULT, HYBRID, SEMANTIC_HYBRID, TEXT_SEARCH, SPARSE and MMR. A hybrid search has weights of its own, so
        `alpha` is 0 (by words), 1 (by meaning) or unset. `kwargs`: `ef_search` and `exact`; in mode MMR `mmr_prefetch_factor`,
        `mmr_prefetch_k` and `mmr_threshold` too. Raises QueryInvalid for what it cannot do.
        """
        options = {name: kwargs[name] for name in ("ef_search", "exact") if name in kwargs}
        filters: dict[str, Any] = {"filters": _filters_of(query), "keys": query.node_ids or None}
        if query.mode == VectorStoreQueryMode.MMR:
            return self._for_variety(query, kwargs, filters | options)
        mode = _mode_of(query)
        if mode != "keyword" and query.query_embedding is None:
            raise _lacks("query_embedding", query)
        if mode != "semantic" and not query.query_str:
            raise _lacks("query_str", query)
        k = (query.hybrid_top_k if mode == "hybrid" else None) or query.similarity_top_k
        vector = None if mode == "keyword" else query.query_embedding
        found = self._store.search(query.query_str or "", vector, mode=mode, k=k, **filters, **options)
        return _result(found, [_similarity(one) for one in found])

    # --- async -----------------------------------------------------------------------------------------------------

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """As `clear`."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """As `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _for_variety(
        self, query: VectorStoreQuery, kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> VectorStoreQueryResult:
        if query.query_embedding is None:
            raise _lacks("query_embedding", query)
        k = query.similarity_top_k
        prefetched = kwargs.get("mmr_prefetch_k") or int(k * kwargs.get("mmr_prefetch_factor", MMR_PREFETCH_FACTOR))
        found = self._store.nearest(query.query_embedding, k=max(k, prefetched), **options)
        vectors = self._store.vectors([one.key for one in found])
        by_key = {one.key: one for one in found if one.key in vectors}
        threshold = query.mmr_threshold if query.mmr_threshold is not None else kwargs.get("mmr_threshold")
        similarities, keys = get_top_k_mmr_embeddings(
            query.query_embedding,
            [vectors[key].tolist() for key in by_key],
            similarity_top_k=k,
            embedding_ids=list(by_key),
            mmr_threshold=threshold,
        )
        return _result([by_key[key] for key in keys], similarities)


def as_mapping(filters: MetadataFilters | None) -> dict[str, Any] | None:
    """LlamaIndex's filters in everindex's filter language; None where there are none. Raises QueryInvalid."""
    if filters is None or not filters.filters:
        return None
    parts = [
        _condition(each) if isinstance(each, MetadataFilter) else as_mapping(each) or {} for each in filters.filters
    ]
    parts = [part for part in parts if part]
    if not parts:
        return None
    match filters.condition:
        case FilterCondition.OR:
            return {"$or": parts}
        case FilterCondition.NOT:
            return {"$not": {"$or": parts}}
        case _:
            return {"$and": parts}


def _condition(given: MetadataFilter) -> dict[str, Any]:
    name, value = given.key, given.value
    match given.operator:
        case FilterOperator.ALL:
            return {"$and": [{name: {"$eq": each}} for each in _listed(given)]}
        case FilterOperator.TEXT_MATCH:
            return {name: {"$like": _containing(given)}}
        case FilterOperator.TEXT_MATCH_INSENSITIVE:
            return {name: {"$ilike": _containing(given)}}
        case FilterOperator.IS_EMPTY:
            return {"$or": [{name: {"$exists": False}}, {name: {"$eq": ""}}]}
        case FilterOperator.IN | FilterOperator.NIN | FilterOperator.ANY:
            return {name: {OPERATORS[given.operator]: _listed(given)}}
        case operator:
            return {name: {OPERATORS[operator]: value}}


def _listed(given: MetadataFilter) -> Sequence[Any]:
    if isinstance(given.value, list):
        return given.value
    raise QueryInvalid(
        f"the filter on {given.key[:80]!r} has no list.",
        why=f"its operator is {given.operator.value}, which compares with several values.",
        next_step="pass a list as its value.",
    )


def _containing(given: MetadataFilter) -> str:
    """The pattern of texts that contain the value."""
    value = str(given.value)
    for special in ("\\", "%", "_"):
        value = value.replace(special, "\\" + special)
    return f"%{value}%"


def _filters_of(query: VectorStoreQuery) -> dict[str, Any] | None:
    filters = as_mapping(query.filters)
    if not query.doc_ids:
        return filters
    of_documents = {"ref_doc_id": {"$in": query.doc_ids}}
    return of_documents if filters is None else {"$and": [of_documents, filters]}


def _mode_of(query: VectorStoreQuery) -> Mode:
    mode = MODES.get(query.mode)
    if mode is None:
        raise QueryInapplicable(
            f"mode {query.mode.value} is not supported.",
            why=f"the modes are {', '.join(each.value for each in (*MODES, VectorStoreQueryMode.MMR))}.",
            next_step="choose one of them.",
        )
    if mode == "hybrid" and query.alpha is not None:
        if query.alpha not in (0, 1):
            raise QueryInapplicable(
                f"alpha = {query.alpha} is not supported.",
                why="a hybrid search weighs words and meaning itself, by what each says of a node.",
                next_step="leave it out, or choose 0 (by words) or 1 (by meaning).",
            )
        return "semantic" if query.alpha else "keyword"
    return mode


def _lacks(what: str, query: VectorStoreQuery) -> QueryInvalid:
    return QueryInvalid(
        f"the query has no {what}.", why=f"a search in mode {query.mode.value} compares it.", next_step=f"pass {what}."
    )


def _similarity(found: StoredDocument) -> float:
    if found.score is not None:
        return found.score
    if found.similarity is not None:
        return found.similarity
    return 0.0 if found.distance is None else 1 / (1 + found.distance)


def _result(found: Sequence[StoredDocument], similarities: list[float]) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=[_node(one) for one in found], similarities=similarities, ids=[one.key for one in found]
    )


def _node(found: StoredDocument) -> BaseNode:
    """The node as it was stored; a plain one of a row that LlamaIndex did not store."""
    if "_node_content" not in found.metadata:
        return TextNode(id_=found.key, text=found.text, metadata=found.metadata)
    return metadata_dict_to_node(found.metadata, text=found.text)
