"""What does a search know of its table and of the index that serves? Read from the catalog every few seconds."""

from __future__ import annotations

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.search.strategy import Serving
from everindex.articles.table import ArticleTable, read_table
from everindex.index.catalog import Observed, observe
from everindex.index.serving import serving_spec
from everindex.index.spec import IndexSpec
from everindex.index.tuned import declared_here, read_tuned
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection


def look_at(connection: Connection) -> tuple[ArticleTable, Serving]:
    """Table and index as they are. Reads only. Raises NotMigrated, ColumnMismatch."""
    table = read_table(connection)
    spec = declared_here(connection, EMBEDDING_INDEX)
    return table, serving_of(connection, spec, observe(connection, spec))


def serving_of(connection: Connection, spec: IndexSpec, observed: Observed) -> Serving:
    """The index that answers the searches that `spec` declares, with what was tuned for it. Reads only."""
    found = serving_spec(spec, observed)
    return Serving(
        index_name=None if found is None else found[1].name,
        estimated_rows=observed.estimated_rows,
        has_iterative_scan=look(connection).has_iterative_scan,
        key_type="vector" if found is None else found[0].key_type,
        tuned=None if found is None else read_tuned(connection, spec, found[1]),
    )
