"""How does a search run? One transaction in one round trip, with settings that end with it; all k rows, or a reason."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from pgvector import Vector
from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo
from psycopg_pool import ConnectionPool, PoolTimeout

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.model import MAX_K, Answer, Filters, Hit
from everindex.articles.search import statement
from everindex.articles.search.strategy import (
    FILTERED_EXACT_ROWS,
    MAX_EF_SEARCH,
    Approach,
    Serving,
    choose,
)
from everindex.articles.table import ArticleTable, read_table
from everindex.errors import EverindexError, NotMigrated, QueryInvalid, ServerUnreachable
from everindex.index.catalog import in_search_path, observe
from everindex.index.drift import serving_index
from everindex.pg import roundtrip
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours

log = logging.getLogger("everindex.search")

#: What is known of table and index is read anew after so many seconds: a dropped or finished index is noticed by then.
SERVING_SECONDS = 5.0

#: Between these sums of squares a query vector goes to pgvector as it is.
_SQUARES = (1e-6, 1e12)

Row = tuple[Any, ...]

_STATEMENTS = {"filtered-exact": statement.nearest_of_filtered, "exact": statement.nearest_of_all}


class SearchEngine:
    """Searches one instance through a pool of connections; safe to use from many threads."""

    def __init__(self, pool: ConnectionPool[Connection], *, slow_query_ms: float) -> None:
        self._pool = pool
        self._slow_query_ms = slow_query_ms
        self._known: tuple[float, ArticleTable, Serving] | None = None
        self._texts: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}
        self._positionals: dict[str, tuple[str, tuple[str, ...]]] = {}

    def search(
        self,
        vector: np.ndarray,
        *,
        k: int = 10,
        filters: Filters | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        without_uri: str | None = None,
    ) -> Answer:
        """The k nearest articles to `vector` ((dim,) float32), nearest first.

        Fewer than k only where fewer exist. `without_uri` leaves out that article. Raises QueryInvalid for what cannot be
        asked, NotMigrated, StatementTimedOut, ServerUnreachable.
        """
        def once() -> Answer:
            return self._search(vector, k, filters or Filters(), ef_search, exact, without_uri)

        try:
            return once()
        except NoConnectionFree:
            raise
        except ServerUnreachable as exc:
            # The server was restarted, or ended idle connections. A search only reads, so it is asked once more, over
            # connections that have been looked at.
            log.info("connection-lost: a search is asked again: %s", exc.why)
            self._pool.check()
            return once()

    def _search(
        self, vector: np.ndarray, k: int, filters: Filters, ef_search: int | None, exact: bool, without_uri: str | None
    ) -> Answer:
        started = time.perf_counter()
        table, serving = self.known()
        vector = _checked_vector(vector, table)
        _check_numbers(k, ef_search)
        wanted = k + (without_uri is not None)
        with self.connection() as connection, told_as_ours("searching"):
            passing = None if filters.is_empty else self._count(connection, table, filters)
            approach = choose(serving, k=wanted, passing=passing, ef_search=ef_search, exact=exact)
            rows = self._run(connection, table, filters, approach, vector, k=wanted)
            notices: list[str] = []
            if approach.strategy in ("index", "index-filtered") and len(rows) < wanted:
                rows, approach, notices = self._complete(connection, table, filters, approach, vector, rows, wanted)
        hits = sorted((_hit(row) for row in rows if row[0] != without_uri), key=lambda hit: (hit.distance, hit.uri))[:k]
        if approach.strategy == "exact" and not exact and serving.index_name is None:
            notices.append("no valid vector index serves at the moment: every row was read (exact search)")
        answer = Answer(
            hits=hits,
            k=k,
            strategy=approach.strategy,
            ef_search=approach.ef_search,
            elapsed_ms=(time.perf_counter() - started) * 1000,
            notices=notices,
        )
        self._log(answer, table, filters, approach, vector, wanted)
        return answer

    def known(self) -> tuple[ArticleTable, Serving]:
        """Table and index as of the last few seconds. Raises NotMigrated where there is no table with vectors."""
        known = self._known
        if known is None or time.monotonic() - known[0] > SERVING_SECONDS:
            with self.connection() as connection:
                table = read_table(connection)
                spec = in_search_path(connection, EMBEDDING_INDEX)
                observed = observe(connection, spec)
                index = serving_index(spec, observed)
                serving = Serving(
                    index_name=index.name if index else None,
                    estimated_rows=observed.estimated_rows,
                    has_iterative_scan=look(connection).has_iterative_scan,
                )
            if known is None or (table, serving) != known[1:]:
                self._texts = {}
                self._positionals = {}
            known = self._known = (time.monotonic(), table, serving)
        return known[1], known[2]

    def forget(self) -> None:
        """Reads table and index anew at the next search."""
        self._known = None

    def statement_for(
        self, table: ArticleTable, filters: Filters, approach: Approach, k: int
    ) -> tuple[str, dict[str, Any]]:
        """The text of the statement (kept, so that it is composed once and prepared once) and its parameters."""
        # Strategies of other settings or another order must not share a text: a prepared statement keeps its plan.
        key = (
            approach.strategy,
            k,
            bool(filters.category),
            bool(filters.topic),
            bool(filters.news_source),
            bool(filters.since),
            bool(filters.until),
        )
        build = _STATEMENTS.get(approach.strategy, statement.nearest)
        kept = self._texts.get(key)
        if kept is not None and filters.is_empty:
            return kept[0], {}
        composed, parameters = build(table, filters, k=k)
        text = kept[0] if kept is not None else composed.as_string(None)
        self._texts[key] = (text, {})
        return text, parameters

    def _run(
        self,
        connection: Connection,
        table: ArticleTable,
        filters: Filters,
        approach: Approach,
        vector: np.ndarray,
        *,
        k: int,
    ) -> list[Row]:
        if approach.strategy == "none-match":
            return []
        text, parameters = self.statement_for(table, filters, approach, k)
        parameters["vector"] = Vector(vector).to_binary()
        text, names = self._positional(text)
        rows = roundtrip.run(connection, approach.settings, text, [parameters[name] for name in names])
        # A zero vector (put there by hand) has no cosine distance: it is in no index, and no answer either.
        return [row for row in rows if row[-1] == row[-1]]

    def _positional(self, text: str) -> tuple[str, tuple[str, ...]]:
        kept = self._positionals.get(text)
        if kept is None:
            kept = self._positionals[text] = roundtrip.positional(text)
        return kept

    def _complete(
        self,
        connection: Connection,
        table: ArticleTable,
        filters: Filters,
        approach: Approach,
        vector: np.ndarray,
        rows: list[Row],
        wanted: int,
    ) -> tuple[list[Row], Approach, list[str]]:
        """The index gave fewer rows than asked: either no more exist, or it stopped early. An exact search tells, and is
        then the answer; that it was needed is an incident of the index and logged as such."""
        without = Serving(index_name=None, estimated_rows=0, has_iterative_scan=False)
        exactly = choose(without, k=wanted, passing=None if filters.is_empty else wanted, ef_search=None, exact=True)
        complete = self._run(connection, table, filters, exactly, vector, k=wanted)
        if len(complete) == len(rows):
            return rows, approach, []
        log.warning(
            "short-answer: the index gave %d of %d rows at ef_search %s, an exact search found %d",
            len(rows),
            wanted,
            approach.ef_search,
            len(complete),
        )
        return (
            complete,
            exactly,
            ["the index gave too few rows for this filter or k: every row was read (exact search)"],
        )

    def _count(self, connection: Connection, table: ArticleTable, filters: Filters) -> int:
        text, parameters = statement.count_passing(table, filters, limit=FILTERED_EXACT_ROWS + 1)
        row = connection.execute(text, parameters, prepare=True).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of the pool. Raises ServerUnreachable when none is free or none can be made in time."""
        try:
            connection = self._pool.getconn()
        except PoolTimeout:
            raise _no_connection() from None
        try:
            yield connection
        finally:
            self._pool.putconn(connection)

    def _log(
        self, answer: Answer, table: ArticleTable, filters: Filters, approach: Approach, vector: np.ndarray, k: int
    ) -> None:
        if answer.elapsed_ms < self._slow_query_ms:
            log.info(
                "search k=%d strategy=%s rows=%d %.1f ms", k, answer.strategy, len(answer.hits), answer.elapsed_ms
            )
            return
        plan = "no plan: nothing was run"
        if approach.strategy != "none-match":
            text, parameters = self.statement_for(table, filters, approach, k)
            parameters["vector"] = vector
            try:
                with self.connection() as connection:
                    explained = in_settings(connection, approach.settings, "EXPLAIN " + text, parameters, prepare=False)
                # the vector and the filters' values stand in the plan as literals: only its shape is logged
                plan = " / ".join(
                    _shape(str(row[0])) for row in explained if "->" in str(row[0]) or "cost=" in str(row[0])
                )
            except (psycopg.Error, EverindexError) as exc:
                # The answer is there; that nobody could be asked for its plan must not take it away.
                plan = f"no plan: {type(exc).__name__}"
        log.warning(
            "slow-query: %.1f ms, k=%d strategy=%s ef_search=%s filters=%s plan: %s",
            answer.elapsed_ms,
            k,
            answer.strategy,
            answer.ef_search,
            ",".join(name for name in ("category", "topic", "news_source", "since", "until") if getattr(filters, name))
            or "-",
            plan,
        )


def in_settings(
    connection: Connection,
    settings: tuple[tuple[str, str], ...],
    text: str,
    parameters: dict[str, Any],
    *,
    prepare: bool = True,
) -> list[Row]:
    """Runs one statement with `settings` that hold for it alone, both in one round trip.

    The statements of a pipeline up to its Sync are one implicit transaction (PostgreSQL docs, 55.2.4 Pipelining): a
    transaction-local setting made by the first holds for the second and ends with it, without BEGIN and COMMIT. The
    rows are fetched after the Sync; fetched before, they would cost a second round trip. `connection` is in autocommit.
    """
    flat = [part for setting in settings for part in setting]
    with connection.pipeline():
        connection.execute(_set_local(len(settings)), flat, prepare=True)
        cursor = connection.execute(text, parameters, binary=prepare, prepare=prepare)
    return cursor.fetchall()


def _set_local(count: int) -> str:
    return "SELECT " + ", ".join(["pg_catalog.set_config(%s, %s, true)"] * count)


def register_vector(connection: Connection) -> None:
    """Teaches a connection pgvector's type, wherever the extension lies; does nothing before it is created."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'"
    ).fetchone()
    if row is not None:
        name = sql.Identifier(row[0], "vector").as_string(connection)
        register_vector_info(connection, TypeInfo.fetch(connection, name))


def _checked_vector(vector: np.ndarray, table: ArticleTable) -> np.ndarray:
    width = require_width(table)
    try:
        array = np.asarray(vector)
        if array.dtype.kind not in "fiu":
            raise ValueError
    except ValueError:
        raise QueryInvalid(
            "the query vector does not hold numbers.",
            why=f"articles.embedding is vector({width}).",
            next_step=f"pass {width} numbers, made by the model that made the articles' vectors.",
        ) from None
    if array.shape != (width,):
        raise QueryInvalid(
            f"the query vector has shape {array.shape}.",
            why=f"articles.embedding is vector({width}).",
            next_step=f"pass {width} numbers, made by the model that made the articles' vectors.",
        )
    usual = np.ascontiguousarray(array, dtype=np.float32) if array.dtype == np.float32 else None
    with np.errstate(over="ignore", invalid="ignore"):
        if usual is not None and _SQUARES[0] < float(np.dot(usual, usual)) < _SQUARES[1]:
            return usual
    # pgvector adds up the squares in float32: of very small or large numbers they are 0 or infinity, and every
    # distance NaN. The direction is all that counts, so such a vector is brought to length 1.
    wide = array.astype(np.float64)
    largest = float(np.abs(wide).max())
    if not np.isfinite(wide).all() or largest == 0:
        raise QueryInvalid(
            "the query vector has no direction.",
            why="it is all zeros, or holds NaN or infinity, so that no cosine distance to it exists.",
            next_step="pass a finite vector that is not zero.",
        )
    wide /= largest
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def require_width(table: ArticleTable) -> int:
    """The width of the table's vectors. Raises NotMigrated where it has none yet."""
    if table.dimensions is None:
        raise NotMigrated(
            "articles.embedding is missing or has no width.",
            why="revision 8eadb2079747 adds it as vector(1536), and has not been applied here.",
            next_step="run  everindex migrate.",
        )
    return table.dimensions


def _check_numbers(k: int, ef_search: int | None) -> None:
    if not 1 <= k <= MAX_K:
        raise QueryInvalid(
            f"k = {k} cannot be answered.",
            why=f"k is the number of articles to return, 1 to {MAX_K}.",
            next_step="ask for fewer, and narrow the rest with filters." if k > MAX_K else "ask for at least one.",
        )
    if ef_search is not None and not 1 <= ef_search <= MAX_EF_SEARCH:
        raise QueryInvalid(
            f"ef_search = {ef_search} cannot be used.",
            why=f"pgvector takes 1 to {MAX_EF_SEARCH}.",
            next_step="leave it out: it then follows k.",
        )


def _hit(row: Row) -> Hit:
    return Hit(
        uri=row[0],
        title=row[1],
        summary=row[2],
        news_source=row[3],
        category=row[4],
        topic=row[5],
        publication_date=None if row[6] is None else str(row[6]),
        distance=float(row[7]),
    )


def _shape(line: str) -> str:
    return line.split("(cost=")[0].replace("->", "").strip()


class NoConnectionFree(ServerUnreachable):
    """All connections of the pool are taken, or none can be made."""


def _no_connection() -> NoConnectionFree:
    return NoConnectionFree(
        "no connection to the database was free in time.",
        why="all connections of the pool are in use, or the server cannot be reached.",
        next_step="try again; raise EVERINDEX_POOL_SIZE if it happens under normal load.",
    )
