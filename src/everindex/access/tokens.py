"""The tokens of programs: made once and shown once, stored as SHA-256 in `everindex_meta.access_token`.

A revoked or expired token stays listed; its name can be used again once it is revoked.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

from everindex.access.credentials import PREFIX, checked_name, digest_of, new_secret
from everindex.access.scopes import Principal, Scope, ScopeName
from everindex.errors import CredentialsNotFound, CredentialsTaken
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

WHAT = "tokens"
#: `used_at` is written at most this often.
USE_RECORDED_EVERY = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token as it is listed; of the secret itself nothing is known."""

    name: str
    scope: Scope
    made_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    used_at: dt.datetime | None
    """When it was last used, to the hour; None: never."""

    state: Literal["valid", "expired", "revoked"]

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        moments = {
            name: None if value is None else value.isoformat()
            for name in ("made_at", "expires_at", "revoked_at", "used_at")
            for value in (getattr(self, name),)
        }
        return {"name": self.name, "scope": self.scope.text, "state": self.state} | moments


def create_token(
    connection: Connection, name: str, *, scope: ScopeName, days: float | None, conninfo: str
) -> tuple[str, Token]:
    """A new token that is valid for `days` (None: until it is revoked), and its secret, which is not stored.

    `conninfo` is an address without a pooler, used where the own schema must be created first. Raises UsageError for a
    name, CredentialsTaken while a token of that name is not revoked, PermissionDenied."""
    secret = PREFIX + new_secret()
    with translate_errors("creating a token"):
        own_schema.require_writable(connection, "access_token", conninfo=conninfo, what=WHAT)
        row = connection.execute(
            """
            INSERT INTO everindex_meta.access_token (name, digest, scope, expires_at)
            VALUES (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))
            ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING id
            """,
            (checked_name(name, of="token"), digest_of(secret), scope, None if days is None else days * 86_400),
        ).fetchone()
        if row is None:
            raise CredentialsTaken(
                f"there is a token {name!r} already.",
                why="it is not revoked, and a name stands for one token at a time.",
                next_step=f"choose another name, or run  everindex token revoke {name}  first.",
            )
        return secret, next(token for token in list_tokens(connection) if token.name == name and not token.revoked_at)


def list_tokens(connection: Connection) -> list[Token]:
    """All tokens, by name, the newest first among those of one name. Raises PermissionDenied. Reads only."""
    with translate_errors("reading the tokens"):
        if not own_schema.require_readable(connection, "access_token", what=f"the {WHAT}"):
            return []
        rows = connection.execute(
            """
            SELECT name, scope, made_at, expires_at, revoked_at, used_at,
                   CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
                        WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END
            FROM everindex_meta.access_token ORDER BY name, id DESC
            """
        ).fetchall()
    return [
        Token(
            name=name, scope=Scope.named(scope), made_at=made, expires_at=expires, revoked_at=revoked, used_at=used,
            state=state,
        )
        for name, scope, made, expires, revoked, used, state in rows
    ]  # fmt: skip


def revoke_token(connection: Connection, name: str, *, conninfo: str) -> None:
    """Revokes a token: servers refuse it within seconds. Raises CredentialsNotFound, PermissionDenied."""
    with translate_errors("revoking a token"):
        own_schema.require_writable(connection, "access_token", conninfo=conninfo, what=WHAT)
        done = connection.execute(
            "UPDATE everindex_meta.access_token SET revoked_at = clock_timestamp() WHERE name = %s AND revoked_at IS NULL",
            (name,),
        ).rowcount
    if not done:
        raise CredentialsNotFound(
            f"there is no token {name[:40]!r} to revoke.",
            why="no token has that name, or it is revoked already.",
            next_step="run  everindex token list .",
        )


def find_token(connection: Connection, digest: bytes) -> tuple[Principal, dt.datetime | None] | None:
    """Who a token stands for and when it expires; None for one that is unknown, expired or revoked. Records its use
    where this server can be written to, and this role may."""
    row = connection.execute(
        """
        SELECT id, name, scope, expires_at,
               (used_at IS NULL OR used_at < now() - %s) AND pg_catalog.current_setting('transaction_read_only') = 'off'
               AND pg_catalog.has_table_privilege('everindex_meta.access_token', 'UPDATE')
        FROM everindex_meta.access_token
        WHERE digest = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        """,
        (USE_RECORDED_EVERY, digest),
    ).fetchone()
    if row is None:
        return None
    number, name, scope, expires_at, is_worth_recording = row
    if is_worth_recording:
        connection.execute(
            "UPDATE everindex_meta.access_token SET used_at = clock_timestamp() WHERE id = %s", (number,)
        )
    return Principal(kind="token", name=name, scope=Scope.named(scope)), expires_at
