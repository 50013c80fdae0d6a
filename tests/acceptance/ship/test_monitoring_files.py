"""The alert rules and the dashboard in deploy/: each expression finds what is exported, and the rules tell sick from well."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import yaml

from clusters import Cluster
from everindex.articles.background.keeper import article_keeper
from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.index.catalog.observe import observe
from everindex.index.recall.history import RecallSample, graph_of, remember
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from repository import REPOSITORY as ROOT
from scrapes import families, samples, value

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "everindex.json"
MONITORING = ROOT / "docs" / "monitoring.md"
#: What Prometheus itself adds to a sample.
ADDED = {"instance", "job"}
#: Samples further apart than scrapes: the longest alert waits for a day, and promtool evaluates every step. RATES: what the
#: windows of rates need.
STEP_MINUTES, RATES_STEP_MINUTES = 15, 5
#: What a short build, and an instance without a replica, export no sample of.
WITHOUT_SAMPLE = {"everindex_build_progress_ratio", "everindex_build_left_seconds", "everindex_replica_up"}


@pytest.fixture(scope="module")
def scrape(cluster: Cluster, with_articles: str) -> Iterator[str]:
    """A scrape of an instance that searched, failed, measured recall and keeps an index, while a build waits."""
    conninfo = cluster.database(with_articles)
    settings = Settings()
    with (
        connect_instance(conninfo, settings=settings) as instance,
        serve_in_thread(instance) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
        psycopg.connect(conninfo) as writer,
    ):
        with psycopg.connect(conninfo, autocommit=True) as connection:
            graph = graph_of(connection, observe(connection, EMBEDDING_INDEX).indexes[0])
            measured = RecallSample(k=10, queries=40, found=398, wanted=400, exact_ms=9.0, approximate_ms=1.0)
            remember(connection, EMBEDDING_INDEX, graph, measured)
        instance.keeper_rounds.note(article_keeper(conninfo, settings).once())
        for mode in ("hybrid", "keyword", "semantic"):
            assert client.get("/api/search", params={"q": "memory leak", "mode": mode}).status_code == 200
        assert client.get("/api/search", params={"q": "x", "mode": "keyword", "after": "x"}).status_code == 409
        writer.execute("UPDATE articles SET topic = topic WHERE uri = (SELECT min(uri) FROM articles)")
        statement = "CREATE INDEX CONCURRENTLY other ON articles USING hnsw (embedding vector_l2_ops)"
        builder = psycopg.connect(conninfo, autocommit=True)
        thread = threading.Thread(target=builder.execute, args=(statement,))
        thread.start()
        ends = time.monotonic() + 30
        while True:
            instance_text = client.get("/metrics").text
            if (
                value(instance_text, "everindex_build_waiting")
                and value(instance_text, "everindex_doctor_unknown") is not None
            ):
                break
            assert time.monotonic() < ends, instance_text
            time.sleep(0.1)
        writer.rollback()
        thread.join(60)
        builder.close()
        yield instance_text
    cluster.drop(conninfo)


@cache
def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return found


@cache
def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


@cache
def expressions() -> dict[str, str]:
    """Where it stands → PromQL, with Grafana's variables filled in."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in rules()}
    for panel in panels():
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
            found[f"panel {panel['title']} {target['refId']}"] = expr
    return found


def used(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of an expression, with the labels that it names, and those by which the whole is grouped."""
    grouped = {
        label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expr) for label in group.split(",") if label.strip()
    }
    for name, selector in re.findall(r"\b((?:everindex|process)_[a-z_]+)(\{[^}]*\})?", expr):
        yield name, grouped | set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector))


@pytest.mark.parametrize("where", expressions())
def test_an_expression_names_only_metrics_and_labels_that_are_exported(scrape: str, where: str) -> None:
    exported = samples(scrape)
    found = list(used(expressions()[where]))
    assert found
    for name, labels in found:
        if name in WITHOUT_SAMPLE:
            assert name in families(scrape)
            continue
        own = [{label for label, _ in of_sample} for each, of_sample in exported if each == name]
        assert own, f"{name} is not exported"
        assert labels - ADDED <= own[0], f"{name} has no label {labels - ADDED - own[0]}"


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_the_legend_of_a_panel_names_labels_that_its_samples_have(scrape: str, panel: dict[str, Any]) -> None:
    exported = samples(scrape)
    for target in panel["targets"]:
        wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        (grouped,) = re.findall(r"\bby \(([^)]*)\)", target["expr"])[:1] or [None]
        name = next(used(target["expr"]))[0]
        if name in WITHOUT_SAMPLE:
            continue
        own = next({label for label, _ in of_sample} for each, of_sample in exported if each == name) | ADDED
        assert wanted <= (own if grouped is None else {label.strip() for label in grouped.split(",")}), target


def test_every_alert_has_a_severity_a_summary_and_a_section_of_the_page() -> None:
    page = MONITORING.read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith((".", "value }}."))
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"
        assert f"### {rule['alert']}\n" in page


def test_every_metric_is_described_on_the_page(scrape: str) -> None:
    page = MONITORING.read_text()
    described = set(re.findall(r"`((?:everindex)_?[a-z_]*)[`{]", page))
    exported = {name for name in families(scrape) if name.startswith("everindex")}
    assert exported - described == set()
    assert described - exported - {"everindex_meta"} == set()


def test_panels_do_not_overlap_and_each_has_a_description_and_a_unit() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own checker, where it is installed; the tests above need none."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool (Debian: apt install prometheus)")
    return found


def run(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_the_rules(promtool: str) -> None:
    assert f"{len(rules())} rules found" in run(promtool, "check", "rules", ALERTS)


def test_prometheus_accepts_the_exposition(promtool: str, scrape: str) -> None:
    """Its linter of metrics has nothing to say about names, units and help texts of ours."""
    done = subprocess.run([promtool, "check", "metrics"], input=scrape, capture_output=True, text=True, check=False)
    remarks = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("everindex")]
    assert remarks == []


def series(
    scrape: str, changed: dict[str, float], *, metrics: set[str], minutes: int = STEP_MINUTES
) -> list[dict[str, str]]:
    """The samples of these metrics as two days of a time series, with other values for some: `name` or `name{label="value"}`."""
    made = []
    for (name, labels), number in samples(scrape).items():
        if name in metrics:
            given = next((changed[key] for key in changed if matches(key, name, labels)), number)
            grows = name.endswith(("_total", "_count", "_bucket", "_sum"))
            written = ",".join(f'{key}="{text}"' for key, text in [*sorted(labels), ("instance", "one")])
            made.append(
                {
                    "series": f"{name}{{{written}}}",
                    "values": f"{given}+{given * minutes if grows else 0}x{steps_of(minutes)}",
                }
            )
    return made


def steps_of(minutes: int) -> int:
    """Of two days."""
    return 48 * 60 // minutes


def matches(key: str, name: str, labels: frozenset[tuple[str, str]]) -> bool:
    bare, _, selector = key.partition("{")
    return bare == name and all(tuple(pair) in labels for pair in re.findall(r'(\w+)="([^"]*)"', selector))


def evaluated(
    promtool: str,
    at: Path,
    tests: dict[str, tuple[list[dict[str, str]], list[dict[str, Any]]]],
    minutes: int = STEP_MINUTES,
) -> None:
    """Runs Prometheus' own test of rules: by name, the series of a test and what its expressions must find."""
    at.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(ALERTS)],
                "evaluation_interval": f"{minutes}m",
                "tests": [
                    {
                        "name": name, "interval": f"{minutes}m", "input_series": input_series,
                        "promql_expr_test": expected,
                    }
                    for name, (input_series, expected) in tests.items()
                ],
            }
        )
    )  # fmt: skip
    run(promtool, "test", "rules", at)


def firing(names: Iterable[str]) -> list[dict[str, Any]]:
    """The expectation that exactly these alerts fire after two days."""
    return [
        {
            "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": "47h",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names],
        }
    ]


WELL = {
    "everindex_build_waiting": 0, "everindex_build_running": 0, "everindex_keeper_leader": 1,
    "everindex_doctor_finding{severity=\"critical\"}": 0, "everindex_vectors_unrecorded": 0,
    "everindex_keeper_last_round_timestamp_seconds": 47 * 3600, "everindex_observation_timestamp_seconds": 47 * 3600,
    "everindex_search_seconds_count{strategy=\"exact\"}": 0,
}  # fmt: skip
SICK = {
    "everindex_database_up": (0, "EverindexDatabaseUnreachable"),
    "everindex_observation_timestamp_seconds": (1, "EverindexObservationStale"),
    'everindex_index_state{state="invalid"}': (1, "EverindexIndexNotServing"),
    'everindex_index_state{state="building"}': (1, "EverindexIndexBuildsLong"),
    "everindex_build_waiting": (1, "EverindexBuildWaits"),
    "everindex_index_differs": (1, "EverindexIndexDiffers"),
    "everindex_index_recall_below_floor": (1, "EverindexRecallBelowFloor"),
    "everindex_short_answers_total": (3, "EverindexShortAnswers"),
    "everindex_pool_requests_waiting": (2, "EverindexPoolExhausted"),
    "everindex_embedding_backlog": (5, "EverindexEmbeddingBacklog"),
    "everindex_embedding_failures": (5, "EverindexEmbeddingFails"),
    "everindex_vectors_unrecorded": (5, "EverindexVectorsUnrecorded"),
    "everindex_keeper_leader": (0, "EverindexNoKeeper"),
    "everindex_keeper_failures": (1, "EverindexKeeperFails"),
}


def alerting() -> set[str]:
    """The metrics that the rules use."""
    return {name for rule in rules() for name, _ in used(rule["expr"])}


def test_one_sick_sample_fires_its_alert_and_no_other_and_none_fires_while_all_is_well(
    promtool: str, scrape: str, tmp_path: Path
) -> None:
    tests = {"well": (series(scrape, WELL, metrics=alerting()), firing([]))}
    for key, (number, alert) in SICK.items():
        changed = {key: number, **{name: well for name, well in WELL.items() if name != key}}
        tests[key] = series(scrape, changed, metrics=alerting()), firing([alert])
    evaluated(promtool, tmp_path / "sick.yaml", tests)


def test_rates_and_missing_rounds_fire_their_alerts(promtool: str, scrape: str, tmp_path: Path) -> None:
    minutes = RATES_STEP_MINUTES
    steps = steps_of(minutes)
    by_meaning = '{collection="articles",mode="semantic",strategy="exact",instance="one"}'
    by_words = 'collection="articles",mode="keyword",strategy="keyword",instance="two"'
    buckets = [(le, 100 if le in ("5.0", "10.0", "+Inf") else 0) for le in ("0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")]
    failed = '{method="GET",route="/api/search",status="503",instance="two"}'
    added = {
        f"everindex_search_seconds_count{by_meaning}": f"0+600x{steps}",
        f"everindex_http_requests_total{failed}": f"0+6000x{steps}",
        'everindex_replica_up{instance="one"}': f"0x{steps}",
        'everindex_doctor_finding{severity="critical",rule="index-is-invalid",instance="one"}': f"1x{steps}",
        **{f'everindex_search_seconds_bucket{{{by_words},le="{le}"}}': f"0+{step}x{steps}" for le, step in buckets},
    }
    absent = {"everindex_build_running", "everindex_build_waiting", "everindex_search_seconds_bucket"}
    changed = {**WELL, "everindex_keeper_last_round_timestamp_seconds": 1}
    found = series(scrape, changed, metrics=alerting() - absent, minutes=minutes)
    found += [{"series": name, "values": values} for name, values in added.items()]
    expected = {
        "EverindexSearchesReadAllRows", "EverindexSearchesSlow", "EverindexRequestsFail", "EverindexReplicaAway",
        "EverindexDoctorCritical", "EverindexKeeperSilent",
    }  # fmt: skip
    evaluated(promtool, tmp_path / "rates.yaml", {"rates": (found, firing(sorted(expected)))}, minutes)
    assert {alert for _, alert in SICK.values()} | expected == {rule["alert"] for rule in rules()}


def test_every_expression_of_the_dashboard_has_samples(promtool: str, scrape: str, tmp_path: Path) -> None:
    shown = [expr for where, expr in expressions().items() if where.startswith("panel")]
    tested = [expr for expr in shown if not {name for name, _ in used(expr)} & WITHOUT_SAMPLE]
    assert len(tested) > 30
    expected = [
        {"expr": f"count({expr}) > bool 0", "eval_time": "8h", "exp_samples": [{"labels": "{}", "value": 1}]}
        for expr in tested
    ]
    found = series(scrape, {}, metrics={name for expr in tested for name, _ in used(expr)}, minutes=RATES_STEP_MINUTES)
    evaluated(promtool, tmp_path / "dashboard.yaml", {"dashboard": (found, expected)}, RATES_STEP_MINUTES)
