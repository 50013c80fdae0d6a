"""The people who sign in on the pages, and their sessions: passwords as argon2id hashes, sessions as SHA-256.

A wrong name takes as long as a wrong password. Whoever gets a new password, or is removed, is signed out everywhere.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from everindex.access.credentials import checked_name, digest_of, new_secret
from everindex.access.scopes import Principal, Scope, ScopeName
from everindex.errors import CredentialsNotFound, CredentialsTaken, UsageError
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

if TYPE_CHECKING:
    from argon2 import PasswordHasher

WHAT = "users"
#: OWASP ASVS 5.0, 6.2.1 wants at least 8, and recommends 15.
MIN_PASSWORD_CHARS = 12
MAX_PASSWORD_CHARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user as listed."""

    name: str
    scope: Scope
    made_at: dt.datetime
    password_set_at: dt.datetime
    sessions: int
    """How many valid sessions there are."""

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "name": self.name, "scope": self.scope.text, "made_at": self.made_at.isoformat(),
            "password_set_at": self.password_set_at.isoformat(), "sessions": self.sessions,
        }  # fmt: skip


@cache
def hasher() -> PasswordHasher:
    """argon2id with the library's parameters (RFC 9106, low memory: 64 MiB, 3 passes)."""
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _hash_of_nobody() -> str:
    return hasher().hash(new_secret())


def create_user(connection: Connection, name: str, *, password: str, scope: ScopeName, conninfo: str) -> None:
    """A new user. Raises UsageError for a name or password, CredentialsTaken, PermissionDenied."""
    checked_name(name, of="user")
    hashed = hasher().hash(_checked_password(password, name=name))
    with translate_errors("creating a user"):
        own_schema.require_writable(connection, "access_user", conninfo=conninfo, what=WHAT)
        done = connection.execute(
            "INSERT INTO everindex_meta.access_user (name, password_hash, scope) VALUES (%s, %s, %s) "
            "ON CONFLICT (name) DO NOTHING",
            (name, hashed, scope),
        ).rowcount
    if not done:
        raise CredentialsTaken(
            f"there is a user {name!r} already.",
            why="a name stands for one person.",
            next_step=f"choose another name, or run  everindex user password {name}  for a new password.",
        )


def set_password(connection: Connection, name: str, *, password: str, conninfo: str) -> None:
    """A new password; all sessions of this user end. Raises UsageError, CredentialsNotFound, PermissionDenied."""
    hashed = hasher().hash(_checked_password(password, name=name))
    with translate_errors("setting a password"):
        own_schema.require_writable(connection, "access_user", conninfo=conninfo, what=WHAT)
        with connection.transaction():
            done = connection.execute(
                "UPDATE everindex_meta.access_user SET password_hash = %s, password_set_at = clock_timestamp() "
                "WHERE name = %s",
                (hashed, name),
            ).rowcount
            connection.execute("DELETE FROM everindex_meta.access_session WHERE user_name = %s", (name,))
    if not done:
        raise _no_user(name)


def remove_user(connection: Connection, name: str, *, conninfo: str) -> None:
    """Removes a user with all sessions. Raises CredentialsNotFound, PermissionDenied."""
    with translate_errors("removing a user"):
        own_schema.require_writable(connection, "access_user", conninfo=conninfo, what=WHAT)
        done = connection.execute("DELETE FROM everindex_meta.access_user WHERE name = %s", (name,)).rowcount
    if not done:
        raise _no_user(name)


def list_users(connection: Connection) -> list[User]:
    """All users, by name. Raises PermissionDenied. Reads only."""
    with translate_errors("reading the users"):
        if not own_schema.require_readable(connection, "access_user", what=f"the {WHAT}"):
            return []
        rows = connection.execute(
            """
            SELECT name, scope, made_at, password_set_at,
                   (SELECT count(*) FROM everindex_meta.access_session
                    WHERE user_name = access_user.name AND expires_at > now())
            FROM everindex_meta.access_user ORDER BY name
            """
        ).fetchall()
    return [
        User(name=name, scope=Scope.named(scope), made_at=made, password_set_at=password_set, sessions=sessions)
        for name, scope, made, password_set, sessions in rows
    ]


def sign_in(connection: Connection, name: str, password: str, *, hours: float) -> str | None:
    """A new session for `hours`, as the secret that the browser keeps; None where name and password do not belong together.

    Takes about a tenth of a second and 64 MiB, for an unknown name too. Removes sessions that have expired."""
    row = connection.execute(
        "SELECT password_hash FROM everindex_meta.access_user WHERE name = %s", (name.replace("\0", "\ufffd"),)
    ).fetchone()
    if not _is_password(row[0] if row else _hash_of_nobody(), password) or row is None:
        return None
    secret = new_secret()
    if hasher().check_needs_rehash(row[0]):
        connection.execute(
            "UPDATE everindex_meta.access_user SET password_hash = %s WHERE name = %s AND password_hash = %s",
            (hasher().hash(password), name, row[0]),
        )
    connection.execute("DELETE FROM everindex_meta.access_session WHERE expires_at <= now()")
    connection.execute(
        "INSERT INTO everindex_meta.access_session (digest, user_name, expires_at) "
        "VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s))",
        (digest_of(secret), name, hours * 3600),
    )
    return secret


def sign_out(connection: Connection, digest: bytes) -> None:
    """Ends a session; without one it does nothing."""
    connection.execute("DELETE FROM everindex_meta.access_session WHERE digest = %s", (digest,))


def find_session(connection: Connection, digest: bytes) -> tuple[Principal, dt.datetime | None] | None:
    """Who has signed in and until when; None for a session that is unknown or over. Reads only."""
    row = connection.execute(
        """
        SELECT u.name, u.scope, s.expires_at
        FROM everindex_meta.access_session s JOIN everindex_meta.access_user u ON u.name = s.user_name
        WHERE s.digest = %s AND s.expires_at > now()
        """,
        (digest,),
    ).fetchone()
    return None if row is None else (Principal(kind="user", name=row[0], scope=Scope.named(row[1])), row[2])


def _is_password(hashed: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return hasher().verify(hashed, password[: MAX_PASSWORD_CHARS + 1].encode("utf-8", "replace"))
    except (VerificationError, InvalidHashError):
        return False


def _checked_password(password: str, *, name: str) -> str:
    """Raises UsageError, which never contains the password."""
    is_text = password.isprintable() and password.strip() == password
    if not (is_text and MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS):
        raise UsageError(
            "this password cannot be used.",
            why=f"it must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters, none of them a control character, and "
            "no space at either end.",
            next_step="choose another one: a few random words are easy to remember and hard to guess.",
        )
    if name.lower() in password.lower() and len(name) > len(password) / 2:
        raise UsageError(
            "this password cannot be used.",
            why="it consists mostly of the name.",
            next_step="choose another one: a few random words are easy to remember and hard to guess.",
        )
    return password


def _no_user(name: str) -> CredentialsNotFound:
    return CredentialsNotFound(
        f"there is no user {name[:40]!r}.", why="no user has that name.", next_step="run  everindex user list ."
    )
