"""Rule: pgvector has the same version in the catalog, in the server's files and in the loaded library."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.capabilities import ITERATIVE_SCAN_PGVECTOR, Version, parse_version, version_text


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    created, installed = found.extension_version, found.available_version
    if created is None or installed is None:
        return
    if created < installed:
        yield finding(
            f"pgvector {version_text(installed)} is installed and database {found.database} still has "
            f"{version_text(created)}",
            fix=Fix(
                statements=("ALTER EXTENSION vector UPDATE",),
                advice="as the owner of the extension, in every database of the server.",
            ),
        )
    elif created > installed:
        yield finding(
            f"database {found.database} has pgvector {version_text(created)} and the server's files are "
            f"{version_text(installed)}",
            fix=Fix(
                advice=f"install pgvector {version_text(created)} or later on this server (was it restored or moved?)."
            ),
        )
    else:
        yield good(f"the catalog and the server's files agree on pgvector {version_text(created)}")
    yield from _loaded(examined, created, installed)


def _loaded(examined: Examined, created: Version, installed: Version) -> Iterator[RuleResult]:
    """Checks the library that this session has loaded: PostgreSQL 18 reports its version; before that, the settings that the
    library knows reveal it."""
    names = examined.library_settings
    if examined.capabilities.server_version_num >= 180000:
        rows = examined.rows(
            "SELECT version FROM pg_catalog.pg_get_loaded_modules() WHERE module_name = 'vector' AND version IS NOT NULL"
        )
        loaded = parse_version(rows[0][0]) if rows else None
        if loaded is not None and loaded != installed:
            yield _other_library(
                f"pgvector {version_text(loaded)}", f"the server's files have {version_text(installed)}"
            )
        elif loaded is not None:
            yield good(f"the loaded library is pgvector {version_text(loaded)}")
        return
    is_new = "hnsw.iterative_scan" in names
    if is_new != (created >= ITERATIVE_SCAN_PGVECTOR):
        age = "0.8.0 or later" if is_new else "before 0.8.0"
        yield _other_library(f"a pgvector {age}", f"the catalog says {version_text(created)}")


def _other_library(loaded: str, said: str) -> RuleResult:
    return finding(
        f"the loaded library is {loaded}, while {said}",
        fix=Fix(advice="install one version completely, restart the server, then ALTER EXTENSION vector UPDATE."),
    )


RULE = Rule(
    slug="library-version-differs",
    severity="warning",
    title="one version of pgvector is in use",
    reason="settings come from the loaded library, functions and types from the catalog: an incomplete upgrade enables new "
    "behaviour that the catalog does not have (gke-labs/kube-agents#1182; pgvector README, Upgrading).",
    check=check,
)
