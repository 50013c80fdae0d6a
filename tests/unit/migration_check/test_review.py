"""Migrations as text, and what is found in them."""

from __future__ import annotations

import pytest

from everindex.migration_check.ddl import migration_statements
from everindex.migration_check.finding import RULES
from everindex.migration_check.known_schema import KnownSchema
from everindex.migration_check.review import MigrationText, Review, review
from repository import REPOSITORY

TABLE = "CREATE TABLE documents (id bigint, embedding vector(64));\n"
SECOND = "CREATE INDEX CONCURRENTLY second ON documents USING hnsw (embedding vector_{}_ops){};\n"
DROP = "DROP INDEX CONCURRENTLY documents_idx"
SWAP = (
    "BEGIN; ALTER INDEX documents_idx RENAME TO old; ALTER INDEX second RENAME TO documents_idx; COMMIT;"
    "DROP INDEX CONCURRENTLY old"
)
INDEX = "CREATE INDEX CONCURRENTLY documents_idx ON documents USING hnsw (embedding vector_cosine_ops);\n"


def reviewed(text: str, *, earlier: str = "", allowed: frozenset[str] = frozenset()) -> Review:
    texts = [
        MigrationText(source="earlier.sql", text=earlier, is_reported=False),
        MigrationText(source="m.sql", text=text),
    ]
    return review(texts, KnownSchema(), allowed=allowed)


def rules(text: str, *, earlier: str = TABLE + INDEX) -> list[str]:
    return [finding.rule for finding in reviewed(text, earlier=earlier).findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CREATE INDEX i ON documents USING hnsw (embedding vector_l2_ops)", ["blocking-vector-index-build"]),
        ('create unique index on "documents" using ivfflat(embedding)', ["blocking-vector-index-build"]),
        ("CREATE INDEX i ON ONLY documents USING hnsw (embedding vector_l2_ops)", []),
        ("CREATE INDEX i ON documents (id)", []),
        ("CREATE INDEX CONCURRENTLY i ON documents USING hnsw (embedding vector_l2_ops)", []),
        ("BEGIN; CREATE INDEX CONCURRENTLY i ON documents (id); COMMIT", ["concurrently-in-transaction"]),
        ("BEGIN; COMMIT; CREATE INDEX CONCURRENTLY i ON documents (id)", []),
        ("BEGIN; SAVEPOINT s; ROLLBACK TO s; DROP INDEX CONCURRENTLY IF EXISTS a",
         ["concurrently-in-transaction", "unknown-index"]),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON documents USING hnsw (embedding vector_l2_ops)", ["skips-invalid-index"]),
        ("DROP INDEX CONCURRENTLY documents_idx", ["drops-serving-index"]),
        ("DROP INDEX public.documents_idx", ["blocking-vector-index-drop", "drops-serving-index"]),
        ("DROP INDEX CONCURRENTLY nobody_knows", ["unknown-index"]),
        (SECOND.format("cosine", "") + DROP, []),
        # Another distance, and fewer rows, serve other searches.
        (SECOND.format("l2", "") + DROP, ["drops-serving-index"]),
        (SECOND.format("cosine", " WHERE id > 3") + DROP, ["drops-serving-index"]),
        (SECOND.format("cosine", "") + SWAP, []),
        ("ALTER TABLE documents DROP COLUMN embedding", ["drops-serving-index"]),
        ("ALTER TABLE documents DROP CONSTRAINT embedding", []),
        ("DROP TABLE IF EXISTS other, documents CASCADE", ["drops-serving-index"]),
        ("DROP EXTENSION vector CASCADE", ["drops-serving-index"]),
        ("DROP EXTENSION hstore", []),
        ("ALTER TABLE documents ALTER COLUMN embedding TYPE halfvec(64) USING embedding::halfvec(64)", ["retypes-vector-column"]),
        ("ALTER TABLE documents ALTER embedding SET DATA TYPE text", ["retypes-vector-column"]),
        ("ALTER TABLE unknown ALTER COLUMN a TYPE public.vector(3)", ["retypes-vector-column"]),
        ("ALTER TABLE unknown ALTER COLUMN a TYPE text", []),
        ("ALTER TABLE documents ALTER COLUMN id TYPE text", ["rewrites-table"]),
        ("ALTER TABLE documents ALTER COLUMN id SET NOT NULL, ALTER COLUMN id DROP DEFAULT", []),
        ("ALTER TABLE documents ADD COLUMN n int NOT NULL DEFAULT 0, ADD COLUMN t timestamptz DEFAULT now()", []),
        ("ALTER TABLE documents ADD COLUMN k uuid DEFAULT gen_random_uuid()", ["rewrites-table"]),
        ("ALTER TABLE documents ADD COLUMN w text GENERATED ALWAYS AS (lower('A')) STORED", ["rewrites-table"]),
        ("ALTER TABLE documents ADD w int GENERATED ALWAYS AS (1) VIRTUAL", []),
        ("ALTER TABLE documents ADD COLUMN n bigserial", ["rewrites-table"]),
        ("ALTER TABLE documents ADD CONSTRAINT c CHECK (id > 0) NOT VALID", []),
        ("ALTER TABLE documents SET UNLOGGED", ["rewrites-table"]),
        ("CLUSTER documents USING a", ["rewrites-table"]),
        ("VACUUM (FULL, ANALYZE) documents; VACUUM FULL public.documents", ["rewrites-table", "rewrites-table"]),
        ("VACUUM documents; VACUUM (FULL false) documents", []),
        ("REINDEX TABLE documents; REINDEX INDEX documents_idx", ["blocking-reindex", "blocking-reindex"]),
        ("REINDEX INDEX CONCURRENTLY documents_idx; REINDEX (CONCURRENTLY) TABLE documents", []),
        ("BEGIN; REINDEX INDEX CONCURRENTLY documents_idx", ["concurrently-in-transaction"]),
        ("ALTER TABLE documents RENAME TO papers; DROP TABLE papers", ["drops-serving-index"]),
        ("DO $$ BEGIN EXECUTE 'DROP INDEX documents_idx'; END $$", ["dynamic-statement"]),
        ("INSERT INTO documents VALUES (1, '[1]'); SELECT 'DROP TABLE documents; DROP INDEX documents_idx'", []),
        ("-- DROP INDEX documents_idx\n/* DROP TABLE documents; */ SELECT 1", []),
    ],
)  # fmt: skip
def test_a_statement_is_judged_by_what_it_would_do(text: str, expected: list[str]) -> None:
    assert rules(text) == expected


def test_a_table_that_the_migration_creates_is_used_by_nobody_yet() -> None:
    found = reviewed(TABLE + INDEX.replace("CONCURRENTLY ", "") + "DROP INDEX documents_idx; DROP TABLE documents")
    assert found.findings == ()
    assert found.statements == 4


def test_a_comment_or_an_option_allows_a_rule_and_no_other() -> None:
    text = "-- why: the feature is gone\n-- everindex: allow drops-serving-index\nDROP INDEX documents_idx;\n"
    assert rules(text) == ["blocking-vector-index-drop"]
    assert rules(text * 2) == ["blocking-vector-index-drop", "unknown-index"]
    found = reviewed(
        "DROP INDEX documents_idx", earlier=TABLE + INDEX, allowed=frozenset({"blocking-vector-index-drop"})
    )
    assert [finding.rule for finding in found.findings] == ["drops-serving-index"]


def test_a_guard_that_reads_the_catalog_makes_if_not_exists_safe() -> None:
    guard = (
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_index WHERE NOT indisvalid AND 'i' = '{}') THEN RAISE; END IF; END $$;"
    )
    create = "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON documents USING hnsw (embedding vector_l2_ops)"
    assert rules(guard + create) == []
    assert rules(guard + "SELECT 1;" + create) == ["skips-invalid-index"]


def test_commands_of_psql_and_data_are_passed_over_and_lines_stay_right() -> None:
    text = "\\set ON_ERROR_STOP on\nCOPY documents FROM stdin;\n1\t'; DROP INDEX\n\\.\n\n  DROP INDEX documents_idx;"
    found = reviewed(text, earlier=TABLE + INDEX)
    assert {finding.line for finding in found.findings} == {6}
    assert found.statements == 2


def test_notes_pass_and_findings_do_not() -> None:
    assert reviewed("DROP INDEX CONCURRENTLY nobody_knows").passes
    assert not reviewed("BEGIN; DROP INDEX CONCURRENTLY nobody_knows").passes


@pytest.mark.parametrize(
    "text", ["", ";;;", "CREATE", "CREATE INDEX", "ALTER TABLE", "DROP INDEX", "REINDEX (", "(((", "CREATE TABLE t (", "'", 
             "$$ DROP", "ALTER TABLE a ADD", "ALTER TABLE a ALTER b TYPE", "VACUUM (FULL", "\\", "DROP INDEX ,,,", "/*"]
)  # fmt: skip
def test_a_broken_text_is_read_to_its_end(text: str) -> None:
    for statement in migration_statements(text):
        assert statement.line == 1
    reviewed(text, earlier=TABLE + INDEX)


def test_the_page_explains_every_rule() -> None:
    page = (REPOSITORY / "docs" / "checking-migrations.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"| `{rule}` |" in page, rule
