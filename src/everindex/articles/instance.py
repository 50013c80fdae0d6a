"""An open article instance: the public API of the library, also used by the commands and the web application.

Owns the components and passes each call to the one that does the work: `ArticleWriter`, `SearchService`,
`verification`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from everindex.articles.collections.collection import Collection
from everindex.articles.collections.creation import new_spec
from everindex.articles.collections.opening import drop_collection, lay_collection, open_collection
from everindex.articles.collections.registry import read_collections
from everindex.articles.connections.pools import Pools
from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.embedding.declaration import SAMPLE_ROWS, Declared
from everindex.articles.embedding.model_counts import ModelCounts, count_models
from everindex.articles.expiry import read_expiry
from everindex.articles.incident_records import Incidents
from everindex.articles.ingest import stored_vectors
from everindex.articles.ingest.article_writer import ArticleWriter
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.ingest.sync import MOST_REMOVED, Synced
from everindex.articles.lookup import read_article
from everindex.articles.model import Answer, Article, RowProblem
from everindex.articles.passages.writer import PassageWriter
from everindex.articles.saved_searches import SavedSearches
from everindex.articles.search.filters import AnyFilters
from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.request.search_request import as_filters
from everindex.articles.searchable import Searchable
from everindex.articles.shape.spec import CollectionSpec, Metric, VectorType
from everindex.articles.table import read_table
from everindex.errors import EverindexError
from everindex.index.keeper.round import RoundCounts
from everindex.index.reporter import Reporter
from everindex.pg import away
from everindex.pg.address import Addresses
from everindex.pg.connections import Connection, borrowed, make_pool
from everindex.pg.pool import MakePool
from everindex.pg.pooler import limited
from everindex.settings import Settings


class Instance(Searchable):
    """An open instance; safe to use from many threads. Made by `everindex.connect()`; `close()` when done."""

    def __init__(self, addresses: Addresses, settings: Settings, *, make_pool: MakePool = make_pool) -> None:
        self.addresses = addresses
        self._pools = Pools(addresses, settings, make=make_pool)
        self._pool = self._pools.primary
        super().__init__(ARTICLES, addresses, settings, reading=Reading(self._pool, self._pools.replica))
        self.passages = PassageWriter(self)
        """The cutting of whole texts into passages."""

        self.passages_of = partial(PassageWriter, self)
        """The same of another collection, given its declaration."""

        self.writer = ArticleWriter(
            addresses, settings, reading=self.reading, engine=self.engine, words=self.words,
            query_embedder=self.query_embedder, invalidate=self.invalidate, cut_texts=self.passages.cut,
        )  # fmt: skip
        self.saved_searches = SavedSearches(self, self.connection, self.collection)
        """The searches that people have saved under a name."""

        self.incidents = Incidents(self, self.saved_searches, self.connection)
        """The incidents, with what they are linked to and their notes."""

        self.keeper_rounds = RoundCounts()
        """The rounds of the keeper that runs beside this instance, where one does."""

        self.on_close: list[Callable[[], None]] = []
        """Called when it is closed, for what observes it in the background."""

        self.opened: dict[str, Collection] = {}
        """The collections that were opened here, by name."""

    def close(self) -> None:
        """Closes all connections, to the database and to the endpoint of the embedding model."""
        for end in self.on_close:
            end()
        for opened in (self, *self.opened.values()):
            opened.searches.close()
        self._pools.close()
        self.query_embedder.close()

    def renew_connections(self) -> None:
        """Replaces the pooled connections as they become free: for use after the extension was created."""
        self._pool.drain()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to the primary, with the statement timeout of the settings; behind a pooler the block is one
        transaction. Code that only reads should use `reading`. Raises ServerUnreachable."""
        with borrowed(self._pool) as connection, limited(connection):
            yield connection

    def why_unreachable(self) -> EverindexError | None:
        """The last known reason why the primary is unreachable, or None; does not connect."""
        return away.known_away(self._pool)

    def pool_stats(self) -> dict[str, dict[str, int]]:
        """What psycopg counts of each pool, `primary` and, while it is used, `replica`."""
        replica = None if self._pools.replica is None else self._pools.replica.pool
        return {
            name: pool.get_stats() for name, pool in (("primary", self._pool), ("replica", replica)) if pool is not None
        }

    # --- collections -----------------------------------------------------------------------------------------------

    def collections(self) -> list[CollectionSpec]:
        """The declarations of the collections beside the articles, by name."""
        with self.connection() as connection:
            return read_collections(connection)

    def collection(
        self,
        name: str,
        *,
        dim: int | None = None,
        metric: Metric = "cosine",
        text: Sequence[str] = ("text",),
        metadata: Mapping[str, str] | Sequence[str] = (),
        key: str = "id",
        key_type: str = "text",
        vector_type: VectorType = "vector",
        date: str | None = None,
        expires: str | None = None,
        passages: str | None = None,
        table: str | None = None,
        schema: str | None = None,
    ) -> Collection:
        """The collection of that name; with `dim`, made where it does not exist: a table with a key, text columns, typed
        metadata columns (name → PostgreSQL type), a JSON column `metadata` for the rest, and a column of vectors with its
        index. From the moment in its metadata column `expires` on, a row is not found any more. The texts of column `passages`
        are cut into passages, which are searched too (docs/whole-texts.md). Opening it again needs the name alone.

        Raises CollectionNotFound without `dim`, CollectionInvalid where it exists with another declaration, and what making a
        table raises.
        """
        return open_collection(
            self, name, dim=dim, vector_type=vector_type, key_type=key_type, metadata_types=metadata,
            spec=None if dim is None else new_spec(
                name, table=table, schema=schema, key=key, text=text, metadata=metadata, date=date,
                expires=expires, passages=passages, metric=metric,
            ),
        )  # fmt: skip

    def collection_of(
        self,
        *,
        table: str,
        key: str,
        vector: str,
        text: Sequence[str] = (),
        metadata: Sequence[str] = (),
        schema: str | None = None,
        name: str | None = None,
        metric: Metric = "cosine",
        date: str | None = None,
        expires: str | None = None,
        passages: str | None = None,
        deploys: bool = True,
    ) -> Collection:
        """A collection over an existing table, of which no column, trigger or row changes. Its index is built online
        where it lacks one and `deploys`; the declaration is recorded under `name` (by default the table's).

        Raises TableNotFound, ColumnMismatch, CollectionInvalid where another collection has that name or table.
        """
        return lay_collection(
            self,
            CollectionSpec(
                name=name or table, table=table, schema=schema, key=key, text=tuple(text), vector=vector,
                metadata=tuple(metadata), metric=metric, date=date, expires=expires, passages=passages,
            ),
            deploys=deploys,
        )  # fmt: skip

    def drop_collection(self, name: str) -> None:
        """Removes a collection, and its table if everindex created it; any other table stays as it is, with
        the indexes that were built on it. Raises CollectionNotFound."""
        drop_collection(self, name)

    # --- writing ---------------------------------------------------------------------------------------------------

    def upsert(
        self,
        articles: Iterable[Article | Mapping[str, Any] | object],
        *,
        vectors: np.ndarray | None = None,
        model: str | None = None,
    ) -> ImportReport:
        """Stores articles (Article, or dicts or dataclasses with its fields) and embeds those that are new, changed or
        without a vector.

        `vectors` ((n, dim) float32, finite, not zero) are stored unchanged; `model` names the model that made them.
        Raises QueryInvalid for a row or vector that cannot be stored; then nothing is stored.
        """
        return self.writer.upsert(articles, vectors=vectors, model=model)

    def import_rows(
        self,
        rows: Iterable[Article | RowProblem],
        *,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Stores the rows of an importer, see `ingest.import_rows`; a large load into a tiny table is stored first and
        indexed afterwards."""
        return self.writer.import_rows(rows, on_rows=on_rows, reporter=reporter)

    def delete(
        self,
        uris: Sequence[str] | None = None,
        *,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> int:
        """Deletes the articles with these uris, or those that pass the filters (with both: those in both), with their full
        texts and all that is recorded of them, in one transaction. Returns how many, or with `dry_run` how many it would.

        Raises QueryInvalid where neither is given, ReadOnlyServer, PermissionDenied.
        """
        return self.writer.delete(
            uris, filters=None if filters is None else as_filters(filters, self.spec), is_dry_run=dry_run
        )

    def set_expiry(self, uris: Sequence[str], *, expires_at: dt.datetime | None) -> int:
        """From `expires_at` on no search finds these articles, and `delete_expired` removes them; None: they stay. A moment
        without a zone is UTC. Returns how many of the uris are articles.

        Other processes notice the first moment ever set within 5 seconds. Raises PermissionDenied where this role may not
        record it."""
        return self.writer.set_expiry(uris, expires_at=expires_at)

    def expiry_of(self, uris: Sequence[str]) -> dict[str, dt.datetime]:
        """When articles expire; those that do not are left out. Reads only."""
        with self.connection() as connection:
            return read_expiry(connection, uris)

    def delete_expired(self, *, dry_run: bool = False) -> int:
        """Deletes the articles that have expired, with all that is recorded of them, in one transaction. Returns how many, or
        with `dry_run` how many it would."""
        return self.writer.delete_expired(is_dry_run=dry_run)

    def delete_orphans(self, *, dry_run: bool = False) -> dict[str, int]:
        """Removes what is recorded about articles, and rows of collections, that something else has deleted. Returns how many
        rows of which tables; `dry_run` takes it back. No article changes."""
        return self.writer.delete_orphans(is_dry_run=dry_run)

    def sync(
        self,
        rows: Iterable[Article | RowProblem],
        *,
        source: str,
        most_removed: float = MOST_REMOVED,
        dry_run: bool = False,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> tuple[ImportReport, Synced]:
        """Imports `rows`, all that the source has, and removes the articles of news_source `source` that are not among them.
        With `dry_run` nothing is stored or removed, and the second result says what would be.

        Raises SyncRefused where more than the share `most_removed` (0 to 1) of the source's articles would go, or a row of the
        source could not be read: what was read is stored then, and nothing is removed.
        """
        return self.writer.sync(
            rows, source=source, most_removed=most_removed, is_dry_run=dry_run, on_rows=on_rows, reporter=reporter
        )

    def embed_missing(
        self,
        *,
        queue: Sequence[str] | None = None,
        overwrite_unrecorded: bool = False,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Makes the vectors of articles that have none, a zero one, or one of another model; see
        `embedding_queue.embed_missing`. `queue` is a recent result of `articles_to_embed`, so that every vector is not read
        twice. Cuts the whole texts that are due into passages, too (the report's `passages`).

        Raises EmbeddingModelUnrecorded where the table has vectors without a record of their model, unless
        `overwrite_unrecorded`, which replaces these vectors too.
        """
        report = self.writer.embed_missing(
            queue=queue, overwrite_unrecorded=overwrite_unrecorded, on_rows=on_rows, reporter=reporter
        )
        report.passages += self.passages.cut(self.embedder, reporter=reporter)
        report.passages += self.passages.complete(reporter=reporter)
        return report

    def embedding_queue(self, *, overwrite_unrecorded: bool = False) -> int:
        """How many articles have no vector of the current model, or a zero one. Reads every vector."""
        return len(self.articles_to_embed(overwrite_unrecorded=overwrite_unrecorded))

    def articles_to_embed(self, *, overwrite_unrecorded: bool = False) -> list[str]:
        """The uris of the articles that `embedding_queue` counts. Reads every vector."""
        return self.writer.keys_to_embed(overwrite_unrecorded=overwrite_unrecorded)

    def check_vectors(
        self, *, repair: bool = True, on_rows: Callable[[int], None] | None = None
    ) -> stored_vectors.Compared:
        """Compares every vector of the current model with its text and, with `repair`, replaces those made from another
        text. Raises UsageError for a model behind an endpoint."""
        return self.writer.check_vectors(repair=repair, on_rows=on_rows)

    # --- models of the vectors ----------------------------------------------------------------------------------------

    def models(self) -> ModelCounts:
        """Which models made how many vectors, and how many are unrecorded, zero or not normalised. Reads every vector."""
        with self.connection() as connection:
            return count_models(connection, read_table(connection))

    def declare_model(self, name: str, *, sample: int = SAMPLE_ROWS) -> Declared:
        """Records that the model `name` made the vectors that have no record, after comparing a sample of them with its
        vectors of their texts. `name` is `static`, a model of the endpoint, or either as `models` names it.

        Raises DeclarationRefused, with the figures, where they disagree or too few can be compared,
        EmbeddingModelUnusable, EmbeddingFailed, EmbeddingModelUnrecorded where nothing can be recorded.
        """
        return self.writer.declare_model(name, sample=sample)

    # --- reading ---------------------------------------------------------------------------------------------------

    def article(self, uri: str) -> Article:
        """One article with all its stored fields. Raises ArticleNotFound."""
        table, _ = self.engine.known()
        return read_article(self.reading, table, uri)

    def similar(
        self,
        uri: str,
        *,
        k: int = 10,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        after: str | None = None,
        min_similarity: float | None = None,
        diversity: float | None = None,
        group_duplicates: bool = False,
        without_near_duplicates: bool = False,
        near_duplicate_distance: float = NEAR_DUPLICATE_DISTANCE,
    ) -> Answer:
        """The k articles nearest to an article, excluding the article itself; as `Searchable.similar`. Raises
        ArticleNotFound."""
        return super().similar(
            uri, k=k, filters=filters, after=after, min_similarity=min_similarity, diversity=diversity,
            group_duplicates=group_duplicates, without_near_duplicates=without_near_duplicates,
            near_duplicate_distance=near_duplicate_distance,
        )  # fmt: skip
