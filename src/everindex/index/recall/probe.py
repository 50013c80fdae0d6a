"""Probe statements of a declared index: the search through the index and the exact search that it is compared with.

A search on halfvec or bit codes finds candidates and orders them by their true distance, and so does a probe. `%(vector)b` is
the query, of the column's own type; the last column is the true distance.
"""

from __future__ import annotations

from psycopg import sql

from everindex.index.catalog.key import cast_sql, key_sql
from everindex.index.catalog.observed import Observed
from everindex.index.recall.explain import Settings
from everindex.index.spec import CANDIDATES_PER_NEIGHBOUR, DEFAULT_EF_SEARCH, DEFAULT_K, MAX_EF_SEARCH, IndexSpec

#: CANDIDATES_PER_NEIGHBOUR for an expression over a column, such as the first dimensions of a vector.
CANDIDATES_OF_EXPRESSION = 20
#: Types of a column whose distances are the true ones.
VALUE_TYPES = ("vector", "halfvec", "bit")


def probe_statement(spec: IndexSpec, observed: Observed, *, k: int, candidates: int | None = None) -> sql.Composed:
    """The k nearest rows through the index. Its plan is an index scan if the planner uses the index.

    `candidates`: how many are re-ranked; None for the declared number, or CANDIDATES_PER_NEIGHBOUR for each neighbour.
    """
    value, value_type, operator = _value(spec, observed)
    key, query = _key_and_query(spec, observed, value_type)
    # A partial index serves only statements that contain its predicate.
    where = (
        sql.SQL("")
        if spec.predicate is None
        else sql.SQL(" WHERE {}").format(_literally(sql.SQL(spec.predicate_text or "")))
    )
    is_ranked_anew = _candidates(spec, value_type) > 1
    asked_for = max(k, candidates or declared_candidates(spec, observed, k=k)) if is_ranked_anew else k
    nearest = sql.SQL(
        "SELECT {value} {operator} %(vector)b AS distance FROM {table}{where} ORDER BY {key} {index_operator} {query} "
        "LIMIT {limit}"
    ).format(
        value=value,
        operator=operator,
        table=_table(spec),
        where=where,
        key=key,
        index_operator=_operator(spec.operator, observed),
        query=query,
        limit=sql.Literal(asked_for),
    )
    if not is_ranked_anew:
        return nearest
    return sql.SQL("SELECT distance FROM ({}) AS candidate ORDER BY distance LIMIT {}").format(nearest, sql.Literal(k))


def codes_statement(spec: IndexSpec, observed: Observed, *, k: int) -> sql.Composed:
    """For each of the k truly nearest rows, nearest first: how many rows have a nearer key, and how many an equally near one.
    Reads all rows."""
    value, value_type, operator = _value(spec, observed)
    key, query = _key_and_query(spec, observed, value_type)
    return sql.SQL(
        "WITH seen AS MATERIALIZED (SELECT {value} {operator} %(vector)b AS distance, {key} {key_operator} {query} AS code "
        "FROM {table} WHERE {value} IS NOT NULL{predicate}), "
        "codes AS (SELECT code, count(*) AS rows FROM seen GROUP BY code), "
        "nearest AS (SELECT distance, code FROM seen ORDER BY distance LIMIT {limit}) "
        "SELECT coalesce((SELECT sum(rows) FROM codes WHERE codes.code < nearest.code), 0)::bigint, "
        "(SELECT rows FROM codes WHERE codes.code = nearest.code) FROM nearest ORDER BY distance"
    ).format(
        value=value,
        operator=operator,
        key=key,
        key_operator=_operator(spec.operator, observed),
        query=query,
        table=_table(spec),
        predicate=_and_predicate(spec),
        limit=sql.Literal(k),
    )


def exact_statement(spec: IndexSpec, observed: Observed, *, k: int) -> sql.Composed:
    """The k truly nearest rows, if the settings prevent the planner from using any index."""
    value, _, operator = _value(spec, observed)
    return sql.SQL(
        "SELECT {value} {operator} %(vector)b AS distance FROM {table} WHERE {value} IS NOT NULL{predicate} "
        "ORDER BY {value} {operator} %(vector)b LIMIT {limit}"
    ).format(value=value, operator=operator, table=_table(spec), predicate=_and_predicate(spec), limit=sql.Literal(k))


def sample_statement(spec: IndexSpec, observed: Observed) -> sql.Composed:
    """`%(samples)s` stored vectors, in an order determined by `%(seed)s`. Reads the table's row addresses."""
    value, _, _ = _value(spec, observed)
    return sql.SQL(
        "SELECT {value} FROM {table} t WHERE {value} IS NOT NULL{predicate} "
        "ORDER BY md5(t.tableoid::text || t.ctid::text || %(seed)s) LIMIT %(samples)s"
    ).format(value=value, table=_table(spec), predicate=_and_predicate(spec))


def probe_settings(spec: IndexSpec, observed: Observed, *, k: int) -> Settings:
    """The settings of a search for k: the declared ef_search, or one that finds as many candidates as are re-ranked."""
    declared = None if spec.ef_search is None else _for_k(spec.ef_search, k)
    chosen = declared or max(DEFAULT_EF_SEARCH, declared_candidates(spec, observed, k=k))
    return (("hnsw.ef_search", str(min(chosen, MAX_EF_SEARCH))),)


def declared_candidates(spec: IndexSpec, observed: Observed, *, k: int) -> int:
    """How many candidates a search for k takes from the index: k if it holds the true distances."""
    by_neighbour = candidates_per_neighbour(spec, observed)
    if by_neighbour > 1 and spec.candidates is not None:
        return _for_k(spec.candidates, k)
    return k * by_neighbour


def candidates_per_neighbour(spec: IndexSpec, observed: Observed) -> int:
    """How many candidates are re-ranked for each neighbour, unless declared: 1 if the index has the true distances."""
    return _candidates(spec, _value(spec, observed)[1])


def _for_k(declared: int, k: int) -> int:
    """The value declared for DEFAULT_K neighbours, scaled to k: proportionally more, and never less."""
    return max(declared, -(-declared * k // DEFAULT_K))


def _value(spec: IndexSpec, observed: Observed) -> tuple[sql.Composable, str, sql.Composable]:
    """The value that true distances are computed from: (its SQL, its type, the operator)."""
    if spec.column is not None and observed.column_type in VALUE_TYPES:
        column = _literally(sql.Identifier(spec.column))
        # Sign bits and vectors have no distance in common: bit codes represent the angle.
        symbol = spec.operator if (spec.key_type == "bit") == (observed.column_type == "bit") else "<=>"
        return column, observed.column_type, _operator(symbol, observed)
    expression = sql.SQL("({})").format(_literally(sql.SQL(spec.expression_text or "")))
    return expression, spec.key_type, _operator(spec.operator, observed)


def _key_and_query(spec: IndexSpec, observed: Observed, value_type: str) -> tuple[sql.Composable, sql.Composable]:
    """The index key of a row, and the same for the query."""
    key = _literally(
        key_sql(
            spec,
            column_type=observed.column_type or spec.key_type,
            dimensions=observed.dimensions or 0,
            extension_schema=observed.extension_schema,
        )
    )
    query = cast_sql(
        sql.SQL("%(vector)b"), value_type, spec.key_type, observed.dimensions or 0, observed.extension_schema
    )
    if _is_of_column(spec, observed):
        # Applies the expression to the query instead of the column, under the column's name.
        query = sql.SQL("(SELECT {} FROM (SELECT %(vector)b AS {}) AS {})").format(
            key, _literally(sql.Identifier(spec.column or "")), _literally(sql.Identifier(spec.table))
        )
    elif value_type != spec.key_type:
        query = sql.SQL("({})").format(_literally(query, keep="%(vector)b"))
    return key, query


def _is_of_column(spec: IndexSpec, observed: Observed) -> bool:
    """True for an expression whose true neighbours are determined by the distances of a column."""
    return spec.expression is not None and spec.column is not None and observed.column_type in VALUE_TYPES


def _candidates(spec: IndexSpec, value_type: str) -> int:
    if spec.expression is not None:
        return 1 if spec.column is None else CANDIDATES_OF_EXPRESSION
    return 1 if value_type == spec.key_type else CANDIDATES_PER_NEIGHBOUR[spec.key_type]


def _operator(symbol: str, observed: Observed) -> sql.Composable:
    schema = observed.extension_schema or "public"
    return sql.SQL("OPERATOR({}.{})").format(_literally(sql.Identifier(schema)), sql.SQL(symbol.replace("%", "%%")))


def _and_predicate(spec: IndexSpec) -> sql.Composable:
    if spec.predicate is None:
        return sql.SQL("")
    return sql.SQL(" AND ({})").format(_literally(sql.SQL(spec.predicate_text or "")))


def _table(spec: IndexSpec) -> sql.Composable:
    return _literally(sql.Identifier(spec.schema, spec.table))


def _literally(part: sql.Composable, *, keep: str | None = None) -> sql.Composable:
    """The part with each % doubled: the driver takes single ones of a statement with parameters for placeholders."""
    text = part.as_string(None)
    if keep is None:
        return sql.SQL(text.replace("%", "%%"))
    return sql.SQL(keep.join(piece.replace("%", "%%") for piece in text.split(keep)))
