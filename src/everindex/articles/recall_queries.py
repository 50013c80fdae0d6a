"""Queries as people ask them, for proofs of recall: titles embedded as searches are, and a sample of searches.

Only by models that are known to have made vectors of the table; where none is recorded, there is nothing to ask with.
What a model cannot give (an endpoint that fails, a model that these settings do not name) is told and fails nothing.
Reads only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.embedding import choose_embedder
from everindex.articles.embedding.endpoint import RetryPolicy
from everindex.articles.embedding.provider import Embedder
from everindex.articles.embedding.static import StaticEmbedder
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_models import read_table_models
from everindex.errors import EverindexError
from everindex.index.catalog.observed import Observed
from everindex.index.recall.query_sample import SAMPLED_SEARCHES, AskedQueries, Queries, as_queries, kept_queries
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.settings import Settings

#: So many queries of a source at most, and of models at most.
WANTED = 40
MODELS = 5
#: A text longer than this is no title: its beginning is used.
MOST_TITLE_CHARACTERS = 200
#: A sample of fewer searches says nothing.
LEAST_SEARCHES = 10
#: Nobody waits for a proof because an endpoint is slow.
PATIENCE = RetryPolicy(attempts=1, total_seconds=10.0)
#: An endpoint is asked for titles so often by one keeper, at most: each title is paid for.
REMOTE_SECONDS = 24 * 3600.0


class RecallQueries:
    """The queries to prove recall with, for one process: what an endpoint gave is kept for a day."""

    def __init__(self, settings: Settings, collection: CollectionSpec = ARTICLES) -> None:
        self._settings = settings
        self._collection = collection
        self._remote: dict[tuple[str, int], tuple[float, np.ndarray | str]] = {}

    def __call__(self, connection: Connection, spec: IndexSpec, observed: Observed) -> AskedQueries:
        """Those for the index of `spec`. Raises nothing of its own."""
        width = observed.dimensions
        if spec.table != self._collection.table or width is None:
            return AskedQueries()
        try:
            table = read_table(connection, self._collection)
            models = _models_of(connection, table)
            texts = _titles(connection, table) if models and self._collection.text else []
        except EverindexError as exc:
            return AskedQueries(not_tried=(f"titles and searches ({exc.slug})",))
        found: list[Queries] = []
        not_tried: list[str] = []
        for model in models if texts else ():
            vectors = self._embedded(model, width, texts)
            if isinstance(vectors, str):
                not_tried.append(f"titles by {model} ({vectors})")
            else:
                found.append(as_queries(vectors.tolist(), observed, source=f"titles embedded with {model}"))
        asked = kept_queries(connection, spec, dimensions=width, limit=WANTED, models=list(models))
        if len(asked) >= LEAST_SEARCHES:
            found.append(as_queries(asked, observed, source=SAMPLED_SEARCHES))
        return AskedQueries(queries=tuple(found), not_tried=tuple(not_tried))

    def _embedded(self, model: str, width: int, texts: Sequence[str]) -> np.ndarray | str:
        """The vectors of the texts that have one; or why there are none."""
        try:
            embedder = self._embedder_of(model, width)
        except EverindexError as exc:
            return f"{exc.slug}"
        if embedder is None:
            return "it is not the model of these settings"
        if not embedder.is_remote:
            return _vectors(embedder, texts)
        kept = self._remote.get((model, width))
        if kept is None or time.monotonic() - kept[0] > REMOTE_SECONDS:
            kept = self._remote[model, width] = time.monotonic(), _vectors(embedder, texts)
        return kept[1]

    def _embedder_of(self, model: str, width: int) -> Embedder | None:
        static = StaticEmbedder(width=width)
        if static.model == model:
            return static
        chosen = choose_embedder(self._settings, width=width, retries=PATIENCE)
        return chosen if chosen.model == model else None


def _vectors(embedder: Embedder, texts: Sequence[str]) -> np.ndarray | str:
    batch = embedder.embed(texts)
    there = [number for number in range(len(texts)) if number not in batch.failures]
    if not there:
        return next(iter(batch.failures.values()), "no title has a vector")
    found: np.ndarray = batch.vectors[there]
    return found


def _models_of(connection: Connection, table: CollectionTable) -> tuple[str, ...]:
    """The models that are recorded or declared as having made vectors of the table; none where nothing is known."""
    return tuple(sorted(read_table_models(connection, table).names)[:MODELS])


def _titles(connection: Connection, table: CollectionTable) -> list[str]:
    """Titles of rows (of a single text column its beginning), those of another sample each time."""
    with translate_errors("sampling titles"):
        rows = connection.execute(
            sql.SQL(
                "SELECT pg_catalog.left({title}::text, {most}) FROM {table} a "
                "WHERE {title} <> '' AND {vector} IS NOT NULL ORDER BY random() LIMIT %s"
            ).format(
                title=sql.Identifier(table.spec.text[0]),
                most=sql.Literal(MOST_TITLE_CHARACTERS),
                table=table.identifier,
                vector=table.vector,
            ),
            (WANTED,),
        ).fetchall()
    return [row[0] for row in rows]
