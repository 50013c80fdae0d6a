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
        f'role "{found.role}" is a superuser: SQL injection would give access to the whole server, and row security is bypassed',
        fix=Fix(
            advice="let a superuser create the extension once, then connect as a role that owns the application's tables only. "
            "On a private server for one application, such as the embedded one, a superuser is acceptable."
        ),
    )


RULE = Rule(
    slug="app-role-is-superuser",
    severity="notice",
    title="the application's role is not a superuser",
    reason="a superuser bypasses every privilege check and row security, and may run programs on the server (PostgreSQL "
    "documentation, Role Attributes).",
    check=check,
)
