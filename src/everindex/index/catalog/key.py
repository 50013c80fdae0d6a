"""The key of an index: the column itself, a cast of it, or an expression.

As SQL for CREATE INDEX and for a search, and in the forms that the catalog prints.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

from everindex.errors import ColumnMismatch
from everindex.index.spec import IndexSpec

if TYPE_CHECKING:
    from everindex.index.catalog.observed import Observed

#: Conversions from a column of the first type to an index of the second: a cast, or the sign bits.
DERIVED = {("vector", "halfvec"), ("vector", "bit"), ("halfvec", "bit")}
_QUOTED = re.compile(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')""")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*")


def is_plain_column(spec: IndexSpec, column_type: str | None) -> bool:
    """True when the column itself is indexed."""
    return spec.expression is None and column_type == spec.key_type


def key_sql(spec: IndexSpec, *, column_type: str, dimensions: int, extension_schema: str | None) -> sql.Composable:
    """The key as written in CREATE INDEX and in a search's ORDER BY. Raises ColumnMismatch for an impossible cast."""
    if spec.expression is not None:
        return sql.SQL("({})").format(sql.SQL(spec.expression_text or ""))
    assert spec.column is not None  # a spec has a column or an expression
    column = sql.Identifier(spec.column)
    if column_type == spec.key_type:
        return column
    if (column_type, spec.key_type) not in DERIVED:
        raise mismatch(spec, column_type)
    return sql.SQL("({})").format(cast_sql(column, column_type, spec.key_type, dimensions, extension_schema))


def cast_sql(
    value: sql.Composable, value_type: str, key_type: str, dimensions: int, extension_schema: str | None
) -> sql.Composable:
    """`value` of `value_type` as `key_type`: itself, cast to halfvec, or its sign bits."""
    if value_type == key_type:
        return value
    schema = sql.SQL("{}.").format(sql.Identifier(extension_schema)) if extension_schema else sql.SQL("")
    width = sql.Literal(dimensions)
    if key_type == "halfvec":
        return sql.SQL("{}::{}halfvec({})").format(value, schema, width)
    return sql.SQL("{}binary_quantize({})::bit({})").format(schema, value, width)


def is_key(spec: IndexSpec, observed: Observed, *, column: str | None, expression: str | None) -> bool:
    """True when an index with this first column or expression (pg_get_expr) holds what `spec` declares."""
    if spec.expression is not None:
        return expression is not None and _means(expression, spec.expression, observed.canonical_expression)
    if is_plain_column(spec, observed.column_type):
        return column == spec.column
    return expression is not None and stripped(expression) in _derived_texts(spec, observed)


def is_predicate(spec: IndexSpec, observed: Observed, predicate: str | None) -> bool:
    """True when an index with this predicate (pg_get_expr) covers the rows that `spec` declares."""
    if spec.predicate is None or predicate is None:
        return spec.predicate is predicate
    return _means(predicate, spec.predicate, observed.canonical_predicate)


def _means(printed: str, declared: str, canonical: str | None) -> bool:
    """True when the catalog's text is the declared one. If it is unknown how the server prints the declaration (a standby, a
    role that may not create a table), the comparison ignores what printing adds."""
    if canonical is not None:
        return stripped(printed) == stripped(canonical)
    return _bare(printed) == _bare(declared)


def key_texts(spec: IndexSpec, observed: Observed) -> set[tuple[str | None, str | None]]:
    """The forms in which the catalog may show the declared key: (column, None) or (None, expression)."""
    if spec.expression is not None:
        return {(None, observed.canonical_expression or spec.expression)}
    if is_plain_column(spec, observed.column_type):
        return {(spec.column, None)}
    return {(None, text) for text in _derived_texts(spec, observed)}


def _derived_texts(spec: IndexSpec, observed: Observed) -> set[str]:
    """The forms in which PostgreSQL may print the derived key, which depend on the reader's search_path."""
    if observed.dimensions is None or (observed.column_type, spec.key_type) not in DERIVED:
        return set()
    assert spec.column is not None
    column = _as_printed(spec.column)
    texts = set()
    for schema in ("", f"{_as_printed(observed.extension_schema)}." if observed.extension_schema else ""):
        if spec.key_type == "halfvec":
            text = f"({column})::{schema}halfvec({observed.dimensions})"
        else:
            text = f"({schema}binary_quantize({column}))::bit({observed.dimensions})"
        texts.add(stripped(text))
    return texts


def _as_printed(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else sql.Identifier(name).as_string(None)


def stripped(text: str) -> str:
    """The text without spaces outside quotes and without parentheses around the whole."""
    parts = _QUOTED.split(text.strip())
    joined = "".join(part if number % 2 else re.sub(r"\s+", "", part) for number, part in enumerate(parts))
    while joined.startswith("(") and _closes_at_end(joined):
        joined = joined[1:-1]
    return joined


def _bare(text: str) -> str:
    """The text without spaces, parentheses, schemas, casts to a type without a width, and upper case outside quotes."""
    parts = _QUOTED.split(text)
    for number in range(0, len(parts), 2):
        part = re.sub(r"::\s*[a-z_. ]+(?![a-z_.(\s])", "", re.sub(r"[a-z_0-9]+\.(?=[a-z_])", "", parts[number].lower()))
        parts[number] = re.sub(r"[\s()]+", "", part)
    return "".join(parts)


def _closes_at_end(text: str) -> bool:
    depth = 0
    for position, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return position == len(text) - 1
    return False


def mismatch(spec: IndexSpec, column_type: str) -> ColumnMismatch:
    """The error for a column whose type does not fit the declared opclass."""
    return ColumnMismatch(
        f"column {spec.table}.{spec.column} has type {column_type}.",
        why=f"opclass {spec.opclass} indexes only columns of type {spec.key_type}, or of a type that can be cast to it.",
        next_step=f"ALTER TABLE {spec.table} ALTER COLUMN {spec.column} TYPE {spec.key_type}(N) "
        f"USING {spec.column}::{spec.key_type}(N)  with the dimensions of your model; nothing was changed.",
    )
