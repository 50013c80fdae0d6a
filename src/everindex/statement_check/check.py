"""The check of one statement: EXPLAIN shows whether it uses a vector index and why not; it is never executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everindex.index.recall.explain import SMALL_TABLE_ROWS
from everindex.statement_check import catalog
from everindex.statement_check.catalog import Table
from everindex.statement_check.connection import CallerConnection
from everindex.statement_check.distance import distances, shown
from everindex.statement_check.not_chosen import warnings, why_not_chosen
from everindex.statement_check.not_usable import why_not_usable
from everindex.statement_check.plan import Node, Plan, below, input_of
from everindex.statement_check.prepared_check import ONLY_THE_INDEX, PreparedCheck, prepared
from everindex.statement_check.reason import Reason
from everindex.statement_check.script import one_checkable
from everindex.statement_check.text import Statement
from everindex.statement_check.unseen import foreign
from everindex.statement_check.values import VECTOR_TYPES, Given


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementCheck:
    """What the planner does with one statement, and why."""

    statement: Statement
    uses_index: bool
    """The planner uses a vector index, or would if the table were not small."""

    is_chosen: bool
    """The planner uses it now."""

    is_small_table: bool
    """A scan is right for now; that an index can serve was checked with all other plans made expensive."""

    index_names: tuple[str, ...]
    """The vector indexes in the plan; on a small table, in the plan that would be used if the table were larger."""

    scans: tuple[str, ...]
    tables: tuple[Table, ...]
    """The tables in the plan that have vector columns."""

    reasons: tuple[Reason, ...]
    """Why no index is used; empty if `uses_index`."""

    warnings: tuple[Reason, ...]
    plan: tuple[str, ...]
    """What EXPLAIN prints, long literals shortened."""

    @property
    def table_rows(self) -> int:
        return max((table.rows for table in self.tables), default=0)

    @property
    def sentence(self) -> str:
        tables = ", ".join(table.words for table in self.tables)
        if self.uses_index and not self.is_chosen:
            return f"not needed yet: {tables}; {', '.join(self.index_names)} can serve it"
        return f"{', '.join(self.scans) or 'no scan'}{f' ({tables})' if tables else ''}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.statement.name,
            "line": self.statement.line,
            "statement": self.statement.text,
            "uses_index": self.uses_index,
            "is_chosen": self.is_chosen,
            "is_small_table": self.is_small_table,
            "indexes": list(self.index_names),
            "scans": list(self.scans),
            "tables": [
                {
                    "schema": t.names[0],
                    "table": t.names[1],
                    "rows": t.rows,
                    "is_analyzed": t.is_analyzed,
                    "partitions_read": [".".join(one.names) for one in t.partitions],
                    "partitions_in_all": t.partitions_in_all,
                }
                for t in self.tables
            ],
            "reasons": [reason.as_dict() for reason in self.reasons],
            "warnings": [warning.as_dict() for warning in self.warnings],
            "plan": list(self.plan),
        }


def check_statement(
    connection: Any,
    statement: str | Statement,
    parameters: Given = None,
    *,
    settings: Mapping[str, Any] | None = None,
    role: str | None = None,
    index: str | None = None,
    small_table_rows: int = SMALL_TABLE_ROWS,
) -> StatementCheck:
    """Checks one SELECT on a connection of psycopg, psycopg2 or another driver with DB-API cursors.

    `parameters` are by name or in order; for a missing vector, a vector from the table is used. `settings` are those of the
    application's session, applied after `role` is assumed with its own settings. SETs before the SELECT in the text are applied.
    `index` requires the index of that name. Reads only, in a READ ONLY transaction that is rolled back, or in a savepoint of
    the open transaction; takes ACCESS SHARE. Raises StatementNotCheckable.
    """
    caller = CallerConnection(connection)
    wanted = one_checkable(statement) if isinstance(statement, str) else statement
    with prepared(caller, wanted, parameters, settings=settings or {}, role=role) as found:
        plan = found.plan()
        usable = found.plan(ONLY_THE_INDEX)
        tables = _tables(found, plan, small_table_rows)
        used = plan.uses(found.serving)
        is_chosen = bool(used) and not _sorted_without(found, plan, small_table_rows)
        served = [node for node in usable.uses(found.serving) if node.limit is not None]
        is_small = max((table.rows for table in tables), default=0) < small_table_rows
        reasons: list[Reason] = []
        if found.needs_search_path:
            reasons.append(_not_found(found))
        elif not is_chosen and (not served or _sorted_without(found, usable, small_table_rows)):
            reasons += why_not_usable(found, plan)
        elif not is_chosen and (not is_small or found.setting("enable_indexscan") == "off"):
            reasons += why_not_chosen(found, plan, usable, tables)
        nodes = used if is_chosen else served
        if not reasons and index is not None:
            reasons += _another(found, nodes, index)
        return StatementCheck(
            statement=wanted,
            uses_index=not reasons,
            is_chosen=is_chosen,
            is_small_table=is_small,
            index_names=tuple(dict.fromkeys(str(node.index[1]) for node in nodes if node.index)),
            scans=tuple(dict.fromkeys(node.words for node in plan.scans)),
            tables=tuple(tables),
            reasons=tuple(reasons),
            warnings=(
                *_without_effect(wanted),
                *_bypassed(found),
                *([foreign(plan)] if not reasons and any(node.kind == "Foreign Scan" for node in plan.nodes) else []),
                *(warnings(found, plan if is_chosen else usable, is_chosen=is_chosen, tables=tables) if nodes else ()),
            ),
            plan=tuple(_short(line) for line in found.plan_lines()),
        )


def _tables(found: PreparedCheck, plan: Plan, small_table_rows: int) -> list[Table]:
    with_vectors = {column.table for column in found.columns if column.type in VECTOR_TYPES}
    filtered = any(security.applies for security in found.row_security)
    return catalog.tables(
        found.caller,
        [names for names in dict.fromkeys(plan.relations.values()) if names in with_vectors],
        count_up_to=small_table_rows,
        is_filtered=filtered,
    )


def _sorted_without(found: PreparedCheck, plan: Plan, small_table_rows: int) -> bool:
    """Whether, in addition to a part that uses an index, another part sorts many rows by their distance."""
    return any(
        distance.place == "order"
        and input_of(distance.node.facts)["Plan Rows"] >= small_table_rows
        and not any(
            Node(facts=facts, above=()).index in found.serving
            for facts in below(distance.node.facts)
            if "Index Name" in facts
        )
        for distance in distances(plan, found.extension.operators)
    )


def _without_effect(statement: Statement) -> list[Reason]:
    if not statement.without_effect:
        return []
    lost = "; ".join(" ".join(made.text.split())[:80] for made in statement.without_effect)
    return [
        Reason(
            slug="set-local-outside-transaction",
            why=f"{lost}: outside a transaction this has no effect on the statements after it, and was ignored.",
            next_step="put BEGIN before it and COMMIT after the SELECT.",
        )
    ]


def _bypassed(found: PreparedCheck) -> list[Reason]:
    """Row security that applies to the application's role, but not to the current one."""
    return [
        Reason(
            slug="row-security-bypassed",
            why=f"{security.words} does not apply to role {security.role}, which {security.exempt_by}: another role gets "
            "fewer rows, and perhaps another plan.",
            next_step=f"run the check as the application's role: {security.as_role}.",
        )
        for security in found.row_security
        if not security.applies
    ]


def _not_found(found: PreparedCheck) -> Reason:
    schema = found.extension.schema
    return Reason(
        slug="operators-not-in-search-path",
        why=f"pgvector lies in schema {schema}, which is not in search_path ({found.setting('search_path')} was tried): "
        "PostgreSQL does not find its operators and types, and the statement fails.",
        next_step=f"ALTER ROLE … SET search_path = …, {schema}; or write OPERATOR({catalog.quoted(schema)}.<=>) and "
        f"::{catalog.quoted(schema, 'vector')}.",
    )


def _another(found: PreparedCheck, nodes: list[Node], wanted: str) -> list[Reason]:
    used = {node.index for node in nodes}
    names = {name for index in found.indexes if index.names in used for name in (index.name, index.root)}
    if wanted.rpartition(".")[2].strip('"') in names:
        return []
    return [
        Reason(
            slug="another-vector-index",
            why=f"it uses {', '.join(sorted(names))}, not {wanted}.",
            next_step=f"drop the unwanted index, or expect it: index={sorted(names)[0]!r}.",
        )
    ]


def _short(line: str) -> str:
    return line if len(line) < 120 else shown_line(line)


def shown_line(line: str) -> str:
    """A line of EXPLAIN with long literals shortened and the same indentation."""
    indent = line[: len(line) - len(line.lstrip())]
    return indent + shown(line.strip())
