"""The planner's choice for a statement: EXPLAIN under given settings, parsed as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import pq, sql

from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

Settings = tuple[tuple[str, str], ...]

#: The planner rightly reads the whole of a table with fewer rows (measured with LIMIT 10 at 384 and 1,536 dimensions: 1,000
#: rows are scanned, 2,000 go through the index); there usability is proven instead of use.
SMALL_TABLE_ROWS = 2000
#: What makes the planner take the index where it is not the cheapest way: the proof that it could.
FORCED: Settings = (("enable_seqscan", "off"), ("enable_sort", "off"), ("enable_indexscan", "on"))
#: Each execution is planned under its own settings: a plan that was kept would be that of another ef_search.
PLANNED_ANEW: Settings = (("plan_cache_mode", "force_custom_plan"),)
#: So many scans of a plan are named (it may have one for each partition); the rest is counted.
NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What the planner chose."""

    scans: tuple[str, ...]
    """The scan nodes in words: `Index Scan using articles_embedding_hnsw_idx`, `Seq Scan on articles`."""

    index_names: tuple[str, ...]
    ordering_indexes: tuple[str, ...] = ()
    """Of these, the indexes that give their rows in the order of a distance."""

    reads: tuple[tuple[str, str | None, int], ...] = ()
    """Each table that is read: its name, the index that gives its rows in the order of a distance (None for any other way),
    and how many rows the planner expects of it."""

    total_cost: float

    @property
    def summary(self) -> str:
        rest = len(self.scans) - NAMED
        return ", ".join(self.scans[:NAMED]) + (f" and {rest} more" if rest > 0 else "") or "no scan"


def explain(
    connection: Connection, statement: str | sql.Composed, parameters: Mapping[str, Any], *, settings: Settings = ()
) -> Explained:
    """The plan of `statement` under transaction-local `settings`. Takes what planning takes: ACCESS SHARE."""
    return _read(_explain(connection, "EXPLAIN (FORMAT JSON) ", statement, parameters, settings)[0][0][0]["Plan"])


def explain_here(connection: Connection, statement: sql.Composed, parameters: Mapping[str, Any]) -> Explained:
    """The same inside the transaction that is open, under the settings that hold there."""
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
    """The same as the lines that EXPLAIN prints; parameters stand in them as literals.

    `as_run` runs the statement and prints what each node took and read.
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
    """Settings that end with the transaction that is open."""
    for name, value in settings:
        connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))


@contextmanager
def under_settings(connection: Connection, settings: Settings = ()) -> Iterator[None]:
    """A transaction with settings that end with it. Inside another one, as behind a pooler, it is a savepoint, which ends its
    settings only when it is taken back: what it reads stays read."""
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
