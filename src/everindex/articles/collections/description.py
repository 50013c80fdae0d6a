"""The collections of a database as they are now, for people: what `collections`, `status` and GET /api/collections tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from everindex.articles.collections.registry import read_collections
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import ColumnMismatch, EverindexError, NotMigrated
from everindex.index.recall.proof import Proof, fails
from everindex.migrate.standing import has_article_schema, prove_revision
from everindex.pg.connections import Connection
from everindex.units import count_text

if TYPE_CHECKING:
    from everindex.articles.search.vector.strategy import Serving


def describe(spec: CollectionSpec, known: Callable[[], tuple[CollectionTable, Serving]]) -> dict[str, Any]:
    """A collection as `known` finds its table and index; one that cannot be searched says why as `problem`."""
    told: dict[str, Any] = {
        "name": spec.name, "table": f"{spec.schema}.{spec.table}", "is_owned": spec.is_owned, "key": spec.key,
        "text": list(spec.text), "vector": spec.vector, "metadata": list(spec.metadata), "metric": spec.metric,
        "passages": spec.passages,
        "type": None, "dimensions": None, "rows": None, "index": None, "problem": None,
    }  # fmt: skip
    try:
        table, serving = known()
    except EverindexError as exc:
        return told | {"problem": f"{exc.slug}: {exc.what}"}
    return told | {
        "type": table.vector_type, "dimensions": table.dimensions, "rows": serving.estimated_rows,
        "index": serving.index_name,
    }  # fmt: skip


def described(connection: Connection) -> list[dict[str, Any]]:
    """Every collection beside the articles, by name. Reads only."""
    collections = read_collections(connection)
    if not collections:
        return []
    from everindex.articles.search.vector.state import look_at  # `status` of a database without any needs no search

    return [describe(spec, lambda spec=spec: look_at(connection, spec)) for spec in collections]  # type: ignore[misc]


def sentence_of(told: dict[str, Any]) -> str:
    """What `describe` found, as one line."""
    about = told["problem"] or (
        f"about {count_text(told['rows'], 'row')} · {told['type']}({told['dimensions']}) · {told['metric']} · index "
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
