"""Which DDL makes and drops an index? The only place that writes it: CONCURRENTLY, every name quoted and qualified."""

from __future__ import annotations

from psycopg import sql

from everindex.index.spec import MAX_NAME_BYTES, IndexSpec


def create_statement(
    spec: IndexSpec, *, extension_schema: str | None = None, concurrently: bool = True, if_not_exists: bool = False
) -> sql.Composed:
    """CREATE INDEX for `spec`. `if_not_exists` only for a name whose definition and validity were checked before."""
    opclass = sql.Identifier(extension_schema, spec.opclass) if extension_schema else sql.Identifier(spec.opclass)
    return sql.SQL(
        "CREATE INDEX {concurrently}{if_not_exists}{name} ON {table} USING hnsw ({column} {opclass}) "
        "WITH (m = {m}, ef_construction = {ef_construction})"
    ).format(
        concurrently=sql.SQL("CONCURRENTLY ") if concurrently else sql.SQL(""),
        if_not_exists=sql.SQL("IF NOT EXISTS ") if if_not_exists else sql.SQL(""),
        name=sql.Identifier(spec.name),
        table=sql.Identifier(spec.schema, spec.table),
        column=sql.Identifier(spec.column),
        opclass=opclass,
        m=sql.Literal(spec.m),
        ef_construction=sql.Literal(spec.ef_construction),
    )


def drop_statement(spec: IndexSpec, *, name: str | None = None, if_exists: bool = False) -> sql.Composed:
    """DROP INDEX CONCURRENTLY of the declared index, or of `name` in the same schema."""
    return sql.SQL("DROP INDEX CONCURRENTLY {if_exists}{name}").format(
        if_exists=sql.SQL("IF EXISTS ") if if_exists else sql.SQL(""),
        name=sql.Identifier(spec.schema, name or spec.name),
    )


def create_text(spec: IndexSpec, *, concurrently: bool = True, if_not_exists: bool = False) -> str:
    """The CREATE INDEX statement as text, for people and for offline scripts."""
    return create_statement(spec, concurrently=concurrently, if_not_exists=if_not_exists).as_string(None)


def script_create_text(spec: IndexSpec, *, schema: str | None) -> str:
    """The online CREATE INDEX for a script; without a schema it goes where its reader's search_path leads.

    With IF NOT EXISTS: the script's guard has looked at definition and validity before.
    """
    return (
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quoted(spec.name)} ON {quoted(spec.table, schema=schema)} "
        f"USING hnsw ({quoted(spec.column)} {spec.opclass}) WITH (m = {spec.m}, ef_construction = {spec.ef_construction})"
    )


def quoted(name: str, *, schema: str | None = None) -> str:
    """A name as SQL reads it back, always in quotes."""
    return (sql.Identifier(name) if schema is None else sql.Identifier(schema, name)).as_string(None)


def rename_text(spec: IndexSpec) -> str:
    """The statement that moves an index of the declared name out of the way, as text for people."""
    old = spec.name.encode()[: MAX_NAME_BYTES - 4].decode(errors="ignore") + "_old"
    return (
        sql.SQL("ALTER INDEX {} RENAME TO {}")
        .format(sql.Identifier(spec.schema, spec.name), sql.Identifier(old))
        .as_string(None)
    )
