"""Rule: the server's minor version has the security fixes of its major version."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good

#: The release of 2026-08-13, with 28 security fixes (18.5 was never published). CVE-2026-14662, CVSS 8.8: converting text to
#: tsvector or tsquery can write out of bounds, and a hybrid search converts whatever users type.
FIXED_IN = {14: 24, 15: 19, 16: 15, 17: 11, 18: 6}


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    major, minor = divmod(found.server_version_num, 10000)
    if major not in FIXED_IN:
        return
    if minor >= FIXED_IN[major]:
        yield good(f"PostgreSQL {found.server_version} has the fix for CVE-2026-14662")
        return
    yield finding(
        f"PostgreSQL {found.server_version} lacks the security fixes of {major}.{FIXED_IN[major]}, including CVE-2026-14662 "
        "(8.8): untrusted text in tsvector or tsquery can write out of bounds",
        fix=Fix(
            advice=f"install PostgreSQL {major}.{FIXED_IN[major]} or later and restart; a minor upgrade needs no dump and no "
            "rebuild of indexes."
        ),
    )


RULE = Rule(
    slug="postgres-minor-outdated",
    severity="critical",
    title="this PostgreSQL has the known security fixes",
    reason="CVE-2026-14662 is fixed in 14.24, 15.19, 16.15, 17.11 and 18.6 (PostgreSQL release of 2026-08-13).",
    check=check,
)
