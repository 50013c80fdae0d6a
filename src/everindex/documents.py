"""The document store beneath the adapters: texts with metadata and ready vectors, read and written in one collection.

The first documents create a collection that does not exist, as wide as their vectors. The metadata of a document is stored in
the JSON column of the collection, except members that have a column of their own. In a table that everindex did not create,
each metadata column is a member. Imports no framework.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from everindex.articles.collections.collection import Collection
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Mode
from everindex.articles.search.request.search_request import SearchRequest, as_filters
from everindex.articles.search.results.selection import read_vectors
from everindex.articles.shape.hit import Hit
from everindex.articles.shape.spec import CollectionSpec, Metric, VectorType
from everindex.errors import CollectionInvalid, CollectionNotFound, QueryInapplicable

#: How many documents `find` reads at a time.
PAGE_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A document as it is stored, and how a search found it."""

    key: str
    text: str
    metadata: dict[str, Any]
    distance: float | None = None
    """pgvector's distance of the collection's metric; None where no vector was compared."""

    similarity: float | None = None
    score: float | None = None
    """What orders a hybrid or a keyword search; higher is better."""


class DocumentStore:
    """The documents of one collection; safe to use from many threads.

    `connection` is an address, an open instance (which stays open), or None for the address of the settings. `metric` and
    `metadata_columns` (name → PostgreSQL type) apply when the collection is created; an existing one must agree with them.
    Raises what connecting raises, and CollectionInvalid where it does not agree.
    """

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
        self.collection_name = collection_name
        self._metric = metric
        self._vector_type = vector_type
        self._metadata_columns = dict(metadata_columns or {})
        self._model = model
        self._collection: Collection | None = None
        self._opening = threading.Lock()
        owned = ExitStack()
        self._closing = weakref.finalize(self, owned.close)
        self.instance = connection if isinstance(connection, Instance) else owned.enter_context(
            connect_instance(connection)
        )  # fmt: skip
        try:
            self.opened()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connections that the store opened; an instance that was passed stays open."""
        self._closing()

    # --- the collection --------------------------------------------------------------------------------------------

    def opened(self) -> Collection | None:
        """The collection, or None where it does not exist yet. Raises CollectionInvalid where it differs from what was
        requested."""
        if self._collection is None:
            with self._opening:
                try:
                    found = self.instance.collection(self.collection_name)
                except CollectionNotFound:
                    return None
                self._require_agreement(found.spec)
                self._collection = found
        return self._collection

    @property
    def metric(self) -> Metric:
        """The metric of the collection, or the one that it will have."""
        found = self.opened()
        return (self._metric or "cosine") if found is None else found.spec.metric

    def drop(self) -> None:
        """Drops the collection, and its table where everindex made it; does nothing where there is none."""
        if self.opened() is not None:
            self.instance.drop_collection(self.collection_name)
        self._collection = None

    # --- writing ---------------------------------------------------------------------------------------------------

    def add(
        self,
        keys: Sequence[str],
        texts: Sequence[str],
        metadatas: Sequence[Mapping[str, Any]],
        vectors: Sequence[Sequence[float]] | np.ndarray,
    ) -> None:
        """Stores documents with their vectors ((n, dim), finite); one whose key exists is replaced, its metadata too.

        The last of several documents with one key is stored. Creates the collection where it does not exist. Raises
        CollectionInvalid or QueryInvalid; then nothing is stored.
        """
        if not keys:
            return
        array = np.asarray(vectors, dtype=np.float32)
        collection = self.opened() or self._made(array)
        spec = collection.spec
        if len(spec.text) != 1:
            raise CollectionInvalid(
                f"documents cannot be stored in collection {spec.name!r}.",
                why=f"a document has one text, and the collection has {len(spec.text)} text columns.",
                next_step="store rows with  Collection.upsert , which names each column.",
            )
        rows = [_row(spec, key, text, metadata) for key, text, metadata in zip(keys, texts, metadatas, strict=True)]
        # In a table that everindex did not create, a column may have a default, which an unnamed member must not replace.
        collection.writer.store(rows, vectors=array, model=self._model, replaces_metadata=spec.rest is not None)

    def clear(self) -> int:
        """Deletes all documents; returns how many. The collection stays."""
        collection = self.opened()
        return 0 if collection is None else collection.delete(filters={collection.spec.key: {"$exists": True}})

    def delete(self, keys: Sequence[str] | None, *, filters: Mapping[str, Any] | None = None) -> int:
        """Deletes documents by key, by filter, or those that are in both; returns how many. Raises QueryInvalid where neither is
        given."""
        collection = self.opened()
        if collection is None:
            return 0
        return collection.delete(keys, filters=None if filters is None else as_columns(collection.spec, filters))

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, keys: Sequence[str]) -> list[StoredDocument]:
        """The documents with these keys, in their order; a key that none has is left out."""
        collection = self.opened()
        if collection is None or not keys:
            return []
        spec = collection.spec
        return [_document(spec, tuple(row.values())) for row in collection.get(keys)]

    def find(
        self, filters: Mapping[str, Any] | None = None, *, keys: Sequence[str] | None = None
    ) -> Iterator[StoredDocument]:
        """All documents that pass `filters`, of `keys` where these are given; read PAGE_ROWS at a time, in no promised order."""
        collection = self.opened()
        if collection is None:
            return
        wanted = as_columns(collection.spec, filters, keys=keys)
        after = None
        while True:
            page = collection.browse(wanted, k=PAGE_ROWS, after=after)
            yield from (_found(collection.spec, hit) for hit in page.hits)
            after = page.next_cursor
            if after is None:
                return

    def nearest(
        self,
        vector: Sequence[float] | np.ndarray,
        *,
        k: int,
        filters: Mapping[str, Any] | None = None,
        keys: Sequence[str] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
    ) -> list[StoredDocument]:
        """The k documents nearest to `vector` ((dim,)), nearest first, of `keys` where these are given. Raises as
        `Searchable.search_vector`."""
        collection = self.opened()
        if collection is None:
            return []
        found = collection.search_vector(
            np.asarray(vector, dtype=np.float32), k=k, filters=as_columns(collection.spec, filters, keys=keys),
            ef_search=ef_search, exact=exact,
        )  # fmt: skip
        return [_found(collection.spec, hit) for hit in found.hits]

    def search(
        self,
        text: str,
        vector: Sequence[float] | np.ndarray | None,
        *,
        mode: Mode,
        k: int,
        filters: Mapping[str, Any] | None = None,
        keys: Sequence[str] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
    ) -> list[StoredDocument]:
        """The k documents that answer best: `text` by its words (keyword), `vector` by meaning (semantic), or both (hybrid).
        Raises as `Searchable.search`."""
        if mode == "semantic" and vector is not None:
            return self.nearest(vector, k=k, filters=filters, keys=keys, ef_search=ef_search, exact=exact)
        collection = self.opened()
        if collection is None:
            return []
        if not collection.spec.text:
            raise QueryInapplicable(
                f"collection {self.collection_name!r} cannot be searched by words.",
                why="it has vectors, and no text columns.",
                next_step="search with mode=semantic.",
            )
        request = SearchRequest(
            text=text, mode=mode, k=k, ef_search=ef_search, exact=exact,
            filters=as_filters(as_columns(collection.spec, filters, keys=keys), collection.spec),
        )  # fmt: skip
        answer = collection.searches.answer(request, None if vector is None else np.asarray(vector, dtype=np.float32))
        return [_found(collection.spec, hit) for hit in answer.hits]

    def vectors(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Key → stored vector, (dim,) float32; documents without one are left out."""
        collection = self.opened()
        if collection is None:
            return {}
        table, _ = collection.engine.known()
        return dict(collection.reading.ask(lambda connection: read_vectors(connection, table, keys)))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _made(self, vectors: np.ndarray) -> Collection:
        with self._opening:
            self._collection = self.instance.collection(
                self.collection_name,
                dim=vectors.shape[-1] if vectors.ndim == 2 else 0,
                metric=self._metric or "cosine",
                vector_type=self._vector_type,
                metadata=self._metadata_columns,
            )
            return self._collection

    def _require_agreement(self, spec: CollectionSpec) -> None:
        missing = sorted(set(self._metadata_columns) - set(spec.metadata))
        if self._metric not in (None, spec.metric):
            why = f"its metric is {spec.metric}, not {self._metric}."
        elif missing:
            why = f"it has no metadata column {missing[0]}."
        else:
            return
        raise CollectionInvalid(
            f"collection {spec.name!r} exists with another declaration.",
            why=why,
            next_step="leave out what differs, or choose another collection_name.",
        )


def as_columns(
    spec: CollectionSpec, filters: Mapping[str, Any] | None, *, keys: Sequence[str] | None = None
) -> Mapping[str, Any] | None:
    """A filter over the members of documents' metadata, and over `keys`, as one over the columns of the collection.

    `$not` also takes a list, of which no condition may hold, as LangChain writes it.
    """
    if keys is not None:
        within = {spec.key: {"$in": [*keys]}}
        return {"$and": [within, as_columns(spec, filters)]} if filters else within
    if filters is None or not isinstance(filters, Mapping):
        return filters
    columns: dict[str, Any] = {}
    members: dict[str, Any] = {}
    for name, value in filters.items():
        if name in ("$and", "$or") and isinstance(value, list | tuple):
            columns[name] = [as_columns(spec, each) for each in value]
        elif name == "$not" and isinstance(value, list | tuple):
            columns[name] = {"$or": [as_columns(spec, each) for each in value]}
        elif name == "$not":
            columns[name] = as_columns(spec, value)
        elif spec.rest is None or name.startswith("$") or _has_column(spec, name):
            columns[name] = value
        else:
            members[name] = value
    if members and spec.rest is not None:
        columns[spec.rest] = members
    return columns


def _has_column(spec: CollectionSpec, member: str) -> bool:
    return member in spec.metadata and member != spec.rest


def _row(spec: CollectionSpec, key: str, text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {spec.key: key, spec.text[0]: text}
    if spec.rest is None:
        return {**metadata, **row}
    row[spec.rest] = {name: value for name, value in metadata.items() if not _has_column(spec, name)}
    return row | {name: value for name, value in metadata.items() if _has_column(spec, name)}


def _found(spec: CollectionSpec, hit: Hit) -> StoredDocument:
    return _document(spec, hit.values, distance=hit.distance, similarity=hit.similarity, score=hit.score)


def _document(
    spec: CollectionSpec,
    values: tuple[Any, ...],
    *,
    distance: float | None = None,
    similarity: float | None = None,
    score: float | None = None,
) -> StoredDocument:
    """`values`: the columns of the collection, in their order."""
    texts = 1 + len(spec.text)
    metadata: dict[str, Any] = {}
    for name, value in zip(spec.metadata, values[texts:], strict=True):
        if name == spec.rest:
            metadata |= value or {}
        elif value is not None:
            metadata[name] = value
    return StoredDocument(
        key=str(values[0]),
        text="\n\n".join(text for text in values[1:texts] if text),
        metadata=metadata,
        distance=distance,
        similarity=similarity,
        score=score,
    )
