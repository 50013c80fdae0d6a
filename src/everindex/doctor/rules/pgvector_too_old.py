"""Rule: the created version of pgvector has HNSW indexes (0.5.0 or later)."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.capabilities import OLDEST_PGVECTOR, version_text


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    version = found.extension_version
    if version is None:
        return
    if version >= OLDEST_PGVECTOR:
        yield good(f"pgvector {version_text(version)} has HNSW indexes")
        return
    newer = found.available_version is not None and found.available_version >= OLDEST_PGVECTOR
    yield finding(
        f"pgvector {version_text(version)} of database {found.database} has no HNSW index",
        fix=Fix(
            statements=("ALTER EXTENSION vector UPDATE",) if newer else (),
            advice="" if newer else "install a newer pgvector on the server, then ALTER EXTENSION vector UPDATE.",
        ),
    )


RULE = Rule(
    slug="pgvector-too-old",
    severity="critical",
    title="pgvector is new enough for HNSW",
    reason="pgvector 0.5.0 introduced HNSW (pgvector CHANGELOG).",
    check=check,
)
