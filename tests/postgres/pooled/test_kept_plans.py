"""The plan of a prepared search stays the right one after PostgreSQL may reuse a plan for all values.

It may from the sixth execution on; each kind of search runs twenty times.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from pgvector import Vector
from psycopg import sql

from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.articles.search.request.search_request import SearchRequest
from everindex.articles.search.vector import statement
from everindex.pg import roundtrip
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

INDEX = "articles_embedding_hnsw_idx"
TIMES = 20

CATEGORIES = """
    SELECT category FROM articles GROUP BY category HAVING count(*) BETWEEN 1 AND 250 ORDER BY count(*), category
"""


def filters_of(kind: str, instance: Instance) -> list[Filters]:
    """TIMES filters that lead to a search of that kind, of very different size where that is possible."""
    match kind:
        case "filtered-exact":
            with instance.connection() as connection:
                categories = [row[0] for row in connection.execute(CATEGORIES)]
            return [Filters(category=categories[number % len(categories)]) for number in range(TIMES)]
        case "index-filtered":
            return [Filters(until=str(2100 + number)) for number in range(TIMES)]
        case _:
            return [Filters()] * TIMES


def plan_by_name(connection: Connection, text: str, values: list[object], settings: roundtrip.Settings) -> str:
    """What EXPLAIN EXECUTE says of the statement that a search has prepared."""
    row = connection.execute("SELECT name FROM pg_prepared_statements WHERE statement = %s", (text,)).fetchone()
    assert row is not None
    call = sql.SQL("EXPLAIN EXECUTE {}({})").format(
        sql.Identifier(row[0]), sql.SQL(", ").join(map(sql.Literal, values))
    )
    with translate_errors("explaining"), connection.transaction(force_rollback=True):
        for name, value in settings:
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
        return "\n".join(line[0] for line in connection.execute(call))


@pytest.mark.parametrize(
    ("kind", "by_index"), [("index", True), ("index-filtered", True), ("exact", False), ("filtered-exact", False)]
)
def test_twenty_searches_later_the_plan_is_still_the_right_one(
    filled: str, open_instance: Callable[..., Instance], kind: str, by_index: bool
) -> None:
    instance = open_instance(filled, EVERINDEX_POOL_SIZE=1)

    vector = instance.embed_query("memory leak in the parser")
    table, _ = instance.engine.known()
    one = partial(SearchRequest, mode="semantic", vector=vector, exact=kind == "exact")
    asked = filters_of(kind, instance)
    # First: after an EXPLAIN, which is rolled back, psycopg drops what is prepared.
    search_plan = instance.searches.explain(one(filters=asked[-1])).search_plan
    for filters in asked:
        answer = instance.searches.answer(one(filters=filters))
        assert answer.strategy == kind
    composed, parameters = statement.of(table, asked[-1], search_plan, k=10)
    positional, names = roundtrip.positional(composed.as_string(None))
    known = parameters | {"vector": Vector(vector).to_text()}
    with instance.connection() as connection:
        uses = connection.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = %s", (positional,)
        ).fetchone()
        plan = plan_by_name(connection, positional, [known[name] for name in names], search_plan.settings)
    assert (INDEX in plan) is by_index, plan
    assert uses is not None
    assert sum(uses) >= TIMES
    if kind == "filtered-exact":
        # Which index of the filter is best, if any, depends on its value.
        assert uses[0] == 0


def test_a_role_that_prefers_generic_plans_changes_no_answer(
    filled: str, open_instance: Callable[..., Instance]
) -> None:
    plain = open_instance(filled)
    vector = plain.embed_query("memory leak in the parser")
    category = filters_of("filtered-exact", plain)[3].category
    questions = [{}, {"until": "2100"}, {"category": category}]
    expected = [[hit.uri for hit in plain.search_vector(vector, filters=one).hits] for one in questions]
    with plain.connection() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET plan_cache_mode = force_generic_plan").format(
                sql.Identifier(connection.info.dbname)
            )
        )
    generic = open_instance(filled)
    for _ in range(3):
        assert [[hit.uri for hit in generic.search_vector(vector, filters=one).hits] for one in questions] == expected
