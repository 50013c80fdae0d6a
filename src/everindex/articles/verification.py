"""The verification of a deployment: revision, index, planner and recall, for the application's own search statement."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pgvector import Vector
from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.model import Filters
from everindex.articles.partial_indexes import read_partial_indexes
from everindex.articles.recall_queries import RecallQueries
from everindex.articles.search.request.search_request import require_width
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.state import serving_of
from everindex.articles.search.vector.strategy import choose
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_models import notes_of, unrecorded_note
from everindex.index.catalog.effective_spec import as_tuned, effective_spec
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.recall.proof import Proof, Verification
from everindex.index.recall.query_sample import SearchQueries
from everindex.index.recall.verify import not_checked, prove_all, prove_index, prove_planner, prove_recall
from everindex.index.spec import DEFAULT_K, IndexSpec
from everindex.migrate.standing import prove_revision, read_standing
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.pooler import one_session
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import register_all_types, register_vector
from everindex.settings import read_settings


def verify(
    conninfo: str,
    collection: CollectionSpec = ARTICLES,
    *,
    floor: float,
    is_floor_requested: bool = False,
    samples: int = 50,
    max_seconds: float = 10.0,
    search_queries: Callable[[Connection, IndexSpec, Observed], SearchQueries] | None = None,
    on_query: Callable[[int, int], None] | None = None,
) -> Verification:
    """Runs all checks on its own connection. Reads only; takes ACCESS SHARE; reads every vector of the table a few
    dozen times. Raises what connecting raises; a failed check is a result and not an error.

    Recall is measured with stored rows, with titles embedded by the table's models, and with a sample of real searches
    (`search_queries`; by default from the settings of this process); the worst result counts.

    An index tuned for less than `floor` is measured against its tuned recall, unless `floor` was requested explicitly
    (`is_floor_requested`).
    """
    with connect(conninfo, application_name="everindex verify") as connection, one_session(connection):
        # The migrations are those of the articles; a collection has none.
        first = (prove_revision(connection),) if collection is ARTICLES else ()
        spec = effective_spec(connection, replace(_declared(connection, collection), recall_floor=floor))
        index, observed = prove_index(connection, spec)
        catalog = state_of(connection, spec, observed)
        if not index.holds:
            why = "no index is serving"
            proofs = (*first, index, not_checked("planner", why), not_checked("recall", why))
            return Verification(proofs=proofs, notes=notes_of(connection, collection), catalog=catalog)
        table = read_table(connection, collection)
        register_vector(connection) if table.vector_type == "vector" else register_all_types(connection)
        rows, vector = _rows_and_vector(connection, table)
        # The whole table is read on purpose below: a time limit of the role must not interrupt that.
        lift_time_limits(connection)
        serving = serving_of(connection, spec, observed)
        search_plan = choose(serving, k=DEFAULT_K, passing=None, ef_search=None, exact=False)
        search, parameters = statement.of(table, Filters(), search_plan, k=DEFAULT_K)
        planner = prove_planner(
            connection,
            spec,
            observed,
            statement=search,
            parameters=parameters | {"vector": vector},
            settings=search_plan.settings,
            rows=rows,
        )
        # A row is always its own nearest neighbour and is excluded, so one more is requested.
        one_more = choose(serving, k=DEFAULT_K + 1, passing=None, ef_search=search_plan.ef_search, exact=False)
        sampled, _ = statement.of(table, Filters(), one_more, k=DEFAULT_K + 1)
        recall = prove_recall(
            connection,
            spec,
            observed,
            statement=sampled,
            settings=search_plan.settings,
            floor=floor if is_floor_requested else spec.recall_floor,
            k=DEFAULT_K,
            samples=samples,
            max_seconds=max_seconds,
            search_queries=(search_queries or RecallQueries(read_settings(), collection))(connection, spec, observed),
            on_query=on_query,
        )
        proofs = (
            *first,
            index,
            planner,
            recall,
            *_of_partial(connection, table, samples=samples, max_seconds=max_seconds),
        )
        return Verification(proofs=proofs, notes=unrecorded_note(connection, table), catalog=catalog)


def _of_partial(connection: Connection, table: CollectionTable, *, samples: int, max_seconds: float) -> Iterator[Proof]:
    """The proofs of the partial indexes, each with the simplest search that uses it."""
    for declared in read_partial_indexes(connection, (table.schema, table.spec.table)):
        spec = as_tuned(connection, declared.as_declared(table.index))
        for proof in prove_all(connection, spec, samples=samples, max_seconds=max_seconds):
            named = proof.sentence if proof.name == "index" else f"partial index {spec.name}: {proof.sentence}"
            yield replace(proof, sentence=named)


def _declared(connection: Connection, collection: CollectionSpec) -> IndexSpec:
    """The declared index. That of the articles is known without their table, whose absence is a finding."""
    return collection.index or read_table(connection, collection).index


def read_state(connection: Connection, collection: CollectionSpec = ARTICLES, *, floor: float) -> str:
    """The current state of declaration and catalog, to compare with that of a verification. Reads only; takes a few
    milliseconds. Raises what `read_table` raises for a collection whose table is gone."""
    spec = effective_spec(connection, replace(_declared(connection, collection), recall_floor=floor))
    return state_of(connection, spec, observe(connection, spec))


def state_of(connection: Connection, spec: IndexSpec, observed: Observed) -> str:
    """The state that the checks apply to: the revision, the declaration, and every index of the table with its
    validity, definition and filenode. Results are not valid in another state. Reads the revision."""
    about = (read_standing(connection).words, replace(spec, recall_floor=1.0), observed.state_digest)
    return hashlib.sha256(repr(about).encode()).hexdigest()[:12]


def _rows_and_vector(connection: Connection, table: CollectionTable) -> tuple[int, Any]:
    """The number of rows with a vector, and one such vector (a unit vector if there is none) for EXPLAIN."""
    width = require_width(table)
    with translate_errors("counting rows"):
        row = connection.execute(
            sql.SQL("SELECT count({1}), (SELECT {2} FROM {0} WHERE {1} IS NOT NULL LIMIT 1) FROM {0}").format(
                table.identifier, table.vector, table.vector_read
            ),
            binary=True,
        ).fetchone()
    assert row is not None
    return int(row[0]), row[1] if row[1] is not None else Vector([1.0] + [0.0] * (width - 1))
