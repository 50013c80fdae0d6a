"""Rule: VACUUM cannot damage HNSW indexes with the created version of pgvector."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.capabilities import SAFE_PGVECTOR, version_text


def check(examined: Examined) -> Iterator[RuleResult]:
    version = examined.capabilities.extension_version
    if version is None:
        return
    if version >= SAFE_PGVECTOR:
        yield good(f"VACUUM is safe for HNSW indexes with pgvector {version_text(version)}")
        return
    indexes = [index for index in examined.indexes if index.method == "hnsw"]
    if not indexes:
        yield good(
            f"pgvector {version_text(version)} can damage an HNSW index during VACUUM, but this database has none"
        )
        return
    rebuilds = tuple(
        sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(sql.Identifier(index.schema, index.name)).as_string(None)
        for index in indexes
    )
    yield finding(
        f"VACUUM can damage {'the HNSW index' if len(indexes) == 1 else f'the {len(indexes)} HNSW indexes'} of this "
        f"database: pgvector is {version_text(version)}, the first safe one is {version_text(SAFE_PGVECTOR)}",
        fix=Fix(
            statements=("ALTER EXTENSION vector UPDATE", *rebuilds),
            advice="A damaged index stays damaged after the upgrade: rebuild each index whose rows were ever deleted or "
            "updated.",
        )
        if (examined.capabilities.available_version or ()) >= SAFE_PGVECTOR
        else Fix(
            advice="install pgvector 0.8.4 or later on the server, then ALTER EXTENSION vector UPDATE, and REINDEX INDEX "
            "CONCURRENTLY each index whose rows were ever deleted or updated: a damaged one stays damaged."
        ),
    )


RULE = Rule(
    slug="pgvector-vacuum-corruption",
    severity="critical",
    title="VACUUM is safe for HNSW indexes",
    reason="pgvector 0.8.3 fixes possible corruption of an HNSW index by VACUUM; 0.8.4 fixes `hnsw graph not repaired` and "
    "failing inserts during VACUUM (pgvector CHANGELOG).",
    check=check,
)
