"""When articles expire, in `everindex_meta.article_expiry`, since the migrations fix the columns of their table.

The table is made with the first moment that is set, so that its existence, which every reading of the catalog tells, says
whether anything can expire: where nobody uses it, a search costs what it did.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from psycopg import sql

from everindex.articles.model import NEVER
from everindex.articles.table import CollectionTable
from everindex.errors import PermissionDenied
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.locks import advisory_lock
from everindex.pg.sqlstate import sqlstate_of, translate_errors

TABLE = "article_expiry"
WHAT = "when articles expire"
LOCK_WAIT_SECONDS = 60.0

_CREATE = (
    """
    CREATE TABLE everindex_meta.article_expiry (
        expired_uri text PRIMARY KEY,
        expires_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX article_expiry_at_idx ON everindex_meta.article_expiry (expires_at)",
    "COMMENT ON TABLE everindex_meta.article_expiry IS 'from when on an article is not found any more'",
)


def record_expiry(
    connection: Connection,
    table: CollectionTable,
    uris: Sequence[str],
    *,
    expires_at: dt.datetime | None,
    conninfo: str,
) -> int:
    """As `Instance.set_expiry`. `conninfo`: an address without a pooler, over which the table is made where it is missing."""
    wanted = [str(uri) for uri in uris]
    with translate_errors("recording when articles expire"):
        if expires_at is None and not own_schema.require_readable(connection, TABLE, what=WHAT):
            return _count(connection, table, wanted)
        require_expiry(connection, conninfo=conninfo)
        if expires_at is None:
            connection.execute("DELETE FROM everindex_meta.article_expiry WHERE expired_uri = ANY(%s)", (wanted,))
            return _count(connection, table, wanted)
        moment = expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=dt.UTC)
        return connection.execute(
            sql.SQL(
                "INSERT INTO everindex_meta.article_expiry (expired_uri, expires_at) "
                "SELECT a.uri, %(at)s FROM {} a WHERE a.uri = ANY(%(uris)s) "
                "ON CONFLICT (expired_uri) DO UPDATE SET expires_at = excluded.expires_at"
            ).format(table.identifier),
            {"at": moment, "uris": wanted},
        ).rowcount


def require_expiry(connection: Connection, *, conninfo: str) -> None:
    """Makes sure that moments can be recorded; makes their table where it is missing, over `conninfo`, an address without a
    pooler. Raises PermissionDenied."""
    with translate_errors("recording when articles expire"):
        if not own_schema.require_readable(connection, TABLE, what=WHAT):
            _create(connection, conninfo)
        own_schema.require_writable(connection, TABLE, conninfo=conninfo, what=WHAT)


def store_expiry(connection: Connection, moments: Mapping[str, str]) -> None:
    """Records when articles expire, uri → ISO-8601 text or "never", in the transaction in which the caller stores them."""
    given = {uri: moment for uri, moment in moments.items() if moment != NEVER}
    never = [uri for uri, moment in moments.items() if moment == NEVER]
    if never:
        connection.execute("DELETE FROM everindex_meta.article_expiry WHERE expired_uri = ANY(%s)", (never,))
    if given:
        connection.execute(
            "INSERT INTO everindex_meta.article_expiry AS e (expired_uri, expires_at) "
            "SELECT n.uri, n.moment::timestamptz FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS n (uri, moment) "
            "ORDER BY 1 ON CONFLICT (expired_uri) DO UPDATE SET expires_at = excluded.expires_at "
            "WHERE e.expires_at <> excluded.expires_at",
            (list(given), list(given.values())),
        )


def read_expiry(connection: Connection, uris: Sequence[str]) -> dict[str, dt.datetime]:
    """As `Instance.expiry_of`. Raises PermissionDenied."""
    with translate_errors("reading when articles expire"):
        if not own_schema.require_readable(connection, TABLE, what=WHAT):
            return {}
        rows = connection.execute(
            "SELECT expired_uri, expires_at FROM everindex_meta.article_expiry WHERE expired_uri = ANY(%s)",
            ([str(uri) for uri in uris],),
        ).fetchall()
    return {row[0]: row[1] for row in rows}


def is_past(connection: Connection, moment: str) -> bool:
    """Whether a moment (ISO-8601) has passed by the clock of the database, which decides in searches, too."""
    with translate_errors("comparing a moment"):
        row = connection.execute("SELECT %s::timestamptz <= pg_catalog.now()", (moment,)).fetchone()
    return row is not None and bool(row[0])


def _create(connection: Connection, conninfo: str) -> None:
    """Makes the table, one process at a time. Raises PermissionDenied."""
    own_schema.ensure(conninfo)
    with advisory_lock(conninfo, "own-schema", wait_seconds=LOCK_WAIT_SECONDS):
        if own_schema.is_readable(connection, TABLE):
            return
        try:
            with translate_errors("creating the table of what expires"), connection.transaction():
                for statement in _CREATE:
                    connection.execute(statement)
        except PermissionDenied as exc:
            if sqlstate_of(exc) != "42501":
                raise
            role = sql.Identifier(connection.info.user).as_string(None)
            raise PermissionDenied(
                f"this role cannot store {WHAT}.",
                why=f"it belongs into a table of schema everindex_meta, which role {role} may not create.",
                next_step=f"set it once as the owner of the schema, or have the owner run  GRANT USAGE, CREATE ON SCHEMA "
                f"everindex_meta TO {role};",
            ) from exc


def _count(connection: Connection, table: CollectionTable, uris: Sequence[str]) -> int:
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM {} a WHERE a.uri = ANY(%s)").format(table.identifier), (uris,)
    ).fetchone()
    return 0 if row is None else int(row[0])
