"""One article instance as a Python object: upsert, search, similar, article, verify. What the library, the commands and the
web application share."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from itertools import chain, islice
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from everindex.articles import ingest, verification
from everindex.articles.bulk import LARGE_LOAD_ROWS, index_aside
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.embedding import Embedder, choose_embedder, embed_queries
from everindex.articles.embedding.recent import RecentVectors
from everindex.articles.given import as_articles
from everindex.articles.ingest import ImportReport
from everindex.articles.model import DEFAULT_MODE, MAX_QUERY_CHARS, MODES, Answer, Article, Filters, Mode, RowProblem
from everindex.articles.pools import Pools
from everindex.articles.reading import Reading
from everindex.articles.search.engine import SearchEngine
from everindex.articles.search.explained import Explanation
from everindex.articles.search.hybrid import NO_MEANING, HybridSearch, Meaning, text_to_embed
from everindex.articles.search.keyword import KeywordSearch
from everindex.articles.search.near_duplicates import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.question import require_width
from everindex.articles.search.short import ShortAnswer
from everindex.articles.searches import Options, Searches
from everindex.articles.table import ArticleTable
from everindex.errors import (
    ArticleNotFound,
    EmbeddingFailed,
    EmbeddingModelsMixed,
    EverindexError,
    QueryInvalid,
)
from everindex.index.journal import record
from everindex.index.reporter import Reporter
from everindex.index.tuned import declared_here
from everindex.pg import address
from everindex.pg.address import Addresses
from everindex.pg.connections import Connection, borrowed, connect
from everindex.pg.pooler import limited
from everindex.pg.sqlstate import told_as_ours
from everindex.pg.vector_type import register_vector
from everindex.settings import Settings, read_settings

#: Which models made the table's vectors is asked anew after so many seconds.
MODELS_SECONDS = 10.0

_RECORDED_MODELS = "SELECT model, count(*) FROM everindex_meta.embedding_record GROUP BY model"
_MODELS_THERE = """
    SELECT r.model, count(*) FROM everindex_meta.embedding_record r JOIN {} a ON a.uri = r.uri
    WHERE a.embedding IS NOT NULL GROUP BY r.model
"""


class Instance:
    """An open instance; safe to use from many threads. Made by `everindex.connect()`; `close()` when done."""

    def __init__(self, addresses: Addresses, settings: Settings) -> None:
        self.conninfo = addresses.main
        self.direct_conninfo = addresses.direct
        """The server itself, where the other leads through a pooler: for what needs a session of its own."""

        self.settings = settings
        self._pools = Pools(addresses, settings)
        self._pool = self._pools.primary
        self.reading = Reading(self._pool, self._pools.replica)
        self.engine = SearchEngine(
            self.reading, slow_query_ms=settings.slow_query_ms, journal=self._journal_short_answer
        )
        self.words = KeywordSearch(self.reading, text_search=settings.text_search, slow_query_ms=settings.slow_query_ms)
        both = HybridSearch(self.reading, self.engine, self.words, slow_query_ms=settings.slow_query_ms)
        self._searches = Searches(self.reading, self.engine, self.words, both)
        self._embedder: Embedder | None = None
        self._embedder_lock = threading.Lock()
        self.recent = RecentVectors()
        self._models: tuple[float, dict[str, int]] | None = None
        self.on_query: Callable[[np.ndarray], None] | None = None
        """Told the vector of each search that was answered, where somebody draws a sample of them."""

    def close(self) -> None:
        """Closes all connections."""
        self._pools.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection to the primary, with the statement timeout of the settings; a pooler in between makes the block one
        transaction. What only reads had better go through `reading`. Raises ServerUnreachable."""
        with borrowed(self._pool) as connection, limited(connection):
            yield connection

    @property
    def embedder(self) -> Embedder:
        """The model that embeds queries and articles, loaded at its first use. Raises EmbeddingModelUnusable, NotMigrated."""
        with self._embedder_lock:
            if self._embedder is None:
                table, _ = self.engine.known()
                self._embedder = choose_embedder(self.settings, width=table.dimensions or self.settings.dimensions)
            return self._embedder

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
        with self._large_load(len(rows), None), self._writer() as connection:
            report = ingest.upsert_articles(connection, rows, self.embedder, vectors=vectors, model=model)
        self.forget()
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
        with self._large_load(len(first), reporter), self._writer() as connection:
            report = ingest.import_rows(connection, chain(first, iterator), self.embedder, on_rows=on_rows)
        self.forget()
        return report

    def embed_missing(
        self,
        *,
        on_rows: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> ImportReport:
        """Completes the vectors of articles that have none, or one of another model; see `ingest.embed_missing`."""
        with self._large_load(self.embedding_queue(), reporter), self._writer() as connection:
            report = ingest.embed_missing(connection, self.embedder, on_rows=on_rows)
        self.forget()
        return report

    def embedding_queue(self) -> int:
        """How many articles have no vector of the current model."""
        with self._writer() as connection:
            return ingest.count_queue(connection, self.embedder.model)

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
        EmbeddingFailed, EmbeddingModelUnusable or EmbeddingModelsMixed. All raise QueryInvalid (CursorRefused for a cursor of
        another search), NotMigrated, ServerUnreachable, StatementTimedOut.
        """
        options = Options(
            k=k,
            filters=_as_filters(filters),
            ef_search=ef_search,
            exact=exact,
            after=after,
            min_similarity=min_similarity,
            diversity=diversity,
        )
        return self.answer_text(text, mode, options)

    def answer_text(self, text: str, mode: Mode, options: Options) -> Answer:
        """`search` with its options as one."""
        options = options.checked()
        match mode:
            case "semantic":
                return self.answer_vector(self.embed_query(text), options, text=text)
            case "keyword":
                return self._searches.by_words(check_query(text), options)
            case "hybrid":
                return self.answer_both(text, self.meaning_of(text), options)
        raise QueryInvalid(
            f"there is no search mode {mode!r}.",
            why=f"articles are searched by {', '.join(MODES)}.",
            next_step="choose one of them.",
        )

    def answer_both(self, text: str, meaning: Meaning, options: Options) -> Answer:
        """The hybrid search of a text whose meaning is known: a vector ((dim,) float32), or the error that says why not."""
        answer = self._searches.by_both(check_query(text), meaning, options)
        if isinstance(meaning, np.ndarray):
            self._note_query(meaning, options)
        return answer

    def answer_vector(self, vector: np.ndarray, options: Options, *, text: str | None = None) -> Answer:
        """The search by meaning for `vector`, made of `text` where it was: cursors then belong to the text, since some
        models give it a slightly other vector each time."""
        answer = self._searches.by_meaning(vector, options, asked=self._asked(text))
        self._note_query(vector, options)
        return answer

    def meaning_of(self, text: str) -> Meaning:
        """The vector of a hybrid search's text, or why there is none. Raises QueryInvalid for a text that cannot be asked."""
        wanted = text_to_embed(check_query(text))
        if isinstance(wanted, EverindexError):
            return wanted
        try:
            return self.embed_query(wanted)
        except NO_MEANING as exc:
            return exc

    def embed_query(self, text: str) -> np.ndarray:
        """The vector of a search text, (dim,) float32, of the model that made the table's vectors."""
        cleaned = check_query(text)
        embedder = self.embedder
        self.require_one_model(embedder)
        with _told_as_query(embedder):
            return self.recent.vector(embedder, cleaned)

    def require_one_model(self, embedder: Embedder) -> None:
        """Raises EmbeddingModelsMixed when the table holds vectors of another model than `embedder`'s."""
        others = {model: rows for model, rows in self.embedding_models().items() if model != embedder.model}
        if others:
            names = ", ".join(f"{model} ({rows} rows)" for model, rows in sorted(others.items()))
            raise EmbeddingModelsMixed(
                f"the query would be embedded with {embedder.model}, but the table also holds vectors of other models.",
                why=f"distances between vectors of two models mean nothing. In the table: {names}.",
                next_step="run  everindex embed  to bring every article to this model, or set EMBEDDING_MODEL back.",
            )

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
        return self.answer_vector(
            vector,
            Options(
                k=k,
                filters=_as_filters(filters),
                ef_search=ef_search,
                exact=exact,
                after=after,
                min_similarity=min_similarity,
                diversity=diversity,
            ),
        )

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
        options = Options(
            k=k, filters=_as_filters(filters), ef_search=ef_search, exact=exact, min_similarity=min_similarity
        )
        return self.answer_many(queries, options)

    def answer_many(self, queries: Sequence[str | np.ndarray] | np.ndarray, options: Options) -> list[Answer]:
        """`search_many` with its options as one."""
        return self._searches.many_by_meaning(self._embedded(queries), options)

    def _embedded(self, queries: Sequence[str | np.ndarray] | np.ndarray) -> list[np.ndarray]:
        """The vectors of queries, in their order."""
        if isinstance(queries, str):
            raise QueryInvalid(
                "the queries are one text.",
                why="several searches are asked for at once: a list of texts or vectors.",
                next_step="pass a list, or call `search` for one text.",
            )
        texts = {number: check_query(query) for number, query in enumerate(queries) if isinstance(query, str)}
        vectors = [np.empty(0) if isinstance(query, str) else query for query in queries]
        if texts:
            embedder = self.embedder
            self.require_one_model(embedder)
            with _told_as_query(embedder):
                found = embed_queries(embedder, list(texts.values()))
            for number, vector in zip(texts, found, strict=True):
                vectors[number] = vector
        return vectors

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
        return self.explain_options(
            vector, Options(k=k, filters=_as_filters(filters), ef_search=ef_search, exact=exact)
        )

    def explain_options(self, vector: np.ndarray, options: Options, *, text: str | None = None) -> Explanation:
        """How `answer_vector` answers this."""
        return self._searches.explain(vector, options, asked=self._asked(text))

    def _asked(self, text: str | None) -> tuple[str, ...] | None:
        """What the cursors of a search by meaning belong to: its text; None: its vector."""
        return None if text is None else ("text", check_query(text), self.embedder.model)

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
        options = Options(
            k=k, filters=_as_filters(filters), after=after, min_similarity=min_similarity, diversity=diversity
        ).checked()
        table, _ = self.engine.known()
        require_width(table)
        vector_of = sql.SQL("SELECT embedding FROM {} WHERE uri = %s").format(table.identifier)
        row = self._read_row(vector_of, uri, binary=True)
        if row is None:
            raise _not_found(uri)
        vector = None if row[0] is None else row[0].to_numpy()
        if vector is None or not vector.any():
            what = "no vector yet" if vector is None else "a vector of zeros, which is like nothing"
            notice = f"this article has {what}: `everindex embed` completes those that have none"
            return Answer(hits=[], k=k, strategy="none-match", ef_search=None, elapsed_ms=0.0, notices=[notice])
        return self._searches.by_meaning(
            vector,
            options,
            asked=("similar", uri, vector),
            without_uri=uri,
            near_duplicates=near_duplicate_distance if without_near_duplicates else None,
        )

    def article(self, uri: str) -> Article:
        """One article with all that is known of it. Raises ArticleNotFound."""
        table, _ = self.engine.known()
        columns = table.writable_columns
        raw = sql.SQL("(SELECT r.raw_markdown FROM raw_articles r WHERE r.uri = a.uri)")
        whole = sql.SQL("SELECT {columns}, {raw} FROM {table} a WHERE uri = %s").format(
            columns=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns),
            raw=raw if table.has_raw_articles else sql.SQL("NULL"),
            table=table.identifier,
        )
        row = self._read_row(whole, uri)
        if row is None:
            raise _not_found(uri)
        return stored_article(dict(zip((*columns, "raw_text"), row, strict=True)))

    def verify(self, *, samples: int = 50, max_seconds: float = 10.0) -> verification.Verification:
        """The three proofs of the index, and the revision; see `verification.verify`."""
        return verification.verify(
            self.direct_conninfo, floor=self.settings.recall_floor, samples=samples, max_seconds=max_seconds
        )

    def embedding_models(self) -> dict[str, int]:
        """Which models made how many of the table's vectors, as far as it is recorded; kept for a few seconds.

        A record whose article is gone, or has lost its vector, through somebody's SQL counts for nothing; that is looked
        at only where more than one model is recorded.
        """
        kept = self._models
        if kept is not None and time.monotonic() - kept[0] <= MODELS_SECONDS:
            return kept[1]
        table, _ = self.engine.known()
        models: dict[str, int] = {}
        if table.has_embedding_records:
            models = self.reading.read(lambda connection: _recorded_models(connection, table))
        self._models = (time.monotonic(), models)
        return models

    def forget(self) -> None:
        """Reads table, index and models anew at the next use: after this process has changed them."""
        self._models = None
        self.engine.forget()
        self.words.forget()

    # --- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _large_load(self, vectors_coming: int, reporter: Reporter | None) -> Iterator[None]:
        if vectors_coming < LARGE_LOAD_ROWS or self.engine.known()[1].index_name is None:
            yield
            return
        with index_aside(self.direct_conninfo, vectors_coming=vectors_coming, reporter=reporter):
            yield

    def _note_query(self, vector: np.ndarray, options: Options) -> None:
        if self.on_query is not None and options.after is None:  # further pages are the same query
            self.on_query(vector)

    def _journal_short_answer(self, incident: ShortAnswer, count: int) -> None:
        """A line of the index's journal, if the primary takes it; the answer does not depend on it."""
        with suppress(EverindexError, psycopg.Error), self.connection() as connection:
            details = asdict(incident) | {"at": incident.at.isoformat(), "answers": count}
            record(connection, declared_here(connection, EMBEDDING_INDEX), "short answer", **details)

    @contextmanager
    def _writer(self) -> Iterator[Connection]:
        with connect(self.conninfo, application_name="everindex import") as connection:
            register_vector(connection)
            try:
                yield connection
            finally:
                self.reading.note_write(connection)

    def _read_row(self, statement: sql.Composed, uri: str, *, binary: bool = False) -> tuple[Any, ...] | None:
        parameters = (_storable(uri),)

        def read(connection: Connection) -> tuple[Any, ...] | None:
            with told_as_ours("reading an article"):
                return connection.execute(statement, parameters, binary=binary).fetchone()

        return self.reading.read(read)


@contextmanager
def connect_instance(conninfo: str | None = None, *, settings: Settings | None = None) -> Iterator[Instance]:
    """Opens an instance: at `conninfo`, else where the settings point, else the embedded server (started for the time).

    DATABASE_URL_DIRECT and DATABASE_URL_READ are used where `conninfo` is that of DATABASE_URL. Waits up to the setting
    EVERINDEX_WAIT for the server. Raises what connecting raises.
    """
    settings = settings or read_settings()
    if conninfo is not None:
        with _opened(address.belonging_to(conninfo, settings), settings) as instance:
            yield instance
    else:
        with address.servers(settings) as found, _opened(found, settings) as instance:
            yield instance


@contextmanager
def _opened(addresses: Addresses, settings: Settings) -> Iterator[Instance]:
    connect(addresses.main, wait_seconds=settings.wait_seconds).close()
    instance = Instance(addresses, settings)
    try:
        yield instance
    finally:
        instance.close()


def _recorded_models(connection: Connection, table: ArticleTable) -> dict[str, int]:
    with told_as_ours("reading which models made the vectors"):
        models: dict[str, int] = dict(connection.execute(_RECORDED_MODELS).fetchall())
        if len(models) > 1:
            models = dict(connection.execute(sql.SQL(_MODELS_THERE).format(table.identifier)).fetchall())
    return models


@contextmanager
def _told_as_query(embedder: Embedder) -> Iterator[None]:
    """A text that our own model cannot embed is at fault itself; a remote one may do better the next time."""
    try:
        yield
    except EmbeddingFailed as exc:
        if embedder.is_remote:
            raise
        raise QueryInvalid(exc.what, why=exc.why, next_step="search with other words.") from exc


def check_query(text: str) -> str:
    """A search text without surrounding space. Raises QueryInvalid for an empty or overlong one."""
    cleaned = text.replace("\0", " ").strip()
    if not cleaned:
        raise QueryInvalid(
            "the search text is empty.", why="there is nothing to look for.", next_step="write some words."
        )
    if len(cleaned) > MAX_QUERY_CHARS:
        raise QueryInvalid(
            f"the search text has {len(cleaned)} characters.",
            why=f"at most {MAX_QUERY_CHARS} are read; a longer text has no single meaning to search for.",
            next_step="search with its title or its main sentence.",
        )
    return cleaned


def stored_article(values: Mapping[str, Any]) -> Article:
    """An Article from the text of its columns, whatever types an existing instance gave them."""
    known = dict(values)
    known["tags"] = _tags(known.get("tags"))
    known["analyzed"] = (
        None if known.get("analyzed") is None else str(known["analyzed"]).lower() in ("true", "t", "1", "yes")
    )
    for name in ("quality_score", "relevance_score"):
        try:
            known[name] = None if known.get(name) in (None, "") else float(known[name])
        except ValueError:
            known[name] = None
    return Article(**known)


def _tags(text: Any) -> tuple[str, ...] | None:
    if text is None:
        return None
    if str(text).startswith("["):
        try:
            return tuple(map(str, json.loads(text)))
        except ValueError:
            pass
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def _as_filters(filters: Filters | Mapping[str, str] | None) -> Filters:
    if filters is None or isinstance(filters, Filters):
        return filters or Filters()
    unknown = set(filters) - {f.name for f in fields(Filters)}
    if unknown:
        raise QueryInvalid(
            f"unknown filter: {', '.join(sorted(unknown))}.",
            why=f"articles are filtered by {', '.join(f.name for f in fields(Filters))}.",
            next_step="correct the name.",
        )
    return Filters(**filters)


def _not_found(uri: str) -> ArticleNotFound:
    return ArticleNotFound(
        f"there is no article {uri[:200]!r}.",
        why="no row has that uri: it was never imported, or was deleted.",
        next_step="search for it by its title.",
    )


def _storable(uri: str) -> str:
    """The uri, if any row can have it. Raises ArticleNotFound for a NUL or half of a surrogate pair."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise _not_found(uri) from None
    if "\0" in uri:
        raise _not_found(uri)
    return uri
