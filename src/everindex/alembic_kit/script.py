"""Vector index operations as a script (`alembic upgrade --sql`): SQL that psql runs unchanged.

Unlike the engine, a script cannot observe and then decide what to do; it can only check and stop. So each CREATE INDEX
CONCURRENTLY IF NOT EXISTS is preceded by a guard that stops if an INVALID index, or one with another definition, has the name.
"""

from __future__ import annotations

from psycopg import sql

from everindex.alembic_kit.metadata import key_text
from everindex.index.catalog.generations import next_name, previous_name
from everindex.index.plan.ddl import quoted, script_create_text
from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, IndexSpec


def create_script(spec: IndexSpec, *, schema: str | None) -> list[str]:
    """Guard and CREATE INDEX. Runs outside a transaction; SHARE UPDATE EXCLUSIVE on the table."""
    return [guard(spec, schema=schema), create_text(spec, schema=schema)]


def drop_script(spec: IndexSpec, *, schema: str | None) -> list[str]:
    """DROP INDEX of the declared name. Runs outside a transaction; SHARE UPDATE EXCLUSIVE on the table."""
    return [drop_text(spec.name, schema=schema)]


def alter_script(spec: IndexSpec, *, schema: str | None) -> list[str]:
    """Builds the new definition next to the old one, gives it the name in one transaction, and then drops the old one.

    Runs outside a transaction, except for the renames (SHARE UPDATE EXCLUSIVE on the indexes). If it is run again after a
    failure, it continues: what was built remains.
    """
    successor, previous = next_name(spec.name), previous_name(spec.name)
    return [
        _owner_guard(spec, schema=schema),
        guard(spec, schema=schema, name=successor),
        create_text(spec, schema=schema, name=successor),
        drop_text(previous, schema=schema),
        "BEGIN",
        _rename_text(spec.name, previous, schema=schema, if_exists=True),
        _rename_text(successor, spec.name, schema=schema),
        "COMMIT",
        drop_text(previous, schema=schema),
    ]


def create_text(spec: IndexSpec, *, schema: str | None, name: str | None = None) -> str:
    """The online CREATE INDEX under the declared or another name."""
    key = key_text(spec, None)
    written = script_create_text(spec, schema=schema, key=None if key is None else sql.SQL(key))
    if name is None:
        return written
    declared = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quoted(spec.name)} ON "
    assert written.startswith(declared)
    return f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quoted(name)} ON {written.removeprefix(declared)}"


def drop_text(name: str, *, schema: str | None) -> str:
    return f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(name, schema=schema)}"


def _rename_text(old: str, new: str, *, schema: str | None, if_exists: bool = False) -> str:
    return f"ALTER INDEX {'IF EXISTS ' if if_exists else ''}{quoted(old, schema=schema)} RENAME TO {quoted(new)}"


def guard(spec: IndexSpec, *, schema: str | None, name: str | None = None) -> str:
    """A DO block that stops a script where IF NOT EXISTS would skip an INVALID or a different index.

    Only PostgreSQL can tell whether two definitions are the same, so the declared one is created on an empty temporary copy
    of the table, and the catalog's entries of the two are compared.
    """
    made = name or spec.name
    where = "" if spec.predicate is None else f" WHERE {spec.predicate_text}"
    key = key_text(spec, None) or quoted(str(spec.column))
    declared = f"USING hnsw ({key} {spec.opclass}){where}"
    tag = "everindex"
    while f"${tag}$" in made + spec.table + spec.schema + declared:
        tag += "_"
    return _GUARD.format(
        tag=tag,
        declared=declared,
        relation=literal(quoted(made, schema=schema)),
        table_name=quoted(spec.table, schema=schema),
        table=literal(quoted(spec.table, schema=schema)),
        differs=literal(f"index-definition-differs: {made} exists with another definition"),
        invalid=literal(f"index {made} is INVALID, left by an interrupted build"),
        default_m=literal(str(DEFAULT_M)),
        default_ef_construction=literal(str(DEFAULT_EF_CONSTRUCTION)),
        m=literal(str(spec.m)),
        ef_construction=literal(str(spec.ef_construction)),
    )


def _owner_guard(spec: IndexSpec, *, schema: str | None) -> str:
    """A DO block that stops a script if the declared name belongs to something else, which would be renamed and dropped."""
    tag = "everindex"
    while f"${tag}$" in spec.name + spec.table + spec.schema:
        tag += "_"
    return _OWNER_GUARD.format(
        tag=tag,
        relation=literal(quoted(spec.name, schema=schema)),
        table=literal(quoted(spec.table, schema=schema)),
        differs=literal(f"index-definition-differs: {spec.name} is not an index of table {spec.table}"),
    )


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return sql.Literal(text).as_string(None)


_GUARD = """
DO ${tag}$
DECLARE
    existing record;
    is_as_declared boolean := false;
BEGIN
    SELECT c.oid, i.indrelid, i.indisvalid, pg_get_indexdef(c.oid) AS definition,
           am.amname = 'hnsw' AND i.indrelid = to_regclass({table})
           AND coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'm'),
                        {default_m}) = {m}
           AND coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'ef_construction'),
                        {default_ef_construction}) = {ef_construction} AS has_table_and_options
    INTO existing
    FROM pg_class c
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_am am ON am.oid = c.relam
    WHERE c.oid = to_regclass({relation});
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF existing.has_table_and_options THEN
        CREATE TEMPORARY TABLE everindex_declared (LIKE {table_name}) ON COMMIT DROP;
        CREATE INDEX everindex_declared_idx ON pg_temp.everindex_declared {declared};
        SELECT bool_and(found.indclass[0] = declared.indclass[0]
               AND (SELECT attname FROM pg_attribute WHERE attrelid = found.indrelid AND attnum = found.indkey[0])
                   IS NOT DISTINCT FROM
                   (SELECT attname FROM pg_attribute WHERE attrelid = declared.indrelid AND attnum = declared.indkey[0])
               AND pg_get_expr(found.indexprs, found.indrelid)
                   IS NOT DISTINCT FROM pg_get_expr(declared.indexprs, declared.indrelid)
               AND pg_get_expr(found.indpred, found.indrelid)
                   IS NOT DISTINCT FROM pg_get_expr(declared.indpred, declared.indrelid))
        INTO is_as_declared
        FROM pg_index found, pg_index declared
        WHERE found.indexrelid = existing.oid AND declared.indexrelid = 'pg_temp.everindex_declared_idx'::regclass;
        DROP TABLE pg_temp.everindex_declared;
    END IF;
    IF NOT coalesce(is_as_declared, false) THEN
        RAISE EXCEPTION USING MESSAGE = {differs}, DETAIL = coalesce(existing.definition, 'it is not an index'),
            HINT = 'ALTER INDEX ... RENAME TO another name, then run this script again.';
    ELSIF NOT existing.indisvalid THEN
        RAISE EXCEPTION USING MESSAGE = {invalid}, HINT = 'DROP INDEX CONCURRENTLY it, then run this script again.';
    END IF;
END ${tag}$"""

_OWNER_GUARD = """
DO ${tag}$
BEGIN
    IF to_regclass({relation}) IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass({relation}) AND indrelid = to_regclass({table}))
    THEN
        RAISE EXCEPTION USING MESSAGE = {differs},
            HINT = 'ALTER ... RENAME TO another name, then run this script again.';
    END IF;
END ${tag}$"""
