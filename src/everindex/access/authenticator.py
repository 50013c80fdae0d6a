"""Who a request comes from, by its token or session, and whether anybody is asked at all.

A valid token or session is cached for CACHED_SECONDS, so a revoked one works for at most that long, and a request with a
known one needs no query. A secret that is not valid is never cached. Nothing here knows HTTP.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Literal

from everindex.access.credentials import digest_of, is_like_a_secret
from everindex.access.scopes import ANONYMOUS, ANONYMOUS_READER, LOCAL, Principal
from everindex.access.tokens import find_token
from everindex.access.users import find_session
from everindex.errors import AccessNotConfigured, SettingInvalid
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: What `EVERINDEX_ACCESS=auto` has become.
Mode = Literal["local", "open", "sign-in"]
SOMEBODY: Mapping[Mode, Principal] = {"local": LOCAL, "open": ANONYMOUS_READER, "sign-in": ANONYMOUS}
CACHED_SECONDS = 5.0
#: Valid secrets that are cached at the same time.
MOST_CACHED = 1024

SecretKind = Literal["token", "session"]
Connecting = Callable[[], AbstractContextManager[Connection]]


class Authenticator:
    """The access of one server. Safe to use from many threads."""

    def __init__(self, connection: Connecting, *, mode: Mode, is_final: bool = True) -> None:
        """`connection` makes a context manager of a connection to the primary; `is_final` is False where `local` becomes
        `sign-in` as soon as there is a token or a user."""
        self._connection = connection
        self.mode: Mode = mode
        self._is_final = is_final
        self._looked_at = time.monotonic()
        self._cached: OrderedDict[tuple[SecretKind, bytes], tuple[float, Principal]] = OrderedDict()
        self._changing = threading.Lock()

    @property
    def somebody(self) -> Principal:
        """Who sends a request without token and session."""
        return SOMEBODY[self.mode]

    @property
    def is_due(self) -> bool:
        """Whether `look` should be called: nobody is asked so far, which may have changed."""
        return not self._is_final and time.monotonic() - self._looked_at > CACHED_SECONDS

    def postpone(self) -> None:
        """The next look is due in CACHED_SECONDS."""
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Asks for tokens and passwords from now on if there are any. Queries the database; raises what that raises."""
        with self._connection() as connection:
            if has_credentials(connection):
                self.mode, self._is_final = "sign-in", True

    def known(self, secret: str, *, kind: SecretKind) -> Principal | None:
        """Who a secret stands for, if that is cached; no query."""
        key = kind, digest_of(secret)
        with self._changing:
            found = self._cached.get(key)
            if found is None or found[0] < time.monotonic():
                self._cached.pop(key, None)
                return None
            self._cached.move_to_end(key)
            return found[1]

    def find(self, secret: str, *, kind: SecretKind) -> Principal | None:
        """Who a secret stands for; None where it is not valid. Queries the database; raises what that raises."""
        if not is_like_a_secret(secret):
            return None
        digest = digest_of(secret)
        with self._connection() as connection, translate_errors("checking who may"):
            table = "access_token" if kind == "token" else "access_session"
            if not own_schema.is_readable(connection, table):
                return None
            found = (find_token if kind == "token" else find_session)(connection, digest)
        if found is None:
            return None
        principal, expires_at = found
        self.remember(secret, principal, kind=kind, expires_at=expires_at)
        return principal

    def remember(self, secret: str, principal: Principal, *, kind: SecretKind, expires_at: dt.datetime | None) -> None:
        """Caches who a valid secret stands for."""
        with self._changing:
            self._cached[kind, digest_of(secret)] = (time.monotonic() + _cached_for(expires_at), principal)
            while len(self._cached) > MOST_CACHED:
                self._cached.popitem(last=False)

    def forget(self, secret: str) -> None:
        """Removes a session from the cache: it is over."""
        with self._changing:
            self._cached.pop(("session", digest_of(secret)), None)


def _cached_for(expires_at: dt.datetime | None) -> float:
    """Seconds; never beyond the end of what is cached."""
    if expires_at is None:
        return CACHED_SECONDS
    return min(CACHED_SECONDS, (expires_at - dt.datetime.now(dt.UTC)).total_seconds())


def has_credentials(connection: Connection) -> bool:
    """Whether a token or a user has been created, also one that is revoked or expired by now: what was protected once is not
    opened by the end of its last token. False where this role may not read them. Reads only."""
    return any(
        own_schema.is_readable(connection, table) and connection.execute(query).fetchone() is not None
        for table, query in (
            ("access_token", "SELECT FROM everindex_meta.access_token LIMIT 1"),
            ("access_user", "SELECT FROM everindex_meta.access_user LIMIT 1"),
        )
    )


def authenticator_for(
    connection: Connecting,
    *,
    access: Literal["auto", "sign-in", "open", "local"],
    is_loopback: bool,
    where: str,
    what: str = "the web application",
) -> Authenticator:
    """The access of a server, `what`, that listens at `where`, by EVERINDEX_ACCESS. Raises AccessNotConfigured for a server that
    other machines reach and nobody may use, or everybody may; SettingInvalid for `local` there."""
    match access:
        case "open":
            return Authenticator(connection, mode="open")
        case "local" if is_loopback:
            return Authenticator(connection, mode="local")
        case "local":
            raise SettingInvalid(
                f"EVERINDEX_ACCESS=local cannot be used with the address {where}.",
                why="other machines reach it, and with this setting everybody who reaches the server may do everything.",
                next_step="listen on 127.0.0.1, or set EVERINDEX_ACCESS to sign-in or open.",
            )
    with connection() as opened:
        is_protected = has_credentials(opened)
    if is_protected or (access == "sign-in" and is_loopback):
        return Authenticator(connection, mode="sign-in")
    if is_loopback:
        return Authenticator(connection, mode="local", is_final=False)
    raise AccessNotConfigured(
        f"{what} does not start at {where}: nothing says who may use it.",
        why="other machines reach this address, and there is neither a token nor a user in the database.",
        next_step="run  everindex user create NAME --scope operate  or  everindex token create NAME , then start it again; "
        "or set EVERINDEX_ACCESS=open to let everybody read and nobody change anything; or listen on 127.0.0.1.",
    )
