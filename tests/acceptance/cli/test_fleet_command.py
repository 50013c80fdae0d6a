"""`everindex fleet`: its targets from a file, the environment and a query; its reports, its exit status, an interruption."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from xml.etree import ElementTree

from psycopg.conninfo import conninfo_to_dict

from clusters import Cluster
from command_line import PASSWORD, Running, everindex, three_lines, url_of
from everindex.pg.locks import advisory_lock


def test_targets_come_from_a_file_the_environment_or_a_query_and_reports_hold_no_secret(
    migrated: str, tmp_path: Path
) -> None:
    text = f"name,url\ngood,{url_of(migrated)}\nbad,postgresql://u:{PASSWORD}/x@h/d\n"
    file = tmp_path / "targets.csv"
    file.write_text(text)
    reports = [tmp_path / f"report.{suffix}" for suffix in ("json", "html", "xml")]
    words = [word for path in reports for word in ("--report", str(path))]
    of_file = everindex("fleet", "status", "--targets", str(file), *words, "--json")
    assert (of_file.status, of_file.json["counts"]) == (1, {"done": 1, "failed": 1})
    assert json.loads(reports[0].read_text())["targets"][0]["kind"] == "head"
    assert ElementTree.parse(reports[2]).getroot()[0].attrib["errors"] == "1"
    assert all(PASSWORD not in path.read_text() for path in reports)

    of_environment = everindex("fleet", "status", "--only", "good", EVERINDEX_TARGETS=text)
    assert of_environment.status == 0
    assert "1 target on 1 server: 1 done" in of_environment.stdout

    name = str(conninfo_to_dict(migrated)["dbname"])
    query = f"SELECT 'q' AS name, datname AS database FROM pg_database WHERE datname = '{name}'"
    of_query = everindex("fleet", "status", "--targets-query", query, "--json", DATABASE_URL=url_of(migrated))
    assert (of_query.status, [one["name"] for one in of_query.json["targets"]]) == (0, ["q"])


def test_what_cannot_be_used_is_refused_before_any_database_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "targets.csv"
    file.write_text(f"acme,postgresql://u:{PASSWORD}@h/d\n")
    three_lines(everindex("fleet", "deploy", "--targets", str(file)), "targets-invalid", status=2)
    three_lines(everindex("fleet", "deploy"), "bad-input", status=2)
    three_lines(everindex("fleet", "destroy", "--targets", str(file)), "bad-input", status=2)
    three_lines(everindex("fleet", "status", "--targets", str(tmp_path / "none.csv")), "bad-input", status=2)
    three_lines(everindex("fleet", "migrate", "--targets", str(file), "--declared", "x.json"), "bad-input", status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["targets.csv"]


def test_an_interrupted_rollout_says_what_was_not_begun(cluster: Cluster, filled: str, tmp_path: Path) -> None:
    file = tmp_path / "targets.csv"
    file.write_text(f"name,url\nheld,{url_of(filled)}\nnext,{url_of(cluster.admin)}\n")
    with (
        advisory_lock(filled, "migrate", wait_seconds=0),
        Running("fleet", "migrate", "--targets", str(file), "--report", str(tmp_path / "r.json")) as running,
    ):
        running.wait_for("2 targets on 1 server")
        assert running.end(signal.SIGINT) == 130
    told = {one["name"]: one["outcome"] for one in json.loads((tmp_path / "r.json").read_text())["targets"]}
    assert told["next"] == "not-begun"
    assert told["held"] in ("stopped", "not-begun")
