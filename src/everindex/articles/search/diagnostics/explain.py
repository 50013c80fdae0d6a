"""Plans of searches as they ran, without the vectors and words in them, which reveal the query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from everindex.index.recall.explain import Settings, explain_text
from everindex.pg.connections import Connection

#: A query vector as a plan shows it.
_VECTOR_LITERAL = re.compile(r"'\[[^'\]]*\]'")
#: The words of the query.
_TSQUERY = re.compile(r"'(?:[^']|'')*'::tsquery")
#: The bit code of a vector.
_BITS = re.compile(r"'[01]{32,}'")


def plan_as_run(
    connection: Connection, statement: str, parameters: Mapping[str, Any], *, settings: Settings
) -> tuple[str, ...]:
    """Runs the statement under transaction-local `settings`; the lines of its plan, without vectors."""
    lines = explain_text(connection, statement, parameters, settings=settings, as_run=True)
    return tuple(without_vectors(line) for line in lines)


def without_words(line: str) -> str:
    """A line of a plan without the words of the query."""
    return _TSQUERY.sub("'…'::tsquery", line)


def without_vectors(line: str) -> str:
    """A line of a plan without the vectors in it: they are long and reveal the query."""
    return _BITS.sub("'…'", _VECTOR_LITERAL.sub("'[…]'", line))
