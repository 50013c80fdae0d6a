"""Rule: no known security advisory applies to the created version of pgvector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.capabilities import Version, version_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """A security advisory; it applies to versions from `since` up to, but not including, `fixed_in`."""

    name: str
    since: Version
    fixed_in: Version
    what: str
    only_32_bit: bool = False
    until_then: str = ""
    source: str


ADVISORIES = (
    Advisory(
        name="CVE-2026-3172",
        since=(0, 6, 0),
        fixed_in=(0, 8, 2),
        what="a parallel HNSW build can read other relations' memory or crash the server",
        until_then="Until then build with one process: SET max_parallel_maintenance_workers = 0 (everindex does).",
        source="pgvector#959",
    ),
    Advisory(
        name="CVE-2026-18022",
        since=(0, 1, 0),
        fixed_in=(0, 8, 6),
        what="an IVFFlat build can write out of bounds on a 32-bit server",
        only_32_bit=True,
        source="pgvector#1006",
    ),
)


def check(examined: Examined) -> Iterator[RuleResult]:
    version = examined.capabilities.extension_version
    if version is None:
        return
    is_32_bit = "32-bit" in str(examined.row("SELECT version()")[0])
    hit = [one for one in ADVISORIES if one.since <= version < one.fixed_in and (is_32_bit or not one.only_32_bit)]
    if not hit:
        yield good(f"no known advisory applies to pgvector {version_text(version)} on this server")
    for advisory in hit:
        yield finding(
            f"pgvector {version_text(version)} has {advisory.name}: {advisory.what} ({advisory.source})",
            fix=_fix(advisory, examined.capabilities.available_version),
        )


def _fix(advisory: Advisory, installed: Version | None) -> Fix:
    if installed is not None and installed >= advisory.fixed_in:
        return Fix(
            statements=("ALTER EXTENSION vector UPDATE",),
            advice="then end the running sessions: they keep the old library.",
        )
    return Fix(
        advice=f"install pgvector {version_text(advisory.fixed_in)} or later on the server, then ALTER EXTENSION vector UPDATE. "
        f"{advisory.until_then}".strip()
    )


RULE = Rule(
    slug="pgvector-unsafe-version",
    severity="critical",
    title="no advisory applies to this pgvector",
    reason="CVE-2026-3172 is fixed in pgvector 0.8.2, CVE-2026-18022 in 0.8.6 (pgvector CHANGELOG).",
    check=check,
)
