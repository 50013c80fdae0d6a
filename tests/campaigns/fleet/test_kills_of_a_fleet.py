"""`everindex fleet deploy` is killed at random moments; the same command then ends in the same state."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from clusters import Cluster
from command_line import Running, everindex, url_of
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from templates import filled_with

TENANTS, ROWS = 3, 200


def state_of(conninfo: str) -> list[tuple[object, ...]]:
    """Every index of the database with its definition and validity, and the revision."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            "SELECT pg_get_indexdef(indexrelid), indisvalid, indisready, (SELECT max(version_num) FROM alembic_version) "
            "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()


def before_index(conninfo: str) -> None:
    filled_with(ROWS)(conninfo)
    runner.downgrade(conninfo, BEFORE_INDEX, wait_seconds=0)


@pytest.mark.parametrize("rounds", [2, pytest.param(int(os.environ.get("KILLS", "50")), marks=pytest.mark.long)])
def test_a_killed_fleet_continues_to_the_same_end(cluster: Cluster, tmp_path: Path, rounds: int) -> None:
    chance = random.Random(int(os.environ.get("KILLS_SEED", "14")))
    template = cluster.template("fleet_kills", before_index)
    reference = cluster.database(template)
    runner.upgrade(reference, wait_seconds=0)
    expected = state_of(reference)
    assert any(EMBEDDING_INDEX.name in str(row[0]) for row in expected)
    killed = 0
    for number in range(rounds):
        made = [cluster.database(template) for _ in range(TENANTS)]
        targets = tmp_path / f"{number}.csv"
        lines = [f"t{at},{url_of(conninfo)}" for at, conninfo in enumerate(made)]
        targets.write_text("\n".join(["name,url", *lines]) + "\n")
        words = ("fleet", "migrate", "--targets", str(targets), "--canary", "0")
        with Running(*words) as running:
            if number == 0 or chance.random() < 0.7:
                running.wait_for("targets on")
            time.sleep(chance.uniform(0.0, 2.5 if number else 0.2))
            if running.process.poll() is None:
                killed += running.end(signal.SIGKILL) != 0
        done = everindex(*words, "--json")
        assert done.status == 0, done.stdout + done.stderr
        again = everindex(*words[:1], "deploy", *words[2:], "--json")
        assert (again.status, again.json["counts"]) == (0, {"unchanged": TENANTS})
        for conninfo in made:
            assert state_of(conninfo) == expected
            name = str(conninfo_to_dict(conninfo)["dbname"])
            cluster.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    assert killed > 0
