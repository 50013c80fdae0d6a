"""The runner, the mending and the command: nothing unasked is good, nothing but safe fixes is run, worst comes first."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import warm
from by_hand import run
from everindex.doctor.examine import all_rules, examine, run_rules
from everindex.doctor.examined import Examined
from everindex.doctor.fix import FixResult, apply_fixes
from everindex.doctor.rule import Report, Rule, RuleResult, finding, good, unknown
from everindex.errors import EverindexError, UsageError
from everindex.pg.capabilities import look
from everindex.pg.connections import connect
from examining import make_items

MISSPELLED = "misspelled-hnsw-setting"


@pytest.fixture
def items(cluster: Any) -> Iterator[str]:
    """300 vectors with an HNSW index."""
    conninfo = cluster.database(cluster.template("doctor_items", make_items))
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def misspelled(items: str) -> str:
    """A database that keeps a setting which pgvector does not know."""
    run(items, f"ALTER DATABASE {conninfo_to_dict(items)['dbname']} SET hnsw.ef_serch = 100")
    return items


def rule(slug: str, ask: Any, severity: Any = "warning") -> Rule:
    return Rule(slug=slug, severity=severity, title=f"{slug} is well", reason="none (a test).", check=ask)


def asked(conninfo: str, *rules: Rule, max_seconds: float = 2.0) -> Report:
    with connect(conninfo) as connection:
        return run_rules(Examined(connection=connection, capabilities=look(connection), max_seconds=max_seconds), rules)


def examined(conninfo: str, *slugs: str) -> Report:
    with connect(conninfo) as connection:
        return examine(connection, slugs=slugs)


def doctor(conninfo: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DB_", "EVERINDEX_"))
    }
    done = warm.run(
        ["everindex", "doctor", *arguments],
        env=kept | {"DATABASE_URL": conninfo, "EVERINDEX_WAIT": "0", "COLUMNS": "200"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


# --- the runner -----------------------------------------------------------------------------------------------------


def test_findings_come_first_the_worst_on_top_then_what_is_unknown_then_what_is_good(empty: str) -> None:
    report = asked(
        empty,
        rule("a", lambda e: [good("fine"), unknown("who knows")]),
        rule("b", lambda e: [finding("a note")], "notice"),
        rule("c", lambda e: [finding("it hurts")]),
        rule("d", lambda e: [finding("it burns")], "critical"),
        rule("e", lambda e: []),
    )
    assert [answer.sentence for _, answer in report.answers] == ["it burns", "it hurts", "a note", "who knows", "fine"]
    assert not report.is_healthy


def test_notices_and_what_is_unknown_leave_a_database_healthy(empty: str) -> None:
    assert asked(
        empty, rule("a", lambda e: [finding("a note")], "notice"), rule("b", lambda e: [unknown("?")])
    ).is_healthy


def test_a_rule_that_fails_is_unknown_with_the_servers_reason_and_the_others_are_asked(empty: str) -> None:
    def half(e: Examined) -> Iterator[RuleResult]:
        yield good("the first half")
        e.rows("SELECT * FROM no_such_table")

    report = asked(empty, rule("a", half), rule("b", lambda e: [good(str(e.row("SELECT 7")[0]))]))
    said = {answer.sentence: answer.status for _, answer in report.answers}
    (reason,) = [sentence for sentence, status in said.items() if status == "unknown"]
    assert 'relation "no_such_table" does not exist' in reason
    assert said["the first half"] == "good"
    assert said["7"] == "good"


def test_a_missing_privilege_is_unknown_and_names_the_role(items: str) -> None:
    run(items, "DROP ROLE IF EXISTS nobody_much", "CREATE ROLE nobody_much LOGIN")
    try:
        report = asked(
            make_conninfo(items, user="nobody_much"),
            rule("a", lambda e: [good(str(e.rows("SELECT count(*) FROM items")))]),
        )
    finally:
        run(items, "DROP ROLE nobody_much")
    ((_, answer),) = report.answers
    assert answer.status == "unknown"
    assert 'role "nobody_much" lacks the privilege' in answer.sentence


def test_a_lock_that_somebody_holds_costs_the_time_limit_once_and_is_unknown(items: str) -> None:
    with psycopg.connect(items) as holder:
        holder.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
        ask = lambda e: [good(str(e.rows("SELECT count(*) FROM items")))]  # noqa: E731
        report = asked(items, rule("a", ask), rule("b", ask), rule("c", ask), max_seconds=0.2)
    assert {answer.status for _, answer in report.answers} == {"unknown"}
    assert all("did not answer within 0.2 s" in answer.sentence for _, answer in report.answers)


def test_a_rule_cannot_write(items: str) -> None:
    report = asked(items, rule("a", lambda e: [good(str(e.rows("DELETE FROM items RETURNING id")))]))
    ((_, answer),) = report.answers
    assert "read-only transaction" in answer.sentence


def test_a_lost_connection_is_an_error_and_no_report(items: str) -> None:
    with connect(items) as connection:
        pid = connection.info.backend_pid
        run(items, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(EverindexError):
            examine(connection)


def test_every_rule_is_asked_and_named_ones_alone_on_request(items: str) -> None:
    assert {rule.slug for rule, _ in examined(items).answers} <= {rule.slug for rule in all_rules()}
    assert {rule.slug for rule, _ in examined(items, MISSPELLED).answers} == {MISSPELLED}


def test_a_rule_that_there_is_not_is_refused_with_the_one_that_is_meant(items: str) -> None:
    with pytest.raises(UsageError, match="no rule 'old-snapshot'") as raised:
        examined(items, "old-snapshot")
    assert raised.value.next_step == "did you mean old-snapshots?"


def test_an_examination_leaves_no_trace(items: str) -> None:
    asked = "SELECT txid_current(), current_setting('statement_timeout')"
    with connect(items) as connection:
        given = set()
        for _ in range(5):  # transactions of the whole server are numbered: autovacuum's, too
            before = connection.execute(asked).fetchone()
            examine(connection)
            after = connection.execute(asked).fetchone()
            assert before is not None
            assert after is not None
            assert after[1] == before[1]
            given.add(int(after[0]) - int(before[0]))
        row = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'"
        ).fetchone()
    assert min(given) == 1
    assert row == (0,)


# --- mending --------------------------------------------------------------------------------------------------------


def test_a_safe_fix_is_run_and_the_finding_is_gone(misspelled: str) -> None:
    report = examined(misspelled, MISSPELLED)
    assert len(report.findings) == 1
    heard: list[FixResult] = []
    (mended,) = apply_fixes(misspelled, report, on_result=heard.append)
    assert heard == [mended]
    assert mended.outcome == "done"
    assert mended.statement.endswith("RESET hnsw.ef_serch")
    assert examined(misspelled, MISSPELLED).findings == ()
    (again,) = apply_fixes(misspelled, report)
    assert (again.outcome, again.why) == ("left", "the problem no longer exists")


def test_what_is_not_safe_is_never_run(items: str) -> None:
    name = conninfo_to_dict(items)["dbname"]
    run(items, f"ALTER DATABASE {name} SET enable_indexscan = off")
    report = examined(items, "planner-methods-off")
    assert len(report.findings) == 1
    assert apply_fixes(items, report) == ()
    assert examined(items, "planner-methods-off").findings == report.findings


def test_an_invalid_index_is_dropped_and_one_that_somebody_works_on_is_left(items: str) -> None:
    run(items, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_idx'::regclass")
    report = examined(items, "index-is-invalid")
    with psycopg.connect(items, application_name="builder") as holder:
        holder.execute("LOCK TABLE items IN SHARE ROW EXCLUSIVE MODE")
        (left,) = apply_fixes(items, report)
        assert left.outcome == "left"
        assert left.why == f"pid {holder.info.backend_pid} (builder) is working on the table"
        holder.rollback()
    (done,) = apply_fixes(items, report)
    assert done.outcome == "done", done
    assert examined(items, "index-is-invalid").answers == ()


def test_a_fix_that_fails_is_told_and_not_repeated(misspelled: str) -> None:
    report = examined(misspelled, MISSPELLED)
    run(misspelled, "DROP ROLE IF EXISTS bystander", "CREATE ROLE bystander LOGIN")
    try:
        (failed,) = apply_fixes(make_conninfo(misspelled, user="bystander"), report)
    finally:
        run(misspelled, "DROP ROLE bystander")
    assert failed.outcome == "failed"
    assert "owner" in failed.why
    assert len(examined(misspelled, MISSPELLED).findings) == 1


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_shows_what_why_and_fix_and_exits_with_3(misspelled: str) -> None:
    done = doctor(misspelled, "--rule", MISSPELLED)
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0].startswith("PostgreSQL 18")
    assert lines[1].startswith("! warning: hnsw.ef_serch = 100 ")
    assert lines[1].endswith(f"[{MISSPELLED}]")
    assert lines[2].startswith("    why:  ")
    assert lines[3].startswith("    fix:  ALTER DATABASE ")
    assert lines[3].endswith("  (safe: --fix runs it)")
    assert lines[-1] == "1 warning, 0 good"


def test_the_command_mends_what_is_safe_and_exits_with_0_then(misspelled: str) -> None:
    done = doctor(misspelled, "--rule", MISSPELLED, "--fix", "--json")
    assert done.returncode == 0, done.stdout
    document = json.loads(done.stdout)
    assert [one["outcome"] for one in document["fixed"]] == ["done"]
    assert document["is_healthy"] is True
    undeclared, how, *told = done.stderr.splitlines()
    assert undeclared.startswith("no index is declared for this database.")  # it is not one of articles
    assert how.startswith("  next: ")
    assert [line[: line.index(" DATABASE ")] for line in told] == ["to run: ALTER", "done: ALTER"]
    assert examined(misspelled, MISSPELLED).findings == ()


def test_a_notice_alone_exits_with_0_and_what_is_good_is_counted_and_shown_on_request(items: str) -> None:
    short = doctor(items, "--rule", MISSPELLED, "--rule", "iterative-scan-off")
    assert short.returncode == 0
    assert short.stdout.splitlines()[1].startswith("· notice: ")
    assert short.stdout.splitlines()[-1] == "1 notice, 1 good (--all shows them)"
    full = doctor(items, "--rule", MISSPELLED, "--rule", "pgvector-too-old", "--all")
    assert full.returncode == 0
    assert [line[0] for line in full.stdout.splitlines()[1:-1]] == ["✓", "✓"]
    assert full.stdout.splitlines()[-1] == "2 good"


def test_a_rule_that_there_is_not_exits_with_2_in_three_lines(items: str) -> None:
    done = doctor(items, "--rule", "no-such-rule")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3


def test_the_whole_examination_as_one_document(migrated: str) -> None:
    done = doctor(migrated, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["is_healthy"] else 3)
    assert {answer["status"] for answer in document["answers"]} <= {"finding", "unknown", "good"}
    assert document["findings"] == sum(answer["status"] == "finding" for answer in document["answers"])
    assert {answer["rule"] for answer in document["answers"]} <= {rule.slug for rule in all_rules()}
