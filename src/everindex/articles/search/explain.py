"""How is a search answered? Its strategy, settings and statement, and the plan as it ran; never what was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everindex.articles.search.vector.strategy import Approach
from everindex.index.recall.explain import Settings, explain_text
from everindex.pg.connections import Connection

#: A query vector, as a plan shows it.
_VECTOR_LITERAL = re.compile(r"'\[[^'\]]*\]'")
#: The words that were asked for.
_TSQUERY = re.compile(r"'(?:[^']|'')*'::tsquery")
#: The bit code of one.
_BITS = re.compile(r"'[01]{32,}'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `everindex search --explain` shows."""

    approach: Approach
    statement: str
    """With named placeholders; empty where nothing has to be run."""

    plan: tuple[str, ...]
    """EXPLAIN (ANALYZE, BUFFERS), without the query vector."""

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` gives it."""
        return {
            "strategy": self.approach.strategy,
            "reason": self.approach.reason,
            "ef_search": self.approach.ef_search,
            "fetch": self.approach.fetch or None,
            "candidates": self.approach.candidates,
            "settings": dict(self.approach.settings),
            "statement": self.statement,
            "plan": list(self.plan),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsExplanation:
    """How the words of a search are found: the statement of keyword search, and its plan as it ran."""

    statement: str
    plan: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The explanation as `--json` gives it."""
        return {"statement": self.statement, "plan": list(self.plan)}


def plan_as_run(
    connection: Connection, statement: str, parameters: Mapping[str, Any], *, settings: Settings
) -> tuple[str, ...]:
    """Runs the statement under transaction-local `settings` and tells how it went, a line each."""
    lines = explain_text(connection, statement, parameters, settings=settings, as_run=True)
    return tuple(without_vectors(line) for line in lines)


def without_words(line: str) -> str:
    """A line of a plan without the words of the query."""
    return _TSQUERY.sub("'…'::tsquery", line)


def without_vectors(line: str) -> str:
    """A line of a plan without the vectors in it: they are long, and somebody's question."""
    return _BITS.sub("'…'", _VECTOR_LITERAL.sub("'[…]'", line))
