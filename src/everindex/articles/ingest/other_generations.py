"""The upkeep of the generations of vectors that do not serve: one that a switch fills, one that is kept for a rollback.

Each article that was written gets a vector in them, too, right after its own transaction. What fails here fails nobody's write:
the article is found lacking later, by the switch, the keeper or the rollback, which all use the same two functions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from everindex.articles.embedding import Embedder
from everindex.articles.embedding.provider import EmbeddingBatch
from everindex.articles.ingest.generation_vectors import Due, read_due, record_reasons, store_made
from everindex.articles.ingest.vector_records import set_vectors
from everindex.articles.table import CollectionTable
from everindex.errors import EverindexError
from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: Articles of one batch: a batch of vectors is one transaction.
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What became of some articles in one generation."""

    texts: int = 0
    stored: int = 0
    failed: int = 0

    def __add__(self, other: Batch) -> Batch:
        return Batch(
            texts=self.texts + other.texts, stored=self.stored + other.stored, failed=self.failed + other.failed
        )


def store_batch(
    connection: Connection,
    table: CollectionTable,
    due: Sequence[Due],
    embedder: Embedder,
    *,
    embedded: EmbeddingBatch | None = None,
) -> Batch:
    """Embeds these articles, unless they are `embedded` already, and stores their vectors in the generation that `table`
    describes, and the reasons of those that have none. The model works outside any transaction. Raises what statements raise."""
    if embedded is None:
        embedded = embedder.embed([each.text for each in due])
    good = [number for number in range(len(due)) if number not in embedded.failures]
    if table.generation is None:
        stored = set_vectors(
            connection, table, [(due[n].key, due[n].texts, embedded.vectors[n]) for n in good], model=embedder.model
        )
    else:
        stored = store_made(connection, table, [(due[n].key, due[n].digest, embedded.vectors[n]) for n in good])
    record_reasons(connection, table, due, embedded.failures)
    return Batch(texts=len(due), stored=stored, failed=len(embedded.failures))


def catch_up(
    connection: Connection, table: CollectionTable, embedder: Embedder, *, keys: Sequence[str] | None = None
) -> Batch:
    """Gives every article, or those of `keys`, a vector of its present text in the generation that `table` describes. Those that
    the model could not embed are left out until their text changes."""
    total, after = Batch(), None
    while due := read_due(connection, table, after=after, keys=keys, limit=BATCH):
        total += store_batch(connection, table, due, embedder)
        after = due[-1].key
    return total


def follow(
    connection: Connection,
    table: CollectionTable,
    keys: Sequence[str],
    embedder_of: Callable[[CollectionTable], Embedder],
) -> None:
    """Gives these articles, just written, their vectors in the generations that do not serve. Raises nothing: what is lacking is
    made later."""
    for generation in table.generations:
        if generation.number == table.number or generation.model is None:
            continue
        other = table.of_generation(generation.number)
        try:
            embedder = embedder_of(other)
            for start in range(0, len(keys), BATCH):
                catch_up(connection, other, embedder, keys=keys[start : start + BATCH])
        except EverindexError as exc:
            log.warning(
                "generation %d lacks articles that were just written: %s", generation.number, exc.slug,
                extra={"event": "generation-not-followed"},
            )  # fmt: skip
