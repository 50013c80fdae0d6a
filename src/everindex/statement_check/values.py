"""The values of the parameters of a statement: given values as literals, and a stored vector if none is given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from everindex.errors import StatementNotCheckable
from everindex.statement_check.catalog import VectorColumn, literal, quoted
from everindex.statement_check.connection import CallerConnection, Refused
from everindex.statement_check.plan import Plan
from everindex.statement_check.text import Statement, tokens

Given = Mapping[str, Any] | Sequence[Any] | None
VECTOR_TYPES = ("vector", "halfvec", "sparsevec", "bit")


def given_values(statement: Statement, given: Given) -> dict[int, Any]:
    """{number of the parameter: value} of the given values, by name or by position. Raises StatementNotCheckable for too many."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        names = {name: number for number, name in enumerate(statement.parameters, start=1)}
        return {names[str(name)]: value for name, value in given.items() if str(name) in names}
    if len(given) > len(statement.parameters):
        raise StatementNotCheckable(
            f"{len(given)} parameters were given to {called(statement)}, which has {len(statement.parameters)}.",
            why="parameters without a name are assigned in the order of the placeholders.",
            next_step="omit the extra ones, or pass them by name.",
        )
    return dict(enumerate(given, start=1))


def as_literal(value: Any, *, type_name: str, what: str) -> str:
    """A value as SQL. Raises StatementNotCheckable if it cannot be written as a literal."""
    if value is None:
        return "NULL"
    if type_name in VECTOR_TYPES:
        return literal(vector_text(value, type_name=type_name))
    if isinstance(value, tuple):
        # psycopg2 writes a tuple as the list after IN.
        return "(" + ", ".join(as_literal(part, type_name="", what=what) for part in value) + ")"
    if hasattr(value, "item") and hasattr(value, "dtype") and getattr(value, "ndim", 0) == 0:
        value = value.item()  # a number of numpy
    try:
        return literal(value)
    except psycopg.Error as exc:
        raise StatementNotCheckable(
            f"the value of parameter {what} cannot be written as SQL.",
            why=f"it is a {type(value).__name__}, and {exc}.",
            next_step="pass it as a text that PostgreSQL can convert to the type of the parameter.",
        ) from exc


def vector_text(value: Any, *, type_name: str) -> str:
    """A vector in pgvector's text format, from a text, a sequence of numbers, a numpy array or a class of pgvector-python."""
    if isinstance(value, str):
        return value
    if hasattr(value, "to_text"):
        return str(value.to_text())
    numbers = value.tolist() if hasattr(value, "tolist") else list(value)
    if type_name == "bit":
        return "".join("1" if number else "0" for number in numbers)
    if type_name == "sparsevec":
        entries = ",".join(f"{at}:{float(number)}" for at, number in enumerate(numbers, start=1) if number)
        return f"{{{entries}}}/{len(numbers)}"
    return "[" + ",".join(str(float(number)) for number in numbers) + "]"


def column_of(number: int, type_name: str, generic: Plan, columns: list[VectorColumn]) -> VectorColumn | None:
    """The column that parameter `$number` is compared with, from the expressions of a plan that still contains it."""
    placeholder = re.compile(rf"\${number}(?!\d)")
    for column in columns:
        name = re.compile(rf"(?<![\w\"]){re.escape(quoted(column.name))}|(?<!\w){re.escape(column.name)}(?!\w)")
        for node in generic.nodes:
            for text in _expressions(node.facts):
                if placeholder.search(text) and name.search(text):
                    return column
    same_type = [column for column in columns if column.type == type_name]
    return next(iter(same_type or columns), None)


def stored_vectors(caller: CallerConnection, column: VectorColumn, *, type_name: str, count: int = 1) -> list[str]:
    """Vectors from the table as text for literals, spread over it; a unit vector with the column's dimensions if it is empty."""
    # A single row can be any row; several are spread over the table by the hash of their location.
    order = sql.SQL("" if count == 1 else "ORDER BY pg_catalog.md5(t.ctid::text || 'everindex')")
    text = sql.SQL("SELECT {name}::text FROM {table} AS t WHERE {name} IS NOT NULL {order} LIMIT {count}").format(
        name=sql.Identifier(column.name), table=sql.Identifier(*column.table), order=order, count=sql.Literal(count)
    )
    try:
        with caller.attempt():
            found = caller.rows(text)
    except Refused as exc:
        if not exc.is_of_a_foreign_server:
            raise
        found = []
    texts = [str(row[0]) for row in found] or [unit_vector(column)]
    if type_name == "bit" and column.type != "bit":
        return ["".join("1" if float(part) > 0 else "0" for part in text.strip("[]").split(",")) for text in texts]
    return texts


def unit_vector(column: VectorColumn) -> str:
    """A vector along the first axis, with the column's dimensions (3 if it fixes none)."""
    width = column.dimensions or 3
    match column.type:
        case "bit":
            return "1" + "0" * (width - 1)
        case "sparsevec":
            return f"{{1:1}}/{width}"
        case _:
            return "[" + ",".join(["1"] + ["0"] * (width - 1)) + "]"


def called(statement: Statement) -> str:
    """The name of a statement in messages."""
    return f'statement "{statement.name}"' if statement.name else "the statement"


def inlined(statement: Statement, literals: Mapping[int, str]) -> str:
    """The statement with literals for the parameters that have one, as sent by a driver with client-side binding."""
    return "".join(
        literals.get(int(token.text[1:]), token.text) if token.kind == "numbered" else token.text
        for token in tokens(statement.numbered)
    )


def _expressions(facts: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for key in ("Sort Key", "Order By", "Output", "Filter", "Join Filter", "Index Cond", "Recheck Cond"):
        value = facts.get(key)
        found += value if isinstance(value, list) else [value] if value else []
    return found
