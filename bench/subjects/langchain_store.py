"""LangChain's PGVectorStore (langchain-postgres) as a subject: `similarity_search_by_vector`, embedding done.

    python bench/subjects/langchain_store.py FOLDER CONNINFO [psycopg|asyncpg] [strict_order|relaxed_order|off]

As its documentation advises for fast filters, topic and category are columns of their own; each has a btree index here,
as everindex's have. ef_search is the server's default of 40, so that no statement is sent to set it. Its third argument
is the driver below SQLAlchemy. Its fourth, hnsw.iterative_scan, it has no option for: it is set for its connections.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_postgres.v2.indexes import HNSWIndex
from psycopg.conninfo import conninfo_to_dict
from serving import K, rows_of, serve, text_of, vectors_of
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

TABLE = "langchain_articles"
FILTERED = ("topic", "category")
#: So many rows go to its API at a time, and so many such calls run at once: it sends them one by one.
ROWS_AT_ONCE, CALLS_AT_ONCE = 200, 4
#: For storing and building only: one commit a row would else wait for the disk, and the build would not fit into memory.
LOADING = {
    "synchronous_commit": "off",
    "maintenance_work_mem": "1GB",
    "min_parallel_table_scan_size": "0",
}


class NothingToEmbed(Embeddings):
    """Its constructor wants a model; every vector is ready here."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


def engine_for(conninfo: str, driver: str, settings: dict[str, str]) -> PGEngine:
    url, connect_args = _address(conninfo, driver, settings)
    return PGEngine.from_connection_string(url, connect_args=connect_args)


def _address(conninfo: str, driver: str, settings: dict[str, str]) -> tuple[URL, dict[str, Any]]:
    parts = conninfo_to_dict(conninfo)
    url = URL.create(
        f"postgresql+{driver}",
        username=str(parts["user"]),
        database=str(parts["dbname"]),
        query={"host": str(parts["host"])},
    )
    if driver == "asyncpg":
        return url, {"server_settings": settings}
    return url, {"options": " ".join(f"-c {name}={value}" for name, value in settings.items())}


class LangChain:
    packages = ("langchain-postgres", "langchain-core", "SQLAlchemy", "psycopg", "asyncpg", "pgvector")

    def __init__(self, folder: Path, conninfo: str, driver: str, iterative_scan: str) -> None:
        self._folder = folder
        self._conninfo = conninfo
        settings = {} if iterative_scan == "off" else {"hnsw.iterative_scan": iterative_scan}
        self._engine = engine_for(conninfo, driver, settings)
        self._store: PGVectorStore | None = None

    def load(self) -> None:
        if not asyncio.run(_is_there(self._conninfo)):
            self._fill()
        self._store = _store(self._engine)

    def _fill(self) -> None:
        engine = engine_for(self._conninfo, "asyncpg", LOADING)
        vectors, rows = vectors_of(self._folder), rows_of(self._folder)
        engine.init_vectorstore_table(
            TABLE,
            vectors.shape[1],
            id_column=Column("uri", "TEXT", nullable=False),
            metadata_columns=[Column(name, "TEXT") for name in FILTERED],
            overwrite_existing=True,
        )
        store = _store(engine)

        async def add(start: int, free: asyncio.Semaphore) -> None:
            async with free:
                part = rows[start : start + ROWS_AT_ONCE]
                await store.aadd_embeddings(
                    [text_of(row) for row in part],
                    vectors[start : start + ROWS_AT_ONCE].tolist(),
                    [{name: value for name, value in row.items() if name not in ("uri", "summary")} for row in part],
                    [row["uri"] for row in part],
                )

        async def add_all() -> None:
            free = asyncio.Semaphore(CALLS_AT_ONCE)
            await asyncio.gather(*(add(start, free) for start in range(0, len(rows), ROWS_AT_ONCE)))

        asyncio.run(add_all())
        store.apply_vector_index(HNSWIndex(m=16, ef_construction=64))
        asyncio.run(_index_filters(self._conninfo))

    def prepared(self, vector: np.ndarray) -> list[float]:
        return [float(number) for number in vector]

    def search(self, vector: list[float], only: dict[str, str]) -> list[Any]:
        assert self._store is not None
        return list(self._store.similarity_search_by_vector(vector, k=K, filter=only or None))

    def uris(self, found: list[Any]) -> list[str]:
        return [document.id for document in found]

    def set_ef_search(self, ef_search: int) -> None:
        raise NotImplementedError

    def told(self) -> dict[str, Any]:
        return {}


def _store(engine: PGEngine) -> PGVectorStore:
    return PGVectorStore.create_sync(engine, NothingToEmbed(), TABLE, id_column="uri", metadata_columns=list(FILTERED))


async def _is_there(conninfo: str) -> bool:
    """Whether a run before this one has stored all and built the index."""
    url, connect_args = _address(conninfo, "asyncpg", {})
    engine = create_async_engine(url, connect_args=connect_args)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT to_regclass(:name)"), {"name": f"{TABLE}_category_idx"})
        there = found.scalar() is not None
    await engine.dispose()
    return there


async def _index_filters(conninfo: str) -> None:
    url, connect_args = _address(conninfo, "asyncpg", {})
    engine = create_async_engine(url, connect_args=connect_args, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for name in FILTERED:
            await connection.execute(text(f"CREATE INDEX {TABLE}_{name}_idx ON {TABLE} ({name})"))
        await connection.execute(text(f"VACUUM ANALYZE {TABLE}"))
    await engine.dispose()


def main() -> None:
    folder, conninfo, *more = sys.argv[1:]
    driver, iterative_scan = (*more, *("psycopg", "off")[len(more) :])
    serve(LangChain(Path(folder), conninfo, driver, iterative_scan), Path(folder))


if __name__ == "__main__":
    main()
