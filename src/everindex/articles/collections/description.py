"""The collections of a database as they are now, for people: what `collections`, `status` and GET /api/collections tell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from psycopg import sql

from everindex.articles.collections.registry import read_collections
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import ColumnMismatch, EverindexError, NotMigrated
from everindex.index.recall.proof import Proof, fails
from everindex.migrate.standing import has_article_schema, prove_revision
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

if TYPE_CHECKING:
    from everindex.articles.search.vector.strategy import Serving


#: Up to so many rows are counted, which takes milliseconds; of more, PostgreSQL's estimate is told.
COUNTED = 10_000


class Ask(Protocol):
    """Runs a function with a connection that reads."""

    def __call__(self, ask: Callable[[Connection], dict[str, Any]], /) -> dict[str, Any]: ...


def describe(spec: CollectionSpec, known: Callable[[], tuple[CollectionTable, Serving]], ask: Ask) -> dict[str, Any]:
    """A collection as `known` finds its table and index; one that cannot be searched says why as `problem`. `ask` reads how many
    rows it has."""
    told: dict[str, Any] = {
        "name": spec.name, "table": f"{spec.schema}.{spec.table}", "is_owned": spec.is_owned, "key": spec.key,
        "text": list(spec.text), "vector": spec.vector, "metadata": list(spec.metadata), "metric": spec.metric,
        "passages": spec.passages,
        "type": None, "dimensions": None, "rows": None, "rows_are": None, "index": None, "problem": None,
    }  # fmt: skip
    try:
        table, serving = known()
        rows = ask(lambda connection: _rows(connection, table))
    except EverindexError as exc:
        return told | {"problem": f"{exc.slug}: {exc.what}"}
    return told | rows | {
        "type": table.vector_type, "dimensions": table.dimensions, "index": serving.index_name,
    }  # fmt: skip


def _rows(connection: Connection, table: CollectionTable) -> dict[str, Any]:
    """How many rows a table has: counted where these are few, else PostgreSQL's estimate, else the least number."""
    with translate_errors(f"counting rows of {table.spec.name}"):
        row = connection.execute(
            sql.SQL(
                "SELECT (SELECT c.reltuples::bigint FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%s)), "
                "(SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS counted)"
            ).format(table.identifier, sql.Literal(COUNTED + 1)),
            (table.identifier.as_string(None),),
        ).fetchone()
    estimated, counted = (-1, 0) if row is None else row
    if counted <= COUNTED:
        return {"rows": counted, "rows_are": "counted"}
    if estimated is not None and estimated > COUNTED:
        return {"rows": estimated, "rows_are": "estimated"}
    return {"rows": COUNTED, "rows_are": "at least"}


def rows_of(told: dict[str, Any]) -> str:
    """How many rows a described collection has, in words."""
    rows = f"{told['rows']:,} {'row' if told['rows'] == 1 else 'rows'}"
    match told["rows_are"]:
        case "counted":
            return rows
        case "estimated":
            return f"about {rows}"
        case _:
            return f"more than {rows} (not analysed yet)"


def described(connection: Connection) -> list[dict[str, Any]]:
    """Every collection beside the articles, by name. Reads only."""
    collections = read_collections(connection)
    if not collections:
        return []
    from everindex.articles.search.vector.state import look_at  # `status` of a database without any needs no search

    def ask(read: Callable[[Connection], dict[str, Any]]) -> dict[str, Any]:
        return read(connection)

    return [describe(spec, partial(look_at, connection, spec), ask) for spec in collections]


def sentence_of(told: dict[str, Any]) -> str:
    """What `describe` found, as one line."""
    about = told["problem"] or (
        f"{rows_of(told)} · {told['type']}({told['dimensions']}) · {told['metric']} · index "
        f"{told['index'] or 'missing (run  everindex deploy)'}"
    )
    return f"{told['name']}: {told['table']} · {about}"


def prove_standing(connection: Connection) -> tuple[Proof, ...]:
    """The proof of the revision, and one that fails for each collection whose table cannot be used. A database of collections
    alone has no migrations, and needs none. Reads only."""
    specs = read_collections(connection)
    first = () if specs and not has_article_schema(connection) else (prove_revision(connection),)
    return (*first, *filter(None, (_table_problem(connection, spec) for spec in specs)))


def has_only_collections(connection: Connection) -> bool:
    """Whether this database has collections and no articles. Reads only."""
    return not has_article_schema(connection) and bool(read_collections(connection))


def _table_problem(connection: Connection, spec: CollectionSpec) -> Proof | None:
    try:
        read_table(connection, spec)
    except (NotMigrated, ColumnMismatch) as exc:
        return fails("index", f"collection {spec.name} cannot be searched: {exc.what.rstrip('.')}", exc.next_step)
    return None
