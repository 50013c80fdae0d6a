"""Why no vector index can serve a statement: what its plan orders by, and which change would let PostgreSQL use an index.

A remedy is tried before it is suggested: a query of that shape on the same table is planned with everything but an index made
expensive, and the reason says which index PostgreSQL then uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from everindex.statement_check.catalog import VectorIndex, quoted
from everindex.statement_check.distance import Distance, columns_of, distances, is_bare_column, shown
from everindex.statement_check.functions import written
from everindex.statement_check.plan import Names, Node, Plan, below
from everindex.statement_check.prepared_check import PreparedCheck
from everindex.statement_check.query_shape import not_of_a_table, shape_reasons
from everindex.statement_check.reason import Reason
from everindex.statement_check.unseen import foreign_of, reads_nothing, why_no_distance


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The side of a distance that may be an index key."""

    alias: str
    table: Names
    column: str
    expression: str


def why_not_usable(prepared: PreparedCheck, plan: Plan) -> list[Reason]:
    """Every reason that was found, the most fundamental first; never empty."""
    found = [
        distance
        for distance in distances(plan, prepared.extension.operators)
        if not (distance.place == "order" and _is_served(prepared, distance))
    ]
    if not found or reads_nothing(plan):
        return [why_no_distance(prepared, plan)]
    first = found[0]
    # There may be a distance in a condition in addition to that of the ORDER BY; the latter decides.
    sides = _sides(first, plan, prepared)
    supplied = _supplied(first, plan, sides)
    reasons: list[Reason] = []
    if sides is None:
        reasons.append(not_of_a_table(first))
    else:
        reasons += _index_reasons(prepared, plan, first, sides, supplied)
    proof = _proof(prepared, first, sides) if sides else None
    for reason in shape_reasons(prepared, first, _remedy(first, sides, supplied)):
        reasons.append(replace(reason, proven_by=proof) if not reasons else reason)
    if sides and not supplied and not (reasons and reasons[0].slug in _DECIDED):
        reasons += _volatile(prepared, first, sides)
    return reasons or [_computed_before(plan, proof, _remedy(first, sides, supplied))]


#: A problem of the index itself must be repaired first.
_DECIDED = ("no-index", "index-invalid", "index-being-built", "foreign-table")


def _volatile(prepared: PreparedCheck, distance: Distance, sides: list[Side]) -> list[Reason]:
    """A vector that PostgreSQL may not compute just once: an index scan needs one that is the same for every row.

    Found by planning: with the vector as written no index is used, with the same in a one-row subquery one is."""
    side = sides[0]
    vector = (distance.right if side.expression == distance.left else distance.left).strip()
    proof = None
    for operator in dict.fromkeys([distance.operator, *(index.operator for index in prepared.indexes)]):
        spelled = f"{side.expression} {_spelled(prepared, operator)}"
        if _used(prepared, side, f"{spelled} ({vector})"):
            return []
        proof = proof or _used(prepared, side, f"{spelled} (SELECT {vector})")
    if proof is None:
        return []
    functions = [function for function in written(prepared.caller, [vector]) if function.is_volatile]
    names = ", ".join(f"{function.name}()" for function in functions) or shown(vector)
    stable = "".join(
        f"; or ALTER FUNCTION {function.quoted} STABLE, if it returns the same value for the same arguments"
        for function in functions
    )
    return [
        Reason(
            slug="volatile-vector",
            why=f"{names} is VOLATILE, which is the default for functions: PostgreSQL computes it again for each row, but an "
            "index scan orders by a single vector.",
            next_step=f"compute it once: ORDER BY {shown(side.expression)} {distance.operator} (SELECT {shown(vector)}) LIMIT k, "
            f"or pass the vector as a parameter{stable}.",
            proven_by=proof,
        )
    ]


def _computed_before(plan: Plan, proof: str | None, remedy: str) -> Reason:
    """The reason when the shape is right and an index exists, but something in between prevents its use."""
    if proof is None:
        return Reason(
            slug="unknown",
            why=f"PostgreSQL plans {plan.summary} even if all other plans are made expensive.",
            next_step="compare the statement with ORDER BY column <operator> vector LIMIT k, and look at its plan.",
        )
    return Reason(
        slug="ordered-outside",
        why="the rows come from a subquery that PostgreSQL computes in full (MATERIALIZED, OFFSET 0, a join that cannot "
        "preserve the order), and are ordered afterwards.",
        next_step=f"put ORDER BY {remedy} LIMIT k into the query that scans the table.",
        proven_by=proof,
    )


# --- which index could serve ---------------------------------------------------------------------------------------


def _index_reasons(
    prepared: PreparedCheck, plan: Plan, distance: Distance, sides: list[Side], supplied: str | None
) -> list[Reason]:
    side = sides[0]
    reasons: list[Reason] = []
    if supplied is not None:
        reasons.append(
            Reason(
                slug="vector-from-join",
                why=f"both sides of {shown(distance.text)} are columns: the vector comes from a join, and differs from row to "
                "row.",
                next_step="read the vector first and pass it as a parameter or as a one-row subquery: ORDER BY "
                + f"{shown(side.expression)} {distance.operator} (SELECT {supplied} …) LIMIT k.",
                proven_by=_used(
                    prepared,
                    side,
                    sql.SQL("{} {} (SELECT {} FROM {} LIMIT 1)")
                    .format(
                        sql.SQL(side.expression),
                        sql.SQL(_spelled(prepared, distance.operator)),
                        sql.SQL(side.column),
                        sql.Identifier(*side.table),
                    )
                    .as_string(None),
                ),
            )
        )
    if distance.function:
        asks_negative = distance.function == "inner_product"
        reasons.append(
            Reason(
                slug="function-instead-of-operator",
                why=f"it orders by the function {distance.function}(), but PostgreSQL matches an index only by its operator"
                + (", and <#> is the negative of that function." if asks_negative else "."),
                next_step=f"write {_remedy(distance, sides)} instead.",
                proven_by=_proof(prepared, distance, sides),
            )
        )
    if _proof(prepared, distance, sides):
        return reasons
    indexes = [index for index in prepared.indexes if index.table in _table_and_parents(prepared, side.table)]
    foreign = foreign_of(plan, side.table)
    if foreign is not None:
        return [*reasons, foreign]
    # The distance of the statement comes first, then the smallest change.
    own = sorted(
        (index for index in indexes if index.is_valid),
        key=lambda index: (
            index.operator != distance.operator,
            index.is_expression,
            index.predicate is not None,
            index.name,
        ),
    )
    for index in own:
        reason = _differs(prepared, distance, side, index, own)
        if reason is not None:
            return [*reasons, reason]
    return [*reasons, _no_index(prepared, distance, side, indexes)]


def _differs(
    prepared: PreparedCheck, distance: Distance, side: Side, index: VectorIndex, others: list[VectorIndex]
) -> Reason | None:
    """The change of the statement that would let `index` serve it; None if no change of the statement alone does."""
    predicate = f" WHERE {index.predicate}" if index.predicate else ""
    vector = _vector(index.operator)
    if _used(prepared, side, f"{side.expression} {_spelled(prepared, index.operator)} {vector}", where=predicate):
        if index.operator != distance.operator:
            wanted = _opclass(prepared, distance.operator, index.opclass.partition("_")[0])
            same = [one for one in others if one.expression == index.expression and one.table == index.table]
            serves = ", ".join(f"{one.name} serves {one.operator} ({one.opclass})" for one in same)
            choice = " or ".join(dict.fromkeys(one.operator for one in same))
            return Reason(
                slug="operator-of-another-opclass",
                why=f"{serves}; the statement orders by {distance.operator}.",
                next_step=f"order by {shown(side.expression)} {choice} … if that is the intended distance, or build an index "
                f"with {wanted or 'the opclass of ' + distance.operator}.",
                proven_by=index.name,
            )
        return Reason(
            slug="partial-index",
            why=f"{index.name} is partial, but the statement's conditions do not imply its predicate {index.predicate}.",
            next_step=f"add that condition, written as a constant: WHERE {index.predicate}.",
            proven_by=index.name,
        )
    expression = f"{index.expression} {_spelled(prepared, index.operator)} {vector}"
    if not _used(prepared, side, expression, where=predicate):
        return None
    if index.operator != distance.operator and not is_bare_column(side.expression):
        slug_operator = f", and by {index.operator} instead of {distance.operator}"
    else:
        slug_operator = ""
    if not index.is_expression and side.column == index.expression:
        return Reason(
            slug="cast-of-the-column",
            why=f"it orders by {shown(side.expression)}, which differs from {index.expression}, the key of "
            f"{index.name}{slug_operator}.",
            next_step=f"do not cast the column, but the vector: ORDER BY {index.expression} {index.operator} … LIMIT k; or "
            f"build an index on ({shown(side.expression)}).",
            proven_by=index.name,
        )
    if not index.is_expression:
        return None  # an index on another column
    return Reason(
        slug="index-on-an-expression",
        why=f"the key of {index.name} is {shown(index.expression)}; the statement orders by {shown(side.expression)}.",
        next_step=f"order by the same expression as the index{slug_operator}: ORDER BY {shown(index.expression)} "
        f"{index.operator} … LIMIT k; then sort the few rows by the exact distance.",
        proven_by=index.name,
    )


def _no_index(prepared: PreparedCheck, distance: Distance, side: Side, indexes: list[VectorIndex]) -> Reason:
    broken = [index for index in indexes if not index.is_valid and index.operator == distance.operator]
    for index in broken:
        if index.is_being_built:
            return Reason(
                slug="index-being-built",
                why=f"{index.name} is being built.",
                next_step="wait until it is finished (pg_stat_progress_create_index), then check again.",
            )
        return Reason(
            slug="index-invalid",
            why=f"{index.name} is INVALID: its build failed or was cancelled, and PostgreSQL never uses it.",
            next_step=f"REINDEX INDEX CONCURRENTLY {index.quoted}, outside a transaction.",
        )
    kinds = {column.name: column.type for column in prepared.columns if column.table == side.table}
    there = "; ".join(
        f"{index.name} ({index.method} on {shown(index.expression)}, {index.opclass}"
        f"{'' if index.is_valid else ', INVALID'}{', partial' if index.predicate else ''})"
        for index in indexes
    )
    opclass = _opclass(prepared, distance.operator, kinds.get(side.column.strip('"'), "vector")) or "…_ops"
    is_column = is_bare_column(side.expression)
    return Reason(
        slug="no-index",
        why=f"no valid index of {side.table[1]} serves {shown(side.expression)} {distance.operator} ….",
        next_step=f"CREATE INDEX CONCURRENTLY ON {quoted(*side.table)} USING hnsw "
        + (f"({side.column} {opclass})" if is_column else f"(({shown(side.expression)}) …_ops)")
        + f". Existing: {there or 'no vector index at all'}.",
    )


# --- asking PostgreSQL ---------------------------------------------------------------------------------------------


def _sides(distance: Distance, plan: Plan, prepared: PreparedCheck) -> list[Side] | None:
    """The sides that are columns of tables; those with a vector index come first."""
    tables = {alias.strip('"'): table for alias, table in plan.relations.items()}
    aliases = {str(node.facts["Alias"]) for node in plan.nodes if "Alias" in node.facts}
    found: list[Side] = []
    for expression in (distance.left, distance.right):
        for alias, column in columns_of(expression, aliases)[:1]:
            name = alias.strip('"')
            table = tables.get(name)
            if table is not None:
                found.append(Side(alias=alias, table=table, column=column, expression=expression))
    indexed = {index.table for index in prepared.indexes}
    return sorted(found, key=lambda side: side.table not in indexed) or None


def _is_served(prepared: PreparedCheck, distance: Distance) -> bool:
    """Whether the sorted rows come from a vector index."""
    nodes = (Node(facts=facts, above=()) for facts in below(distance.node.facts))
    return any(node.index in prepared.serving for node in nodes if node.index)


def _supplied(distance: Distance, plan: Plan, sides: list[Side] | None) -> str | None:
    """The column that the vector of the other side comes from; None for a constant."""
    if sides is None:
        return None
    aliases = {str(node.facts["Alias"]) for node in plan.nodes if "Alias" in node.facts}
    other = distance.right if sides[0].expression == distance.left else distance.left
    return next((column for _, column in columns_of(other, aliases)), None)


def _proof(prepared: PreparedCheck, distance: Distance, sides: list[Side] | None) -> str | None:
    """The index that serves the bare distance to a constant."""
    if sides is None:
        return None
    return _used(
        prepared,
        sides[0],
        f"{sides[0].expression} {_spelled(prepared, distance.operator)} {_vector(distance.operator)}",
    )


def _used(prepared: PreparedCheck, side: Side, expression: str, *, where: str = "") -> str | None:
    # The parts come from PostgreSQL's own output, so they are quoted where necessary.
    query = sql.SQL("SELECT 1 FROM ONLY {table} AS {alias}{where} ORDER BY {expression} LIMIT 10").format(
        table=sql.Identifier(*side.table),
        alias=sql.SQL(side.alias),
        where=sql.SQL(where),
        expression=sql.SQL(expression),
    )
    plan = prepared.try_query(query.as_string(None))
    return next((str(node.index[1]) for node in plan.uses(prepared.serving) if node.index), None) if plan else None


def _remedy(distance: Distance, sides: list[Side] | None, supplied: str | None = None) -> str:
    if sides is None:
        return f"column {distance.operator} vector"
    other = distance.right if sides[0].expression == distance.left else distance.left
    vector = "vector" if supplied else shown(other)
    vector = f"({vector})" if vector.startswith("SELECT ") else vector
    return f"{shown(sides[0].expression)} {distance.operator} {vector}"


def _spelled(prepared: PreparedCheck, operator: str) -> str:
    return f"OPERATOR({quoted(prepared.extension.schema)}.{operator})"


def _vector(operator: str) -> str:
    """A constant that represents any vector: a plan does not depend on its dimensions."""
    return "'1'" if operator in ("<~>", "<%>") else "'[1]'"


def _opclass(prepared: PreparedCheck, operator: str, type_name: str) -> str | None:
    return next((o.opclass for o in prepared.extension.operators if o.name == operator and o.type == type_name), None)


def _table_and_parents(prepared: PreparedCheck, table: Names) -> set[Names]:
    """The table and, for a partition, the parents with an index that its own is part of."""
    roots = {(index.schema, index.root) for index in prepared.indexes if index.table == table}
    return {table} | {index.table for index in prepared.indexes if index.names in roots}
