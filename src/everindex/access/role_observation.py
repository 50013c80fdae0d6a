"""What of a database the roles depend on: the tables that everindex uses, who owns them, where the extension is. Reads only."""

from __future__ import annotations

from everindex.access.roles import META, Observed, Table
from everindex.articles.collections.registry import read_collections
from everindex.errors import PermissionDenied, UsageError
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: The tables of the migrations. Of an attached database they are the application's.
OF_MIGRATIONS = ("articles", "raw_articles", "article_analysis_cache", "incident_status", "alembic_version")
_TABLES = """
    SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
           coalesce((SELECT pg_catalog.array_agg(ARRAY[s.nspname::text, q.relname::text])
                     FROM pg_catalog.pg_depend d
                     JOIN pg_catalog.pg_class q ON q.oid = d.objid AND q.relkind = 'S'
                     JOIN pg_catalog.pg_namespace s ON s.oid = q.relnamespace
                     WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
                       AND d.refobjid = c.oid AND d.deptype = 'a'), '{}')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND (
        n.nspname = 'everindex_meta'
        OR (c.relname = ANY (%(of_migrations)s) AND n.nspname = %(schema)s)
        OR (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest(%(schemas)s::text[], %(tables)s::text[]))
    )
    ORDER BY n.nspname, c.relname
"""


def observe_for_roles(connection: Connection) -> Observed:
    """Raises PermissionDenied where this role may not read which collections there are, and for a schema that it may not use;
    UsageError for a database whose search path has no schema. Reads only."""
    with translate_errors("reading what the roles depend on"):
        row = connection.execute(
            """
            SELECT pg_catalog.current_database(),
                   coalesce((SELECT n.nspname::text FROM pg_catalog.pg_class c
                             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                             WHERE c.oid = pg_catalog.to_regclass('articles')), pg_catalog.current_schema()),
                   (SELECT n.nspname::text FROM pg_catalog.pg_extension e
                    JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'),
                   (SELECT pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace WHERE nspname = %s),
                   ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolsuper)
            """,
            (META,),
        ).fetchone()
        assert row is not None
        database, schema, extension_schema, meta_owner, superusers = row
        if schema is None:
            raise UsageError(
                "the roles cannot be composed.",
                why="the search_path of this session names no schema that exists.",
                next_step="connect with one that does, such as  options=-csearch_path=public  in the address.",
            )
        is_attached = read_attachment(connection) is not None
        collections = {(spec.schema, spec.table): spec.is_owned for spec in read_collections(connection)}
        rows = connection.execute(
            _TABLES,
            {
                "of_migrations": list(OF_MIGRATIONS), "schema": schema,
                "schemas": [each for each, _ in collections], "tables": [each for _, each in collections],
            },
        ).fetchall()  # fmt: skip
    tables = [
        Table(
            schema=where, name=name, owner=owner, sequences=tuple((each[0], each[1]) for each in sequences),
            is_ours=where == META or collections.get((where, name), not is_attached),
            is_written=name not in ("alembic_version", "schema_version"),
        )
        for where, name, owner, sequences in rows
    ]  # fmt: skip
    return Observed(
        database=database, is_attached=is_attached, schema=schema, extension_schema=extension_schema,
        tables=tuple(table for table in tables if table.schema != META),
        own_tables=tuple(table for table in tables if table.schema == META),
        superusers=frozenset(superusers), meta_owner=meta_owner,
    )  # fmt: skip


def require_applicable(connection: Connection, observed: Observed, names: tuple[str, ...]) -> None:
    """Raises PermissionDenied for a session that may not make roles, UsageError where one of the names is a superuser's.
    Reads only."""
    taken = sorted(set(names) & observed.superusers)
    if taken:
        raise UsageError(
            f"the role {taken[0]} is a superuser, so it cannot be one of least privilege.",
            why="a superuser may do everything, whatever is granted.",
            next_step="choose other names with --prefix, or make it an ordinary role first.",
        )
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if row is None or not row[0]:
        raise PermissionDenied(
            "this role may not apply the roles.",
            why="creating roles, granting pg_monitor and giving tables another owner takes a superuser.",
            next_step="print the statements with  everindex roles --print  for an administrator, or connect as a superuser.",
        )
