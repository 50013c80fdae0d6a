"""The chain of five revisions on every kind of database it may meet."""

from __future__ import annotations

import logging
import re
import threading
from pathlib import Path

import pytest

import warm
from by_hand import rows, run
from everindex.errors import (
    ColumnMismatch,
    IndexDefinitionDiffers,
    RevisionUnknown,
    SettingInvalid,
)
from everindex.index.reporter import Reporter
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX, script_directory
from everindex.pg import own_schema

HEAD = "e0aa2eb4fa0a"
INDEX = "articles_embedding_hnsw_idx"
CHAIN = ["d8d9cdcec340", "1745b4f22f68", "8eadb2079747", "b6a5ff4214f5", HEAD]

SCHEMA_SQL = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i') AND c.relname <> 'alembic_version'
      AND c.relname <> 'alembic_version_pkc'
    ORDER BY 1, a.attnum
"""


def index_state(conninfo: str) -> list[tuple[object, ...]]:
    return rows(
        conninfo,
        f"SELECT i.indisvalid, am.amname, c.reloptions FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid "
        f"JOIN pg_am am ON am.oid = c.relam WHERE c.relname = '{INDEX}'",
    )


def said(conninfo: str, revision: str = "head") -> list[str]:
    lines: list[str] = []
    runner.upgrade(conninfo, revision, reporter=Reporter(say=lines.append, notice=lines.append))
    return lines


def test_the_chain_is_the_five_revisions_of_the_guide_with_one_head() -> None:
    assert [revision for revision, _, _ in runner.history()] == CHAIN[::-1]
    assert script_directory().get_heads() == [HEAD]
    file = Path(script_directory().get_revision(HEAD).path).name
    assert file == "e0aa2eb4fa0a_add_hnsw_vector_index.py"


def test_an_empty_database_reaches_head_with_the_declared_index(empty: str) -> None:
    runner.upgrade(empty)
    assert runner.state(empty).is_head
    assert index_state(empty) == [(True, "hnsw", ["m=16", "ef_construction=64"])]
    tables = {row[0] for row in rows(empty, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200")}
    assert tables == {"articles", "raw_articles", "article_analysis_cache", "incident_status", "alembic_version"}
    assert rows(empty, "SELECT reloptions FROM pg_class WHERE relname = 'articles'") == [(["fillfactor=70"],)]


def test_down_to_base_and_up_again_gives_the_same_schema(empty: str) -> None:
    runner.upgrade(empty)
    first = rows(empty, SCHEMA_SQL)
    for revision in ["-1"] * 5:
        runner.downgrade(empty, revision)
    assert rows(empty, SCHEMA_SQL) == []
    assert runner.state(empty).current == []
    runner.upgrade(empty)
    assert rows(empty, SCHEMA_SQL) == first


def test_downgrade_by_one_removes_only_the_index(filled: str) -> None:
    before = rows(filled, "SELECT count(*), count(embedding) FROM articles")
    runner.downgrade(filled, "-1")
    assert index_state(filled) == []
    assert rows(filled, "SELECT count(*), count(embedding) FROM articles") == before
    runner.upgrade(filled)
    assert index_state(filled)[0][0] is True


def test_an_index_made_by_hand_with_the_same_definition_is_kept_and_postgresql_says_so(filled: str) -> None:
    runner.downgrade(filled, "-1")
    run(
        filled,
        f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)",
    )
    oid = rows(filled, f"SELECT '{INDEX}'::regclass::oid")
    lines = said(filled)
    assert f'NOTICE: relation "{INDEX}" already exists, skipping' in lines
    assert rows(filled, f"SELECT '{INDEX}'::regclass::oid") == oid
    assert runner.state(filled).is_head


def test_options_left_out_by_hand_count_as_pgvectors_defaults(filled: str) -> None:
    runner.downgrade(filled, "-1")
    run(filled, f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops)")
    said(filled)
    assert index_state(filled) == [(True, "hnsw", None)]


@pytest.mark.parametrize("at", ["before the revision", "at head"])
def test_an_invalid_index_is_rebuilt_and_that_is_said(filled: str, at: str) -> None:
    if at == "before the revision":
        runner.downgrade(filled, "-1")
        run(filled, f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops)")
    run(filled, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{INDEX}'::regclass")
    lines = said(filled)
    assert any("INVALID" in line and "rebuilding" in line for line in lines)
    assert index_state(filled) == [(True, "hnsw", ["m=16", "ef_construction=64"])]


def test_a_missing_index_at_head_is_built_again(filled: str) -> None:
    run(filled, f"DROP INDEX {INDEX}")
    runner.upgrade(filled)
    assert index_state(filled) == [(True, "hnsw", ["m=16", "ef_construction=64"])]


@pytest.mark.parametrize(
    ("definition", "word"),
    [
        ("USING hnsw (embedding vector_l2_ops)", "vector_l2_ops"),
        ("USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 64)", "m is 8, declared 16"),
        ("USING ivfflat (embedding vector_cosine_ops) WITH (lists = 10)", "ivfflat"),
        ("USING hnsw (embedding vector_cosine_ops) WHERE category = 'Library'", "predicate"),
        ("(title)", "btree"),
    ],
)
def test_an_index_of_another_definition_stops_the_upgrade_and_is_not_touched(
    filled: str, definition: str, word: str
) -> None:
    runner.downgrade(filled, "-1")
    run(filled, f"CREATE INDEX {INDEX} ON articles {definition}")
    before = rows(filled, f"SELECT '{INDEX}'::regclass::oid, pg_get_indexdef('{INDEX}'::regclass)")
    with pytest.raises(IndexDefinitionDiffers) as raised:
        runner.upgrade(filled)
    text = str(raised.value)
    assert word in text
    assert "declared: CREATE INDEX" in text
    assert str(before[0][1]) in text
    assert "ALTER INDEX" in text
    assert rows(filled, f"SELECT '{INDEX}'::regclass::oid, pg_get_indexdef('{INDEX}'::regclass)") == before
    assert runner.state(filled).current == [BEFORE_INDEX]


def test_at_head_an_index_of_another_definition_is_somebodys_choice_and_only_told(
    filled: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(filled, f"DROP INDEX {INDEX}", f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_l2_ops)")
    with caplog.at_level(logging.WARNING, "everindex"):
        runner.upgrade(filled)
    assert "index-definition-differs" in caplog.text
    assert index_state(filled)[0][1] == "hnsw"


def test_the_declared_name_on_another_table_is_an_error_that_names_it(filled: str) -> None:
    runner.downgrade(filled, "-1")
    run(filled, f"CREATE INDEX {INDEX} ON incident_status (topic)")
    with pytest.raises(IndexDefinitionDiffers, match="incident_status"):
        runner.upgrade(filled)


def test_an_instance_set_up_by_hand_with_text_everywhere_keeps_its_rows_and_types(empty: str) -> None:
    run(
        empty,
        "CREATE EXTENSION vector",
        "CREATE TABLE articles (uri text PRIMARY KEY, title text, summary text, analyzed text, quality_score text, "
        "bias text, embedding vector(8))",
        "CREATE TABLE something_else (id int)",
        "INSERT INTO articles VALUES ('a', 'A', 'aa', 'yes', 'high', 'left', '[1,0,0,0,0,0,0,0]')",
        "INSERT INTO articles (uri, title, summary) VALUES ('b', 'B', 'bb')",
    )
    runner.upgrade(empty)
    assert rows(empty, "SELECT uri, title, analyzed, quality_score, bias FROM articles ORDER BY uri") == [
        ("a", "A", "yes", "high", "left"),
        ("b", "B", None, None, None),
    ]
    assert index_state(empty)[0][0] is True
    runner.downgrade(empty, "base")
    assert rows(empty, "SELECT count(*), count(embedding) FROM articles") == [(2, 1)]


def test_filter_indexes_on_a_table_in_use_are_built_without_stopping_its_writers(empty: str) -> None:
    run(
        empty,
        "CREATE TABLE articles (uri text PRIMARY KEY, title text, category text)",
        "INSERT INTO articles SELECT n::text, 't', 'c' FROM generate_series(1, 1000) n",
        "CREATE INDEX articles_category_idx ON articles (title)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'articles_category_idx'::regclass",
    )
    runner.upgrade(empty)
    found = rows(
        empty,
        "SELECT c.relname, i.indisvalid, pg_get_indexdef(c.oid) LIKE '%(category)' FROM pg_class c "
        "JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relname = 'articles_category_idx'",
    )
    assert found == [("articles_category_idx", True, True)]


def test_an_embedding_column_of_another_type_is_refused_with_the_statement_that_mends_it(empty: str) -> None:
    run(empty, "CREATE TABLE articles (uri text PRIMARY KEY, embedding text)")
    with pytest.raises(ColumnMismatch, match="type text") as raised:
        runner.upgrade(empty)
    assert "USING embedding::vector" in raised.value.next_step
    assert rows(empty, "SELECT data_type FROM information_schema.columns WHERE column_name = 'embedding'") == [
        ("text",)
    ]


def test_a_later_revision_is_a_clear_error_and_changes_nothing(filled: str) -> None:
    run(filled, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = rows(filled, SCHEMA_SQL)
    with pytest.raises(RevisionUnknown, match="ffffffffffff"):
        runner.upgrade(filled)
    with pytest.raises(RevisionUnknown):
        runner.downgrade(filled, "base")
    assert rows(filled, SCHEMA_SQL) == before
    assert rows(filled, "SELECT version_num FROM alembic_version") == [("ffffffffffff",)]


def test_a_revision_that_is_not_in_the_chain_is_told_as_such(empty: str) -> None:
    with pytest.raises(runner.RevisionNotFound, match="no such revision"):
        runner.upgrade(empty, "nonsense")


def test_the_width_of_the_column_is_a_setting_of_revision_8ead(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERINDEX_DIMENSIONS", "384")
    runner.upgrade(empty)
    assert rows(
        empty, "SELECT atttypmod FROM pg_attribute WHERE attrelid = 'articles'::regclass AND attname = 'embedding'"
    ) == [(384,)]
    monkeypatch.setenv("EVERINDEX_DIMENSIONS", "768")
    runner.upgrade(empty)
    assert runner.state(empty).is_head


def test_a_width_that_no_hnsw_index_holds_is_refused_before_anything_is_added(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERINDEX_DIMENSIONS", "3072")
    with pytest.raises(SettingInvalid, match="3072"):
        runner.upgrade(empty)
    assert runner.state(empty).current == ["1745b4f22f68"]


def test_a_role_named_as_our_product_does_not_move_the_tables(empty: str) -> None:
    # search_path is "$user", public: a schema of the role's name would catch every unqualified table.
    assert rows(empty, "SELECT current_user") == [("everindex",)]
    runner.upgrade(empty)
    runner.downgrade(empty, "base")
    runner.upgrade(empty)
    assert rows(empty, "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'articles'") == [("public",)]


def test_the_extension_may_lie_in_a_schema_outside_the_search_path(empty: str) -> None:
    run(empty, "CREATE SCHEMA extensions", "CREATE EXTENSION vector SCHEMA extensions")
    run(
        empty,
        "CREATE TABLE articles (uri text PRIMARY KEY, embedding extensions.vector(8))",
        "INSERT INTO articles VALUES ('a', '[1,0,0,0,0,0,0,0]')",
    )
    runner.upgrade(empty)
    assert index_state(empty) == [(True, "hnsw", ["m=16", "ef_construction=64"])]


def test_eight_processes_that_upgrade_one_empty_database_all_succeed(empty: str) -> None:
    program = "import sys; from everindex.migrate import runner; runner.upgrade(sys.argv[1])"
    processes = [warm.Process(["-c", program, empty]) for _ in range(8)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, errors
    assert not any("deadlock" in text for text in errors)
    assert index_state(empty) == [(True, "hnsw", ["m=16", "ef_construction=64"])]
    assert rows(empty, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    assert rows(empty, "SELECT count(*) FROM everindex_meta.schema_version") == [(len(own_schema.VERSIONS),)]


@pytest.mark.parametrize("moment", ["before the build", "after the build, before the revision is stamped"])
def test_a_process_killed_around_the_build_leaves_a_state_that_the_next_upgrade_completes(
    filled: str, moment: str
) -> None:
    runner.downgrade(filled, "-1")
    articles = rows(filled, "SELECT count(*), count(embedding), md5(string_agg(uri, ',' ORDER BY uri)) FROM articles")
    program = f"""
import os, signal, sys
from everindex.alembic_kit import implementations
from everindex.migrate import runner
build = implementations.deploy
def build_and_die(*arguments, **options):
    if {moment.startswith("after")}:
        build(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
implementations.deploy = build_and_die
runner.upgrade(sys.argv[1])
"""
    killed = warm.run(["-c", program, filled], timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert runner.state(filled).current == [BEFORE_INDEX]
    assert [row[0] for row in index_state(filled)] == ([True] if moment.startswith("after") else [])
    lines = said(filled)
    assert any("already exists, skipping" in line for line in lines) is moment.startswith("after")
    assert runner.state(filled).is_head
    assert index_state(filled) == [(True, "hnsw", ["m=16", "ef_construction=64"])]
    assert (
        rows(filled, "SELECT count(*), count(embedding), md5(string_agg(uri, ',' ORDER BY uri)) FROM articles")
        == articles
    )


def test_a_read_of_the_state_does_not_wait_for_a_running_migration(empty: str) -> None:
    runner.upgrade(empty)
    from everindex.pg.locks import advisory_lock

    done = threading.Event()
    with advisory_lock(empty, "migrate", wait_seconds=5):
        thread = threading.Thread(target=lambda: (runner.state(empty), done.set()), daemon=True)
        thread.start()
        assert done.wait(10)


def test_offline_sql_says_its_concurrent_build_outside_a_transaction() -> None:
    script = runner.offline_sql()
    before = script[: script.index("CREATE INDEX CONCURRENTLY")]
    assert before.rindex("COMMIT;") > before.rindex("BEGIN;")
    assert re.search(r"vector\(1536\)", script)
    assert runner.offline_sql("head:base", down=True).count("DROP INDEX CONCURRENTLY IF EXISTS") == 1
