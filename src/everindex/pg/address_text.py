"""The check of an address text for ambiguity: an address that libpq could misinterpret is rejected and never shown.

libpq parses any text somehow. With an unescaped `/`, `@`, `?` or `:` in the password, part of the password becomes the host,
the port or the database, and is then printed wherever the server is named, even in libpq's own errors. So an address is
checked before it is used, more strictly than by libpq, and messages about it are fixed sentences.
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
#: Also in a query (`?user=name@server`), which cannot be distinguished from a password with `@` and `?` in it.
_AT = "there is another @ after the one before the host, or a / before it"
_ESCAPES = (
    "with %-escapes for special characters (/ is %2F, @ is %40, : is %3A, ? is %3F, # is %23, % is %25, a space is %20)"
)
NEXT_STEP = f"write it as postgresql://user:password@host:5432/database, {_ESCAPES}."
_UNREADABLE = "libpq cannot read it"


def why_unusable(text: str) -> str | None:
    """Why the address cannot be used, without any part of it; None if it can."""
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
    """The address itself. Raises SettingInvalid with `name` and no part of the address; `instead` is an alternative remedy."""
    reason = why_unusable(text)
    if reason is None:
        return text
    raise SettingInvalid(
        f"{name} is not a PostgreSQL address.",
        why=f"{reason} (its text is not shown here, since it may hold a password).",
        next_step=f"{instead}{NEXT_STEP}",
    ) from None  # the driver's own error in a traceback would show it


def _why_no_url(rest: str) -> str | None:
    # As in conninfo_uri_parse_options, user and password extend to the first @, if no / precedes it.
    before, at, behind = rest.partition("@")
    server = behind if at and "/" not in before else rest
    if "@" in server:
        return _AT
    for host in re.split(r"[/?]", server, maxsplit=1)[0].split(","):
        port = host.rpartition("]")[2] if host.startswith("[") else host
        _, colon, number = port.partition(":")
        if colon and not number.isdecimal():
            return "the text after the host is not a port number"
    return None


def _why_no_parts(parts: dict[str, Any]) -> str | None:
    for host in ",".join(str(parts.get(name) or "") for name in ("host", "hostaddr")).split(","):
        if host and not _HOST.match(host):
            return "its host is not a name, an IP address or the directory of a socket"
    for port in str(parts.get("port") or "").split(","):
        if not _PORT.match(port) or (port and not 0 < int(port) < 65536):
            return "its port is not a number from 1 to 65535"
    for name in ("dbname", "user"):
        if "://" in str(parts.get(name) or ""):
            return f"its {name} is itself an address"
    return None
