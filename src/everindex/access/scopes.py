"""Scopes, and who a request comes from. A scope includes those before it: `operate` may write, `write` may read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

#: The scopes that a token or a user can have.
ScopeName = Literal["read", "write", "operate"]


class Scope(IntEnum):
    """What a request needs, and what a token or a user has."""

    PUBLIC = 0
    """Needs nothing: probes, the sign-in page, the documentation in the package."""

    READ = 1
    """Searches, articles, exports, feeds, the state of the index."""

    WRITE = 2
    """Changes what the application stores: saved searches, incidents, articles."""

    OPERATE = 3
    """Acts on the index, or makes the server work for seconds: checks, builds."""

    @property
    def text(self) -> str:
        """Its name as commands, settings and messages write it."""
        return self.name.lower()

    @classmethod
    def named(cls, name: str) -> Scope:
        """The scope of that name. Raises KeyError."""
        return cls[name.upper()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a request comes from."""

    kind: Literal["local", "anonymous", "token", "user"]
    """`local`: anybody who reaches a server that asks nobody; `anonymous`: somebody who has not signed in."""

    name: str | None = None
    """The name of the token or the user."""

    scope: Scope

    @property
    def label(self) -> str:
        """As audit lines name it: `token ci`, `user anna`, `local`, `anonymous`."""
        return f"{self.kind} {self.name}" if self.name else self.kind

    def may(self, scope: Scope) -> bool:
        """Whether this scope includes `scope`."""
        return self.scope >= scope

    @property
    def may_write(self) -> bool:
        return self.may(Scope.WRITE)

    @property
    def may_operate(self) -> bool:
        return self.may(Scope.OPERATE)


LOCAL = Principal(kind="local", scope=Scope.OPERATE)
ANONYMOUS = Principal(kind="anonymous", scope=Scope.PUBLIC)
ANONYMOUS_READER = Principal(kind="anonymous", scope=Scope.READ)
