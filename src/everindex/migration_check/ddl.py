"""The statements of a migration as typed operations, as far as they concern indexes, columns and rewrites of tables.

A statement that concerns none of these is Other. Nothing is executed or resolved: names are as they were written, folded to
lower case unless quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from everindex.migration_check.operations import (
    AlterTable,
    CreateIndex,
    CreateTable,
    DoBlock,
    DropExtension,
    DropIndex,
    DropTable,
    Name,
    Operation,
    Other,
    Reindex,
    RenameIndex,
    Transaction,
)
from everindex.statement_check.text import Token, tokens

#: The access methods of pgvector, pgvectorscale and VectorChord.
VECTOR_METHODS = frozenset({"hnsw", "ivfflat", "diskann", "vchordrq", "vchordg"})
VECTOR_TYPES = frozenset({"vector", "halfvec", "sparsevec"})
#: A default that calls one of these has another value in every row, so ADD COLUMN rewrites the table (PostgreSQL manual,
#: ALTER TABLE: "adding a column with a volatile DEFAULT"). now() is stable, and does not.
_VOLATILE = frozenset(
    {"gen_random_uuid", "uuid_generate_v4", "uuidv7", "uuidv4", "random", "clock_timestamp", "nextval", "timeofday"}
)
_SERIAL = frozenset({"serial", "bigserial", "smallserial", "serial4", "serial8", "serial2"})
_ALLOW = re.compile(r"everindex:\s*allow\s+([\w, -]+)")
_COPY_DATA = re.compile(r"\s*copy\b.*\bfrom\s+stdin\b.*;\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatement:
    """One statement: its operations, where it begins, and the rules that a comment in or before it allows."""

    text: str
    line: int
    allowed: frozenset[str]
    operations: tuple[Operation, ...]


def migration_statements(text: str) -> Iterator[MigrationStatement]:
    """The statements of a script, also one for psql: its own commands and the data of COPY are passed over.

    A comment `-- everindex: allow RULE` before or in a statement allows it what the rule reports.
    """
    text = _without_psql(text)
    piece: list[Token] = []
    for token in [*tokens(text), Token(kind="other", text=";", start=len(text))]:
        if token.kind == "other" and token.text == ";":
            words = [part for part in piece if part.is_significant]
            if words:
                yield MigrationStatement(
                    text=text[words[0].start : words[-1].start + len(words[-1].text)],
                    line=text.count("\n", 0, words[0].start) + 1,
                    allowed=_allowed(piece),
                    operations=tuple(_operations(_Words(words))),
                )
            piece = []
        else:
            piece.append(token)


def _allowed(piece: list[Token]) -> frozenset[str]:
    found = [_ALLOW.search(token.text) for token in piece if token.kind in ("comment", "block")]
    return frozenset(slug for match in found if match for slug in re.split(r"[,\s]+", match[1].strip()) if slug)


def _without_psql(text: str) -> str:
    """The same lines; those that are not SQL are empty."""
    kept: list[str] = []
    is_data = False
    for line in text.split("\n"):
        if is_data:
            is_data = line.rstrip() != "\\."
            kept.append("")
        elif line.lstrip().startswith("\\"):
            kept.append("")
        else:
            is_data = bool(_COPY_DATA.match(line))
            kept.append(line)
    return "\n".join(kept)


class _Words:
    """The significant tokens of one statement, read from left to right."""

    def __init__(self, words: list[Token]) -> None:
        self._words = words
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self._words[place].text.lower() if place < len(self._words) else ""

    def take(self, *expected: str) -> bool:
        """Moves past these words if they come next."""
        if tuple(self.peek(number) for number in range(len(expected))) != expected:
            return False
        self.at += len(expected)
        return True

    def raw(self) -> str:
        """The next token as it was written; moves past it."""
        text = self._words[self.at].text if self.at < len(self._words) else ""
        self.at += 1
        return text

    def identifier(self) -> str:
        text = self.raw()
        return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()

    def name(self) -> Name:
        first = self.identifier()
        return Name(schema=first, name=self.identifier()) if self.take(".") else Name(schema=None, name=first)

    def names(self) -> tuple[Name, ...]:
        found = [self.name()]
        while self.take(","):
            found.append(self.name())
        return tuple(found)

    def parenthesised(self) -> str:
        """The text of what is in parentheses, without spaces; the words must be at the opening one."""
        depth, parts = 0, []
        while self.at < len(self._words):
            word = self.raw()
            depth += (word == "(") - (word == ")")
            if depth == 0:
                break
            parts.append(word.lower())
        return " ".join(parts[1:])

    def rest(self) -> list[str]:
        return [word.text.lower() for word in self._words[self.at :]]

    def split(self) -> list[_Words]:
        """What is left, divided at the commas outside parentheses."""
        parts: list[list[Token]] = [[]]
        depth = 0
        for word in self._words[self.at :]:
            depth += (word.text in "([") - (word.text in ")]")
            if depth == 0 and word.text == ",":
                parts.append([])
            else:
                parts[-1].append(word)
        return [_Words(part) for part in parts if part]

    @property
    def is_empty(self) -> bool:
        return self.at >= len(self._words)


def _operations(words: _Words) -> Iterator[Operation]:
    match words.peek():
        case "begin" | "start":
            yield Transaction(is_begin=True)
        case "commit" | "end" | "abort":
            yield Transaction(is_begin=False)
        case "rollback" if "to" not in words.rest():
            yield Transaction(is_begin=False)
        case "create":
            yield from _create(words)
        case "drop":
            yield from _drop(words)
        case "alter":
            yield from _alter(words)
        case "reindex":
            yield _reindex(words)
        case "cluster" | "vacuum":
            yield from _whole_table(words)
        case "do":
            yield DoBlock(text=" ".join(words.rest()))
        case _:
            yield Other()


def _create(words: _Words) -> Iterator[Operation]:
    words.take("create")
    words.take("unique")
    if words.take("index"):
        yield _create_index(words)
        return
    for word in ("global", "local", "temporary", "temp", "unlogged"):
        words.take(word)
    if not words.take("table"):
        yield Other()
        return
    words.take("if", "not", "exists")
    table = words.name()
    columns: list[str] = []
    if words.take("("):
        for part in words.split():
            column = part.identifier()
            if _type_of(part) in VECTOR_TYPES:
                columns.append(column)
    yield CreateTable(table=table, vector_columns=tuple(columns))


def _create_index(words: _Words) -> CreateIndex:
    is_concurrent = words.take("concurrently")
    if_not_exists = words.take("if", "not", "exists")
    name = None if words.peek() == "on" else words.name()
    words.take("on")
    is_on_only = words.take("only")
    table = words.name()
    method = words.identifier() if words.take("using") else "btree"
    key = words.parenthesised()
    rest = words.rest()
    return CreateIndex(
        name=name,
        table=table,
        method=method,
        key=key,
        predicate=" ".join(rest[rest.index("where") + 1 :]) if "where" in rest else "",
        is_concurrent=is_concurrent,
        if_not_exists=if_not_exists,
        is_on_only=is_on_only,
    )


def _drop(words: _Words) -> Iterator[Operation]:
    words.take("drop")
    if words.take("index"):
        is_concurrent = words.take("concurrently")
        words.take("if", "exists")
        yield DropIndex(names=words.names(), is_concurrent=is_concurrent)
    elif words.take("table"):
        words.take("if", "exists")
        yield DropTable(tables=words.names())
    elif words.take("extension"):
        words.take("if", "exists")
        if any(name.name == "vector" for name in words.names()):
            yield DropExtension()
    else:
        yield Other()


def _alter(words: _Words) -> Iterator[Operation]:
    words.take("alter")
    if words.take("index"):
        words.take("if", "exists")
        name = words.name()
        if words.take("rename", "to"):
            yield RenameIndex(name=name, new_name=words.identifier())
        return
    if not words.take("table"):
        yield Other()
        return
    words.take("if", "exists")
    words.take("only")
    table = words.name()
    words.take("*")
    for action in words.split():
        yield from _action(table, action)


def _action(table: Name, words: _Words) -> Iterator[AlterTable]:
    if words.take("rename", "to"):
        yield AlterTable(table=table, action="rename", new_name=words.identifier())
    elif words.take("drop"):
        if words.take("constraint"):
            return
        words.take("column")
        words.take("if", "exists")
        yield AlterTable(table=table, action="drop-column", column=words.identifier())
    elif words.take("alter"):
        words.take("column")
        column = words.identifier()
        if words.take("set", "data", "type") or words.take("type"):
            yield AlterTable(table=table, action="retype", column=column, new_type=_type_of(words))
    elif words.take("add"):
        if words.peek() in ("constraint", "primary", "unique", "foreign", "check", "exclude"):
            return
        words.take("column")
        words.take("if", "not", "exists")
        column, new_type = words.identifier(), _type_of(words)
        yield AlterTable(
            table=table, action="add-column", column=column, new_type=new_type, why=_rewrites(new_type, words.rest())
        )
    elif words.take("set", "logged") or words.take("set", "unlogged") or words.take("set", "access", "method"):
        yield AlterTable(
            table=table, action="rewrite", why="SET LOGGED, SET UNLOGGED and SET ACCESS METHOD copy every row"
        )


def _rewrites(new_type: str, rest: list[str]) -> str | None:
    """Why adding a column of this type with these clauses rewrites the table; None if it does not."""
    if new_type in _SERIAL or ("identity" in rest and "generated" in rest):
        return "every row gets a value of the sequence"
    if "generated" in rest and "virtual" not in rest:
        return "a stored generated column is computed for every row"
    if "default" in rest and _VOLATILE & set(rest):
        return "its default has another value in every row"
    return None


def _type_of(words: _Words) -> str:
    """The name of a type, without schema and modifiers; the words are moved past its name."""
    found = words.identifier()
    while words.take("."):
        found = words.identifier()
    return found


def _reindex(words: _Words) -> Reindex:
    words.take("reindex")
    options = words.parenthesised() if words.peek() == "(" else ""
    kind = words.identifier()
    is_concurrent = words.take("concurrently") or re.search(r"\bconcurrently\b(?! (false|off|0))", options) is not None
    known: dict[str, Literal["index", "table", "schema", "database", "system"]] = {
        "index": "index", "table": "table", "schema": "schema", "database": "database", "system": "system",
    }  # fmt: skip
    return Reindex(
        kind=known.get(kind, "table"), name=None if words.is_empty else words.name(), is_concurrent=is_concurrent
    )


def _whole_table(words: _Words) -> Iterator[Operation]:
    command = words.identifier()
    options = words.parenthesised() if words.peek() == "(" else ""
    is_full = words.take("full") or re.search(r"\bfull\b(?! (false|off|0))", options) is not None
    for word in ("verbose", "freeze", "analyze"):
        words.take(word)
    if words.is_empty or (command == "vacuum" and not is_full):
        yield Other()
        return
    first = words.name()
    if command == "cluster":
        table = words.name() if words.take("on") else first
        yield AlterTable(table=table, action="rewrite", why="CLUSTER copies every row")
        return
    yield AlterTable(table=first, action="rewrite", why="VACUUM FULL copies every row")
