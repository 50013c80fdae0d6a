"""The protocol of a search system in another process: one JSON document a line, on its standard input and output."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

K = 10
#: What a row has besides its vector, as far as it has it.
COLUMNS = ("uri", "title", "summary", "news_source", "category", "topic", "publication_date")


class Subject(Protocol):
    """A search system over the rows of a folder."""

    packages: tuple[str, ...]

    def load(self) -> None:
        """Stores the rows and builds the index, unless they are there."""

    def prepared(self, vector: np.ndarray) -> Any:
        """A query vector in the form that callers of this system have it in."""

    def search(self, vector: Any, only: dict[str, str]) -> list[Any]:
        """The K nearest that have the values of `only`, with their texts."""

    def uris(self, found: list[Any]) -> list[str]:
        """Of what `search` gave, in its order."""

    def set_ef_search(self, ef_search: int) -> None:
        """For the searches to come; not all systems can."""

    def told(self) -> dict[str, Any]:
        """What is worth knowing about the last search."""


def vectors_of(folder: Path) -> np.ndarray:
    """(n, dim) float32, read as needed."""
    return np.load(folder / "vectors.npy", mmap_mode="r")


def rows_of(folder: Path) -> list[dict[str, str]]:
    """In the order of the vectors, without what is empty."""
    with (folder / "rows.jsonl").open(encoding="utf-8") as lines:
        rows = map(json.loads, lines)
        return [{name: row[name] for name in COLUMNS if row.get(name) is not None} for row in rows]


def text_of(row: dict[str, str]) -> str:
    """Title and summary: what such a system holds as its document."""
    return f"{row.get('title', '')}\n\n{row.get('summary', '')}"


def serve(subject: Subject, folder: Path) -> None:
    """Answers until the input ends."""
    # Libraries print; the pipe is ours alone.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    queries = [subject.prepared(vector) for vector in np.load(folder / "queries.npy")]
    for line in sys.stdin:
        answer = _answer(subject, queries, json.loads(line))
        pipe.write(json.dumps(answer) + "\n")
        pipe.flush()


def _answer(subject: Subject, queries: list[Any], asked: dict[str, Any]) -> dict[str, Any]:
    match asked["do"]:
        case "load":
            started = time.perf_counter()
            subject.load()
            return {
                "seconds": time.perf_counter() - started,
                "versions": {name: version(name) for name in subject.packages},
            }
        case "ef_search":
            subject.set_ef_search(asked["ef_search"])
            return {}
        case "search":
            vector = queries[asked["query"]]
            started = time.perf_counter()
            found = subject.search(vector, asked["only"])
            seconds = time.perf_counter() - started
            return {"seconds": seconds, "uris": subject.uris(found), **subject.told()}
        case other:
            raise ValueError(other)
