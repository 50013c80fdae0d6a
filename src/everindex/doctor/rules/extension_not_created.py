"""Rule: if the server has the files of the extension, it is created in this database."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.capabilities import version_text


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    if found.extension_version is not None:
        yield good(f"database {found.database} has pgvector {version_text(found.extension_version)}")
    elif found.available_version is not None:
        who = "" if found.is_superuser else f"; role {found.role} may not create it"
        yield finding(
            f"extension vector {version_text(found.available_version)} is installed, but not created in database "
            f"{found.database}{who}",
            fix=Fix(
                statements=("CREATE EXTENSION vector",),
                advice="once, as superuser or in the provider's own way; `everindex migrate` does it if the role may.",
            ),
        )


RULE = Rule(
    slug="extension-not-created",
    severity="critical",
    title="pgvector is created in this database",
    reason="an extension must be created in each database separately, and vector is not a trusted one: only a superuser or the "
    "provider's role may create it (vector.control has no `trusted`; evoila/meho#558).",
    check=check,
)
