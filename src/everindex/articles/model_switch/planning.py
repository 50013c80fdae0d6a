"""The plan of a change of the embedding model: what it costs, what it locks, and what keeps it from ending. Changes nothing.

Figures are estimates: tokens from the characters of the texts, time from a sample that is embedded now, sizes from the layout of
pgvector's pages, the time of the build from an earlier one or an assumption.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.articles.embedding import Embedder
from everindex.articles.ingest.generation_vectors import read_coverage
from everindex.articles.ingest.rows import text_to_embed
from everindex.articles.model_generations import WIDEST_HALFVEC, ModelGeneration, vector_type_of
from everindex.articles.model_switch.cutting import LOCK_WAIT_MS
from everindex.articles.model_switch.filling import CHARACTERS_PER_TOKEN
from everindex.articles.model_switch.state import filling_of, why_not
from everindex.articles.table import CollectionTable
from everindex.errors import DiskSpaceShort, EmbeddingFailed, EverindexError
from everindex.index.build.estimate import assumed_rate, build_seconds
from everindex.index.build.footprint import graph_bytes, index_bytes, value_bytes
from everindex.index.build.preflight import see_machine
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import size_text

#: Texts that are embedded to measure the rate; of an endpoint, which costs money, fewer.
SAMPLED, SAMPLED_REMOTE = 500, 16
#: Bytes of a row beside its vector: header, key of usual length, digest, and its entry in the primary key.
ROW_BYTES = 150
#: Of the disk that is free, so much stays so.
FREE_SHARE = 0.1

LOCKS = (
    "writing the vectors: ROW EXCLUSIVE on their own new table; the articles are only read",
    "building the index: SHARE UPDATE EXCLUSIVE on that table, which no search reads yet",
    f"the cut: SHARE on the articles, for a moment; it waits {LOCK_WAIT_MS} ms for a writer, then lets it pass and tries again",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchPlan:
    """What a switch would take."""

    model: str
    dimensions: int
    vector_type: str
    texts: int
    left: int
    """Of them, those that lack a vector of the new model: fewer where a switch was begun."""

    tokens: int
    cost: float | None
    """By the stated price; None where none was stated."""

    texts_per_second: float | None
    """Measured now; None where the model gave no vector."""

    embed_seconds: float | None
    table_bytes: int
    index_bytes: int
    memory_bytes: int
    """Of maintenance_work_mem, for a build without a slow phase."""

    build_seconds: float
    disk_free_bytes: int | None
    refusals: tuple[EverindexError, ...]

    @property
    def can_end(self) -> bool:
        return not self.refusals

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model, "dimensions": self.dimensions, "type": self.vector_type, "texts": self.texts,
            "texts_left": self.left, "tokens": self.tokens, "cost": self.cost,
            "texts_per_second": None if self.texts_per_second is None else round(self.texts_per_second, 1),
            "embed_seconds": None if self.embed_seconds is None else round(self.embed_seconds, 1),
            "table_bytes": self.table_bytes, "index_bytes": self.index_bytes, "memory_bytes": self.memory_bytes,
            "build_seconds": round(self.build_seconds, 1), "disk_free_bytes": self.disk_free_bytes,
            "locks": list(LOCKS), "can_end": self.can_end,
            "refusals": [
                {"slug": each.slug, "what": each.what, "why": each.why, "next": each.next_step} for each in self.refusals
            ],
        }  # fmt: skip


def plan_switch(
    connection: Connection,
    table: CollectionTable,
    embedder: Embedder,
    *,
    price: float | None = None,
    texts_per_second: float | None = None,
) -> SwitchPlan:
    """The plan of a switch to this model. `price`: of a million tokens; `texts_per_second`: a limit that the switch would have.
    Reads every text's length once, and embeds a sample, which an endpoint charges. Reads only."""
    texts, characters, sample = _read(connection, table, SAMPLED_REMOTE if embedder.is_remote else SAMPLED)
    rate, failed = _measure(embedder, sample)
    speed = rate if texts_per_second is None or rate is None else min(rate, texts_per_second)
    left = _left(connection, table, embedder, texts)
    kind = vector_type_of(embedder.dimensions)
    width = min(embedder.dimensions, WIDEST_HALFVEC)
    on_disk = texts * (value_bytes(kind, width) + ROW_BYTES)
    spec = ModelGeneration(number=2, model=None, name=None, dimensions=width, vector_type=kind, state="filling").index
    size = index_bytes(rows=texts, dimensions=width, m=spec.m, key_type=spec.key_type)
    free = see_machine(connection).disk_free_bytes
    tokens = -(-characters // CHARACTERS_PER_TOKEN) * left // max(texts, 1)
    refusals = [each for each in (why_not(table, embedder), failed, _disk(free, on_disk + size)) if each is not None]
    return SwitchPlan(
        model=embedder.model,
        dimensions=embedder.dimensions,
        vector_type=kind,
        texts=texts,
        left=left,
        tokens=tokens,
        cost=None if price is None else tokens / 1e6 * price,
        texts_per_second=rate,
        embed_seconds=None if speed is None else left / speed,
        table_bytes=on_disk,
        index_bytes=size,
        memory_bytes=graph_bytes(rows=texts, dimensions=width, m=spec.m, key_type=spec.key_type),
        build_seconds=build_seconds(
            rows=texts, share_in_memory=1.0, processes=1, rate=assumed_rate(spec, dimensions=width)
        ),
        disk_free_bytes=free,
        refusals=tuple(refusals),
    )


def _read(connection: Connection, table: CollectionTable, rows: int) -> tuple[int, int, list[str]]:
    """The number of articles, the characters of their texts, and the texts of some of them, drawn at random."""
    with translate_errors("reading the texts of the articles"):
        counted = connection.execute(
            sql.SQL(
                "SELECT count(*), coalesce(sum(pg_catalog.length(a.title::text)), 0) "
                "+ coalesce(sum(pg_catalog.length(a.summary::text)), 0) FROM {} a"
            ).format(table.identifier)
        ).fetchone()
        sample = connection.execute(
            sql.SQL("SELECT a.title::text, a.summary::text FROM {} a ORDER BY random() LIMIT {}").format(
                table.identifier, sql.Literal(rows)
            )
        ).fetchall()
    assert counted is not None
    return counted[0], int(counted[1]), [text for row in sample if (text := text_to_embed(row))]


def _measure(embedder: Embedder, sample: list[str]) -> tuple[float | None, EverindexError | None]:
    """Texts a second of a second pass over the sample (the first loads the model), or why there is no rate."""
    if not sample:
        return None, None
    if not embedder.is_remote:
        embedder.embed(sample[:1])
    started = time.perf_counter()
    embedded = embedder.embed(sample)
    seconds = time.perf_counter() - started
    if len(embedded.failures) < len(sample):
        return len(sample) / max(seconds, 1e-9), None
    return None, EmbeddingFailed(
        f"{embedder.model} gives no vector.",
        why=f"{next(iter(embedded.failures.values()))}.",
        next_step="check OPENAI_API_KEY, OPENAI_BASE_URL and the model's name, then plan again.",
    )


def _left(connection: Connection, table: CollectionTable, embedder: Embedder, texts: int) -> int:
    filling = filling_of(table)
    if filling is None or filling.model != embedder.model:
        return texts
    return read_coverage(connection, table.of_generation(filling.number)).lacking


def _disk(free: int | None, needed: int) -> EverindexError | None:
    if free is None or needed <= free * (1 - FREE_SHARE):
        return None
    return DiskSpaceShort(
        f"the new vectors and their index need about {size_text(needed)} of disk space, but only {size_text(free)} is free.",
        why="a tenth of what is free has to stay so, and the old vectors are kept for a rollback.",
        next_step="free some space, or choose a narrower model; nothing was changed.",
    )
