"""The errors for requests that may not be answered, with what would help and the challenges of WWW-Authenticate (RFC 6750)."""

from __future__ import annotations

from everindex.access.scopes import Principal, Scope
from everindex.errors import ScopeMissing, SignInNeeded, TokenRefused

BEARER = 'Bearer realm="everindex"'
BASIC = 'Basic realm="everindex", charset="UTF-8"'


def challenges(*, takes_basic: bool) -> tuple[str, ...]:
    """How a client can authenticate."""
    return (BEARER, BASIC) if takes_basic else (BEARER,)


def refusal(principal: Principal, scope: Scope, *, takes_basic: bool = False) -> SignInNeeded | ScopeMissing:
    """The error for somebody whose scope does not include `scope`."""
    wanted = scope.text
    if principal.name is None:
        may = "everybody may read, but " if principal.may(Scope.READ) else ""
        return SignInNeeded(
            "this needs a sign-in or a token.",
            why=f"{may}this request needs the scope {wanted}, and it has no valid session and no token.",
            next_step=f"sign in at  /sign-in , or send  Authorization: Bearer TOKEN  with a token of scope {wanted}.",
            challenges=challenges(takes_basic=takes_basic),
        )
    command = "user create" if principal.kind == "user" else "token create"
    return ScopeMissing(
        f"{principal.label} may not do this.",
        why=f"it needs the scope {wanted}; {principal.label} has the scope {principal.scope.text}.",
        next_step=f"ask whoever operates this server for one with more:  everindex {command} NAME --scope {wanted} .",
        challenges=(f'{BEARER}, error="insufficient_scope", scope="{wanted}"',),
    )


def token_refused(*, takes_basic: bool = False) -> TokenRefused:
    """The error for a token that is not valid."""
    first, *others = challenges(takes_basic=takes_basic)
    return TokenRefused(
        "the token of this request is not valid.",
        why="it is unknown, expired or revoked; the request was not answered without it either.",
        next_step="use a valid one:  everindex token list  shows which there are,  everindex token create NAME  makes one.",
        challenges=(f'{first}, error="invalid_token"', *others),
    )
