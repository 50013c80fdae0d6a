"""The hosts that this application serves: a request for any other is refused (docs/decisions/0015).

Another site can make its own name resolve to this machine (DNS rebinding); a browser then treats our responses as that
site's. Only the host name in the request reveals this. X-Forwarded-Host, which a proxy may set, is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from starlette.types import Scope

from everindex.errors import HostRefused
from everindex.host_names import address_of, name_of

_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::[0-9]{0,5})?", re.ASCII)
#: Addresses that a socket can be bound to but at which no server can be reached.
EVERY_ADDRESS = ("", "0.0.0.0", "::")
#: A request in absolute form names its own host; the protocol stores it under this key.
TARGET_HOST = "everindex.target_host"


class Hosts:
    """The allowed hosts: loopback names, the host listened on, the local address of the connection, and configured names."""

    def __init__(self, *, bound: str | None, allowed: Collection[str]) -> None:
        """`bound` is the host to listen on, as configured; `allowed` as returned by `host_names.names_of`."""
        own = None if bound is None or bound in EVERY_ADDRESS else name_of(bound.partition("%")[0])
        self._names = frozenset(name for name in (own, *allowed) if name is not None)
        self._below = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._is_open = "*" in self._names
        self._is_allowed = lru_cache(maxsize=1024)(self._allows)  # who asks for ever new hosts fills no memory

    def require(self, scope: Scope) -> None:
        """Raises HostRefused. A request needs one Host header; in absolute form it names two hosts, and both must be allowed."""
        if self._is_open:
            return
        given = [value for name, value in scope["headers"] if name == b"host"]
        target: bytes | None = scope.get(TARGET_HOST)
        server = scope.get("server")
        local = str(server[0]) if server else ""
        if len(given) != 1:
            raise HostRefused(
                "the request has no valid Host header.", why=f"it has {len(given)} Host headers.",
                next_step="send exactly one, with a name or address of this server.",
            )  # fmt: skip
        for named in (given[0], target):
            if named is not None and not self._is_allowed(named, local):
                raise HostRefused(
                    f"this server does not serve the host {named.decode('latin-1')[:100]!r}.",
                    why="it serves the loopback names, the address that it listens on, and the hosts in "
                    "EVERINDEX_ALLOWED_HOSTS.",
                    next_step="use one of these, or add the name to EVERINDEX_ALLOWED_HOSTS and restart the server.",
                )

    def _allows(self, named: bytes, local: str) -> bool:
        match = _HOST_AND_PORT.fullmatch(named.decode("latin-1"))
        if match is None or not named.isascii():
            return False
        written = match[1]
        name = name_of(written)
        if name is None or (":" in name and not written.startswith("[")):
            return False
        address = address_of(name)
        if address is not None and (address.is_loopback or name == _plain(local)):
            return True
        if name in ("localhost", *self._names) or (address is None and name.endswith(".localhost")):
            return True
        return address is None and name.endswith(self._below)


def _plain(local: str) -> str:
    """The address of a socket in the form of `name_of`; None for the path of a Unix socket."""
    found = address_of(local.partition("%")[0])
    return str(found) if found is not None else ""
