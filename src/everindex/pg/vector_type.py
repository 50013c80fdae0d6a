"""How does a connection learn pgvector's type, wherever the extension lies?"""

from __future__ import annotations

from pgvector.psycopg.vector import register_vector_info
from psycopg import sql
from psycopg.types import TypeInfo

from everindex.pg.connections import Connection


def register_vector(connection: Connection) -> None:
    """Teaches a connection pgvector's type, wherever the extension lies; does nothing before it is created."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'"
    ).fetchone()
    if row is not None:
        name = sql.Identifier(row[0], "vector").as_string(connection)
        register_vector_info(connection, TypeInfo.fetch(connection, name))
