"""Chroma in process, with its data on disk, as a subject: `collection.query` with an embedding that is ready.

python bench/subjects/chroma_collection.py FOLDER DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.config import Settings
from serving import K, rows_of, serve, text_of, vectors_of

NAME = "articles"
#: The same graph and beam as the others'.
HNSW = {"space": "cosine", "max_neighbors": 16, "ef_construction": 64, "ef_search": 40}
ROWS_AT_ONCE = 1000


class Chroma:
    packages = ("chromadb",)

    def __init__(self, folder: Path, directory: Path) -> None:
        self._folder = folder
        client = chromadb.PersistentClient(path=str(directory), settings=Settings(anonymized_telemetry=False))
        self._collection = client.get_or_create_collection(NAME, configuration={"hnsw": HNSW}, embedding_function=None)

    def load(self) -> None:
        vectors, rows = vectors_of(self._folder), rows_of(self._folder)
        # What is there is the beginning: rows go in by their order.
        for start in range(self._collection.count(), len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            self._collection.add(
                ids=[row["uri"] for row in part],
                embeddings=vectors[start : start + ROWS_AT_ONCE],
                documents=[text_of(row) for row in part],
                metadatas=[
                    {name: value for name, value in row.items() if name not in ("uri", "summary")} for row in part
                ],
            )

    def prepared(self, vector: np.ndarray) -> np.ndarray:
        return vector

    def search(self, vector: np.ndarray, only: dict[str, str]) -> list[Any]:
        found = self._collection.query(
            query_embeddings=vector[None, :],
            n_results=K,
            where=dict(only) or None,
            include=["documents", "metadatas", "distances"],
        )
        ids, documents, metadatas, distances = (
            found[name][0] for name in ("ids", "documents", "metadatas", "distances")
        )
        return list(zip(ids, documents, metadatas, distances, strict=True))

    def uris(self, found: list[Any]) -> list[str]:
        return [row[0] for row in found]

    def set_ef_search(self, ef_search: int) -> None:
        raise NotImplementedError

    def told(self) -> dict[str, Any]:
        return {}


def main() -> None:
    folder, directory = map(Path, sys.argv[1:])
    serve(Chroma(folder, directory), folder)


if __name__ == "__main__":
    main()
