"""The capabilities of a server: its version, pgvector's versions and schema, and what the role may do. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from everindex.errors import (
    ExtensionNotPermitted,
    ExtensionTooOld,
    ExtensionUnavailable,
    PostgresTooOld,
)
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: The oldest PostgreSQL that works at all (its support ended 2026-11-12) and the oldest that is supported.
OLDEST_POSTGRES = 140000
OLDEST_SUPPORTED_POSTGRES = 150000
#: HNSW came with pgvector 0.5.0, halfvec, bit indexes and binary_quantize with 0.7.0, iterative scans with 0.8.0; below 0.8.4
#: an index can be damaged by VACUUM (pgvector's CHANGELOG: fixes in 0.8.3 and 0.8.4).
OLDEST_PGVECTOR = (0, 5, 0)
HALFVEC_AND_BIT_PGVECTOR = (0, 7, 0)
ITERATIVE_SCAN_PGVECTOR = (0, 8, 0)
SAFE_PGVECTOR = (0, 8, 4)

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The observed capabilities of a server. Versions of pgvector are None if it is not created, or not installed."""

    server_version_num: int
    server_version: str
    extension_version: Version | None
    """The version created in this database (pg_extension)."""

    available_version: Version | None
    """The version of the files on the server's disk (pg_available_extensions)."""

    extension_schema: str | None
    role: str
    is_superuser: bool
    is_standby: bool
    database: str

    @property
    def has_binary_quantize(self) -> bool:
        return self.extension_version is not None and self.extension_version >= HALFVEC_AND_BIT_PGVECTOR

    @property
    def has_iterative_scan(self) -> bool:
        return self.extension_version is not None and self.extension_version >= ITERATIVE_SCAN_PGVECTOR


def look(connection: Connection) -> Capabilities:
    """Queries the server in one statement. Reads only; takes ACCESS SHARE on catalogs."""
    with translate_errors("reading the capabilities of the server"):
        row = connection.execute(
            """
            SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                   e.extversion, n.nspname,
                   (SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'vector'),
                   current_user, current_setting('is_superuser') = 'on', pg_catalog.pg_is_in_recovery(),
                   current_database()
            FROM (VALUES (1)) AS one(row)
            LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'vector'
            LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
            """
        ).fetchone()
    assert row is not None  # always one row
    return Capabilities(
        server_version_num=row[0],
        server_version=row[1].split()[0],
        extension_version=parse_version(row[2]),
        extension_schema=row[3],
        available_version=parse_version(row[4]),
        role=row[5],
        is_superuser=row[6],
        is_standby=row[7],
        database=row[8],
    )


def parse_version(text: str | None) -> Version | None:
    """`0.8.6` as (0, 8, 6); what follows a non-number is dropped."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split("."):
        digits = "".join(ch for ch in part if ch.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def version_text(version: Version | None) -> str:
    return ".".join(map(str, version)) if version else "none"


def require_postgres(found: Capabilities) -> None:
    """Raises PostgresTooOld below PostgreSQL 14."""
    if found.server_version_num < OLDEST_POSTGRES:
        raise PostgresTooOld(
            f"PostgreSQL {found.server_version} is too old.",
            why="everindex needs PostgreSQL 14 or later; 15 to 18 are supported.",
            next_step="upgrade the server (pg_upgrade), or point DATABASE_URL at a newer one; nothing was changed.",
        )


def require_pgvector(found: Capabilities) -> None:
    """Raises ExtensionUnavailable, ExtensionNotPermitted or ExtensionTooOld, unless pgvector exists or can be created."""
    if found.extension_version is None and found.available_version is None:
        major = found.server_version_num // 10000
        raise ExtensionUnavailable(
            f"the PostgreSQL server of database {found.database} has no pgvector.",
            why='its files are not installed on the server\'s machine: pg_available_extensions has no "vector".',
            next_step=f"install it there (Debian: apt install postgresql-{major}-pgvector; container: an image of "
            "pgvector/pgvector), then run the same command again.",
        )
    if found.extension_version is None and not found.is_superuser:
        raise ExtensionNotPermitted(
            f"extension 'vector' does not exist in database {found.database}, and role {found.role} may not create it.",
            why="pgvector is not a trusted extension: only a superuser, or the provider's own way, can create it.",
            next_step=f"run once as superuser:  psql -U postgres -d {found.database} "
            '-c "CREATE EXTENSION IF NOT EXISTS vector"  and then the same command again.',
        )
    version = found.extension_version or found.available_version
    if version is not None and version < OLDEST_PGVECTOR:
        raise ExtensionTooOld(
            f"pgvector {version_text(version)} has no HNSW index.",
            why="HNSW came with pgvector 0.5.0; 0.8.4 is the first that is safe under VACUUM.",
            next_step="install a newer pgvector on the server, then run  ALTER EXTENSION vector UPDATE  as superuser.",
        )
