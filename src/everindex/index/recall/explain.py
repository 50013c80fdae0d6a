"""The planner's choice for a statement: EXPLAIN under given settings, parsed into data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import pq, sql

from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

Settings = tuple[tuple[str, str], ...]

#: The planner rightly reads all of a table with fewer rows (measured with LIMIT 10 at 384 and 1,536 dimensions: with 1,000
#: rows it scans the table, with 2,000 it uses the index); there the proof is that the index is usable, not that it is used.
SMALL_TABLE_ROWS = 2000
#: Settings that make the planner use the index even if that is not the cheapest plan, to prove that it could.
FORCED: Settings = (("enable_seqscan", "off"), ("enable_sort", "off"), ("enable_indexscan", "on"))
#: Each execution is planned under its own settings: a cached plan would be that of another ef_search.
PLANNED_ANEW: Settings = (("plan_cache_mode", "force_custom_plan"),)
#: Number of scans of a plan that are named (it may have one per partition); the rest are counted.
NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The planner's choice."""

    scans: tuple[str, ...]
    """The scan nodes in words: `Index Scan using articles_embedding_hnsw_idx`, `Seq Scan on articles`."""

    index_names: tuple[str, ...]
    ordering_indexes: tuple[str, ...] = ()
    """The indexes among these that return their rows ordered by a distance."""

    reads: tuple[tuple[str, str | None, int], ...] = ()
    """Each table that is read: its name, the index that returns its rows ordered by a distance (None for any other scan), and
    how many rows the planner expects from it."""

    total_cost: float

    @property
    def summary(self) -> str:
        rest = len(self.scans) - NAMED
        return ", ".join(self.scans[:NAMED]) + (f" and {rest} more" if rest > 0 else "") or "no scan"


def explain(
    connection: Connection, statement: str | sql.Composed, parameters: Mapping[str, Any], *, settings: Settings = ()
) -> Explained:
    """The plan of `statement` under transaction-local `settings`. Takes ACCESS SHARE, as planning does."""
    return _read(_explain(connection, "EXPLAIN (FORMAT JSON) ", statement, parameters, settings)[0][0][0]["Plan"])


def explain_here(connection: Connection, statement: sql.Composed, parameters: Mapping[str, Any]) -> Explained:
    """The same inside the open transaction, under its settings."""
    text = "EXPLAIN (FORMAT JSON) " + statement.as_string(connection)
    return _read(connection.execute(text, parameters, prepare=False).fetchall()[0][0][0]["Plan"])


def explain_text(
    connection: Connection,
    statement: str | sql.Composed,
    parameters: Mapping[str, Any],
    *,
    settings: Settings = (),
    as_run: bool = False,
) -> list[str]:
    """The same as the lines that EXPLAIN prints, with parameters as literals.

    `as_run` executes the statement and prints the time and reads of each node.
    """
    verb = "EXPLAIN (ANALYZE, BUFFERS) " if as_run else "EXPLAIN "
    return [str(row[0]) for row in _explain(connection, verb, statement, parameters, settings)]


def _explain(
    connection: Connection,
    verb: str,
    statement: str | sql.Composed,
    parameters: Mapping[str, Any],
    settings: Settings,
) -> list[tuple[Any, ...]]:
    text = statement if isinstance(statement, str) else statement.as_string(connection)
    with translate_errors("asking for a plan"), connection.transaction(force_rollback=True):
        set_local(connection, settings)
        return connection.execute(verb + text, parameters, prepare=False).fetchall()


def set_local(connection: Connection, settings: Settings) -> None:
    """Applies settings until the end of the open transaction."""
    for name, value in settings:
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))


@contextmanager
def under_settings(connection: Connection, settings: Settings = ()) -> Iterator[None]:
    """A transaction with settings that end with it. Inside another transaction, as behind a pooler, it is a savepoint, which
    ends its settings only when it is rolled back; results that were read remain valid."""
    is_inside = connection.info.transaction_status != pq.TransactionStatus.IDLE
    with connection.transaction(force_rollback=is_inside):
        set_local(connection, settings)
        yield


def _read(plan: dict[str, Any]) -> Explained:
    nodes = list(_nodes(plan))
    return Explained(
        scans=tuple(_words(node) for node in nodes if "Scan" in node["Node Type"]),
        index_names=tuple(node["Index Name"] for node in nodes if "Index Name" in node),
        ordering_indexes=tuple(node["Index Name"] for node in nodes if "Index Name" in node and "Order By" in node),
        reads=tuple(
            (node["Relation Name"], node["Index Name"] if "Order By" in node else None, int(node["Plan Rows"]))
            for node in nodes
            if "Relation Name" in node
        ),
        total_cost=float(plan.get("Total Cost", 0.0)),
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _words(node: dict[str, Any]) -> str:
    kind = ("Parallel " if node.get("Parallel Aware") else "") + str(node["Node Type"])
    if "Index Name" in node:
        return f"{kind} using {node['Index Name']}"
    return f"{kind} on {node.get('Relation Name') or node.get('CTE Name') or node.get('Alias') or '?'}"
