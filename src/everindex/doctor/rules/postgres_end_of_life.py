"""Rule: the server's major version of PostgreSQL is supported."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

#: Last day of support of each major version. Source: postgresql.org, Versioning Policy.
LAST_DAY = {
    13: date(2025, 11, 13),
    14: date(2026, 11, 12),
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    major = found.server_version_num // 10000
    last = date.min if major < min(LAST_DAY) else LAST_DAY.get(major)
    if last is None:
        yield unknown(f"PostgreSQL {found.server_version} is newer than the versions that this everindex knows")
    elif examined.now.date() > last:
        when = "long ago" if last == date.min else f"on {last}"
        yield finding(
            f"PostgreSQL {found.server_version}: support ended {when}",
            fix=Fix(
                advice="upgrade to a supported major version (pg_upgrade, or dump and restore). Indexes survive pg_upgrade; "
                "install pgvector for the new version first."
            ),
        )
    else:
        yield good(f"PostgreSQL {found.server_version} is supported until {last}")


RULE = Rule(
    slug="postgres-end-of-life",
    severity="warning",
    title="this PostgreSQL is supported",
    reason="after five years a major version gets no more fixes, not even for security (postgresql.org, Versioning Policy).",
    check=check,
)
