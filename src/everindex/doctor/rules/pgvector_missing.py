"""Rule: the server has pgvector's files."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.capabilities import version_text


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    if found.available_version is not None:
        yield good(f"pgvector {version_text(found.available_version)} is installed on the server")
        return
    major = found.server_version_num // 10000
    lost = (
        f"; database {found.database} was created with pgvector {version_text(found.extension_version)}, whose files are gone"
        if found.extension_version
        else ""
    )
    yield finding(
        f"the server has no pgvector: pg_available_extensions has no vector{lost}",
        fix=Fix(
            advice=f"install it on the server's machine (Debian: apt install postgresql-{major}-pgvector; container: a "
            "pgvector/pgvector image), then CREATE EXTENSION vector."
        ),
    )


RULE = Rule(
    slug="pgvector-missing",
    severity="critical",
    title="pgvector is installed",
    reason="without its files no vector can be stored, read or searched (pgvector README, Installation).",
    check=check,
)
