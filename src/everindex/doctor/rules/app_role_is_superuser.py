"""Rule: the application's role is not a superuser."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    if not found.is_superuser:
        yield good(f'role "{found.role}" is not a superuser')
        return
    yield finding(
        f'role "{found.role}" is a superuser: who reaches its SQL has the whole server, and row security is not for it',
        fix=Fix(
            advice="let a superuser create the extension once, then connect as a role that owns the application's tables only. "
            "On a private server of one application, such as the embedded one, it may stay."
        ),
    )


RULE = Rule(
    slug="app-role-is-superuser",
    severity="notice",
    title="the application's role is not a superuser",
    reason="a superuser passes every check of privileges and may run programs on the server (PostgreSQL documentation, Role "
    "Attributes; row security, too, is bypassed).",
    check=check,
)
