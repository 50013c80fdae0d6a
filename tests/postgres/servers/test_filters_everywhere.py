"""The filter language on every supported server: each operator over each kind of column passes what Python says passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from everindex.articles.search.filters import where
from everindex.articles.search.filters.conditions import parse_condition
from everindex.articles.table import read_table
from everindex.pg import roundtrip
from everindex.pg.connections import connect
from every_server import KINDS, Kind, server
from filtered_rows import MOMENTS, SPEC, TOKENS, made_rows, passes, store

ROWS = made_rows(120, seed=8)
FILTERS: list[dict[str, Any]] = [
    {"label": {"$in": ["amber", "dune", None]}}, {"label": {"$ilike": "%E%"}}, {"code": {"$ne": "amber"}},
    {"year": {"$between": [0, 2.5]}}, {"small": {"$nin": [1, 2]}}, {"big": {"$gt": 2**40}}, {"price": {"$lte": 1.25}},
    {"score": {"$gte": 0.1}}, {"ratio": 0.25}, {"done": {"$ne": True}}, {"day": {"$lt": "2024-01-03"}},
    {"seen": {"$gte": "2024-01-02T03:00:00+02:00"}}, {"made": {"$in": [MOMENTS[1], MOMENTS[5]]}}, {"token": TOKENS[1]},
    {"mood": "calm"}, {"tags": "amber"}, {"tags": {"$nin": ["amber", "dune"]}}, {"sizes": {"$in": [1, 5]}},
    {"days": MOMENTS[3].date()}, {"meta.a": {"$in": ["amber", 5, True]}}, {"meta.a": {"$gte": 1}}, {"extra.a": {"$lt": "b"}},
    {"meta": {"b": {"c": {"$ne": 1}, "x.y": {"$like": "%a%"}}}}, {"extra": {"b": {"$exists": False}}}, {"a.b": "amber"},
    {'odd "name" 100%': {"$gte": "c"}}, {"$or": [{"year": 1}, {"$not": {"done": False, "label": {"$exists": True}}}]},
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind.postgres}-{kind.pgvector}")
def everywhere(request: pytest.FixtureRequest) -> Iterator[str]:
    kind: Kind = request.param
    with server(kind.binaries()) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            store(connection, ROWS)
        yield conninfo


def test_each_filter_passes_the_same_rows(everywhere: str) -> None:
    with connect(everywhere) as connection:
        table = read_table(connection, SPEC)
        for filters in FILTERS:
            condition = parse_condition(filters)
            assert condition is not None
            composed, parameters = where(table, condition)
            text, names = roundtrip.positional(f"SELECT id FROM things WHERE true{composed.as_string(None)} ORDER BY 1")
            found = [row[0] for row in roundtrip.run(connection, (), text, [parameters[name] for name in names])]
            assert found == [row["id"] for row in ROWS if passes(row, filters)], filters
            assert 0 < len(found) < len(ROWS), filters
