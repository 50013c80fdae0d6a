"""Rule: the role may see the sessions and builds of other roles."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    role = examined.capabilities.role
    if examined.sees_other_sessions:
        yield good(f'role "{role}" sees the sessions and builds of every role')
        return
    yield finding(
        f'role "{role}" cannot see sessions and builds of other roles: everindex cannot name the session that holds up a build, '
        "nor show the progress of a build",
        fix=Fix(
            statements=(sql.SQL("GRANT pg_read_all_stats TO {}").format(sql.Identifier(role)).as_string(None),),
            advice="as superuser or a role that has it WITH ADMIN OPTION.",
        ),
    )


RULE = Rule(
    slug="statistics-hidden",
    severity="notice",
    title="the role sees the sessions and builds of other roles",
    reason="pg_stat_activity and pg_stat_progress_create_index show other roles' rows as NULL without pg_read_all_stats "
    "(PostgreSQL documentation, Predefined Roles).",
    check=check,
)
