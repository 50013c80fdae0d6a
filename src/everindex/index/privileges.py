"""The privilege that a role lacks to build an index, and the statement that grants it. Reads only."""

from __future__ import annotations

from psycopg import sql

from everindex.index.spec import NamedIndex
from everindex.pg.connections import Connection


def what_would_permit_a_build(connection: Connection, spec: NamedIndex) -> str | None:
    """The privilege that the current role lacks, with the statement that grants it; None if it lacks none of these.

    CREATE INDEX requires ownership of the table, and CREATE on its schema for the current role (PostgreSQL, DefineIndex).
    Reads only.
    """
    row = connection.execute(
        """
        SELECT current_user::text, t.owner, t.is_owner, n.nspowner::regrole::text,
               pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_schema_privilege(n.oid, 'CREATE')
        FROM pg_catalog.pg_namespace n
        LEFT JOIN LATERAL (
            SELECT pg_catalog.pg_get_userbyid(c.relowner) AS owner, pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_owner
            FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relname = %s
        ) t ON true
        WHERE n.nspname = %s
        """,
        (spec.table, spec.schema),
    ).fetchone()
    if row is None:
        return None
    role, owner, is_owner, schema_owner, may_use, may_create = row
    if not (may_use and may_create):
        lacking = " and ".join(name for name, has in (("USAGE", may_use), ("CREATE", may_create)) if not has)
        grant = (
            sql.SQL("GRANT " + lacking.replace(" and ", ", ") + " ON SCHEMA {} TO {}")
            .format(sql.Identifier(spec.schema), sql.Identifier(role))
            .as_string(None)
        )
        return (
            f"the role lacks {lacking} on schema {spec.schema}: run  {grant};  as {schema_owner}, which owns it, or a "
            "superuser."
        )
    if owner is not None and not is_owner:
        return f"connect as the role that owns table {spec.table}: {owner}."
    return None
