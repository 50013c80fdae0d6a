"""Assertions for the tests of other applications: a statement uses the vector index, and returns the rows that it should.

PYTEST_DONT_REWRITE: plain functions, for unittest as well. With `pytest_plugins = ["everindex.testing"]` the fixture
`vector_index` provides them for the database of the fixture `vector_index_connection`, which a conftest.py can override.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from everindex.errors import EverindexError
from everindex.index.recall.explain import SMALL_TABLE_ROWS
from everindex.pg import address
from everindex.pg.connections import connect
from everindex.settings import read_settings
from everindex.statement_check.check import StatementCheck, check_statement
from everindex.statement_check.recall import StatementRecall, measure_statement_recall
from everindex.statement_check.script import one_checkable
from everindex.statement_check.text import Statement
from everindex.statement_check.values import Given, called
from everindex.testing_connection import driver_connection

__all__ = ["VectorIndexAssertions", "assert_recall", "assert_uses_vector_index"]


def assert_uses_vector_index(
    connection: Any,
    statement: Any,
    params: Given = None,
    *,
    index: str | None = None,
    settings: Mapping[str, Any] | None = None,
    role: str | None = None,
    small_table_rows: int = SMALL_TABLE_ROWS,
) -> StatementCheck:
    """Fails unless the planner uses a vector index for the statement, or could use one if the table were not so small.

    `connection` is a connection string or URL; a connection of psycopg, psycopg2 or another driver with DB-API cursors; or
    an Engine, Connection or Session of SQLAlchemy. An async one is passed in the same way, without await, from sync and
    async tests alike (testing_connection.py). The check sees what the test wrote in its transaction, and leaves that
    transaction as it was.
    `statement` is SQL, with the placeholders of any driver, or a Select of SQLAlchemy, which has its own parameters; for a
    vector parameter without a value, a vector from the table is used. The statement is not executed. Raises AssertionError
    with the reasons and the plan, and StatementNotCheckable for a statement that has no plan.
    """
    __tracebackhide__ = True
    text, values = _compiled(statement, params)
    with _errors_raised_here(), driver_connection(connection) as opened:
        found = check_statement(
            opened, text, values, settings=settings, role=role, index=index, small_table_rows=small_table_rows
        )
    if not found.uses_index:
        raise AssertionError(_report(found))
    return found


def assert_recall(
    connection: Any,
    statement: Any,
    params: Given = None,
    *,
    at_least: float = 0.95,
    k: int = 10,
    samples: int = 20,
    settings: Mapping[str, Any] | None = None,
    role: str | None = None,
) -> StatementRecall:
    """Fails when the statement returns less than this share of the rows that it returns without the index.

    Executes the statement twice for each of `samples` stored vectors (leave the vector parameter without a value), in a
    READ ONLY transaction that is rolled back; each exact execution reads the whole table. Raises AssertionError with the
    recall and its interval, and StatementNotCheckable when nothing can be compared.
    """
    __tracebackhide__ = True
    text, values = _compiled(statement, params)
    with _errors_raised_here(), driver_connection(connection) as opened:
        found = measure_statement_recall(opened, text, values, k=k, samples=samples, settings=settings, role=role)
    if found.recall < at_least:
        raise AssertionError(
            f"recall-below-floor: {called(text)} finds {found.recall:.1%} of the {k} rows that it should, not {at_least:.1%}.\n"
            f"  why:  {found.sentence}.\n"
            "  next: raise hnsw.ef_search for this statement (SET LOCAL), set hnsw.iterative_scan where it has conditions, or "
            "build the index with a larger m and ef_construction."
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndexAssertions:
    """The assertions on one connection: the value of the fixture `vector_index`."""

    connection: Any

    def assert_uses(self, statement: Any, params: Given = None, **others: Any) -> StatementCheck:
        """As assert_uses_vector_index."""
        __tracebackhide__ = True
        return assert_uses_vector_index(self.connection, statement, params, **others)

    def assert_recall(self, statement: Any, params: Given = None, **others: Any) -> StatementRecall:
        """As assert_recall."""
        __tracebackhide__ = True
        return assert_recall(self.connection, statement, params, **others)


if importlib.util.find_spec("pytest") is not None:
    import pytest

    @pytest.fixture
    def vector_index_connection() -> Iterator[Any]:
        """A connection to the server of DATABASE_URL or DB_*; override it with the connection that your tests write through."""
        with connect(address.configured_conninfo(read_settings()), application_name="everindex testing") as connection:
            yield connection

    @pytest.fixture
    def vector_index(vector_index_connection: Any) -> VectorIndexAssertions:
        """`assert_uses(statement)` and `assert_recall(statement)` on `vector_index_connection`."""
        return VectorIndexAssertions(connection=vector_index_connection)


@contextmanager
def _errors_raised_here() -> Iterator[None]:
    """An error of everindex leaves the block as if the assertion itself had raised it, without the frames below it."""
    __tracebackhide__ = True
    try:
        yield
    except EverindexError as exc:
        raise exc.with_traceback(None) from None


def _report(found: StatementCheck) -> str:
    lines = [f"vector-index-unused: {called(found.statement)} does not use the vector index: {found.sentence}."]
    for reason in found.reasons:
        lines += [f"  why:  {reason.why}", f"  next: {reason.remedy}"]
    lines += [f"  warning: {warning.why} {warning.remedy}" for warning in found.warnings]
    lines += ["  plan:", *(f"    {line}" for line in found.plan)]
    return "\n".join(lines)


def _compiled(statement: Any, params: Given) -> tuple[Statement, Given]:
    """The text and its values. A construct of SQLAlchemy has values of its own; values passed in `params` replace them."""
    if isinstance(statement, Statement):
        return statement, params
    if isinstance(statement, str):
        return one_checkable(statement), params
    if not hasattr(statement, "compile"):
        raise TypeError(f"a statement must be SQL text or a construct of SQLAlchemy, not {type(statement).__name__}")
    from sqlalchemy.dialects import postgresql

    # Parameters are named, and lists after IN are expanded. Values do not pass through the types of SQLAlchemy.
    dialect: Any = postgresql.dialect
    compiled = statement.compile(dialect=dialect(), compile_kwargs={"render_postcompile": True})
    required = {name for name, bind in compiled.binds.items() if bind.required}
    values = {name: value for name, value in compiled.construct_params(_check=False).items() if name not in required}
    return one_checkable(str(compiled)), values | dict(params if isinstance(params, Mapping) else {})
