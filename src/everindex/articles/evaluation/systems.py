"""The searches that are evaluated: each mode with the table's vectors or another model's, re-ranked or not.

With the table's vectors a query is searched as an application searches, through the index. For another model all texts of the
table are embedded in memory once and compared exactly; its hybrid search weighs those distances with the words of the rows, by
the functions of hybrid search. Passages of whole texts have the table's vectors alone: another model is compared without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from psycopg import sql

from everindex.articles.embedding import Embedder, embed_queries
from everindex.articles.embedding.choose import LOCAL_PREFIX, embedder_at_own_width
from everindex.articles.embedding.local.cross_encoder import CrossEncoder
from everindex.articles.evaluation.judgements import JudgedQuery
from everindex.articles.model import Mode
from everindex.articles.search.hybrid import DEPTH, MOST_RANKED, merged, without
from everindex.articles.search.keyword.ranking import find
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.articles.search.results.rerank import joined_text, text_of
from everindex.articles.searchable import Searchable
from everindex.articles.shape.hit import Hit
from everindex.articles.shape.spec import Columns
from everindex.articles.table import CollectionTable
from everindex.errors import EmbeddingFailed, UsageError
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: All vectors of a model are held in memory: 200,000 of 768 dimensions take 0.6 GB, and a small model needs an hour to make them.
MAX_ROWS = 200_000
EMBEDDED_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way of searching."""

    name: str
    mode: Mode
    model: str | None
    """None: the vectors of the table."""

    reranker: str | None = None
    candidates: int = 0


@dataclass(slots=True, kw_only=True)
class Run:
    """What one system found."""

    system: System
    rankings: dict[str, list[str]] = field(default_factory=dict)
    """Id of the query → keys as text, best first."""

    milliseconds: list[float] = field(default_factory=list)
    """Of each query, with its embedding and re-ranking."""

    notices: dict[str, int] = field(default_factory=dict)
    """What answers said about their limits → how many did."""


def systems_of(
    modes: Sequence[Mode], models: Sequence[str], rerankers: Sequence[str], *, candidates: int
) -> list[System]:
    """Every combination, the table's own first; a search by words has no model."""
    found: list[System] = []
    for model in (None, *models):
        for mode in modes:
            if model is not None and mode == "keyword":
                continue
            name = mode if model is None else f"{mode}, {shown(model)}"
            found.append(System(name=name, mode=mode, model=model))
            found += [
                System(
                    name=f"{name} + {shown(reranker)}", mode=mode, model=model, reranker=reranker, candidates=candidates
                )
                for reranker in rerankers
            ]
    return found


def shown(model: str) -> str:
    """The name of a model for a table: without the directories above it."""
    plain = model.removeprefix(LOCAL_PREFIX).rstrip("/")
    return "/".join(plain.split("/")[-2:]) if plain.endswith(".onnx") else plain.rpartition("/")[2] or plain


class Evaluated:
    """The searches of one collection for judged queries. Vectors and models are made once, for all systems that use them."""

    def __init__(self, searched: Searchable, *, k: int, on_texts: Callable[[int], None] | None = None) -> None:
        self._searched = searched
        self._k = k
        self._on_texts = on_texts
        self._in_memory: dict[str, _InMemory] = {}
        self._rerankers: dict[str, CrossEncoder] = {}
        self._texts: dict[str, str] | None = None

    def run(self, system: System, queries: Sequence[JudgedQuery]) -> Run:
        """Raises what a search raises, EmbeddingModelUnusable for a model that cannot be had, UsageError for a table that is
        too large to be embedded for a comparison."""
        run = Run(system=system)
        depth = max(self._k, system.candidates)
        search = self._search_of(system, run, depth)
        if queries:
            search(queries[0].text)  # loads what is loaded once
            run.notices.clear()
        for query in queries:
            started = time.perf_counter()
            found = search(query.text)
            if system.reranker is not None:
                found = self._reranked(system.reranker, query.text, found)
            run.milliseconds.append((time.perf_counter() - started) * 1000)
            run.rankings[query.id] = [key for key, _ in found][: self._k]
        return run

    def _search_of(self, system: System, run: Run, depth: int) -> Callable[[str], list[tuple[str, str]]]:
        """Text of a query → keys and texts of what it finds, best first."""
        if system.model is None:
            return lambda text: self._stored(SearchRequest(text=text, mode=system.mode, k=depth, rerank=0), run)
        vectors = self._vectors_of(system.model)
        if system.mode == "semantic":
            return lambda text: vectors.nearest(text, depth)

        return lambda text: self._weighed(SearchRequest(text=text, mode="hybrid", k=depth, rerank=0), vectors, run)

    def _weighed(self, request: SearchRequest, vectors: _InMemory, run: Run) -> list[tuple[str, str]]:
        """As HybridSearch.search, with the distances of `vectors`."""
        wanted = DEPTH * request.k
        known = self._searched.words.known()
        near = vectors.of(request.words.wanted or request.text or "")
        left_out = request.words.left_out

        def read(connection: Connection) -> list[Hit]:
            found = find(
                connection, known, Page(request=request, k=wanted), most_ranked=MOST_RANKED, rows=self._searched.words.rows,
                completes=True,
            )  # fmt: skip
            for notice in found.notices:
                run.notices[notice] = run.notices.get(notice, 0) + 1
            columns = known.table.spec.columns
            by_meaning = [near.hit(columns, number) for number in near.nearest(wanted)]
            if left_out is not None:
                by_meaning = without(connection, known, left_out, by_meaning)
            return merged(by_meaning, [near.measured(hit) for hit in found.hits], full_score=found.full_score)

        return [(hit.key, vectors.texts[hit.key]) for hit in self._searched.reading.ask(read)[: request.k]]

    def _stored(self, request: SearchRequest, run: Run) -> list[tuple[str, str]]:
        answer = self._searched.searches.answer(request)
        for notice in answer.notices:
            run.notices[notice] = run.notices.get(notice, 0) + 1
        return [(str(hit.key), text_of(hit)) for hit in answer.hits]

    def _reranked(self, name: str, text: str, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
        if name not in self._rerankers:
            self._rerankers[name] = CrossEncoder(name.removeprefix(LOCAL_PREFIX), variable="--reranker")
        if not found:
            return found
        scores = self._rerankers[name].scores(text, [text for _, text in found])
        return [found[number] for number in np.argsort(-scores, kind="stable")]

    def _vectors_of(self, model: str) -> _InMemory:
        if model not in self._in_memory:
            table, _ = self._searched.engine.known()
            if self._texts is None:
                with self._searched.reading.connection() as connection:
                    self._texts = _read_texts(connection, table)
            width = table.dimensions or self._searched.settings.dimensions
            embedder = embedder_at_own_width(model, self._searched.settings, width=width)
            self._in_memory[model] = _InMemory(embedder, self._texts, self._on_texts)
        return self._in_memory[model]


class _InMemory:
    """All texts of a table as one model's vectors, searched exactly."""

    def __init__(self, embedder: Embedder, texts: dict[str, str], on_texts: Callable[[int], None] | None) -> None:
        self._embedder = embedder
        keys, blocks = [], []
        for batch in _batches(list(texts)):
            embedded = embedder.embed([texts[key] for key in batch])
            usable = [number for number in range(len(batch)) if number not in embedded.failures]
            if not usable and batch:
                raise EmbeddingFailed(
                    f"{embedder.model} gives the texts of the table no vector.",
                    why=f"{next(iter(embedded.failures.values()))}.",
                    next_step="correct the model, or leave it out of the evaluation.",
                )
            keys += [batch[number] for number in usable]
            vectors = embedded.vectors[usable]
            blocks.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            if on_texts is not None:
                on_texts(len(batch))
        self.keys = keys
        self.texts = texts
        self.places = {key: number for number, key in enumerate(keys)}
        self._vectors = np.vstack(blocks) if blocks else np.empty((0, embedder.dimensions), dtype=np.float32)

    def nearest(self, text: str, k: int) -> list[tuple[str, str]]:
        return [(self.keys[number], self.texts[self.keys[number]]) for number in self.of(text).nearest(k)]

    def of(self, text: str) -> _Near:
        """How near each text is to this one."""
        return _Near(self, self._vectors @ embed_queries(self._embedder, [text])[0])


@dataclass(frozen=True, slots=True)
class _Near:
    """The cosine similarity of a query and every text that has a vector."""

    vectors: _InMemory
    similarities: np.ndarray
    """(texts,) float32, in the order of `vectors.keys`."""

    def nearest(self, k: int) -> list[int]:
        found: list[int] = np.argsort(-self.similarities, kind="stable")[:k].tolist()
        return found

    def hit(self, columns: Columns, number: int) -> Hit:
        """A text as a hit: all of it in the first text column."""
        key = self.vectors.keys[number]
        values = (key, self.vectors.texts[key], *[None] * (len(columns.names) - 2))
        return Hit(columns, key, values, 1.0 - float(self.similarities[number]))

    def measured(self, hit: Hit) -> Hit:
        """A hit of the table's search by words, with its distance to the query; its key as text."""
        key = str(hit.key)
        number = self.vectors.places.get(key)
        return replace(hit, key=key, distance=None if number is None else 1.0 - float(self.similarities[number]))


def _read_texts(connection: Connection, table: CollectionTable) -> dict[str, str]:
    """Key → text of every row that has one. Raises UsageError for more than MAX_ROWS."""
    spec = table.spec
    statement = sql.SQL("SELECT a.{}::text, {} FROM {} a ORDER BY 1 LIMIT {}").format(
        sql.Identifier(spec.key),
        sql.SQL(", ").join(sql.SQL("a.{}::text").format(sql.Identifier(name)) for name in spec.text),
        table.identifier,
        sql.Literal(MAX_ROWS + 1),
    )
    with translate_errors("reading texts"):
        rows = connection.execute(statement).fetchall()
    if len(rows) > MAX_ROWS:
        raise UsageError(
            f"the table has more than {MAX_ROWS:,} rows, too many to embed them for a comparison of models.",
            why="an evaluation of another model embeds every text and holds the vectors in memory.",
            next_step="leave --model out, or evaluate on a copy with fewer rows that holds the judged ones.",
        )
    found = {str(row[0]): joined_text(row[1:]) for row in rows}
    return {key: text for key, text in found.items() if text}


def known_keys(connection: Connection, table: CollectionTable, keys: Sequence[str]) -> set[str]:
    """Which of the keys the table has."""
    statement = sql.SQL("SELECT a.{key}::text FROM {table} a WHERE a.{key}::text = ANY(%s)").format(
        key=sql.Identifier(table.spec.key), table=table.identifier
    )
    with translate_errors("looking up keys"):
        return {str(row[0]) for row in connection.execute(statement, ([key for key in keys if "\0" not in key],))}


def _batches(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), EMBEDDED_AT_ONCE):
        yield keys[start : start + EMBEDDED_AT_ONCE]
