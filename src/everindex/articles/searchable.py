"""The searching methods of a collection: each makes one SearchRequest and hands it to the search service."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
import psycopg

from everindex.articles import verification
from everindex.articles.connections.reading import Reading
from everindex.articles.declared import whole_texts_of
from everindex.articles.embedding import Embedder
from everindex.articles.export import (
    MAX_EXPORT,
    Exported,
    ExportFormat,
    export_columns,
    export_to,
    first_page,
    format_of,
    walk,
    writer_for,
)
from everindex.articles.model import DEFAULT_MODE, Answer, Mode, Sort
from everindex.articles.partial_deploy import deploy_partial_index, drop_partial_index
from everindex.articles.partial_indexes import PartialIndex, read_partial_indexes
from everindex.articles.recall_queries import RecallQueries
from everindex.articles.search.filters import AnyFilters
from everindex.articles.search.keyword.row_words import RowWords
from everindex.articles.search.keyword.search import KeywordSearch
from everindex.articles.search.passages import PassageSearch
from everindex.articles.search.query_vectors import QueryEmbedder
from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.request.search_request import SearchRequest, as_filters, check_query
from everindex.articles.search.results.rerank import Reranker
from everindex.articles.search.service import SearchService
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.search.vector.explanation import Explanation
from everindex.articles.search.vector.short_answers import ShortAnswer
from everindex.articles.shape.spec import CollectionSpec
from everindex.errors import EverindexError, QueryInapplicable
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.deploy.executor import Deployed
from everindex.index.journal import record
from everindex.index.recall.proof import Verification
from everindex.index.reporter import Reporter
from everindex.pg import waiting
from everindex.pg.address import Addresses
from everindex.pg.connections import connect
from everindex.settings import Settings


class Searchable:
    """What an open instance, which searches its articles, and every other collection have in common. The connections are the
    instance's; safe to use from many threads."""

    def __init__(self, spec: CollectionSpec, addresses: Addresses, settings: Settings, *, reading: Reading) -> None:
        self.spec = spec
        self.settings = settings
        self.conninfo = addresses.main
        self.direct_conninfo = addresses.direct
        """The address of the server itself where `conninfo` leads through a pooler; used for work that needs its own
        session."""

        self.reading = reading
        slow_query_ms = settings.slow_query_ms
        self.engine = SearchEngine(reading, spec, slow_query_ms=slow_query_ms, journal=self._journal_short_answer)
        self.words = KeywordSearch(
            reading, RowWords(reading, spec, text_search=settings.text_search), slow_query_ms=slow_query_ms
        )
        self.query_embedder = QueryEmbedder(reading, self.engine, settings)
        texts = whole_texts_of(spec)
        self.searches = SearchService(
            reading,
            self.engine,
            self.words,
            self.query_embedder,
            slow_query_ms=slow_query_ms,
            reranker=Reranker(settings),
            passages=None
            if texts is None
            else PassageSearch(
                reading,
                texts,
                text_search=settings.text_search,
                slow_query_ms=slow_query_ms,
                model=lambda: self.query_embedder.embedder.model,
                stored_by=lambda: self.query_embedder.table_models().only,
            ),
        )
        self._recall_queries = RecallQueries(settings, spec)

    @property
    def embedder(self) -> Embedder:
        """The model that embeds queries and rows, loaded at first use. Raises EmbeddingModelUnusable, NotMigrated."""
        return self.query_embedder.embedder

    def search(
        self,
        text: str,
        *,
        k: int = 10,
        mode: Mode = DEFAULT_MODE,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        after: str | None = None,
        min_similarity: float | None = None,
        diversity: float | None = None,
        rerank: int | None = None,
        group_duplicates: bool = False,
        sort: Sort = "relevance",
        facets: Sequence[str] = (),
    ) -> Answer:
        """The k articles that answer `text` best, best first, among those that pass `filters`.

        `mode` is hybrid (by meaning and by words, fused by rank), semantic (the nearest in meaning) or keyword (those
        that have the words; "quoted phrases", or, and -minus are understood). `after` is an answer's next_cursor and
        requests the page after it. `min_similarity` (−1 to 1) excludes less similar articles. `diversity` (0 to 1)
        trades similarity for variety. `rerank` is the number of candidates that the cross-encoder of the settings
        puts in its order (0 for none; None for EVERINDEX_RERANK); an answer that it could not re-rank says so.
        `group_duplicates` gives k different articles, each with its near-duplicates as `duplicates`; it reads the vectors
        of the candidates, in a statement more. `sort="newest"` orders the matches by date: all rows that have the words, or
        where none has them, and by meaning, the best 100. `facets`
        names columns whose values are counted over the result, in a statement more: over the rows that have the words, or
        in a semantic search over the nearest 100.

        A hybrid search whose text cannot be embedded is answered by words, and says so; a semantic one raises
        EmbeddingFailed, EmbeddingModelUnusable or EmbeddingModelsMixed. Where no record says which model made the
        stored vectors, both are answered by words until `declare_model`, and say so (EmbeddingModelUnrecorded where
        words cannot answer). All raise QueryInvalid (CursorRefused for a cursor of another search), NotMigrated,
        ServerUnreachable, StatementTimedOut.
        """
        return self.searches.answer(
            SearchRequest(
                text=text, mode=mode, k=k, filters=as_filters(filters, self.spec), ef_search=ef_search, exact=exact, after=after,
                min_similarity=min_similarity, diversity=diversity, rerank=rerank, group_duplicates=group_duplicates,
                sort=sort, facets=tuple(facets),
            )
        )  # fmt: skip

    def browse(
        self,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        *,
        k: int = 10,
        after: str | None = None,
        group_duplicates: bool = False,
        facets: Sequence[str] = (),
    ) -> Answer:
        """The k newest articles that pass `filters`, without a search text. The answer's `total` is how many pass;
        `after` is a next_cursor; `group_duplicates` is that of `search`; `facets` names columns whose values are counted
        over all that pass.
        Raises QueryInvalid, CursorRefused, NotMigrated, ServerUnreachable, StatementTimedOut."""
        return self.searches.answer(
            SearchRequest(
                mode="browse", k=k, filters=as_filters(filters, self.spec), after=after, group_duplicates=group_duplicates,
                facets=tuple(facets),
            )
        )  # fmt: skip

    def embed_query(self, text: str) -> np.ndarray:
        """The vector of a search text, (dim,) float32, of the model that made the table's vectors."""
        return self.query_embedder.of_text(check_query(text))

    def search_vector(
        self,
        vector: np.ndarray,
        *,
        k: int = 10,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        after: str | None = None,
        min_similarity: float | None = None,
        diversity: float | None = None,
        group_duplicates: bool = False,
        sort: Sort = "relevance",
        facets: Sequence[str] = (),
    ) -> Answer:
        """The k articles nearest to `vector` ((dim,) float32). Options and errors are those of `search`, without the
        embedding errors."""
        return self.searches.answer(
            SearchRequest(
                vector=vector, mode="semantic", k=k, filters=as_filters(filters, self.spec), ef_search=ef_search, exact=exact,
                after=after, min_similarity=min_similarity, diversity=diversity, group_duplicates=group_duplicates,
                sort=sort, facets=tuple(facets),
            )
        )  # fmt: skip

    def search_many(
        self,
        queries: Sequence[str | np.ndarray] | np.ndarray,
        *,
        k: int = 10,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        min_similarity: float | None = None,
    ) -> list[Answer]:
        """A semantic answer for each query (texts, or vectors (dim,) float32), in their order, equal to those of
        `search_vector` but in one round trip. All texts are embedded in one call. Raises as `search`; then no query is
        answered.
        """
        request = SearchRequest(
            mode="semantic", k=k, filters=as_filters(filters, self.spec), ef_search=ef_search, exact=exact,
            min_similarity=min_similarity,
        )  # fmt: skip
        return self.searches.answer_many(request, queries)

    def explain(
        self,
        vector: np.ndarray,
        *,
        k: int = 10,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
    ) -> Explanation:
        """How `search_vector` answers this: strategy and reason, settings, statement, and plan as it ran; of whole texts the
        same for their passages."""
        return self.searches.explain(
            SearchRequest(
                vector=vector,
                mode="semantic",
                k=k,
                filters=as_filters(filters, self.spec),
                ef_search=ef_search,
                exact=exact,
            )
        )

    def similar(
        self,
        key: Any,
        /,
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
        """The k rows nearest to the row with that key, excluding the row itself.

        `without_near_duplicates` also excludes rows closer than `near_duplicate_distance` to it or to a nearer row of the
        answer, and fills the answer up to k. Other options are those of `search`. Raises RowNotFound, of articles
        ArticleNotFound; for a row without a vector the answer is empty and says so.
        """
        return self.searches.answer(
            SearchRequest(
                key=str(key), mode="semantic", k=k, filters=as_filters(filters, self.spec), after=after,
                min_similarity=min_similarity, diversity=diversity, group_duplicates=group_duplicates,
                without_near_duplicates=without_near_duplicates, near_duplicate_distance=near_duplicate_distance,
            )
        )  # fmt: skip

    def export(
        self,
        to: str | os.PathLike[str] | BinaryIO,
        *,
        text: str | None = None,
        vector: np.ndarray | None = None,
        format: ExportFormat | None = None,
        limit: int = MAX_EXPORT,
        mode: Mode = DEFAULT_MODE,
        filters: AnyFilters | Mapping[str, Any] | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        min_similarity: float | None = None,
        sort: Sort = "relevance",
    ) -> Exported:
        """Writes the first `limit` hits of a search by text, by vector, or without either of the newest rows that pass, into a
        file or a binary stream; returns how many.

        `format` is csv, jsonl or parquet (needs everindex[parquet]); None for what the file's name ends in. Pages of 1,000
        are read one after another, so it takes the memory of one, and rows that come or go meanwhile are treated as between
        pages. Options and errors are those of `search`; UsageError where the file cannot be written, ExtraMissing.
        """
        if text is not None and vector is not None:
            raise QueryInapplicable(
                "a text and a vector are two searches.",
                why="each has an order of its own.",
                next_step="export one of them.",
            )
        request = SearchRequest(
            text=text, vector=vector, mode="semantic" if vector is not None else mode if text is not None else "browse",
            filters=as_filters(filters, self.spec), ef_search=ef_search, exact=exact, min_similarity=min_similarity,
            sort=sort,
        )  # fmt: skip
        name = str(to) if isinstance(to, (str, os.PathLike)) else ""
        writer = writer_for(format_of(name, format), export_columns(self.engine.known()[0]))
        return export_to(to, walk(self.searches.answer, first_page(request, limit=limit), limit=limit), writer)

    # --- what is known of it ---------------------------------------------------------------------------------------

    def verify(self, *, samples: int = 50, max_seconds: float = 10.0) -> Verification:
        """The three proofs of the index, and of the articles' the revision; see `verification.verify`."""
        return verification.verify(
            self.direct_conninfo,
            self.spec,
            floor=self.settings.recall_floor,
            samples=samples,
            max_seconds=max_seconds,
            search_queries=self._recall_queries,
        )

    def add_partial_index(self, filters: Mapping[str, Any], *, reporter: Reporter | None = None) -> Deployed:
        """Declares a vector index of the rows that pass `filters`, and builds it online: searches under exactly these filters go
        through it. Worth it for one value that many searches ask for and many rows have; `everindex doctor` says which.
        Raises FilterInvalid, SpecIllegal, and what a deploy raises."""
        done = deploy_partial_index(self.direct_conninfo, self.spec, filters, reporter=reporter)
        self.invalidate()
        return done

    def drop_partial_index(self, filters: Mapping[str, Any], *, reporter: Reporter | None = None) -> bool:
        """Drops that index online, and its declaration; False where there was none. Raises FilterInvalid."""
        done = drop_partial_index(self.direct_conninfo, self.spec, filters, reporter=reporter)
        self.invalidate()
        return done

    def partial_indexes(self) -> list[PartialIndex]:
        """The declared partial indexes, by name."""
        table, _ = self.engine.known()
        return self.reading.read(lambda connection: read_partial_indexes(connection, (table.schema, table.spec.table)))

    def invalidate(self) -> None:
        """Discards the caches of table, index and models: for use after this process has changed them."""
        self.query_embedder.invalidate()
        self.engine.invalidate()
        self.words.invalidate()
        self.searches.invalidate()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _journal_short_answer(self, incident: ShortAnswer, count: int) -> None:
        """Writes a journal line if the primary accepts it; the answer does not depend on it."""

        def write() -> None:
            with (
                suppress(EverindexError, psycopg.Error),
                connect(self.conninfo, application_name="everindex journal") as connection,
            ):
                details = asdict(incident) | {"at": incident.at.isoformat(), "answers": count}
                record(connection, effective_spec(connection, self.engine.known()[0].index), "short answer", **details)

        waiting.beside(write)
