"""Whether the text of an address means what its writer meant. One that does not is refused and never shown.

libpq takes every text apart somehow. With an unescaped `/`, `@`, `?` or `:` in the password a part of the password becomes
the host, the port or the database, and is then printed wherever the server is named, libpq's own errors included. So an
address is looked at before it is used, more strictly than libpq does; what is said about it are fixed sentences.
"""

from __future__ import annotations

import re
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from everindex.errors import SettingInvalid

_SCHEME = re.compile(r"^postgres(?:ql)?://")
_HOST = re.compile(r"^(?:[\w.-]{1,253}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:%[\w.-]+)?|[/@][^\x00-\x1f]*)$")
_PORT = re.compile(r"^[0-9]{0,5}$")
#: In a query (`?user=name@server`) too: nothing tells it from a password with `@` and `?` in it.
_AT = "an @ stands behind the one before the host, or a / before it"
_ESCAPES = (
    "with %-escapes for special characters (/ is %2F, @ is %40, : is %3A, ? is %3F, # is %23, % is %25, a space is %20)"
)
NEXT_STEP = f"write it as postgresql://user:password@host:5432/database, {_ESCAPES}."
_UNREADABLE = "libpq cannot read it"


def why_unusable(text: str) -> str | None:
    """Why the address cannot be used, in words that hold nothing of it; None for one that can."""
    try:
        parts = conninfo_to_dict(text)
    except (ProgrammingError, UnicodeError, ValueError):
        return _UNREADABLE
    scheme = _SCHEME.match(text)
    if scheme is not None:
        reason = _why_no_url(text[scheme.end() :])
        if reason is not None:
            return reason
    elif "://" in text.partition("=")[0]:
        return "it does not begin with postgresql://"
    return _why_no_parts(parts)


def checked(text: str, *, name: str, instead: str = "") -> str:
    """The address itself. Raises SettingInvalid, which says `name` and nothing of the address; `instead` is another way out."""
    reason = why_unusable(text)
    if reason is None:
        return text
    raise SettingInvalid(
        f"{name} is not a PostgreSQL address.",
        why=f"{reason} (its text is not shown here, since it may hold a password).",
        next_step=f"{instead}{NEXT_STEP}",
    ) from None  # in a traceback the driver's own error would show it


def _why_no_url(rest: str) -> str | None:
    # As conninfo_uri_parse_options does: user and password reach to the first @, if no / comes before it.
    before, at, behind = rest.partition("@")
    server = behind if at and "/" not in before else rest
    if "@" in server:
        return _AT
    for host in re.split(r"[/?]", server, maxsplit=1)[0].split(","):
        port = host.rpartition("]")[2] if host.startswith("[") else host
        _, colon, number = port.partition(":")
        if colon and not number.isdecimal():
            return "what stands behind the host is not a port number"
    return None


def _why_no_parts(parts: dict[str, Any]) -> str | None:
    for host in ",".join(str(parts.get(name) or "") for name in ("host", "hostaddr")).split(","):
        if host and not _HOST.match(host):
            return "its host is neither a name, nor an IP address, nor the directory of a socket"
    for port in str(parts.get("port") or "").split(","):
        if not _PORT.match(port) or (port and not 0 < int(port) < 65536):
            return "its port is not a number from 1 to 65535"
    for name in ("dbname", "user"):
        if "://" in str(parts.get(name) or ""):
            return f"its {name} is an address itself"
    return None
