"""The next step that brings the index of the words to its declaration, from what the catalog has. Changes no index.

Its steps are fewer than those of a vector index (`index/plan/steps.py`): every row is found with it or without it, so nothing is
proven before a swap and no previous generation is kept for a rollback, and it is not built on partitioned tables. How an index
is built, dropped and renamed online is the same for both (`index/build/online.py`, `index/deploy/swap.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.articles.search.keyword.document import TextConfig, document
from everindex.articles.search.keyword.index.observed import Found, Observed, TextIndex
from everindex.index.catalog.canonical import print_index
from everindex.pg.connections import Connection

#: (server, configuration, expression) found to match: the keeper checks every minute, and each comparison leaves dead
#: rows in the catalog.
_AS_DECLARED: set[tuple[Any, ...]] = set()


@dataclass(frozen=True, slots=True)
class Left:
    """Nothing to do."""

    reason: str | None = None
    is_as_declared: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    index: Found
    why: str
    comes_back: bool = False
    """It is rebuilt under the same name and gets its comment back."""


@dataclass(frozen=True, slots=True)
class Build:
    name: str


@dataclass(frozen=True, slots=True)
class Swap:
    """The successor takes the name of the serving index, which becomes the previous generation."""

    serving: Found
    successor: Found


@dataclass(frozen=True, slots=True)
class Rename:
    """The successor takes the name of the index, which is free."""

    successor: Found


@dataclass(frozen=True, slots=True)
class Finish:
    """Completes a build that was interrupted after its CREATE INDEX."""

    index: Found


Step = Drop | Build | Swap | Rename | Finish


def next_step(connection: Connection, config: TextConfig, found: Observed | None, *, replaces: bool) -> Step | Left:
    """The first step towards the declaration, or why there is none. Changes no index."""
    if found is None or not found.may_build:
        return Left()
    if found.is_partitioned:
        return Left(f"table {found.index.table} is partitioned: keyword search reads all of its rows")
    collection, name = found.index.collection, found.index.name
    serving, successor, previous = found.serving, found.successor, found.previous
    if serving is not None and not serving.is_for_words_of(collection):
        return Left(f"another relation has the name {name}: keyword search reads every row until it is renamed")
    if serving is not None and serving.is_valid:
        if _is_for(connection, config, found.index, serving):
            rest = next(
                (each for each in (successor, previous) if each is not None and each.is_for_words_of(collection)), None
            )
            if rest is not None:
                return Drop(rest, "is left over from a replacement")
            return Left(is_as_declared=True) if serving.has_no_statistics else Finish(serving)
        if not replaces:
            return Left(f"index {name} is not for {config.name!r}: the next  everindex migrate  replaces it")
        for each in (successor, previous):
            if each is not None and not each.is_for_words_of(collection):
                return Left(
                    f"another relation has the name {each.name}: index {name} is not replaced until it is renamed"
                )
    elif serving is not None:
        return Drop(serving, "is INVALID (left behind by an interrupted build)", comes_back=True)
    if successor is None or not successor.is_for_words_of(collection):
        return Build(name if serving is None else found.index.names[1])
    if not successor.is_valid:
        return Drop(successor, "is INVALID (left behind by an interrupted build)")
    if not _is_for(connection, config, found.index, successor):
        return Drop(successor, "is for another language or of an earlier release")
    if serving is None:
        return Rename(successor)
    return Swap(serving, successor) if previous is None else Drop(previous, "is left over from a replacement")


def is_leftover(step: Step) -> bool:
    """True where the index is as declared and the step only removes or completes leftovers of its build."""
    return isinstance(step, Finish) or (isinstance(step, Drop) and step.why == "is left over from a replacement")


def _is_for(connection: Connection, config: TextConfig, index: TextIndex, found: Found) -> bool:
    """Whether the index matches a search in `config`, comparing both as PostgreSQL prints them; cached per process."""
    info = connection.info
    where = (info.host, info.port, info.dbname, index.schema, index.collection.table, index.collection.text)
    if (where, config, found.expression) not in _AS_DECLARED:
        printed = print_index(
            connection,
            index.schema,
            index.table,
            sql.SQL("USING gin ({})").format(document(config, index.collection)),
        )
        if printed is not None and printed.expression != found.expression:
            return False
        _AS_DECLARED.add((where, config, found.expression))
    return True
