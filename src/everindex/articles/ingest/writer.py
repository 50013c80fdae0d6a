"""The writer of a collection: stores rows and vectors, each call over its own connection to the primary.

Guarantees that no vector is stored beside vectors of an unrecorded model, and that this process discards its caches
after a write. Other processes may use theirs until they expire.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.embedding import Embedder
from everindex.articles.embedding.choose import embedder_named
from everindex.articles.embedding.declaration import (
    DECLARING,
    SAMPLE_ROWS,
    Declared,
    compare,
    nothing_to_declare,
    read_unrecorded,
    record_declaration,
)
from everindex.articles.ingest import embedding_queue
from everindex.articles.ingest import import_rows as ingest
from everindex.articles.ingest.bulk_load import LARGE_LOAD_ROWS, without_index
from everindex.articles.ingest.delete import delete_rows
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.ingest.passage_report import PassageReport
from everindex.articles.ingest.rows import collection_rows
from everindex.articles.model import RowProblem
from everindex.articles.search.filters import AnyFilters, expired
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.query_vectors import QueryEmbedder
from everindex.articles.search.request.search_request import require_width
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import read_table
from everindex.articles.table_models import unrecorded_error
from everindex.errors import EmbeddingModelUnrecorded, EverindexError
from everindex.index.reporter import Reporter
from everindex.pg import own_schema
from everindex.pg.address import Addresses
from everindex.pg.connections import Connection, connect
from everindex.pg.vector_type import register_all_types, register_vector
from everindex.settings import Settings


class CutTexts(Protocol):
    """The cutting of the whole texts of some rows into passages."""

    def __call__(
        self, embedder: Embedder, keys: Sequence[str] | None = None, *, reporter: Reporter | None = None
    ) -> PassageReport: ...


class CollectionWriter:
    """Writes to one collection; safe to use from many threads."""

    def __init__(
        self,
        addresses: Addresses,
        settings: Settings,
        collection: CollectionSpec = ARTICLES,
        *,
        reading: Reading,
        engine: SearchEngine,
        words: KeywordSearch,
        query_embedder: QueryEmbedder,
        invalidate: Callable[[], None],
        cut_texts: CutTexts | None = None,
    ) -> None:
        """`invalidate` discards the caches of table, index and models; `cut_texts` makes whole texts findable, where the
        collection has any."""
        self.collection = collection
        self._conninfo = addresses.main
        self._direct_conninfo = addresses.direct
        self._settings = settings
        self._reading = reading
        self._engine = engine
        self._words = words
        self._query_embedder = query_embedder
        self._invalidate = invalidate
        self._cut_texts = cut_texts

    def store(
        self,
        items: Iterable[Mapping[str, Any]],
        *,
        vectors: np.ndarray | None = None,
        model: str | None = None,
        replaces_metadata: bool = False,
    ) -> ImportReport:
        """As `Collection.upsert`; with ready vectors, metadata columns that a row does not name may lose their values
        (`replaces_metadata`)."""
        given = list(items)
        with self._writer() as connection:
            table = read_table(connection, self.collection)
            rows = collection_rows(table, given)
            embedder = self._embedder_to_write(connection) if vectors is None else None
            coming = 0 if isinstance(embedder, EverindexError) else len(rows)
            with self._large_load(coming, None):
                if embedder is None:
                    if model is not None:
                        self._keep_records(connection)
                        table = read_table(connection, self.collection)
                    report = ingest.store_vectors(
                        connection, table, rows, np.asarray(vectors), model=model, replaces_metadata=replaces_metadata
                    )
                else:
                    report = ingest.store_rows(connection, read_table(connection, self.collection), rows, embedder)
        self._forget_after_write(are_recorded=vectors is None or model is not None)
        self._cut(report, {row.key for row in rows}, None)
        return report

    def import_objects(
        self,
        items: Iterable[tuple[int, Mapping[str, Any]] | RowProblem],
        *,
        source: str,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """As `Collection.import_objects`."""
        iterator = iter(items)
        report = ImportReport()
        stored = set[str]()
        first = list(islice(iterator, LARGE_LOAD_ROWS))
        with self._writer() as connection:
            embedder = self._embedder_to_write(connection)
            table = read_table(connection, self.collection)
            coming = 0 if isinstance(embedder, EverindexError) else len(first)
            with self._large_load(coming, reporter):
                whole = chain(first, iterator)
                while batch := list(islice(whole, ingest.BATCH_ROWS)):
                    report += ingest.store_objects(
                        connection, table, batch, embedder, source=source, stored_keys=stored
                    )
                    if on_rows is not None:
                        on_rows(len(batch))
        self._forget_after_write(are_recorded=True)
        self._cut(report, stored, reporter)
        return report

    def delete(self, keys: Sequence[Any] | None, *, filters: AnyFilters | None = None, is_dry_run: bool = False) -> int:
        """As `Collection.delete`."""
        with self._writer() as connection:
            table = read_table(connection, self.collection)
            deleted = delete_rows(connection, table, keys, filters=filters, is_dry_run=is_dry_run)
        if not is_dry_run:
            self._forget_after_write(are_recorded=True)
        return deleted

    def delete_expired(self, *, is_dry_run: bool = False) -> int:
        """As `Instance.delete_expired`."""
        with self._writer() as connection:
            if not read_table(connection, self.collection).can_expire:
                return 0
        return self.delete(None, filters=expired(), is_dry_run=is_dry_run)

    def embed_missing(
        self,
        *,
        queue: Sequence[str] | None = None,
        overwrite_unrecorded: bool = False,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """As `Instance.embed_missing`."""
        with self._writer() as connection:
            if overwrite_unrecorded:
                self._keep_records(connection)
            embedder = self._embedder_to_write(connection, overwrites=overwrite_unrecorded)
            if isinstance(embedder, EverindexError):
                raise embedder
            table = read_table(connection, self.collection)
            if queue is None:
                queue = embedding_queue.read_queue(
                    connection, embedder.model, table=table, overwrite_unrecorded=overwrite_unrecorded
                )
            with self._large_load(len(queue), reporter):
                report = embedding_queue.embed_missing(
                    connection, embedder, queue, table=table, overwrite_unrecorded=overwrite_unrecorded, on_rows=on_rows
                )
        self._invalidate()
        return report

    def keys_to_embed(self, *, overwrite_unrecorded: bool = False) -> list[str]:
        """As `Instance.articles_to_embed`."""
        with self._writer() as connection:
            return embedding_queue.read_queue(
                connection,
                self._query_embedder.embedder.model,
                table=read_table(connection, self.collection),
                overwrite_unrecorded=overwrite_unrecorded,
            )

    def declare_model(self, name: str, *, sample: int = SAMPLE_ROWS) -> Declared:
        """As `Instance.declare_model`."""
        with self._writer() as connection:
            table = read_table(connection, self.collection)
            require_width(table)
            embedder = embedder_named(name, self._settings, width=table.dimensions or 0, retries=DECLARING)
            if table.records_hidden_from is not None:
                raise unrecorded_error(table)
            sampled = read_unrecorded(connection, table, rows=sample)
            if not sampled.texts:
                raise nothing_to_declare(embedder)
            agreement = compare(sampled, embedder)
            self._keep_records(connection, must_declare=True)
            record_declaration(connection, table, embedder.model, agreement)
        self._invalidate()
        return Declared(model=embedder.model, agreement=agreement)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _embedder_to_write(self, connection: Connection, *, overwrites: bool = False) -> Embedder | EverindexError:
        """The model that makes vectors for this table, or why none may be made: vectors of different models could not
        be told apart beside unrecorded ones, and where nothing can be recorded, new ones would be unrecorded too."""
        table, _ = self._engine.known()
        if table.dimensions is None:
            return self._query_embedder.embedder
        if not overwrites and self._query_embedder.table_models(connection).is_unrecorded:
            return unrecorded_error(table)
        if not table.has_embedding_records:
            try:
                self._keep_records(connection)
            except EverindexError as exc:
                return exc
        return self._query_embedder.embedder

    def _cut(self, report: ImportReport, keys: Collection[str], reporter: Reporter | None) -> None:
        """Makes the whole texts among these rows findable."""
        if self._cut_texts is None or not keys:
            return
        with self._writer() as connection:
            embedder = self._embedder_to_write(connection)
        if not isinstance(embedder, EverindexError):
            report.passages += self._cut_texts(embedder, sorted(keys), reporter=reporter)

    def _keep_records(self, connection: Connection, *, must_declare: bool = False) -> None:
        """Makes sure that the models of stored vectors can be recorded. Raises EmbeddingModelUnrecorded."""
        table = read_table(connection, self.collection)
        if table.has_embedding_records and (table.has_declared_models or not must_declare):
            return
        if table.records_hidden_from is not None:
            raise unrecorded_error(table)
        try:
            own_schema.ensure(self._direct_conninfo)
        except EverindexError as exc:
            role = sql.Identifier(connection.info.user).as_string(None)
            raise EmbeddingModelUnrecorded(
                "which model makes a vector cannot be recorded here, so none is stored.",
                why=f"schema everindex_meta is missing and cannot be created: {exc.why}",
                next_step=f"have an administrator run  CREATE SCHEMA everindex_meta AUTHORIZATION {role};  "
                "then run  everindex embed.",
            ) from exc
        self._invalidate()

    def _forget_after_write(self, *, are_recorded: bool) -> None:
        if are_recorded:
            self._query_embedder.forget_recorded()
        else:
            self._query_embedder.invalidate()
        self._engine.invalidate()
        self._words.invalidate()

    @contextmanager
    def _large_load(self, vectors_coming: int, reporter: Reporter | None) -> Iterator[None]:
        table, serving = self._engine.known()
        if table.dimensions is None or (vectors_coming < LARGE_LOAD_ROWS and serving.index_name is not None):
            yield
            return
        with without_index(
            self._direct_conninfo, vectors_coming=vectors_coming, collection=self.collection, reporter=reporter
        ):
            yield

    @contextmanager
    def _writer(self) -> Iterator[Connection]:
        with connect(self._conninfo, application_name="everindex import") as connection:
            register_vector(connection) if self.collection is ARTICLES else register_all_types(connection)
            try:
                yield connection
            finally:
                self._reading.note_write(connection)
