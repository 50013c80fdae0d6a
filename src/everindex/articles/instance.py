"""One article instance as a Python object: upsert, search, similar, article, verify. What the library, the commands and the
web application share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from everindex.articles import ingest, stored_vectors, verification
from everindex.articles.bulk import LARGE_LOAD_ROWS, without_index
from everindex.articles.declared import EMBEDDING_INDEX
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
from everindex.articles.embedding.model_counts import ModelCounts, count_models
from everindex.articles.given import as_articles
from everindex.articles.ingest import ImportReport
from everindex.articles.meanings import QueryEmbedder, require_width
from everindex.articles.model import DEFAULT_MODE, Answer, Article, Filters, Mode, RowProblem
from everindex.articles.pools import Pools
from everindex.articles.reading import Reading
from everindex.articles.recall_queries import RecallQueries
from everindex.articles.search.engine import SearchEngine
from everindex.articles.search.explained import Explanation
from everindex.articles.search.keyword import KeywordSearch
from everindex.articles.search.request import NEAR_DUPLICATE_DISTANCE, SearchRequest, as_filters, check_query
from everindex.articles.search.short import ShortAnswer
from everindex.articles.searches import SearchService
from everindex.articles.stored import read_article
from everindex.articles.table import read_table
from everindex.articles.table_models import unrecorded_error
from everindex.errors import (
    EmbeddingModelUnrecorded,
    EverindexError,
)
from everindex.index.catalog.tuned import effective_spec
from everindex.index.journal import record
from everindex.index.proof import Verification
from everindex.index.reporter import Reporter
from everindex.pg import address, away, own_schema
from everindex.pg.address import Addresses
from everindex.pg.connections import Connection, WaitTold, borrowed, connect
from everindex.pg.pooler import limited
from everindex.pg.vector_type import register_vector
from everindex.settings import Settings, read_settings

log = logging.getLogger(__name__)


class Instance:
    """An open instance; safe to use from many threads. Made by `everindex.connect()`; `close()` when done."""

    def __init__(self, addresses: Addresses, settings: Settings) -> None:
        self.conninfo = addresses.main
        self.direct_conninfo = addresses.direct
        """The server itself, where the other leads through a pooler: for what needs a session of its own."""

        self.settings = settings
        self._recall_queries = RecallQueries(settings)
        self._pools = Pools(addresses, settings)
        self._pool = self._pools.primary
        self.reading = Reading(self._pool, self._pools.replica)
        self.engine = SearchEngine(
            self.reading, slow_query_ms=settings.slow_query_ms, journal=self._journal_short_answer
        )
        self.words = KeywordSearch(self.reading, text_search=settings.text_search, slow_query_ms=settings.slow_query_ms)
        self.query_embedder = QueryEmbedder(self.reading, self.engine, settings)
        self.searches = SearchService(
            self.reading, self.engine, self.words, self.query_embedder, slow_query_ms=settings.slow_query_ms
        )

    def close(self) -> None:
        """Closes all connections."""
        self._pools.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to the primary, with the statement timeout of the settings; a pooler in between makes the block one
        transaction. What only reads had better go through `reading`. Raises ServerUnreachable."""
        with borrowed(self._pool) as connection, limited(connection):
            yield connection

    def why_unreachable(self) -> EverindexError | None:
        """What is known at the moment of a primary that is away; asks nobody."""
        return away.known_away(self._pool)

    @property
    def embedder(self) -> Embedder:
        """The model that embeds queries and articles, loaded at its first use. Raises EmbeddingModelUnusable, NotMigrated."""
        return self.query_embedder.embedder

    # --- writing ---------------------------------------------------------------------------------------------------

    def upsert(
        self,
        articles: Iterable[Article | Mapping[str, Any] | object],
        *,
        vectors: np.ndarray | None = None,
        model: str | None = None,
    ) -> ImportReport:
        """Stores articles (Article, or dicts or dataclasses with its fields) and embeds what has no vector or changed.

        `vectors` ((n, dim) float32, finite, not zero) are taken as they are; `model` names what made them. Raises
        QueryInvalid for a row or vector that cannot be stored; nothing is stored then.
        """
        rows = as_articles(articles)
        with self._writer() as connection:
            embedder = self._embedder_to_write(connection) if vectors is None else None
            coming = 0 if isinstance(embedder, EverindexError) else len(rows)
            with self._large_load(coming, None):
                if embedder is None:
                    report = ingest.upsert_vectors(connection, rows, np.asarray(vectors), model=model)
                else:
                    report = ingest.import_rows(connection, rows, embedder)
        self._forget_after_write(are_recorded=vectors is None or model is not None)
        return report

    def import_rows(
        self,
        rows: Iterable[Article | RowProblem],
        *,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Stores the rows of an importer, see `ingest.import_rows`; a large load into a tiny table goes in before the index."""
        iterator = iter(rows)
        first = list(islice(iterator, LARGE_LOAD_ROWS))
        with self._writer() as connection:
            embedder = self._embedder_to_write(connection)
            coming = 0 if isinstance(embedder, EverindexError) else len(first)
            with self._large_load(coming, reporter):
                report = ingest.import_rows(connection, chain(first, iterator), embedder, on_rows=on_rows)
        self._forget_after_write(are_recorded=True)
        return report

    def embed_missing(
        self,
        *,
        queue: Sequence[str] | None = None,
        overwrite_unrecorded: bool = False,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Completes the vectors of articles that have none, a zero one, or one of another model; see `ingest.embed_missing`.
        `queue` is what `articles_to_embed` gave, where it was asked just before: looking reads every vector.

        Raises EmbeddingModelUnrecorded where vectors are there of which nothing says what made them, unless
        `overwrite_unrecorded` has these made anew, too: the old ones are gone then.
        """
        with self._writer() as connection:
            if overwrite_unrecorded:
                self._keep_records(connection)
            embedder = self._embedder_to_write(connection, overwrites=overwrite_unrecorded)
            if isinstance(embedder, EverindexError):
                raise embedder
            if queue is None:
                queue = ingest.read_queue(connection, embedder.model, overwrite_unrecorded=overwrite_unrecorded)
            with self._large_load(len(queue), reporter):
                report = ingest.embed_missing(
                    connection, embedder, queue, overwrite_unrecorded=overwrite_unrecorded, on_rows=on_rows
                )
        self.invalidate()
        return report

    def embedding_queue(self, *, overwrite_unrecorded: bool = False) -> int:
        """How many articles have no vector of the current model, or a zero one. Reads every vector."""
        return len(self.articles_to_embed(overwrite_unrecorded=overwrite_unrecorded))

    def articles_to_embed(self, *, overwrite_unrecorded: bool = False) -> list[str]:
        """The uris of these. Reads every vector."""
        with self._writer() as connection:
            return ingest.read_queue(connection, self.embedder.model, overwrite_unrecorded=overwrite_unrecorded)

    def check_vectors(
        self, *, mends: bool = True, on_rows: Callable[[int], None] | None = None
    ) -> stored_vectors.Compared:
        """Compares every vector of the current model with its text, and makes those of another text anew. Raises UsageError for
        a model behind an endpoint."""
        with self._writer() as connection:
            done = stored_vectors.check_all(connection, self.embedder, mends=mends, on_rows=on_rows)
        self._forget_after_write(are_recorded=True)
        return done

    # --- who made the vectors -----------------------------------------------------------------------------------------

    def models(self) -> ModelCounts:
        """Which models made how many vectors, and how many are unrecorded, zero or not normalised. Reads every vector."""
        with self.connection() as connection:
            return count_models(connection, read_table(connection))

    def declare_model(self, name: str, *, sample: int = SAMPLE_ROWS) -> Declared:
        """Records that the model `name` made the vectors that have no record, after comparing a sample of them with what it
        gives their texts. `name` is `static`, a model of the endpoint, or either as `models` names it.

        Raises DeclarationRefused with the figures where they disagree or too few can be compared, EmbeddingModelUnusable,
        EmbeddingFailed, EmbeddingModelUnrecorded where nothing can be recorded.
        """
        with self._writer() as connection:
            table = read_table(connection)
            require_width(table)
            embedder = embedder_named(name, self.settings, width=table.dimensions or 0, retries=DECLARING)
            if table.records_hidden_from is not None:
                raise unrecorded_error(table)
            sampled = read_unrecorded(connection, table, rows=sample)
            if not sampled.texts:
                raise nothing_to_declare(embedder)
            agreement = compare(sampled, embedder)
            self._keep_records(connection, must_declare=True)
            record_declaration(connection, table, embedder.model, agreement)
        self.invalidate()
        return Declared(model=embedder.model, agreement=agreement)

    # --- reading ---------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str,
        *,
        k: int = 10,
        mode: Mode = DEFAULT_MODE,
        filters: Filters | Mapping[str, str] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        after: str | None = None,
        min_similarity: float | None = None,
        diversity: float | None = None,
    ) -> Answer:
        """The k articles that answer `text` best, best first, among those that pass `filters`.

        `mode` is hybrid (by meaning and by words, fused by rank), semantic (the nearest in meaning) or keyword (those that
        have the words; "quoted phrases", or, and -minus are understood). `after` is an answer's next_cursor: the page after
        it. `min_similarity` (−1 to 1) leaves out what is less similar. `diversity` (0 to 1) trades nearness for variety.

        A hybrid search whose text cannot be embedded is answered by words, and says so; a semantic one raises
        EmbeddingFailed, EmbeddingModelUnusable or EmbeddingModelsMixed. Where nothing says which model made the stored vectors,
        both are answered by words until `declare_model`, and say so (EmbeddingModelUnrecorded where words cannot). All raise
        QueryInvalid (CursorRefused for a cursor of another search), NotMigrated, ServerUnreachable, StatementTimedOut.
        """
        return self.searches.answer(
            SearchRequest(
                text=text, mode=mode, k=k, filters=as_filters(filters), ef_search=ef_search, exact=exact, after=after,
                min_similarity=min_similarity, diversity=diversity,
            )
        )  # fmt: skip

    def browse(
        self,
        filters: Filters | Mapping[str, str] | None = None,
        *,
        k: int = 10,
        after: str | None = None,
    ) -> Answer:
        """The k newest articles that pass `filters`, without a search: `total` says how many pass, `after` leads to further
        pages. Raises QueryInvalid, CursorRefused, NotMigrated, ServerUnreachable, StatementTimedOut."""
        return self.searches.answer(SearchRequest(mode="browse", k=k, filters=as_filters(filters), after=after))

    def embed_query(self, text: str) -> np.ndarray:
        """The vector of a search text, (dim,) float32, of the model that made the table's vectors."""
        return self.query_embedder.of_text(check_query(text))

    def search_vector(
        self,
        vector: np.ndarray,
        *,
        k: int = 10,
        filters: Filters | Mapping[str, str] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        after: str | None = None,
        min_similarity: float | None = None,
        diversity: float | None = None,
    ) -> Answer:
        """The k articles nearest to `vector` ((dim,) float32). Options and errors as of `search`, but for embedding."""
        return self.searches.answer(
            SearchRequest(
                vector=vector, mode="semantic", k=k, filters=as_filters(filters), ef_search=ef_search, exact=exact,
                after=after, min_similarity=min_similarity, diversity=diversity,
            )
        )  # fmt: skip

    def search_many(
        self,
        queries: Sequence[str | np.ndarray] | np.ndarray,
        *,
        k: int = 10,
        filters: Filters | Mapping[str, str] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        min_similarity: float | None = None,
    ) -> list[Answer]:
        """An answer by meaning for each query (texts, or vectors (dim,) float32), in their order: what `search_vector` gives,
        for a round trip in all. All texts are embedded in one call. Raises as `search`; no answer then is given.
        """
        request = SearchRequest(
            mode="semantic", k=k, filters=as_filters(filters), ef_search=ef_search, exact=exact,
            min_similarity=min_similarity,
        )  # fmt: skip
        return self.searches.answer_many(request, queries)

    def explain(
        self,
        vector: np.ndarray,
        *,
        k: int = 10,
        filters: Filters | Mapping[str, str] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
    ) -> Explanation:
        """How `search_vector` answers this: strategy and why, settings, statement, and its plan as it ran."""
        return self.searches.explain(
            SearchRequest(
                vector=vector, mode="semantic", k=k, filters=as_filters(filters), ef_search=ef_search, exact=exact
            )
        )

    def similar(
        self,
        uri: str,
        *,
        k: int = 10,
        filters: Filters | Mapping[str, str] | None = None,
        after: str | None = None,
        min_similarity: float | None = None,
        diversity: float | None = None,
        without_near_duplicates: bool = False,
        near_duplicate_distance: float = NEAR_DUPLICATE_DISTANCE,
    ) -> Answer:
        """The k articles nearest to an article, itself left out.

        `without_near_duplicates` leaves out also articles closer than `near_duplicate_distance` to it or to a nearer one of
        the answer, which is filled up to k. Other options as of `search`. Raises ArticleNotFound; an article without a
        vector has an empty answer that says so.
        """
        return self.searches.answer(
            SearchRequest(
                uri=uri, mode="semantic", k=k, filters=as_filters(filters), after=after, min_similarity=min_similarity,
                diversity=diversity, without_near_duplicates=without_near_duplicates,
                near_duplicate_distance=near_duplicate_distance,
            )
        )  # fmt: skip

    def article(self, uri: str) -> Article:
        """One article with all that is known of it. Raises ArticleNotFound."""
        table, _ = self.engine.known()
        return read_article(self.reading, table, uri)

    def verify(self, *, samples: int = 50, max_seconds: float = 10.0) -> Verification:
        """The three proofs of the index, and the revision; see `verification.verify`."""
        return verification.verify(
            self.direct_conninfo,
            floor=self.settings.recall_floor,
            samples=samples,
            max_seconds=max_seconds,
            asked=self._recall_queries,
        )

    def invalidate(self) -> None:
        """Reads table, index and models anew at the next use: after this process has changed them."""
        self.query_embedder.invalidate()
        self.engine.invalidate()
        self.words.invalidate()
        self.searches.invalidate()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _embedder_to_write(self, connection: Connection, *, overwrites: bool = False) -> Embedder | EverindexError:
        """The model that makes vectors for this table; or why none may be made: beside vectors of an unrecorded model another
        model's would be lost among them, and where nothing can be recorded, ours would be such."""
        table, _ = self.engine.known()
        if table.dimensions is None:
            return self.embedder
        if not overwrites and self.query_embedder.table_models(connection).is_unrecorded:
            return unrecorded_error(table)
        if not table.has_embedding_records:
            try:
                self._keep_records(connection)
            except EverindexError as exc:
                return exc
        return self.embedder

    def _keep_records(self, connection: Connection, *, must_declare: bool = False) -> None:
        """Sees to it that what is stored can be recorded. Raises EmbeddingModelUnrecorded."""
        table = read_table(connection)
        if table.has_embedding_records and (table.has_declared_models or not must_declare):
            return
        if table.records_hidden_from is not None:
            raise unrecorded_error(table)
        try:
            own_schema.ensure(self.direct_conninfo)
        except EverindexError as exc:
            role = sql.Identifier(connection.info.user).as_string(None)
            raise EmbeddingModelUnrecorded(
                "which model makes a vector cannot be recorded here, so none is stored.",
                why=f"schema everindex_meta is missing, and cannot be made: {exc.why}",
                next_step=f"have an administrator run  CREATE SCHEMA everindex_meta AUTHORIZATION {role};  "
                "then run  everindex embed.",
            ) from exc
        self.invalidate()

    def _forget_after_write(self, *, are_recorded: bool) -> None:
        if are_recorded:
            self.query_embedder.forget_recorded()
        else:
            self.query_embedder.invalidate()
        self.engine.invalidate()
        self.words.invalidate()

    @contextmanager
    def _large_load(self, vectors_coming: int, reporter: Reporter | None) -> Iterator[None]:
        table, serving = self.engine.known()
        if table.dimensions is None or (vectors_coming < LARGE_LOAD_ROWS and serving.index_name is not None):
            yield
            return
        with without_index(self.direct_conninfo, vectors_coming=vectors_coming, reporter=reporter):
            yield

    def _journal_short_answer(self, incident: ShortAnswer, count: int) -> None:
        """A line of the index's journal, if the primary takes it; the answer does not depend on it."""
        with suppress(EverindexError, psycopg.Error), self.connection() as connection:
            details = asdict(incident) | {"at": incident.at.isoformat(), "answers": count}
            record(connection, effective_spec(connection, EMBEDDING_INDEX), "short answer", **details)

    @contextmanager
    def _writer(self) -> Iterator[Connection]:
        with connect(self.conninfo, application_name="everindex import") as connection:
            register_vector(connection)
            try:
                yield connection
            finally:
                self.reading.note_write(connection)


@contextmanager
def connect_instance(
    conninfo: str | None = None,
    *,
    settings: Settings | None = None,
    wait_seconds: float | None = None,
    tell_wait: Callable[[str], None] = log.warning,
) -> Iterator[Instance]:
    """Opens an instance: at `conninfo`, else where the settings point, else the embedded server (started for the time).

    DATABASE_URL_DIRECT and DATABASE_URL_READ are used where `conninfo` is that of DATABASE_URL. A server that is not
    there yet is waited for `wait_seconds`, or as EVERINDEX_WAIT says, else not at all; `tell_wait` is told a sentence then.
    Raises what connecting raises.
    """
    settings = settings or read_settings()
    seconds = (settings.wait_seconds or 0.0) if wait_seconds is None else wait_seconds
    if conninfo is not None:
        with _opened(address.belonging_to(conninfo, settings), settings, seconds, tell_wait) as instance:
            yield instance
    else:
        with address.servers(settings) as found, _opened(found, settings, seconds, tell_wait) as instance:
            yield instance


@contextmanager
def _opened(
    addresses: Addresses, settings: Settings, wait_seconds: float, tell_wait: Callable[[str], None]
) -> Iterator[Instance]:
    told = WaitTold(tell_wait, where=address.describe(addresses.main))
    connect(addresses.main, wait_seconds=wait_seconds, on_wait=told).close()
    instance = Instance(addresses, settings)
    try:
        yield instance
    finally:
        instance.close()
