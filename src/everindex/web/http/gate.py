"""The gate before all routes: who sends a request, whether its scope is enough, whether it may send another one now.

Guarantees that no route is reached that `route_scopes.py` does not list. Requests by cookie that another site caused are
refused before (`envelope.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from starlette.exceptions import HTTPException
from starlette.types import Scope as AsgiScope

from everindex.access.authenticator import Authenticator
from everindex.access.refusals import refusal, token_refused
from everindex.access.request_limits import RequestLimits, network_of
from everindex.access.scopes import Principal, Scope
from everindex.errors import EverindexError
from everindex.web.http.given import Given, given_in
from everindex.web.http.route_scopes import Rule, rules_for
from everindex.web.http.viewer import VIEWER

log = logging.getLogger(__name__)
audit_log = logging.getLogger("everindex.audit")

T = TypeVar("T")

#: Where the gate leaves what it found, in the scope of the request.
PRINCIPAL, RULE, SUBJECT = "everindex.principal", "everindex.rule", "everindex.subject"
#: Characters of an audit line's subject, and of its query.
MOST_AUDITED = 500


class RunInThread(Protocol):
    """Runs work that queries the database outside of the event loop."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]: ...


class Gate:
    """The gate of one application. Its methods run in the event loop."""

    def __init__(self, authenticator: Authenticator, limits: RequestLimits, *, in_database: RunInThread) -> None:
        self.authenticator = authenticator
        self.limits = limits
        self._in_database = in_database
        self._looking: asyncio.Future[None] | None = None

    async def admit(self, scope: AsgiScope, headers: Mapping[str, str]) -> None:
        """Lets a request pass, and leaves who sent it in `scope`. Raises SignInNeeded, TokenRefused, ScopeMissing,
        TooManyRequests, what the database raises, and HTTPException (404, 405) for an address that is not listed."""
        rules = rules_for(scope["path"])
        if not rules:
            raise HTTPException(404)
        rule = rules.get(scope["method"])
        if rule is None:
            raise HTTPException(405)
        scope[RULE] = rule
        VIEWER.set(self.authenticator.somebody)
        if self.authenticator.is_due:
            self._look_beside()
        try:
            principal = await self._principal(scope, headers, rule)
        except EverindexError:
            if rule.scope is not Scope.PUBLIC:
                raise
            principal = self.authenticator.somebody  # the documentation is shown while the database is away
        scope[PRINCIPAL] = principal
        VIEWER.set(principal)
        if not principal.may(rule.scope):
            raise refusal(principal, rule.scope, takes_basic=rule.takes_basic)
        if rule.limited_as is not None and principal.kind != "local":
            self.limits.count_expensive(rule.limited_as, _client(principal, scope))

    async def _principal(self, scope: AsgiScope, headers: Mapping[str, str], rule: Rule) -> Principal:
        somebody = self.authenticator.somebody
        given = given_in(headers, takes_basic=rule.takes_basic and not somebody.may(rule.scope))
        if given is None or not rule.identifies or (given.by == "cookie" and self.authenticator.mode == "local"):
            return somebody
        known = self.authenticator.known(given.secret, kind=given.kind)
        if known is None:
            known = await self._found(given, network_of(address_of_client(scope)))
        if known is not None:
            return known
        if given.by == "cookie":  # a session that is over: the page says what to do next
            return somebody
        raise token_refused(takes_basic=rule.takes_basic)

    async def _found(self, given: Given, address: str) -> Principal | None:
        if given.by == "cookie":
            return await self._in_database(lambda: self.authenticator.find(given.secret, kind=given.kind))
        self.limits.require_few_wrong_secrets(address)
        found = await self._in_database(lambda: self.authenticator.find(given.secret, kind=given.kind))
        if found is None:
            self.limits.count_wrong_secret(address)
        return found

    def _look_beside(self) -> None:
        """Asks in the background whether there are tokens or users by now; no request waits for it."""
        self.authenticator.postpone()

        async def look() -> None:
            try:
                await self._in_database(self.authenticator.look)
            except EverindexError as exc:
                log.debug("could not look for tokens and users: %s", exc.slug, extra={"event": "credentials-not-read"})
            except Exception:
                log.exception("could not look for tokens and users", extra={"event": "credentials-failed"})

        self._looking = asyncio.ensure_future(look())


def address_of_client(scope: AsgiScope) -> str:
    """The address that a request came from; a proxy's own where there is one."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _client(principal: Principal, scope: AsgiScope) -> str:
    return principal.label if principal.name else network_of(address_of_client(scope))


def audit(scope: AsgiScope, *, method: str, status: int | None) -> None:
    """Writes the line about a request that changes something, or signs somebody in or out: who, what, from where, and what
    came of it. Bodies, passwords, tokens and cookies are never part of it."""
    rule: Rule | None = scope.get(RULE)
    if rule is None or not rule.is_audited or not audit_log.isEnabledFor(logging.INFO):
        return
    principal: Principal | None = scope.get(PRINCIPAL)
    who = principal.label if principal is not None else "somebody with no valid credentials"
    what = _plain(f"{scope['path']}{_query(scope)}")
    subject = _plain(str(scope.get(SUBJECT, "")))
    extra: dict[str, Any] = {
        "event": "audit", "who": who, "method": method, "what": what, "subject": subject, "status": status,
        "address": address_of_client(scope), "request_id": scope.get("everindex.request_id"),
    }  # fmt: skip
    audit_log.info(
        "%s: %s %s%s → %s", who, method, what, f" ({subject})" if subject else "", status or "client-gone", extra=extra
    )


def _query(scope: AsgiScope) -> str:
    query = scope["query_string"].decode("latin-1")
    return f"?{query}" if query else ""


def _plain(text: str) -> str:
    """One line of limited length, whatever it was."""
    return text.encode("unicode_escape").decode()[:MOST_AUDITED]
