"""Declaring a partial vector index: it is recorded and built online, or dropped and forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everindex.articles.partial_indexes import PartialIndex, forget_partial_index, record_partial_index
from everindex.articles.search.filters import as_condition, literal_where
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import FilterInvalid
from everindex.index.catalog.effective_spec import as_tuned, delete_tuned
from everindex.index.catalog.observe import observe
from everindex.index.catalog.partial_names import partial_name
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.plan.policy import DEPLOY
from everindex.index.reporter import Reporter
from everindex.pg import own_schema
from everindex.pg.connections import connect


def partial_index_for(table: CollectionTable, filters: Mapping[str, Any]) -> PartialIndex:
    """The partial index of the rows that pass these filters. Raises FilterInvalid."""
    condition = parse_condition(filters)
    if condition is None:
        raise FilterInvalid(
            "a partial index needs a filter.",
            why="it holds the rows that pass one; the index of all rows is declared already.",
            next_step='name it, as in  {"category": "Security"}.',
        )
    return PartialIndex(
        schema=table.schema,
        table=table.spec.table,
        name=partial_name(table.spec.table, as_condition(condition).digest),
        filters=filters,
        predicate=literal_where(table, condition),
    )


def deploy_partial_index(
    conninfo: str, collection: CollectionSpec, filters: Mapping[str, Any], *, reporter: Reporter | None = None
) -> Deployed:
    """Declares the partial index of the rows that pass `filters`, and builds it online. Raises FilterInvalid, SpecIllegal for a
    condition that no index can have, and what a deploy raises; it stays declared where only the build failed."""
    with connect(conninfo, application_name="everindex deploy") as connection:
        declared = partial_index_for(read_table(connection, collection), filters)
        spec = declared.as_declared(read_table(connection, collection).index)
        observe(connection, spec)  # whether PostgreSQL takes the predicate
        own_schema.ensure(conninfo)
        record_partial_index(connection, declared)
        spec = as_tuned(connection, spec)
    return deploy(conninfo, spec, reporter=reporter, policy=DEPLOY)


def drop_partial_index(
    conninfo: str, collection: CollectionSpec, filters: Mapping[str, Any], *, reporter: Reporter | None = None
) -> bool:
    """Forgets it and drops it online; False where there was neither a declaration nor an index. Raises FilterInvalid."""
    with connect(conninfo, application_name="everindex deploy") as connection:
        table = read_table(connection, collection)
        declared = partial_index_for(table, filters)
        # Forgotten first: what would be dropped before could be built anew by a keeper.
        was_declared = forget_partial_index(connection, declared)
        spec = declared.as_declared(table.index)
        if own_schema.is_readable(connection, "tuned"):
            delete_tuned(connection, spec)
    return drop(conninfo, spec, reporter=reporter) or was_declared
