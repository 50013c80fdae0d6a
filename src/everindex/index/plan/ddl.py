"""The DDL of vector indexes: every statement that creates, drops, renames or comments one, quoted and qualified.

Composes statements only; nothing here runs them.
"""

from __future__ import annotations

from psycopg import sql

from everindex.index.catalog.generations import aside_name
from everindex.index.catalog.key import key_sql
from everindex.index.catalog.observed import Observed
from everindex.index.plan.steps import Attach, Reindex
from everindex.index.spec import MAX_NAME_BYTES, IndexSpec


def create_statement(
    spec: IndexSpec,
    observed: Observed,
    *,
    concurrently: bool = True,
    if_not_exists: bool = False,
    on_only: bool = False,
) -> sql.Composed:
    """CREATE INDEX for `spec`. `if_not_exists` only for a name whose definition and validity were checked before."""
    key = key_sql(
        spec,
        column_type=observed.column_type or spec.key_type,
        dimensions=observed.dimensions or spec.dimensions or 0,
        extension_schema=observed.extension_schema,
    )
    return _create(
        spec,
        key,
        table=sql.Identifier(spec.schema, spec.table),
        extension_schema=observed.extension_schema,
        concurrently=concurrently,
        if_not_exists=if_not_exists,
        on_only=on_only,
    )


def _create(
    spec: IndexSpec,
    key: sql.Composable,
    *,
    table: sql.Composable,
    extension_schema: str | None,
    concurrently: bool,
    if_not_exists: bool,
    on_only: bool = False,
) -> sql.Composed:
    opclass = sql.Identifier(extension_schema, spec.opclass) if extension_schema else sql.SQL(spec.opclass)
    where = sql.SQL("") if spec.predicate is None else sql.SQL(" WHERE {}").format(sql.SQL(spec.predicate_text or ""))
    return sql.SQL(
        "CREATE INDEX {concurrently}{if_not_exists}{name} ON {only}{table} USING hnsw ({key} {opclass}) "
        "WITH (m = {m}, ef_construction = {ef_construction}){where}"
    ).format(
        concurrently=sql.SQL("CONCURRENTLY ") if concurrently else sql.SQL(""),
        if_not_exists=sql.SQL("IF NOT EXISTS ") if if_not_exists else sql.SQL(""),
        only=sql.SQL("ONLY ") if on_only else sql.SQL(""),
        name=sql.Identifier(spec.name),
        table=table,
        key=key,
        opclass=opclass,
        m=sql.Literal(spec.m),
        ef_construction=sql.Literal(spec.ef_construction),
        where=where,
    )


def drop_statement(schema: str, name: str, *, concurrently: bool = True, if_exists: bool = False) -> sql.Composed:
    """DROP INDEX, online unless `concurrently` is False (the index of a partitioned table)."""
    return sql.SQL("DROP INDEX {concurrently}{if_exists}{name}").format(
        concurrently=sql.SQL("CONCURRENTLY ") if concurrently else sql.SQL(""),
        if_exists=sql.SQL("IF EXISTS ") if if_exists else sql.SQL(""),
        name=sql.Identifier(schema, name),
    )


def rename_statement(schema: str, old: str, new: str) -> sql.Composed:
    """ALTER INDEX … RENAME TO. SHARE UPDATE EXCLUSIVE on the index (PostgreSQL 12 and later)."""
    return sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(schema, old), sql.Identifier(new))


def swap_statements(schema: str, name: str, *, successor: str, previous: str) -> list[sql.Composed]:
    """Statements that give the successor the name, and the index that has it the previous name (perhaps the successor's own)."""
    aside = aside_name(name)
    return [
        rename_statement(schema, name, aside),
        rename_statement(schema, successor, name),
        rename_statement(schema, aside, previous),
    ]


def attach_statement(step: Attach) -> sql.Composed:
    return sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
        sql.Identifier(step.parent_schema, step.parent), sql.Identifier(step.child_schema, step.child)
    )


def reindex_statement(step: Reindex) -> sql.Composed:
    return sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(sql.Identifier(step.schema, step.name))


def comment_statement(schema: str, name: str, comment: str | None) -> sql.Composed:
    """COMMENT ON INDEX; None removes it."""
    return sql.SQL("COMMENT ON INDEX {} IS {}").format(sql.Identifier(schema, name), sql.Literal(comment))


def visibility_statement(schema: str, name: str, *, is_shown: bool) -> sql.Composed:
    """Shows an index and those of its partitions to the planner, or hides them; only a superuser may run it."""
    index = sql.Literal(sql.Identifier(schema, name).as_string(None))
    return sql.SQL(
        "UPDATE pg_catalog.pg_index SET indisvalid = {shown} WHERE indexrelid = {index}::regclass "
        "OR indexrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree({index}::regclass))"
    ).format(shown=sql.Literal(is_shown), index=index)


def create_text(spec: IndexSpec, *, concurrently: bool = True, if_not_exists: bool = False) -> str:
    """The CREATE INDEX of the declaration as text, for people: a derived key is shown as its column."""
    key = (
        sql.SQL("({})").format(sql.SQL(spec.expression_text or ""))
        if spec.expression
        else sql.Identifier(spec.column or "")
    )
    return _create(
        spec,
        key,
        table=sql.Identifier(spec.schema, spec.table),
        extension_schema=None,
        concurrently=concurrently,
        if_not_exists=if_not_exists,
    ).as_string(None)


def script_create_text(spec: IndexSpec, *, schema: str | None, key: sql.Composable | None = None) -> str:
    """The online CREATE INDEX for a script; without a schema, the search_path of whoever runs it decides.

    With IF NOT EXISTS, since a guard in the script has checked definition and validity before.
    """
    table = sql.Identifier(spec.table) if schema is None else sql.Identifier(schema, spec.table)
    if key is None:
        key = (
            sql.SQL("({})").format(sql.SQL(spec.expression_text or ""))
            if spec.expression
            else sql.Identifier(spec.column or "")
        )
    return _create(spec, key, table=table, extension_schema=None, concurrently=True, if_not_exists=True).as_string(None)


def quoted(name: str, *, schema: str | None = None) -> str:
    """A name as a quoted SQL identifier."""
    return (sql.Identifier(name) if schema is None else sql.Identifier(schema, name)).as_string(None)


def rename_text(spec: IndexSpec) -> str:
    """The statement that renames an index that has the declared name, as text for people."""
    old = spec.name.encode()[: MAX_NAME_BYTES - 4].decode(errors="ignore") + "_old"
    return rename_statement(spec.schema, spec.name, old).as_string(None)
