"""Databases of an application with its own migrations: attached, kept, and left as they were."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import warm
from application import LATER, make_application, snapshot
from by_hand import run
from everindex.articles.background.keeper import article_keeper, reason_to_wait
from everindex.articles.connect import connect_instance
from everindex.articles.declared import DECLARED_INDEXES, EMBEDDING_INDEX
from everindex.articles.incidents import list_incidents
from everindex.articles.ingest.bulk_load import without_index
from everindex.articles.model import REQUIRED_COLUMNS
from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.articles.table import read_table
from everindex.articles.verification import verify
from everindex.errors import (
    ApplicationChainFirst,
    ColumnMismatch,
    DatabaseAttached,
    DatabaseNotAttached,
    NotMigrated,
    PermissionDenied,
    RevisionUnknown,
    StatementFailed,
    UsageError,
)
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.deploy.executor import deploy
from everindex.index.plan.policy import HEAL, MIGRATE_CHANGED
from everindex.index.spec import IndexSpec
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.migrate.detach import Detachment, detach, plan_detach
from everindex.pg.attachment import read_attachment
from everindex.pg.connections import connect
from everindex.settings import Settings, current_settings
from everindex.web.reports.index_report import read_index_report
from everindex.web.reports.readiness import read_readiness

INDEX = "articles_embedding_hnsw_idx"
#: As the application's own data migration made it, with what its developers wrote about it.
THEIRS = "CREATE INDEX ix_articles_embedding ON articles USING hnsw (embedding vector_cosine_ops)"
THEIR_WORDS = "COMMENT ON INDEX {} IS 'made by Ana, see ticket 311'"


def vector_indexes(conninfo: str) -> list[str]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%hnsw%' ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def detached(conninfo: str) -> Detachment:
    return detach(conninfo, DECLARED_INDEXES, also=(INDEX_NAME,))


def planned(conninfo: str) -> Detachment:
    with connect(conninfo) as connection:
        return plan_detach(connection, DECLARED_INDEXES, also=(INDEX_NAME,))


@pytest.fixture
def later(cluster: Any) -> Iterator[str]:
    """An instance of the application at a revision that everindex does not know, without a vector index."""
    conninfo = cluster.database(
        cluster.template("application_later", lambda conninfo: make_application(conninfo, revision=LATER))
    )
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERINDEX_ATTACHED", "true")
    current_settings.cache_clear()


def test_at_a_revision_of_its_application_everything_says_so_and_what_works(later: str) -> None:
    with pytest.raises(RevisionUnknown, match=LATER) as raised:
        runner.upgrade(later)
    assert "everindex attach" in raised.value.next_step
    proof = verify(later, floor=0.9).proofs[0]
    assert proof.holds is False
    assert LATER in proof.sentence
    assert "everindex attach" in str(proof.next_step)
    with connect(later) as connection:
        assert "everindex attach" in str(reason_to_wait(connection))
        assert any(LATER in reason for reason in read_readiness(connection).reasons)


def test_attached_everything_works_and_says_so(later: str) -> None:
    runner.attach(later)
    assert runner.state(later).words == "attached"
    found = verify(later, floor=0.9, samples=10)
    assert found.holds
    assert "attached (everindex attach)" in found.proofs[0].sentence
    with connect(later) as connection:
        readiness = read_readiness(connection)
        assert reason_to_wait(connection) is None
    assert readiness.is_ready
    assert not readiness.is_degraded
    assert readiness.as_dict()["revision"] == {"current": None, "head": "e0aa2eb4fa0a", "attached": True}
    with connect_instance(later, settings=Settings()) as instance:
        assert instance.similar("https://news.example/7", k=3).strategy == "index"
        assert instance.search("subject", mode="keyword", k=5).hits
        assert read_index_report(instance).state == "valid"
    round_ = article_keeper(later, Settings(EVERINDEX_KEEP_RECALL_SECONDS=0)).once()
    assert [each.outcome for each in round_.indexes] == ["already-there"]


def test_alembic_version_is_neither_read_nor_written(later: str) -> None:
    # A view that fails as soon as anybody reads it, in place of the table.
    run(
        later,
        "ALTER TABLE alembic_version RENAME TO application_version",
        "CREATE VIEW alembic_version AS SELECT (1 / (count(*) - count(*)))::text AS version_num FROM "
        "application_version",
    )
    with pytest.raises(psycopg.errors.DivisionByZero):
        run(later, "SELECT version_num FROM alembic_version")
    runner.attach(later)
    runner.upgrade(later)
    assert verify(later, floor=0.9, samples=5).holds
    with connect(later) as connection:
        assert read_readiness(connection).is_ready
        assert reason_to_wait(connection) is None
    with connect_instance(later, settings=Settings()) as instance:
        assert read_index_report(instance).state == "valid"
    for command in (lambda: runner.downgrade(later, "-1"), lambda: runner.upgrade(later, BEFORE_INDEX)):
        with pytest.raises(DatabaseAttached):
            command()
    assert planned(later).drops
    detached(later)


def test_what_is_attached_and_detached_is_as_it_was(later: str) -> None:
    before = snapshot(later)
    runner.attach(later)
    assert vector_indexes(later) == [INDEX]
    runner.attach(later)
    shown = planned(later)
    assert [index.name for index in shown.drops] == [INDEX, INDEX_NAME]
    assert shown.own is not None
    detached(later)
    assert snapshot(later) == before
    assert planned(later).is_empty
    assert detached(later).is_empty


def test_an_index_of_the_words_that_replaced_another_is_known_as_ours_by_the_journal(
    later: str, by_setting: None
) -> None:
    runner.attach(later)
    assert ensure_words(later, text_search="german").outcome == "replaced"
    run(later, "COMMENT ON SCHEMA everindex_meta IS NULL")
    assert [index.name for index in planned(later).drops] == [INDEX, INDEX_NAME]


@pytest.mark.parametrize("name", ["ix_articles_embedding", INDEX])
def test_an_index_of_theirs_is_used_as_it_is_and_stays(later: str, name: str) -> None:
    run(later, THEIRS.replace("ix_articles_embedding", name), THEIR_WORDS.format(name))
    before = snapshot(later)
    runner.attach(later)
    assert vector_indexes(later) == [name]
    with connect(later) as connection:
        spec = effective_spec(connection, EMBEDDING_INDEX)
    assert spec.name == name
    assert deploy(later, spec, policy=HEAL).outcome == "already-there"
    article_keeper(later, Settings(EVERINDEX_KEEP_RECALL_SECONDS=0)).once()
    assert verify(later, floor=0.9, samples=5).holds
    assert any(name in sentence for sentence in planned(later).stays)
    detached(later)
    assert snapshot(later) == before


def test_a_second_index_of_theirs_is_neither_dropped_nor_renamed_by_a_deploy(later: str) -> None:
    run(later, THEIRS, THEIRS.replace("ix_articles_embedding", INDEX))
    runner.attach(later)
    with connect(later) as connection:
        spec = effective_spec(connection, EMBEDDING_INDEX)
    assert deploy(later, spec, policy=HEAL).outcome == "already-there"
    assert vector_indexes(later) == [INDEX, "ix_articles_embedding"]


def test_when_their_index_goes_the_declared_one_is_built_and_goes_at_the_end(later: str) -> None:
    before = snapshot(later)
    run(later, THEIRS)
    runner.attach(later)
    run(later, "DROP INDEX ix_articles_embedding")
    round_ = article_keeper(later, Settings(EVERINDEX_KEEP_RECALL_SECONDS=0)).once()
    assert [(each.index, each.outcome) for each in round_.indexes] == [(INDEX, "built")]
    detached(later)
    assert snapshot(later) == before


def test_a_definition_of_theirs_that_was_replaced_serves_again_with_their_words(later: str) -> None:
    run(later, f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops) WITH (m = 24)")
    run(later, THEIR_WORDS.format(INDEX))
    before = snapshot(later)
    runner.attach(later)
    assert snapshot(later)[0] != before[0]
    assert verify(later, floor=0.9, samples=5).proofs[1].holds is False  # somebody's choice, told and left alone
    with connect(later) as connection:
        spec: IndexSpec = effective_spec(connection, EMBEDDING_INDEX)
    assert deploy(later, spec, policy=MIGRATE_CHANGED).outcome == "replaced"
    assert [each.name for each in planned(later).returns] == [INDEX]
    detached(later)
    assert snapshot(later) == before


MOMENTS_OF_ATTACHING = {
    "before anything is recorded": ("everindex.migrate.attach", "record_found", "before"),
    "before the transaction of the record ends": ("everindex.migrate.attach", "write_attachment", "after"),
    "before the index": ("everindex.migrate.declared_indexes", "deploy", "before"),
    "after the index": ("everindex.migrate.declared_indexes", "deploy", "after"),
}
MOMENTS_OF_DETACHING = {
    "before anything is dropped": ("everindex.migrate.detach", "write_attachment", "after"),
    "after the first index": ("everindex.migrate.detach", "drop_generation", "after"),
    "before the comments": ("everindex.migrate.detach", "comment_statement", "before"),
    "before the schema": ("everindex.migrate.detach", "drop_schema", "before"),
}


def killed_at(conninfo: str, moment: tuple[str, str, str], call: str) -> None:
    module, name, when = moment
    program = f"""
import importlib, os, signal, sys
from everindex.articles.declared import DECLARED_INDEXES
from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.migrate import runner
from everindex.migrate.detach import detach
module = importlib.import_module({module!r})
real = getattr(module, {name!r})
def and_die(*arguments, **options):
    if {when!r} == "after":
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, {name!r}, and_die)
{call}
"""
    killed = warm.run(["-c", program, conninfo], timeout=60)
    assert killed.returncode == -9, killed.stderr


@pytest.mark.parametrize("moment", MOMENTS_OF_ATTACHING)
def test_attaching_that_is_killed_is_finished_by_a_second_run(later: str, moment: str) -> None:
    run(later, THEIRS.replace("vector_cosine_ops", "vector_l2_ops"))
    before = snapshot(later)
    killed_at(later, MOMENTS_OF_ATTACHING[moment], "runner.attach(sys.argv[1])")
    runner.attach(later)
    assert verify(later, floor=0.9, samples=5).holds
    assert vector_indexes(later) == [INDEX, "ix_articles_embedding"]
    detached(later)
    assert snapshot(later) == before


@pytest.mark.parametrize("moment", MOMENTS_OF_DETACHING)
def test_detaching_that_is_killed_is_finished_by_a_second_run_and_keeps_the_keeper_off(later: str, moment: str) -> None:
    run(later, THEIRS.replace("vector_cosine_ops", "vector_l2_ops"), THEIR_WORDS.format("ix_articles_embedding"))
    before = snapshot(later)
    runner.attach(later)
    # As a rollback leaves it: a line of ours below theirs.
    run(
        later,
        'COMMENT ON INDEX ix_articles_embedding IS \'made by Ana, see ticket 311\neverindex: serving {"refused": ["abc"]}\'',
    )
    killed_at(later, MOMENTS_OF_DETACHING[moment], "detach(sys.argv[1], DECLARED_INDEXES, also=(INDEX_NAME,))")
    with connect(later) as connection:
        assert "detach" in str(reason_to_wait(connection))
    detached(later)
    assert snapshot(later) == before


ASIDE = (
    "import sys, time\nfrom everindex.articles.ingest.bulk_load import without_index\n"
    "with without_index(sys.argv[1], vectors_coming=5000) as is_aside:\n    print(is_aside, flush=True)\n    "
    "time.sleep(60)\n"
)


def by_the_next_import(conninfo: str) -> None:
    with without_index(conninfo, vectors_coming=1):
        pass


def by_the_keeper(conninfo: str) -> None:
    settings = Settings(EVERINDEX_KEEP_RECALL_SECONDS=0, EVERINDEX_WARM_SECONDS=0)
    assert article_keeper(conninfo, settings).once(threading.Event()).has_changed


@pytest.mark.parametrize("comes_back", [by_the_next_import, by_the_keeper, runner.attach], ids=lambda by: by.__name__)
def test_an_import_killed_while_the_index_is_set_aside_is_finished_and_their_chain_is_left_alone(
    empty: str, comes_back: Callable[[str], object]
) -> None:
    make_application(empty, revision=LATER, rows=40)
    theirs = snapshot(empty)
    runner.attach(empty)
    assert vector_indexes(empty) == [INDEX]
    with warm.Process(["-c", ASIDE, empty]) as process:
        assert process.stdout.readline() == "True\n"
        process.kill()
        process.wait()
    with psycopg.connect(empty, autocommit=True) as connection:
        deadline = time.monotonic() + 30
        while connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name = 'everindex import' AND datname = current_database()"
        ).fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert vector_indexes(empty) == []
    comes_back(empty)
    assert vector_indexes(empty) == [INDEX]
    detached(empty)
    assert snapshot(empty) == theirs


def test_a_note_of_an_import_on_their_primary_key_goes_with_everindex(later: str) -> None:
    run(later, "COMMENT ON INDEX articles_pkey IS 'by the application'")
    before = snapshot(later)
    runner.attach(later)
    run(later, "COMMENT ON INDEX articles_pkey IS 'by the application\neverindex: set aside {}'")
    assert [index.name for index in planned(later).comments] == ["articles_pkey"]
    detached(later)
    assert snapshot(later) == before


def test_attaching_again_in_the_middle_of_detaching_brings_it_back(later: str) -> None:
    before = snapshot(later)
    runner.attach(later)
    killed_at(
        later, MOMENTS_OF_DETACHING["before the schema"], "detach(sys.argv[1], DECLARED_INDEXES, also=(INDEX_NAME,))"
    )
    runner.attach(later)
    assert verify(later, floor=0.9, samples=5).holds
    detached(later)
    assert snapshot(later) == before


def test_what_depends_on_our_tables_is_told_and_not_dropped(later: str) -> None:
    runner.attach(later)
    run(later, "CREATE VIEW builds AS SELECT * FROM everindex_meta.journal")
    with pytest.raises(StatementFailed, match="everindex_meta was not dropped") as raised:
        detached(later)
    assert "builds" in raised.value.why
    run(later, "DROP VIEW builds")
    assert detached(later).own is not None
    assert planned(later).is_empty


def test_a_database_of_our_own_chain_is_not_detached(migrated: str) -> None:
    with pytest.raises(DatabaseNotAttached):
        detached(migrated)


@pytest.mark.parametrize("by_setting", [False, True])
@pytest.mark.parametrize("revision", ["head", "b6a5ff4214f5"])
def test_a_database_of_our_own_chain_alone_is_not_attached(
    migrated: str, revision: str, by_setting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if revision != "head":
        runner.downgrade(migrated, revision)
    monkeypatch.setenv("EVERINDEX_ATTACHED", str(by_setting).lower())
    current_settings.cache_clear()
    before = snapshot(migrated)
    with pytest.raises(UsageError, match="nothing was attached: everindex's own migrations created this database"):
        runner.attach(migrated)
    assert snapshot(migrated) == before


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE orders (id int)",
        "ALTER TABLE articles ADD COLUMN reviewer text",
        f"UPDATE alembic_version SET version_num = '{LATER}'",
    ],
)
def test_as_soon_as_something_of_an_application_is_in_it_it_is_attached(migrated: str, theirs: str) -> None:
    run(migrated, theirs)
    runner.attach(migrated)
    runner.attach(migrated)
    with connect(migrated) as connection:
        assert read_attachment(connection) is not None


def test_a_table_without_the_column_is_the_applications_business(empty: str) -> None:
    make_application(empty, revision="1745b4f22f68", rows=3)
    run(empty, "CREATE EXTENSION vector")
    before = snapshot(empty)
    with pytest.raises(NotMigrated, match="no column embedding") as raised:
        runner.attach(empty)
    assert "ALTER TABLE public.articles ADD COLUMN embedding vector(1536)" in raised.value.next_step
    assert snapshot(empty) == before


def test_what_the_applications_schema_lacks_is_told_as_its_own_business(later: str) -> None:
    runner.attach(later)
    run(later, "DROP TABLE incident_status", "ALTER TABLE articles DROP COLUMN topic")
    with connect(later) as connection:
        with pytest.raises(NotMigrated, match="incident_status") as raised:
            list_incidents(connection)
        assert "in an attached database, create it in the application's migrations" in raised.value.next_step
        with pytest.raises(ColumnMismatch, match="lacks topic") as lacking:
            read_table(connection)
        assert "in a revision of the application" in lacking.value.next_step


# --- roles ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def role(later: str) -> Iterator[Callable[..., str]]:
    """Logins of the test's own on the application's database."""
    made: list[str] = []

    def make(name: str, *grants: str) -> str:
        run(later, f"CREATE ROLE {name} LOGIN", *(grant.format(role=name) for grant in grants))
        made.append(name)
        return make_conninfo(later, user=name)

    yield make
    for name in made:
        run(later, f"REASSIGN OWNED BY {name} TO everindex", f"DROP OWNED BY {name}", f"DROP ROLE {name}")


OWNS = ("ALTER TABLE articles OWNER TO {role}", "GRANT CREATE ON SCHEMA public TO {role}")
READS = ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",)


def test_an_owner_that_may_not_create_schemas_is_told_what_works(
    role: Callable[..., str], later: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = role("at_owner", *OWNS)
    with pytest.raises(PermissionDenied, match="cannot be recorded") as raised:
        runner.attach(owner)
    assert "EVERINDEX_ATTACHED=true" in raised.value.next_step
    assert vector_indexes(later) == []
    monkeypatch.setenv("EVERINDEX_ATTACHED", "true")
    current_settings.cache_clear()
    runner.upgrade(owner)
    assert verify(owner, floor=0.9, samples=5).holds
    assert runner.state(owner).is_attached
    # Nothing is recorded, so nothing is guessed: it is named, and stays.
    assert planned(owner).is_empty
    assert any(f'DROP INDEX CONCURRENTLY "public"."{INDEX}"' in sentence for sentence in planned(owner).stays)


def test_an_owner_of_a_prepared_schema_needs_no_more(role: Callable[..., str], later: str) -> None:
    owner = role("at_prepared", *OWNS, "CREATE SCHEMA everindex_meta AUTHORIZATION {role}")
    runner.attach(owner)
    assert verify(owner, floor=0.9, samples=5).holds
    assert runner.state(later).is_attached


def test_a_role_that_only_reads_searches_and_is_told_who_can_build(
    role: Callable[..., str], later: str, by_setting: None, caplog: pytest.LogCaptureFixture
) -> None:
    reader = role("at_reader", *READS)
    with caplog.at_level(logging.WARNING, "everindex"):
        runner.upgrade(reader)
    assert "let the owner of table articles run  CREATE INDEX CONCURRENTLY" in caplog.text
    assert vector_indexes(later) == []
    with connect(reader) as connection:
        assert read_readiness(connection).is_ready
    with connect_instance(reader, settings=Settings()) as instance:
        assert instance.similar("https://news.example/7", k=3).strategy == "exact"


def test_a_role_that_may_not_use_our_schema_sees_that_the_database_is_attached(
    role: Callable[..., str], later: str
) -> None:
    runner.attach(later)
    assert runner.state(role("at_stranger", *READS)).is_attached


def test_a_partitioned_table_of_articles_is_attached_filled_searched_and_left(empty: str) -> None:
    columns = ", ".join(f"{name} text" for name in REQUIRED_COLUMNS)
    run(
        empty,
        "CREATE EXTENSION vector",
        f"CREATE TABLE articles ({columns}, embedding vector(256), PRIMARY KEY (uri)) PARTITION BY HASH (uri)",
        *(f"CREATE TABLE a{n} PARTITION OF articles FOR VALUES WITH (MODULUS 2, REMAINDER {n})" for n in range(2)),
        "COMMENT ON INDEX articles_pkey IS 'Ana'",
    )
    before = snapshot(empty)
    runner.attach(empty)
    with connect_instance(empty, settings=Settings()) as instance:
        first = instance.upsert([{"uri": f"u{n}", "title": f"title {n} of a crash"} for n in range(20)])
        again = instance.upsert([{"uri": f"u{n}", "title": f"title {n} of a crash", "summary": "s"} for n in range(30)])
        assert (first.stored.inserted, again.stored.inserted, again.stored.updated) == (20, 10, 20)
        assert len(instance.search("crash", k=30).hits) == 30
        assert instance.verify(samples=5).holds
    detached(empty)
    run(empty, "TRUNCATE articles")
    assert snapshot(empty) == before


# --- before our chain goes on in theirs ------------------------------------------------------------------------------


def test_before_the_last_revision_the_upgrade_says_what_follows_and_goes_on(
    empty: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_application(empty, revision=BEFORE_INDEX, rows=50)
    with caplog.at_level(logging.WARNING, "everindex"):
        runner.upgrade(empty)
    assert "everindex attach" in caplog.text
    assert "application_0" in caplog.text
    assert runner.state(empty).is_head
    assert vector_indexes(empty) == [INDEX]


@pytest.mark.parametrize("revision", ["d8d9cdcec340", "1745b4f22f68", "8eadb2079747"])
def test_earlier_the_application_runs_its_own_chain_first(empty: str, revision: str) -> None:
    make_application(empty, revision=revision, rows=5)
    before = snapshot(empty)
    with pytest.raises(ApplicationChainFirst, match=revision) as raised:
        runner.upgrade(empty)
    assert "application_0" in raised.value.why
    assert "bias" in raised.value.why
    assert snapshot(empty) == before


@pytest.mark.parametrize("revision", ["d8d9cdcec340", "8eadb2079747", BEFORE_INDEX])
@pytest.mark.parametrize("has_comments", [True, False])
def test_our_own_chain_beside_other_tables_goes_on_without_a_word(
    empty: str, revision: str, has_comments: bool, caplog: pytest.LogCaptureFixture
) -> None:
    runner.upgrade(empty, revision)
    run(empty, "CREATE TABLE something_else (id int)", "ALTER TABLE articles ADD COLUMN bias text")
    if not has_comments:  # as pg_dump --no-comments --exclude-schema=everindex_meta leaves it
        run(
            empty,
            "COMMENT ON TABLE articles IS NULL",
            "COMMENT ON TABLE raw_articles IS NULL",
            "DROP SCHEMA everindex_meta CASCADE",
        )
    with caplog.at_level(logging.WARNING, "everindex"):
        runner.upgrade(empty)
    assert caplog.text == ""
    assert runner.state(empty).is_head
