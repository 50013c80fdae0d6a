"""Conversion between SQLAlchemy `Index` objects and index declarations (`IndexSpec`), in both directions.

An `Index(..., postgresql_using="hnsw", postgresql_with=..., postgresql_ops=...)` is a complete declaration. Properties that
SQLAlchemy does not have go into its `info`: `info={"everindex": {"recall_floor": 0.97, "build": {...}}}`; with
`info={"everindex": False}` an index is left to Alembic. No database is used here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from psycopg import sql
from sqlalchemy import Column, Index, MetaData, Table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError
from sqlalchemy.sql.elements import ClauseElement, Grouping, Label

from everindex.errors import SpecIllegal
from everindex.index.catalog.key import DERIVED
from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, OPCLASSES, IndexSpec, check_dimensions
from everindex.index.spec_json import from_row, to_json

METHOD = "hnsw"
#: The key in `Index.info`, and the keys of its value.
INFO = "everindex"
EXTRA_KEYS = ("recall_floor", "ef_search", "candidates", "build")
INFO_KEYS = (*EXTRA_KEYS, "column", "dimensions")

#: paramstyle: those of the drivers double each percent sign, but this text is not passed to a driver.
_DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
_TYPE = re.compile(r'(?:[\w"]+\.)?"?(?P<type>vector|halfvec|bit)"?(?:\s*\(\s*(?P<width>\d+)\s*\))?', re.IGNORECASE)
_NAME = r'(?P<column>"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_SCHEMA = r'(?:(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)\.)?'
_HALFVEC = rf"{_SCHEMA}halfvec\s*\(\s*(?P<width>\d+)\s*\)"
_QUANTIZED = rf"{_SCHEMA}binary_quantize\s*\(\s*{_NAME}\s*\)"
_BIT = r"bit\s*\(\s*(?P<width>\d+)\s*\)"
#: The expressions that the engine derives from column and opclass, in all spellings.
_DERIVED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\(?\s*{_NAME}\s*\)?\s*::\s*{_HALFVEC}",
        rf"CAST\s*\(\s*{_NAME}\s+AS\s+{_HALFVEC}\s*\)",
        rf"\(?\s*{_QUANTIZED}\s*\)?\s*::\s*{_BIT}",
        rf"CAST\s*\(\s*{_QUANTIZED}\s+AS\s+{_BIT}\s*\)",
    )
)
#: The end of a text such as "(embedding::halfvec(64)) halfvec_cosine_ops".
_OPCLASS_AT_END = re.compile(rf"^(?P<key>.*\S)\s+{_SCHEMA}(?P<opclass>\w+_ops)\s*$", re.DOTALL)


def specs_of(metadata: MetaData | Sequence[MetaData], *, default_schema: str = "public") -> tuple[IndexSpec, ...]:
    """Every HNSW index that the metadata declares, by table and name. Raises SpecIllegal for one that no server could build.

    `default_schema` is where tables without a schema are.
    """
    all_metadata = [metadata] if isinstance(metadata, MetaData) else metadata
    tables = [table for each in all_metadata for table in each.tables.values()]
    specs = [spec_of(index, default_schema=default_schema) for table in tables for index in table.indexes]
    return tuple(sorted(filter(None, specs), key=lambda spec: (spec.schema, spec.table, spec.name)))


def declares_vector_index(index: Index) -> bool:
    """True for an index that is compared here: HNSW, and not left to Alembic by `info={"everindex": False}`."""
    return _option(index, "using") == METHOD and index.info.get(INFO) is not False


def spec_of(index: Index, *, default_schema: str = "public") -> IndexSpec | None:
    """The declaration of an `Index`; None for an index with another method. Raises SpecIllegal."""
    if not declares_vector_index(index):
        return None
    table = index.table
    name = name_of(index)
    what = f"index {name!r}"
    if table is None or name is None:
        raise _refused(what, "it has no name or no table", "these identify an index.", "give it both.")
    _refuse_what_hnsw_lacks(what, index)
    column, expression, width, opclass = _key_of(what, index, table)
    extra = _extra(what, index)
    fields: dict[str, Any] = {
        "name": name,
        "table": str(table.name),
        "schema": str(table.schema or default_schema),
        "column": column,
        "expression": expression,
        "predicate": _predicate(what, index),
        "opclass": opclass,
        "dimensions": width,
        **_graph(what, index),
        **extra,
    }
    spec = from_row(fields)
    return spec if expression is not None else _fitting(spec, table)


def index_of(spec: IndexSpec, table: Table | None = None) -> Index:
    """The declaration as an `Index`, on `table` if given; a cast has the dimensions that the spec declares."""
    column = None if table is None else _column(table, spec.column)
    key = key_text(spec, None if column is None else _type_of(column)[0])
    extra = {name: value for name, value in to_json(spec).items() if name in EXTRA_KEYS}
    defaults = to_json(IndexSpec(name="i", table="t", column="c"))
    info = {INFO: given} if (given := {n: v for n, v in extra.items() if v != defaults.get(n)}) else {}
    arguments: dict[str, Any] = {
        "postgresql_using": METHOD,
        "postgresql_with": {"m": spec.m, "ef_construction": spec.ef_construction},
        "info": info,
    }
    if spec.predicate is not None:
        arguments["postgresql_where"] = text(_escaped(spec.predicate))
    if column is not None and key is None:
        return Index(spec.name, column, postgresql_ops={column.key: spec.opclass}, **arguments)
    element = text(_escaped(f"{key or quoted(str(spec.column))} {spec.opclass}"))
    if table is None:
        return Index(spec.name, element, **arguments)
    return Index(spec.name, element, **arguments, _table=table)


def key_text(spec: IndexSpec, column_type: str | None) -> str | None:
    """The expression, in parentheses, of an index on a column of that type; None for the column itself.

    If the type is unknown, declared dimensions mean that the column is cast.
    """
    if spec.expression is not None:
        return f"({spec.expression})"
    assert spec.column is not None
    is_cast = spec.dimensions is not None if column_type is None else (column_type, spec.key_type) in DERIVED
    if spec.key_type == "vector" or not is_cast or spec.dimensions is None:
        return None
    if spec.key_type == "halfvec":
        return f"({quoted(spec.column)}::halfvec({spec.dimensions}))"
    return f"(binary_quantize({quoted(spec.column)})::bit({spec.dimensions}))"


def quoted(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return sql.Identifier(name).as_string(None)


def name_of(index: Index) -> str | None:
    """The name in the database: resolved by the naming convention, and truncated as SQLAlchemy does."""
    if index.name is None:
        return None
    preparer = _DIALECT.identifier_preparer
    rendered = preparer.truncate_and_render_index_name(index.name)
    return _unquoted(rendered)


# --- the key ---------------------------------------------------------------------------------------------------------


def _key_of(what: str, index: Index, table: Table) -> tuple[str | None, str | None, int | None, str]:
    """(column, expression, width, opclass) of the index key."""
    if len(index.expressions) != 1:
        raise _refused(
            what,
            f"it has {len(index.expressions)} columns",
            "an HNSW index has one column or expression (pgvector).",
            "declare a separate index for each.",
        )
    element: Any = index.expressions[0]
    ops: Mapping[str, str] = _option(index, "ops") or {}
    opclass = ops.get(getattr(element, "key", None) or "")
    while isinstance(element, Label | Grouping):
        element = element.element
    if opclass is None:
        opclass = ops.get(getattr(element, "key", None) or "")
    if isinstance(element, Column):
        width = _type_of(element)[1]
        return element.name, None, width, _opclass(what, opclass, element.name, ops)
    written = _sql(what, element)
    if opclass is None and (found := _OPCLASS_AT_END.match(written)):
        written, opclass = found["key"], found["opclass"]
    opclass = _opclass(what, opclass, written, ops)
    written = _without_parentheses(written)
    if plain := re.fullmatch(_NAME, written):
        name = _folded(plain["column"])
        if (column := _column(table, name)) is not None:
            return name, None, _type_of(column)[1], opclass
    if (derived := derived_column(written)) is not None:
        _refuse_another_width(what, table, *derived)
        return derived[0], None, derived[1], opclass
    return None, written, None, opclass


def derived_column(written: str) -> tuple[str, int] | None:
    """(column, width) of an expression that the engine derives from a column: its cast to halfvec, or its sign bits."""
    written = _without_parentheses(written)
    for pattern in _DERIVED:
        if found := pattern.fullmatch(written):
            return _folded(found["column"]), int(found["width"])
    return None


def _opclass(what: str, opclass: str | None, key: str, ops: Mapping[str, str]) -> str:
    if opclass is None:
        given = f"postgresql_ops names {', '.join(map(repr, ops))}" if ops else "postgresql_ops is missing"
        raise _refused(
            what,
            f"it has no operator class for {key}",
            f"{given}, and pgvector has no default for hnsw.",
            'write postgresql_ops={"…": "vector_cosine_ops"} with the column\'s key, or the label of the expression.',
        )
    return opclass.rpartition(".")[2].strip('"')


def _refuse_another_width(what: str, table: Table, name: str, width: int) -> None:
    column = _column(table, name)
    declared = None if column is None else _type_of(column)[1]
    if declared is not None and declared != width:
        raise _refused(
            what,
            f"it casts to {width} dimensions, but column {name} has {declared}",
            "a cast does not shorten a vector: every row would cause an error.",
            f"cast to {declared} dimensions; for a part of the vector, index subvector({name}, 1, {width})::vector({width}).",
        )


def _fitting(spec: IndexSpec, table: Table) -> IndexSpec:
    """The declaration, checked against its column; with dimensions only if the column is cast to them."""
    column = _column(table, spec.column)
    if column is None:
        return spec
    kind, width = _type_of(column)
    if kind is None:
        return spec
    if kind != spec.key_type and (kind, spec.key_type) not in DERIVED:
        raise _refused(
            f"index {spec.name!r}",
            f"opclass {spec.opclass} is of type {spec.key_type}, but column {spec.column} is a {kind}",
            f"a {kind} cannot be indexed as {spec.key_type}.",
            f"use one of {', '.join(name for name, (of, _) in OPCLASSES.items() if of == kind)}.",
        )
    check_dimensions(spec, width)
    return replace(spec, dimensions=None) if kind == spec.key_type else spec


def _column(table: Table, name: str | None) -> Column[Any] | None:
    """The column with that name in the database; its key in the table may be different."""
    return next((column for column in table.c if column.name == name), None)


def _type_of(column: Column[Any]) -> tuple[str | None, int | None]:
    """(vector, halfvec or bit; dimensions) of a column's type, from its DDL; (None, None) for another type."""
    try:
        found = _TYPE.fullmatch(column.type.compile(dialect=_DIALECT))
    except CompileError:
        return None, None
    if found is None:
        return None, None
    kind = found["type"].lower()
    width = int(found["width"]) if found["width"] else (1 if kind == "bit" else None)
    return kind, width


# --- the rest of the definition --------------------------------------------------------------------------------------


def _graph(what: str, index: Index) -> dict[str, int]:
    """m and ef_construction of `postgresql_with`; SQLAlchemy accepts numbers and texts."""
    graph = {"m": DEFAULT_M, "ef_construction": DEFAULT_EF_CONSTRUCTION}
    for key, value in (_option(index, "with") or {}).items():
        if key not in graph:
            raise _refused(
                what,
                f"postgresql_with has {key!r}",
                "an HNSW index has the options m and ef_construction (pgvector).",
                "remove it.",
            )
        written = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,9}", written):
            raise _refused(
                what, f"its {key} is {value!r}", f"{key} must be a whole number.", "correct postgresql_with."
            )
        graph[key] = int(written)
    return graph


def _predicate(what: str, index: Index) -> str | None:
    where = _option(index, "where")
    if where is None or where == "":
        return None
    return where if isinstance(where, str) else _sql(what, where)


def _extra(what: str, index: Index) -> dict[str, Any]:
    given = index.info.get(INFO, {})
    if not isinstance(given, Mapping) or (unknown := sorted(set(map(str, given)) - set(INFO_KEYS))):
        told = f"unknown {', '.join(unknown)}" if isinstance(given, Mapping) else f"{given!r}"
        raise _refused(
            what,
            f'its info["{INFO}"] has {told}',
            f"it must be a dictionary with any of {', '.join(INFO_KEYS)}, or False to leave the index to Alembic.",
            "correct it.",
        )
    return dict(given)


def _refuse_what_hnsw_lacks(what: str, index: Index) -> None:
    lacking = {
        "unique": bool(index.unique),
        "postgresql_include": bool(_option(index, "include")),
        "postgresql_tablespace": bool(_option(index, "tablespace")),
        "postgresql_nulls_not_distinct": bool(_option(index, "nulls_not_distinct")),
    }
    for option, is_given in lacking.items():
        if is_given:
            raise _refused(
                what,
                f"it has {option}",
                "an HNSW index does not support it, or everindex does not preserve it.",
                f'remove it, or leave the index to Alembic with info={{"{INFO}": False}}.',
            )


def _option(index: Index, name: str) -> Any:
    return index.dialect_options["postgresql"].get(name)


# --- SQL text --------------------------------------------------------------------------------------------------------


def _sql(what: str, element: Any) -> str:
    if isinstance(element, str):
        return element
    if not isinstance(element, ClauseElement):
        raise _refused(what, f"it holds {element!r}", "that is not an SQL expression.", "correct the index.")
    try:
        return str(element.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True, "include_table": False}))
    except CompileError as exc:
        raise _refused(
            what, "one of its expressions has no SQL", f"SQLAlchemy: {str(exc).splitlines()[0]}", "write it as text()."
        ) from exc


def _escaped(written: str) -> str:
    """The text for text(), with colons escaped so that they do not begin a parameter; `::` never does."""
    return re.sub(r"(?<!:):(?=[A-Za-z_])(?!:)", r"\\:", written)


def _without_parentheses(written: str) -> str:
    written = written.strip()
    while written.startswith("(") and _closes_at_end(written):
        written = written[1:-1].strip()
    return written


def _closes_at_end(written: str) -> bool:
    depth = 0
    quote = ""
    for position, sign in enumerate(written):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            depth += (sign == "(") - (sign == ")")
            if depth == 0:
                return position == len(written) - 1
    return False


def _folded(name: str) -> str:
    """A name as PostgreSQL reads it: unquoted names in lower case."""
    return _unquoted(name) if name.startswith('"') else name.lower()


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _refused(what: str, fault: str, why: str, next_step: str) -> SpecIllegal:
    return SpecIllegal(f"{what} cannot be declared: {fault}.", why=why, next_step=next_step)
