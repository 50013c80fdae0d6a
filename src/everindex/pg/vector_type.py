"""psycopg's adapters for pgvector's types, registered in whichever schema the extension has."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.types import TypeInfo

from everindex.pg.connections import Connection

# pgvector's adapters load numpy: they are imported where they are used, for the commands that see no vector.
if TYPE_CHECKING:
    import numpy as np

#: A length of 1 within this is a unit vector (float32 keeps about seven digits; halfvec three).
UNIT_TOLERANCE = 0.001

_HEAD = struct.Struct(">HH")


def as_binary(vector: np.ndarray) -> bytes:
    """A vector ((dim,) float32) as PostgreSQL takes it in binary: dimensions, 0, big-endian numbers (pgvector, vector_recv).

    pgvector's own class does the same by way of two arrays, which takes five times as long, of every search.
    """
    return _HEAD.pack(len(vector), 0) + vector.astype(">f4").tobytes()


def register_vector(connection: Connection) -> None:
    """Teaches a connection pgvector's type, wherever the extension lies; does nothing before it is created."""
    from pgvector.psycopg.vector import register_vector_info

    schema = _extension_schema(connection)
    if schema is not None:
        register_vector_info(connection, _info(connection, schema, "vector"))


def register_all_types(connection: Connection) -> None:
    """The same for vector, halfvec (pgvector 0.7.0 and later) and PostgreSQL's bit."""
    from pgvector.psycopg.bit import register_bit_info
    from pgvector.psycopg.halfvec import register_halfvec_info

    register_vector(connection)
    schema = _extension_schema(connection)
    if schema is None:
        return
    register_bit_info(connection, _info(connection, "pg_catalog", "bit"))
    halfvec = _info(connection, schema, "halfvec")
    if halfvec is not None:
        register_halfvec_info(connection, halfvec)


def _extension_schema(connection: Connection) -> str | None:
    row = connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'vector'"
    ).fetchone()
    return None if row is None else str(row[0])


def _info(connection: Connection, schema: str, name: str) -> TypeInfo | None:
    return TypeInfo.fetch(connection, sql.Identifier(schema, name).as_string(connection))
