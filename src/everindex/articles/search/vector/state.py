"""The state that searches depend on: the table and its serving index, read from the catalog every few seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.search.vector.strategy import PUSHED_FROM_ROWS, Serving
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.index.catalog.effective_spec import effective_spec, read_tuned
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.partial_names import is_partial_name
from everindex.index.catalog.roles import serving_spec
from everindex.index.spec import OPCLASSES, IndexSpec
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection

#: Estimated as the planner does: the last known density times the current pages. A table filled a moment ago has no
#: statistics yet but need not be small. Without statistics, rows are assumed to have 250 bytes beside the vector.
_ROWS_NOW = """
    SELECT pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::numeric
           * CASE WHEN c.relpages > 0 AND c.reltuples > 0 THEN c.reltuples / c.relpages ELSE 8192 / 250 END
    FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%s)
"""

#: The relations whose scans the server counts: the index and the table, or the leaf partitions of both.
_COUNTED = """
    SELECT ARRAY(SELECT t.relid::oid::bigint FROM pg_catalog.pg_partition_tree(%(index)s::oid) t WHERE t.isleaf ORDER BY 1),
           ARRAY(SELECT t.relid::oid::bigint FROM pg_catalog.pg_partition_tree(c.oid) t WHERE t.isleaf ORDER BY 1),
           c.oid::bigint
    FROM pg_catalog.pg_class c
    WHERE c.oid = pg_catalog.to_regclass(%(table)s) AND pg_catalog.current_setting('track_counts')::boolean
"""


def look_at(connection: Connection, collection: CollectionSpec = ARTICLES) -> tuple[CollectionTable, Serving]:
    """The current table and index. Reads only. Raises NotMigrated, ColumnMismatch."""
    table = read_table(connection, collection)
    spec = effective_spec(connection, table.index)
    return table, serving_of(connection, spec, observe(connection, spec))


def serving_of(connection: Connection, spec: IndexSpec, observed: Observed) -> Serving:
    """The index that serves searches as `spec` declares them, with its tuned values. Reads only."""
    found = serving_spec(spec, observed)
    table = sql.Identifier(spec.schema, spec.table).as_string(None)
    row = connection.execute(_ROWS_NOW, (table,)).fetchone()
    counted = (
        None if found is None else connection.execute(_COUNTED, {"index": found[1].oid, "table": table}).fetchone()
    )
    server = look(connection)
    partials = [
        _serving_partial(connection, spec, index, table)
        for index in observed.indexes
        if is_partial_name(index.name) and index.predicate and index.is_valid and index.method == "hnsw"
    ]
    whole = Serving(
        index_name=None if found is None else found[1].name,
        estimated_rows=max(int(row[0] or 0) if row else 0, 0) or observed.estimated_rows,
        has_iterative_scan=server.has_iterative_scan,
        has_row_codes=server.has_binary_quantize,
        key_type="vector" if found is None else found[0].key_type,
        tuned=None if found is None else read_tuned(connection, spec, found[1]),
        indexes=() if found is None or counted is None else tuple(counted[0]) or (found[1].oid,),
        tables=() if counted is None else tuple(counted[1]) or (counted[2],),
    )
    if not partials or whole.estimated_rows < PUSHED_FROM_ROWS:
        return whole
    return replace(
        whole,
        partials=tuple(replace(whole, **each) for each in partials),
    )


def _serving_partial(connection: Connection, spec: IndexSpec, index: ObservedIndex, table: str) -> dict[str, Any]:
    """What a search through a partial index knows of it, beside what holds for the table. Reads only."""
    counted = connection.execute(_COUNTED, {"index": index.oid, "table": table}).fetchone()
    return {
        "index_name": index.name,
        "key_type": OPCLASSES[index.opclass][0],
        "tuned": read_tuned(connection, replace(spec, name=index.name), index),
        "indexes": () if counted is None else tuple(counted[0]) or (index.oid,),
        "tables": () if counted is None else tuple(counted[1]) or (counted[2],),
    }
