"""The report of a fleet: counts, exit status, JSON, HTML and JUnit, for hostile names too."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from everindex.errors import UsageError
from everindex.fleet.limits import Demand, Room, remarks_of
from everindex.fleet.report_files import as_html, require_suffix, write_report
from everindex.fleet.results import FleetReport, Outcome, TargetResult

HOSTILE = "<script>alert(1)</script> \x1b[31m & 'x'"


def result(name: str, outcome: Outcome) -> TargetResult:
    return TargetResult(
        name=name,
        where="database x",
        kind="head",
        outcome=outcome,
        sentence=f"{HOSTILE} said.",
        next_step="do it.",
        server="7",
        wave=1,
    )


def report(*outcomes: Outcome) -> FleetReport:
    return FleetReport(
        verb="deploy", began=datetime(2026, 1, 2, tzinfo=UTC), seconds=1.5,
        results=tuple(result(f"t{number}", outcome) for number, outcome in enumerate(outcomes)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        (("done", "unchanged"), 0),
        (("done", "failed"), 1),
        (("done", "finding"), 3),
        (("done", "skipped"), 3),
        (("finding", "failed"), 1),
    ],
)
def test_the_exit_status_is_that_of_the_worst_outcome(outcomes: tuple[Outcome, ...], status: int) -> None:
    assert report(*outcomes).exit_status == status
    assert replace(report(*outcomes), closed="because").exit_status == 1
    assert replace(report(*outcomes), is_interrupted=True).exit_status == 130


def test_the_summary_counts_every_outcome() -> None:
    assert report("done", "done", "failed").summary == "3 targets on 1 server: 2 done, 1 failed, in 1.5 s"


def test_junit_has_a_case_for_each_target_and_is_xml_for_any_text(tmp_path: Path) -> None:
    path = tmp_path / "r.xml"
    write_report(report("done", "failed", "finding", "not-begun"), path)
    (suite,) = ElementTree.parse(path).getroot()
    assert suite.attrib | {"tests": "4", "errors": "1", "failures": "1", "skipped": "1"} == suite.attrib
    assert [case[0].tag for case in suite] == ["system-out", "error", "failure", "skipped"]
    assert "<script>" in suite[1][0].attrib["message"]


def test_html_escapes_what_a_database_says_and_json_is_the_same_report(tmp_path: Path) -> None:
    text = as_html(report("done", "failed"))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert text.count("<tr>") == 3
    path = tmp_path / "r.json"
    write_report(report("done", "failed"), path)
    assert json.loads(path.read_text())["counts"] == {"done": 1, "failed": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["r.json"]


def test_a_report_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    for path in (tmp_path / "r.pdf", tmp_path / "none" / "r.xml"):
        with pytest.raises(UsageError):
            require_suffix(path)


ROOM = Room(locks=6400, max_connections=100, free_connections=90, cache_bytes=4 << 30)
DEMAND = Demand(targets=3, at_once=1, vector_indexes=2, index_bytes=1 << 20)


@pytest.mark.parametrize(
    ("room", "demand", "said"),
    [
        (ROOM, DEMAND, None),
        (ROOM, replace(DEMAND, vector_indexes=51), "lock table of 6400 holds 120 such statements at once"),
        (replace(ROOM, locks=640), replace(DEMAND, vector_indexes=30), "holds 20 such statements"),
        (ROOM, replace(DEMAND, index_bytes=5 << 30), "take 5 GB, and the memory for caching is 4 GB"),
        (replace(ROOM, free_connections=2), DEMAND, "2 connections are free, and the work takes up to 6"),
    ],
)
def test_a_limit_is_said_when_it_is_reached(room: Room, demand: Demand, said: str | None) -> None:
    remarks = remarks_of(room, demand, server="7")
    assert (not remarks) if said is None else (len(remarks) == 1 and said in remarks[0])
