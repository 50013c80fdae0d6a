"""everindex as a subject: `search_vector` of an open instance.

python bench/subjects/everindex_search.py FOLDER CONNINFO
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from serving import K, serve

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.settings import Settings


class Everindex:
    packages = ("everindex", "psycopg", "pgvector")

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._ef_search: int | None = None
        self._last: Answer | None = None

    def load(self) -> None:
        """The measurement has filled the server before."""

    def prepared(self, vector: np.ndarray) -> np.ndarray:
        return vector

    def search(self, vector: np.ndarray, only: dict[str, str]) -> list[Any]:
        self._last = self._instance.search_vector(vector, k=K, filters=only, ef_search=self._ef_search)
        return self._last.hits

    def uris(self, found: list[Any]) -> list[str]:
        return [hit.uri for hit in found]

    def set_ef_search(self, ef_search: int) -> None:
        self._ef_search = ef_search

    def told(self) -> dict[str, Any]:
        assert self._last is not None
        return {"strategy": self._last.strategy, "ef_search": self._last.ef_search}


def main() -> None:
    folder, conninfo = sys.argv[1:]
    with connect_instance(conninfo, settings=Settings()) as instance:
        serve(Everindex(instance), Path(folder))


if __name__ == "__main__":
    main()
