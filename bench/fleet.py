"""Times `everindex fleet migrate` and `deploy` (with verification) over many tenant databases against the bare statements.

Bare: one psycopg connection for each tenant, which runs the SQL of the same migration (`everindex migrate --sql`), ANALYZE, the
EXPLAIN of a search, and for the same number of queries an exact and an approximate search. `--prepare` makes the server and the
databases; the run itself needs a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

QUERIES = 50
_NEIGHBOURS = (
    "SELECT uri FROM articles ORDER BY embedding <=> (SELECT embedding FROM articles OFFSET {} LIMIT 1) LIMIT 11"
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--home", type=Path, required=True)
    options.add_argument("--tenants", type=int, default=100)
    options.add_argument("--rows", type=int, default=200)
    options.add_argument("--prepare", action="store_true")
    given = options.parse_args()
    with embedded.running(given.home) as admin:
        if given.prepare:
            _prepare(admin, given.home, tenants=given.tenants, rows=given.rows)
        else:
            print(json.dumps(_measure(admin, given.home, tenants=given.tenants), indent=2))


def _prepare(admin: str, home: Path, *, tenants: int, rows: int) -> None:
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fleet_template")
        template = make_conninfo(admin, dbname="fleet_template")
        runner.upgrade(template, BEFORE_INDEX, wait_seconds=0)
        with connect_instance(template, settings=Settings()) as instance:
            instance.import_rows(itertools.islice(read_source(str(sample_source())), rows))
        lines = ["name,url"]
        for number, kind in itertools.product(range(tenants), ("fleet", "bare")):
            name = f"{kind}_{number}"
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE fleet_template").format(sql.Identifier(name)))
        lines += [f"t{number},$FLEET_BASE_{number}" for number in range(tenants)]
    (home / "targets.csv").write_text("\n".join(lines) + "\n")


def _measure(admin: str, home: Path, *, tenants: int) -> dict[str, object]:
    variables = dict(os.environ)
    for number in range(tenants):
        parts = conninfo_to_dict(make_conninfo(admin, dbname=f"fleet_{number}"))
        host = quote(str(parts["host"]), safe="")
        variables[f"FLEET_BASE_{number}"] = f"postgresql://{parts['user']}@{host}:{parts['port']}/{parts['dbname']}"
    found: dict[str, object] = {"tenants": tenants}
    bare = _bare(admin, tenants=tenants)
    fleet = 0.0
    for verb in ("migrate", "deploy"):
        began = time.perf_counter()
        done = subprocess.run(
            [str(Path(sys.executable).with_name("everindex")), "fleet", verb, "--targets", str(home / "targets.csv"), "--json"],
            env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        fleet += seconds
        report = json.loads(done.stdout)
        found[verb] = {"seconds": round(seconds, 2), "status": done.returncode, "counts": report["counts"]}
    found |= {
        "bare_seconds_a_tenant": round(bare / tenants, 4),
        "fleet_seconds_a_tenant": round(fleet / tenants, 4),
        "ratio": round(fleet / bare, 2),
    }
    return found


def _bare(admin: str, *, tenants: int) -> float:
    script = runner.offline_sql(f"{BEFORE_INDEX}:head")
    statements = _statements(script)
    began = time.perf_counter()
    for number in range(tenants):
        with psycopg.connect(make_conninfo(admin, dbname=f"bare_{number}"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("ANALYZE articles")
            connection.execute(f"EXPLAIN {_NEIGHBOURS.format(0)}".encode()).fetchall()
            for at in range(QUERIES):
                for scan in ("off", "on"):
                    connection.execute(f"SET enable_indexscan = {scan}".encode())
                    connection.execute(_NEIGHBOURS.format(at).encode()).fetchall()
    return time.perf_counter() - began


def _statements(script: str) -> list[str]:
    """The statements of the script for psql, without its commands; dollar-quoted bodies stay whole."""
    found: list[str] = []
    current: list[str] = []
    is_quoted = False
    for line in script.splitlines():
        if not current and (not line.strip() or line.startswith(("\\", "--"))):
            continue
        current.append(line)
        is_quoted ^= line.count("$everindex$") % 2 == 1
        if line.rstrip().endswith(";") and not is_quoted:
            found.append("\n".join(current))
            current = []
    return found


if __name__ == "__main__":
    main()
