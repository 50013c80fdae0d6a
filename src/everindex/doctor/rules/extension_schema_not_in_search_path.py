"""Rule: the search_path finds pgvector's operators by their unqualified names."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    found = examined.capabilities
    if found.extension_schema is None:
        return
    path, may_use, is_found = examined.row(
        """
        SELECT current_setting('search_path'), pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
               n.nspname = ANY (pg_catalog.current_schemas(true))
        FROM pg_catalog.pg_namespace n WHERE n.nspname = %s
        """,
        (found.extension_schema,),
    )
    schema = sql.Identifier(found.extension_schema)
    if is_found:
        yield good(f"schema {schema.as_string(None)} of pgvector is in the search_path")
    elif not may_use:
        yield finding(
            f'role "{found.role}" has no USAGE on schema {schema.as_string(None)}, where pgvector is: no vector operator is '
            "found",
            fix=Fix(
                statements=(
                    sql.SQL("GRANT USAGE ON SCHEMA {} TO {}")
                    .format(schema, sql.Identifier(found.role))
                    .as_string(None),
                ),
                advice="as the owner of the schema.",
            ),
        )
    else:
        yield finding(
            f"pgvector is in schema {schema.as_string(None)}, which is not in the search_path ({path}): `<=>` is not found",
            fix=Fix(
                statements=(
                    # search_path is a list: its parts are repeated as shown, and the schema is appended.
                    sql.SQL("ALTER DATABASE {} SET search_path = {}, {}")
                    .format(sql.Identifier(found.database), sql.SQL(str(path) or "''"), schema)
                    .as_string(None),
                ),
                advice=f"or write OPERATOR({found.extension_schema}.<=>); a search_path of the role overrides the database's.",
            ),
        )


RULE = Rule(
    slug="extension-schema-not-in-search-path",
    severity="warning",
    title="pgvector's operators are in the search_path",
    reason="operators are looked up in the search_path; without the extension's schema, searches fail with `operator does not "
    "exist: vector <=> vector` (pgvector#417; bytechef#5386).",
    check=check,
)
