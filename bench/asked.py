"""A search system in a process of its own, as the one that measures sees it: the other end of subjects/serving.py."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUBJECTS = Path(__file__).with_name("subjects")
#: Nothing of ours, and nothing that a library would report to its makers.
QUIET = {"ANONYMIZED_TELEMETRY": "False", "LANGSMITH_TRACING": "false", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One search: how long it took inside its process, and what it gave."""

    seconds: float
    uris: list[str]
    told: dict[str, Any]


class Asked:
    """A running subject. `load()` comes first."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def load(self) -> dict[str, Any]:
        """Stores the rows and builds the index, unless they are there; seconds, and versions of its packages."""
        return self._ask({"do": "load"})

    def set_ef_search(self, ef_search: int) -> None:
        self._ask({"do": "ef_search", "ef_search": ef_search})

    def search(self, query: int, only: dict[str, str]) -> Found:
        answer = self._ask({"do": "search", "query": query, "only": only})
        return Found(seconds=answer.pop("seconds"), uris=answer.pop("uris"), told=answer)

    def _ask(self, document: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(document) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the subject ended with status {self._process.wait()}; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def asked(python: Path, script: str, *arguments: str) -> Iterator[Asked]:
    """Starts a subject for the time of the block."""
    process = subprocess.Popen(
        [str(python), str(SUBJECTS / script), *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | QUIET,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        yield Asked(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
