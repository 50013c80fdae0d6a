"""How containers start, stop and wait: eight entrypoints at once, SIGTERM under load, a database that is gone for a while.

Each part runs the real entrypoint or `everindex serve` against servers of its own on loopback, and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.migrate import runner
from everindex.pg.embedded.running import running
from everindex.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
HEAD = "e0aa2eb4fa0a"


class Serving:
    """A process that becomes `everindex serve` on a free port, with what it has written."""

    def __init__(self, conninfo: str, *command: str, home: Path, **variables: str) -> None:
        server = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        self.log = home / f"log-{time.monotonic_ns()}"
        self._out = self.log.open("wb")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=self._out, stderr=self._out,
            env=kept | {
                "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "DB_HOST": server["host"], "DB_PORT": server["port"],
                "DB_NAME": server["dbname"], "DB_USER": server["user"], "PORT": "0", "EVERINDEX_WAIT": "60",
                "EVERINDEX_HOME": str(home), "EVERINDEX_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1",
            } | variables,
        )  # fmt: skip
        self.port = 0

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def status(self, path: str) -> int:
        """The status of a GET; 0 without an answer."""
        if not self.port:
            found = re.search(r"serves at http://127\.0\.0\.1:(\d+)", self.said)
            if found is None:
                return 0
            self.port = int(found[1])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0
        finally:
            connection.close()

    def ready_after(self, limit: float) -> float | None:
        while time.monotonic() - self.began < limit:
            if self.process.poll() is not None:
                return None
            if self.status("/readyz") == 200:
                return time.monotonic() - self.began
            time.sleep(0.1)
        return None

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self._out.close()
        return status


def entrypoints(home: Path, *, rounds: int, replicas: int) -> dict[str, Any]:
    """Entrypoints that start at once on an empty database."""
    slowest, migrations, not_ready, deadlocks = [], [], 0, 0
    with running(home / "server", settings={"fsync": "off"}) as admin:
        for number in range(rounds):
            name = f"round_{number}"
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            conninfo = make_conninfo(admin, dbname=name)
            replicas_of_round = [
                Serving(conninfo, "sh", "docker-entrypoint.sh", home=home, EVERINDEX_POOL_SIZE="2")
                for _ in range(replicas)
            ]
            times = [each.ready_after(120) for each in replicas_of_round]
            not_ready += sum(seconds is None for seconds in times)
            slowest.append(max((seconds for seconds in times if seconds is not None), default=0.0))
            migrations.append(sum("Running upgrade" in each.said for each in replicas_of_round))
            for each in replicas_of_round:
                each.end()
            with psycopg.connect(conninfo) as connection:
                row = connection.execute(
                    "SELECT (SELECT version_num FROM alembic_version),"
                    " (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())"
                ).fetchone()
            assert row is not None
            assert row[0] == HEAD
            deadlocks += row[1]
    return {
        "rounds": rounds, "replicas": replicas, "slowest_seconds": round(max(slowest), 1), "not_ready": not_ready,
        "rounds_with_one_migration": migrations.count(1), "deadlocks": deadlocks,
    }  # fmt: skip


@contextmanager
def articles(home: Path) -> Iterator[str]:
    """A server with 2,000 articles of the sample."""
    with running(home / "server", settings={"fsync": "off"}) as conninfo:
        runner.upgrade(conninfo)
        with connect_instance(conninfo, settings=Settings()) as instance:
            instance.import_rows(islice(read_source(str(sample_source())), 2000))
        yield conninfo


def stopping(home: Path, *, rounds: int) -> dict[str, Any]:
    """SIGTERM while eight clients search and two read a whole export: exit status, time, responses that were cut."""
    statuses, seconds, cut, answered = [], [], 0, 0
    with articles(home) as conninfo:
        for _ in range(rounds):
            serving = Serving(conninfo, "everindex", "serve", home=home)
            assert serving.ready_after(60) is not None
            counts = {"cut": 0, "answered": 0}
            threads = [
                threading.Thread(target=_ask_until_refused, args=(serving.port, path, counts))
                for path in ["/api/search?q=memory+leak&k=50"] * 8 + ["/api/export?format=jsonl&k=1000"] * 2
            ]
            for thread in threads:
                thread.start()
            time.sleep(2)
            began = time.monotonic()
            statuses.append(serving.end())
            seconds.append(time.monotonic() - began)
            for thread in threads:
                thread.join()
            cut += counts["cut"]
            answered += counts["answered"]
    return {
        "rounds": rounds, "exit_0": statuses.count(0), "slowest_seconds": round(max(seconds), 2),
        "answered": answered, "cut": cut,
    }  # fmt: skip


def _ask_until_refused(port: int, path: str, counts: dict[str, int]) -> None:
    """A response whose first byte came must come whole; a connection that is closed before that is not cut."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException):
            return
        try:
            answer.read()
            counts["answered"] += 1
        except (OSError, http.client.HTTPException):
            counts["cut"] += 1
        finally:
            connection.close()


def outage(home: Path, *, seconds: float) -> dict[str, Any]:
    """The server is stopped for a while under 20 searches a second: probes, log, process."""
    with articles(home) as conninfo:
        data = home / "server" / "data"
        serving = Serving(conninfo, "everindex", "serve", home=home)
        assert serving.ready_after(60) is not None
        is_over = threading.Event()
        searches: dict[int, int] = {}

        def search() -> None:
            while not is_over.wait(0.05 * 4):
                status = serving.status("/api/search?q=memory+leak")
                searches[status] = searches.get(status, 0) + 1

        threads = [threading.Thread(target=search) for _ in range(4)]  # each five a second
        for thread in threads:
            thread.start()
        time.sleep(2)
        pid = int((data.resolve() / "postmaster.pid").read_text().split()[0])
        options = (data.resolve() / "postmaster.opts").read_text()
        os.kill(pid, signal.SIGINT)
        gone = time.monotonic()
        unready, alive = None, []
        while time.monotonic() - gone < seconds:
            alive.append(serving.status("/livez"))
            if unready is None and serving.status("/readyz") == 503:
                unready = time.monotonic() - gone
            time.sleep(0.25)
        owner = data.resolve().stat()
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', options)]
        back = time.monotonic()
        postgres = subprocess.Popen(
            words, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=owner.st_uid, group=owner.st_gid
        )
        ready = None
        while time.monotonic() - back < 60 and ready is None:
            alive.append(serving.status("/livez"))
            if serving.status("/readyz") == 200:
                ready = time.monotonic() - back
            time.sleep(0.1)
        is_over.set()
        for thread in threads:
            thread.join()
        has_ended = serving.process.poll() is not None
        said = serving.said
        status = serving.end()
        postgres.send_signal(signal.SIGINT)
        postgres.wait(30)
    return {
        "seconds": seconds, "livez_200": alive.count(200), "livez_other": len(alive) - alive.count(200),
        "readyz_503_after": None if unready is None else round(unready, 2),
        "readyz_200_after": None if ready is None else round(ready, 2), "searches_by_status": searches,
        "tracebacks": said.count("Traceback"), "restarted": has_ended, "exit_status": status,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("entrypoints", "stopping", "outage"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="everindex-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        match given.part:
            case "entrypoints":
                found = entrypoints(home, rounds=given.rounds, replicas=given.replicas)
            case "stopping":
                found = stopping(home, rounds=given.rounds)
            case _:
                found = outage(home, seconds=given.seconds)
    print(json.dumps({"part": given.part, **found}))


if __name__ == "__main__":
    main()
