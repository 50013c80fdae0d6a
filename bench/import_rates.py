"""The rate of imports with the vector index, without it, and without it plus its build. Prints JSON."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import everindex
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.importers import read_source, sample_source
from everindex.articles.ingest import bulk_load as bulk
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.migrate import runner
from everindex.pg.embedded import running as embedded


def timed_import(conninfo: str, rows: int) -> float:
    with everindex.connect(conninfo) as instance:
        instance.embed_query("loads the model before the clock runs")
        articles = list(itertools.islice(read_source(str(sample_source())), rows))
        started = time.monotonic()
        report = instance.import_rows(articles)
        seconds = time.monotonic() - started
    assert report.stored.inserted == rows, report
    return seconds


def empty(conninfo: str) -> None:
    with everindex.connect(conninfo) as instance, instance.connection() as connection:
        connection.execute("TRUNCATE articles CASCADE")


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 9940
    home = Path(tempfile.mkdtemp(prefix="everindex-bench-"))
    home.chmod(0o755)
    result: dict[str, float] = {}
    try:
        with embedded.running(home / "server") as conninfo:
            runner.upgrade(conninfo)
            drop(conninfo, EMBEDDING_INDEX)
            result["without_index_seconds"] = timed_import(conninfo, rows)
            started = time.monotonic()
            deploy(conninfo, EMBEDDING_INDEX)
            result["build_seconds"] = time.monotonic() - started
            with everindex.connect(conninfo) as instance:
                started = time.monotonic()
                again = instance.import_rows(read_source(str(sample_source())))
                result["again_unchanged_seconds"] = time.monotonic() - started
                assert again.stored.updated == 0, again
            empty(conninfo)
            result["everindex_import_seconds"] = timed_import(conninfo, rows)
            empty(conninfo)
            bulk.LARGE_LOAD_ROWS = sys.maxsize  # the same import, with the index kept
            result["with_index_seconds"] = timed_import(conninfo, rows)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    rates = {
        name.replace("_seconds", "_rows_per_second"): round(rows / seconds)
        for name, seconds in result.items()
        if name != "again_unchanged_seconds"
    }
    seconds = {name: round(value, 2) for name, value in result.items()}
    print(json.dumps({"rows": rows, "cores": os.cpu_count(), **seconds, **rates}, indent=2))


if __name__ == "__main__":
    main()
