"""Secrets of 256 random bits and how they are stored: as SHA-256, since nobody can guess their input.

A token carries a prefix by which scanners of repositories and logs recognise it. Names of tokens and users are words.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from everindex.errors import UsageError

PREFIX = "everindex_"
MAX_NAME_CHARS = 100
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9@._+-]*[A-Za-z0-9])?", re.ASCII)
#: What any secret of ours looks like; anything else is refused without a query.
_SECRET = re.compile(r"(?:everindex_)?[A-Za-z0-9_-]{43}", re.ASCII)
#: Tables of the own schema that hold digests or hashes: for the role that serves, and no other that reads.
SECRET_TABLES = ("access_token", "access_user", "access_session")


def new_secret() -> str:
    """43 characters for 256 random bits."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def is_like_a_secret(text: str) -> bool:
    """Whether `text` has the form of a token or a session's cookie."""
    return _SECRET.fullmatch(text) is not None


def bearer_of(authorization: str) -> str | None:
    """The token in the value of an Authorization header (RFC 6750), possibly empty; None for another scheme."""
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def checked_name(name: str, *, of: str) -> str:
    """`name`, the name of a token or user. Raises UsageError."""
    if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:40]!r} cannot be the name of a {of}.",
            why=f"a name has 1 to {MAX_NAME_CHARS} letters, digits and the characters @ . _ + - between them.",
            next_step="choose another name, such as  ci  or  anna@example.org .",
        )
    return name
