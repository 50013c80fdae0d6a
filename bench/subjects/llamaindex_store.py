"""LlamaIndex's PGVectorStore (llama-index-vector-stores-postgres) as a subject: `query` with an embedding that is ready.

    python bench/subjects/llamaindex_store.py FOLDER CONNINFO [strict_order|relaxed_order|off]

Its metadata lies in a jsonb column whose filtered keys it indexes (`indexed_metadata_keys`). That index is on a cast to
varchar, which its filter, `metadata_->>'topic' = …`, does not write; an index on what the filter does write is added.
hnsw.iterative_scan it has no option for: it is set for its connections.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.postgres import PGVectorStore
from psycopg2.extensions import parse_dsn
from serving import K, rows_of, serve, text_of, vectors_of
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL

NAME = "llamaindex_articles"
TABLE = f"data_{NAME}"
FILTERED = ("topic", "category")
HNSW = {
    "hnsw_m": 16,
    "hnsw_ef_construction": 64,
    "hnsw_ef_search": 40,
    "hnsw_dist_method": "vector_cosine_ops",
}
ROWS_AT_ONCE = 500
#: For storing and building only, as of LangChain.
LOADING = {"synchronous_commit": "off", "maintenance_work_mem": "1GB", "min_parallel_table_scan_size": "0"}


class LlamaIndex:
    packages = ("llama-index-vector-stores-postgres", "llama-index-core", "SQLAlchemy", "psycopg2-binary", "pgvector")

    def __init__(self, folder: Path, conninfo: str, iterative_scan: str) -> None:
        self._folder = folder
        parts = parse_dsn(conninfo)
        address = {"username": parts["user"], "database": parts["dbname"], "query": {"host": parts["host"]}}
        self._url = URL.create("postgresql+psycopg2", **address)
        # It makes an asynchronous engine beside the other, and never connects it here.
        self._async_url = URL.create("postgresql+asyncpg", **address)
        self._settings = {} if iterative_scan == "off" else {"hnsw.iterative_scan": iterative_scan}
        self._store = self._opened(self._settings, HNSW)

    def _opened(self, settings: dict[str, str], hnsw: dict[str, Any] | None) -> PGVectorStore:
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        return PGVectorStore(
            connection_string=self._url,
            async_connection_string=self._async_url,
            table_name=NAME,
            embed_dim=vectors_of(self._folder).shape[1],
            use_jsonb=True,
            indexed_metadata_keys={(name, "text") for name in FILTERED},
            hnsw_kwargs=None if hnsw is None else dict(hnsw),
            cache_ok=True,
            initialization_fail_on_error=True,
            create_engine_kwargs={"connect_args": {"options": options}} if options else {},
        )

    def load(self) -> None:
        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            is_there = inspect(connection).has_table(TABLE) and any(
                index["name"] == f"{TABLE}_category_idx" for index in inspect(connection).get_indexes(TABLE)
            )
        if not is_there:
            with engine.connect() as connection:
                connection.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))
            self._fill()
            with engine.connect() as connection:
                for name in FILTERED:
                    # The name of a key of ours; it stands in an index expression, where no parameter can.
                    connection.execute(text(f"CREATE INDEX {TABLE}_{name}_idx ON {TABLE} ((metadata_->>'{name}'))"))
                connection.execute(text(f"VACUUM ANALYZE {TABLE}"))
        engine.dispose()

    def _fill(self) -> None:
        """First the rows, then the index, which it builds at the first use with hnsw_kwargs."""
        store = self._opened(LOADING, None)
        vectors, rows = vectors_of(self._folder), rows_of(self._folder)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = zip(rows[start : start + ROWS_AT_ONCE], vectors[start : start + ROWS_AT_ONCE], strict=True)
            store.add(
                [
                    TextNode(
                        id_=row["uri"],
                        text=text_of(row),
                        metadata={name: value for name, value in row.items() if name not in ("uri", "summary")},
                        embedding=[float(number) for number in vector],
                    )
                    for row, vector in part
                ]
            )
        building = self._opened(LOADING, HNSW)
        building.query(VectorStoreQuery(query_embedding=vectors[0].tolist(), similarity_top_k=1))

    def prepared(self, vector: np.ndarray) -> list[float]:
        return [float(number) for number in vector]

    def search(self, vector: list[float], only: dict[str, str]) -> list[Any]:
        filters = [MetadataFilter(key=key, value=value) for key, value in only.items()]
        found = self._store.query(
            VectorStoreQuery(
                query_embedding=vector,
                similarity_top_k=K,
                filters=MetadataFilters(filters=filters) if filters else None,
            )
        )
        return list(found.nodes)

    def uris(self, found: list[Any]) -> list[str]:
        return [node.node_id for node in found]

    def set_ef_search(self, ef_search: int) -> None:
        raise NotImplementedError

    def told(self) -> dict[str, Any]:
        return {}


def main() -> None:
    folder, conninfo, *more = sys.argv[1:]
    serve(LlamaIndex(Path(folder), conninfo, more[0] if more else "off"), Path(folder))


if __name__ == "__main__":
    main()
