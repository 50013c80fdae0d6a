"""The tenants of one table, told apart by a column: which of them earn a vector index of their own rows.

A tenant earns one by its rows: with fewer, reading them all is as quick; with a large share of the table, so is the index of all
rows (docs/decisions/0026). Tenants without one are found through that index, or exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.articles.collections.registry import require_collection
from everindex.articles.declared import ARTICLES
from everindex.articles.partial_deploy import deploy_partial_index, partial_index_for
from everindex.articles.partial_indexes import read_partial_indexes
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.doctor.rules.partial_index_pays import MANY_ROWS, MOST_SHARE
from everindex.fleet.targets import Target
from everindex.index.deploy.executor import Deployed
from everindex.index.reporter import Reporter
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Rows from which a tenant earns an index, and the most such indexes on a table.
TENANT_ROWS, TENANT_INDEXES = MANY_ROWS, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """The tenants of a table that earn an index, the largest first."""

    collection: CollectionSpec
    column: str
    earning: tuple[tuple[Any, int], ...]
    """(value, rows) of those without one so far."""

    indexed: int
    """How many have one."""

    left_out: int
    """How many earn one but exceed the limit of indexes on a table."""

    @property
    def sentence(self) -> str:
        more = f"; {self.left_out} more are beyond the limit (--max-tenant-indexes)" if self.left_out else ""
        return (
            f"tenants by {self.column} of {self.collection.name}: {self.indexed} have a vector index, {len(self.earning)} earn "
            f"one{more}"
        )


def read_tenants(connection: Connection, target: Target, *, min_rows: int, limit: int) -> Tenants | None:
    """The tenants of a target with a tenant column; None for any other. Reads only, the whole column once.

    Raises CollectionNotFound, NotMigrated, and what an unknown column raises.
    """
    if target.tenant_column is None:
        return None
    collection = require_collection(connection, target.table or ARTICLES.name)
    table = read_table(connection, collection)
    declared = {each.name for each in read_partial_indexes(connection, (table.schema, table.spec.table))}
    with translate_errors(f"counting the tenants of {collection.name}"):
        rows = connection.execute(
            sql.SQL(
                "SELECT * FROM (SELECT {column} AS tenant, count(*) AS rows, sum(count(*)) OVER () AS all_rows FROM {table} "
                "WHERE {vector} IS NOT NULL GROUP BY 1) counted "
                "WHERE tenant IS NOT NULL AND rows >= %(least)s AND rows <= all_rows * %(share)s::float8 "
                "ORDER BY rows DESC, tenant"
            ).format(column=sql.Identifier(target.tenant_column), table=table.identifier, vector=table.vector),
            {"least": min_rows, "share": MOST_SHARE},
        ).fetchall()
    found = [(_as_json(row[0]), int(row[1])) for row in rows]
    new = [one for one in found if _name(table, target.tenant_column, one[0]) not in declared]
    room = max(0, limit - len(declared))
    return Tenants(
        collection=collection, column=target.tenant_column, earning=tuple(new[:room]), indexed=len(found) - len(new),
        left_out=len(new[room:]),
    )  # fmt: skip


def deploy_tenant(conninfo: str, tenants: Tenants, value: Any, *, reporter: Reporter) -> Deployed:
    """Declares and builds the index of one tenant. Raises what a deploy raises."""
    return deploy_partial_index(conninfo, tenants.collection, {tenants.column: value}, reporter=reporter)


def _name(table: CollectionTable, column: str, value: Any) -> str:
    return partial_index_for(table, {column: value}).name


def _as_json(value: Any) -> Any:
    return value if isinstance(value, str | int | bool) else str(value)
