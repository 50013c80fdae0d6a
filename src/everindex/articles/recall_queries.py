"""Realistic queries for recall measurements: titles embedded like search texts, and a sample of real searches.

Titles are embedded only by models known to have made vectors of the table; without a record there are no title queries.
A model that is unavailable (an endpoint that fails, a model that these settings do not name) is reported and fails
nothing. Reads only.
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
from everindex.index.recall.query_sample import SAMPLED_SEARCHES, Queries, SearchQueries, as_queries, kept_queries
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.settings import Settings

#: Maximum number of queries per source, and of models.
WANTED = 40
MODELS = 5
#: A text longer than this is no title: its beginning is used.
MOST_TITLE_CHARACTERS = 200
#: A smaller sample of searches is not used.
LEAST_SEARCHES = 10
#: A slow endpoint must not delay a recall measurement.
PATIENCE = RetryPolicy(attempts=1, total_seconds=10.0)
#: Minimum interval between title requests of one keeper to an endpoint: each title costs money.
REMOTE_SECONDS = 24 * 3600.0


class RecallQueries:
    """The queries of one process to measure recall with; vectors from an endpoint are cached for a day."""

    def __init__(self, settings: Settings, collection: CollectionSpec = ARTICLES) -> None:
        self._settings = settings
        self._collection = collection
        self._remote: dict[tuple[str, int], tuple[float, np.ndarray | str]] = {}

    def __call__(self, connection: Connection, spec: IndexSpec, observed: Observed) -> SearchQueries:
        """The queries for the index of `spec`. Raises nothing of its own."""
        width = observed.dimensions
        if spec.table != self._collection.table or width is None:
            return SearchQueries()
        try:
            table = read_table(connection, self._collection)
            models = _models_of(connection, table)
            texts = _titles(connection, table) if models and self._collection.text else []
        except EverindexError as exc:
            return SearchQueries(not_tried=(f"titles and searches ({exc.slug})",))
        found: list[Queries] = []
        not_tried: list[str] = []
        for model in models if texts else ():
            vectors = self._embedded(model, width, texts)
            if isinstance(vectors, str):
                not_tried.append(f"titles by {model} ({vectors})")
            else:
                found.append(as_queries(vectors.tolist(), observed, source=f"titles embedded with {model}"))
        sampled = kept_queries(connection, spec, dimensions=width, limit=WANTED, models=list(models))
        if len(sampled) >= LEAST_SEARCHES:
            found.append(as_queries(sampled, observed, source=SAMPLED_SEARCHES))
        return SearchQueries(queries=tuple(found), not_tried=tuple(not_tried))

    def _embedded(self, model: str, width: int, texts: Sequence[str]) -> np.ndarray | str:
        """The vectors of the texts that could be embedded, or why there are none."""
        try:
            embedder = self._embedder_of(model, width)
        except EverindexError as exc:
            return f"{exc.slug}"
        if embedder is None:
            return "it is not the model of these settings"
        if not embedder.is_remote:
            return _vectors(embedder, texts)
        cached = self._remote.get((model, width))
        if cached is None or time.monotonic() - cached[0] > REMOTE_SECONDS:
            cached = self._remote[model, width] = time.monotonic(), _vectors(embedder, texts)
        return cached[1]

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
    """The models recorded or declared to have made vectors of the table; empty where nothing is known."""
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
