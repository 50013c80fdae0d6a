"""An open article instance: the public API of the library, also used by the commands and the web application.

Owns the components and passes each call to the one that does the work: `ArticleWriter`, `SearchService`,
`verification`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import psycopg

from everindex.articles import verification
from everindex.articles.connections.pools import Pools
from everindex.articles.connections.reading import Reading
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.embedding import Embedder
from everindex.articles.embedding.declaration import SAMPLE_ROWS, Declared
from everindex.articles.embedding.model_counts import ModelCounts, count_models
from everindex.articles.ingest import stored_vectors
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.ingest.writer import ArticleWriter
from everindex.articles.lookup import read_article
from everindex.articles.model import DEFAULT_MODE, Answer, Article, Filters, Mode, RowProblem
from everindex.articles.recall_queries import RecallQueries
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.query_vectors import QueryEmbedder
from everindex.articles.search.request import NEAR_DUPLICATE_DISTANCE, SearchRequest, as_filters, check_query
from everindex.articles.search.rerank import Reranker
from everindex.articles.search.service import SearchService
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.search.vector.explanation import Explanation
from everindex.articles.search.vector.short_answers import ShortAnswer
from everindex.articles.table import read_table
from everindex.errors import EverindexError
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.journal import record
from everindex.index.recall.proof import Verification
from everindex.index.reporter import Reporter
from everindex.pg import away
from everindex.pg.address import Addresses
from everindex.pg.connections import Connection, borrowed
from everindex.pg.pooler import limited
from everindex.settings import Settings


class Instance:
    """An open instance; safe to use from many threads. Made by `everindex.connect()`; `close()` when done."""

    def __init__(self, addresses: Addresses, settings: Settings) -> None:
        self.conninfo = addresses.main
        self.direct_conninfo = addresses.direct
        """The address of the server itself where `conninfo` leads through a pooler; used for work that needs its own
        session."""

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
        self.writer = ArticleWriter(
            addresses, settings, reading=self.reading, engine=self.engine, words=self.words,
            query_embedder=self.query_embedder, invalidate=self.invalidate,
        )  # fmt: skip
        self.searches = SearchService(
            self.reading, self.engine, self.words, self.query_embedder, slow_query_ms=settings.slow_query_ms,
            reranker=Reranker(settings),
        )  # fmt: skip

    def close(self) -> None:
        """Closes all connections."""
        self._pools.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to the primary, with the statement timeout of the settings; behind a pooler the block is one
        transaction. Code that only reads should use `reading`. Raises ServerUnreachable."""
        with borrowed(self._pool) as connection, limited(connection):
            yield connection

    def why_unreachable(self) -> EverindexError | None:
        """The last known reason why the primary is unreachable, or None; does not connect."""
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

    def embed_missing(
        self,
        *,
        queue: Sequence[str] | None = None,
        overwrite_unrecorded: bool = False,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Makes the vectors of articles that have none, a zero one, or one of another model; see
        `ingest.embed_missing`. `queue` is a recent result of `articles_to_embed`, so that every vector is not read
        twice.

        Raises EmbeddingModelUnrecorded where the table has vectors without a record of their model, unless
        `overwrite_unrecorded`, which replaces these vectors too.
        """
        return self.writer.embed_missing(
            queue=queue, overwrite_unrecorded=overwrite_unrecorded, on_rows=on_rows, reporter=reporter
        )

    def embedding_queue(self, *, overwrite_unrecorded: bool = False) -> int:
        """How many articles have no vector of the current model, or a zero one. Reads every vector."""
        return len(self.articles_to_embed(overwrite_unrecorded=overwrite_unrecorded))

    def articles_to_embed(self, *, overwrite_unrecorded: bool = False) -> list[str]:
        """The uris of the articles that `embedding_queue` counts. Reads every vector."""
        return self.writer.articles_to_embed(overwrite_unrecorded=overwrite_unrecorded)

    def check_vectors(
        self, *, mends: bool = True, on_rows: Callable[[int], None] | None = None
    ) -> stored_vectors.Compared:
        """Compares every vector of the current model with its text and, if `mends`, replaces those made from another
        text. Raises UsageError for a model behind an endpoint."""
        return self.writer.check_vectors(mends=mends, on_rows=on_rows)

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
        rerank: int | None = None,
    ) -> Answer:
        """The k articles that answer `text` best, best first, among those that pass `filters`.

        `mode` is hybrid (by meaning and by words, fused by rank), semantic (the nearest in meaning) or keyword (those
        that have the words; "quoted phrases", or, and -minus are understood). `after` is an answer's next_cursor and
        requests the page after it. `min_similarity` (−1 to 1) excludes less similar articles. `diversity` (0 to 1)
        trades similarity for variety. `rerank` is the number of candidates that the cross-encoder of the settings
        puts in its order (0 for none; None for EVERINDEX_RERANK); an answer that it could not re-rank says so.

        A hybrid search whose text cannot be embedded is answered by words, and says so; a semantic one raises
        EmbeddingFailed, EmbeddingModelUnusable or EmbeddingModelsMixed. Where no record says which model made the
        stored vectors, both are answered by words until `declare_model`, and say so (EmbeddingModelUnrecorded where
        words cannot answer). All raise QueryInvalid (CursorRefused for a cursor of another search), NotMigrated,
        ServerUnreachable, StatementTimedOut.
        """
        return self.searches.answer(
            SearchRequest(
                text=text, mode=mode, k=k, filters=as_filters(filters), ef_search=ef_search, exact=exact, after=after,
                min_similarity=min_similarity, diversity=diversity, rerank=rerank,
            )
        )  # fmt: skip

    def browse(
        self,
        filters: Filters | Mapping[str, str] | None = None,
        *,
        k: int = 10,
        after: str | None = None,
    ) -> Answer:
        """The k newest articles that pass `filters`, without a search text. The answer's `total` is how many pass;
        `after` is a next_cursor. Raises QueryInvalid, CursorRefused, NotMigrated, ServerUnreachable,
        StatementTimedOut."""
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
        """The k articles nearest to `vector` ((dim,) float32). Options and errors are those of `search`, without the
        embedding errors."""
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
        """A semantic answer for each query (texts, or vectors (dim,) float32), in their order, equal to those of
        `search_vector` but in one round trip. All texts are embedded in one call. Raises as `search`; then no query is
        answered.
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
        """How `search_vector` answers this: strategy and reason, settings, statement, and plan as it ran."""
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
        """The k articles nearest to an article, excluding the article itself.

        `without_near_duplicates` also excludes articles closer than `near_duplicate_distance` to it or to a nearer
        article of the answer, and fills the answer up to k. Other options are those of `search`. Raises
        ArticleNotFound; for an article without a vector the answer is empty and says so.
        """
        return self.searches.answer(
            SearchRequest(
                key=uri, mode="semantic", k=k, filters=as_filters(filters), after=after, min_similarity=min_similarity,
                diversity=diversity, without_near_duplicates=without_near_duplicates,
                near_duplicate_distance=near_duplicate_distance,
            )
        )  # fmt: skip

    def article(self, uri: str) -> Article:
        """One article with all its stored fields. Raises ArticleNotFound."""
        table, _ = self.engine.known()
        return read_article(self.reading, table, uri)

    def verify(self, *, samples: int = 50, max_seconds: float = 10.0) -> Verification:
        """The three checks of the index, and the schema revision; see `verification.verify`."""
        return verification.verify(
            self.direct_conninfo,
            floor=self.settings.recall_floor,
            samples=samples,
            max_seconds=max_seconds,
            asked=self._recall_queries,
        )

    def invalidate(self) -> None:
        """Discards the caches of table, index and models, after this process has changed them."""
        self.query_embedder.invalidate()
        self.engine.invalidate()
        self.words.invalidate()
        self.searches.invalidate()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _journal_short_answer(self, incident: ShortAnswer, count: int) -> None:
        """Writes a line to the index's journal if the primary accepts it; the answer does not depend on it."""
        with suppress(EverindexError, psycopg.Error), self.connection() as connection:
            details = asdict(incident) | {"at": incident.at.isoformat(), "answers": count}
            record(connection, effective_spec(connection, EMBEDDING_INDEX), "short answer", **details)
