"""everindex behind the vector store of a framework, as a subject: the same calls that its other stores get.

    python bench/subjects/everindex_adapter.py FOLDER CONNINFO langchain|llamaindex

Runs in .venv-adapters (`make env-adapters`). The members that are filtered have columns of their own with an index each, as
the other stores' have.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from serving import K, rows_of, serve, text_of, vectors_of

FILTERED = ("topic", "category")
#: More than there are: a load at once is stored first and indexed then.
ROWS_AT_ONCE = 100_000


class Adapter:
    """What both frameworks' stores share: the loading in parts, the indexes of the filters, the beam."""

    packages: tuple[str, ...] = ("everindex", "psycopg", "pgvector")

    def __init__(self, folder: Path, conninfo: str, framework: str) -> None:
        self._folder = folder
        self._conninfo = conninfo
        self.name = f"everindex_{framework}"
        self.options: dict[str, int] = {}

    def load(self) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            found = connection.execute("SELECT to_regclass(%s)", (f"{self.name}_{FILTERED[-1]}_idx",)).fetchone()
            if found is not None and found[0] is not None:
                return
            vectors, rows = vectors_of(self._folder), rows_of(self._folder)
            for start in range(0, len(rows), ROWS_AT_ONCE):
                self.add(rows[start : start + ROWS_AT_ONCE], vectors[start : start + ROWS_AT_ONCE])
            for name in FILTERED:
                connection.execute(
                    sql.SQL("CREATE INDEX {} ON {} ({})").format(
                        sql.Identifier(f"{self.name}_{name}_idx"), sql.Identifier(self.name), sql.Identifier(name)
                    )
                )
            connection.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(self.name)))

    def add(self, rows: list[dict[str, str]], vectors: np.ndarray) -> None:
        raise NotImplementedError

    def prepared(self, vector: np.ndarray) -> list[float]:
        return [float(number) for number in vector]

    def set_ef_search(self, ef_search: int) -> None:
        """0: everindex chooses."""
        self.options = {"ef_search": ef_search} if ef_search else {}

    def told(self) -> dict[str, Any]:
        return dict(self.options)


class LangChain(Adapter):
    packages = ("everindex", "langchain-core", "psycopg", "pgvector")

    def __init__(self, folder: Path, conninfo: str) -> None:
        from langchain_core.embeddings import DeterministicFakeEmbedding

        from everindex.langchain import EverindexVectorStore

        super().__init__(folder, conninfo, "langchain")
        self._store = EverindexVectorStore(
            DeterministicFakeEmbedding(size=1),  # every vector is ready here
            collection_name=self.name,
            connection=conninfo,
            metadata_columns=dict.fromkeys(FILTERED, "text"),
        )

    def add(self, rows: list[dict[str, str]], vectors: np.ndarray) -> None:
        self._store.add_embeddings(
            [text_of(row) for row in rows],
            vectors,
            [{name: value for name, value in row.items() if name not in ("uri", "summary")} for row in rows],
            ids=[row["uri"] for row in rows],
        )

    def search(self, vector: list[float], only: dict[str, str]) -> list[Any]:
        return self._store.similarity_search_by_vector(vector, k=K, filter=only or None, **self.options)

    def uris(self, found: list[Any]) -> list[str]:
        return [document.id for document in found]


class LlamaIndex(Adapter):
    packages = ("everindex", "llama-index-core", "psycopg", "pgvector")

    def __init__(self, folder: Path, conninfo: str) -> None:
        from everindex.llamaindex import EverindexVectorStore

        super().__init__(folder, conninfo, "llamaindex")
        self._store = EverindexVectorStore(
            collection_name=self.name, connection=conninfo, metadata_columns=dict.fromkeys(FILTERED, "text")
        )

    def add(self, rows: list[dict[str, str]], vectors: np.ndarray) -> None:
        from llama_index.core.schema import TextNode

        self._store.add(
            [
                TextNode(
                    id_=row["uri"],
                    text=text_of(row),
                    metadata={name: value for name, value in row.items() if name not in ("uri", "summary")},
                    embedding=[float(number) for number in vector],
                )
                for row, vector in zip(rows, vectors, strict=True)
            ]
        )

    def search(self, vector: list[float], only: dict[str, str]) -> list[Any]:
        from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery

        filters = [MetadataFilter(key=key, value=value) for key, value in only.items()]
        found = self._store.query(
            VectorStoreQuery(
                query_embedding=vector,
                similarity_top_k=K,
                filters=MetadataFilters(filters=filters) if filters else None,
            ),
            **self.options,
        )
        return list(found.nodes or [])

    def uris(self, found: list[Any]) -> list[str]:
        return [node.node_id for node in found]


def main() -> None:
    folder, conninfo, framework = sys.argv[1:]
    adapter = {"langchain": LangChain, "llamaindex": LlamaIndex}[framework]
    serve(adapter(Path(folder), conninfo), Path(folder))


if __name__ == "__main__":
    main()
