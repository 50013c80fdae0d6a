"""A process that imports on command, to be killed: it loads everything once and forks for every import.

Run with a connection string; for each number read from stdin it forks, prints the process id, and the fork imports
`rows_of(number)` in batches of BATCH_ROWS.
"""

from __future__ import annotations

import os
import signal
import sys

from everindex.articles.connect import connect_instance
from everindex.articles.embedding.static import static_model
from everindex.articles.ingest import import_rows as ingest
from everindex.articles.model import Article

ROWS = 90
BATCH_ROWS = 6


def rows_of(number: int) -> list[Article]:
    """Every article anew with each number: title, summary and full text name it, and the vector follows them."""
    return [
        Article(
            uri=f"u{row}", title=f"title {row} of round {number}", summary=f"summary {row} about {number * row}",
            category=f"round {number}", raw_text=f"full text of round {number}",
        )
        for row in range(ROWS)
    ]  # fmt: skip


def main(conninfo: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ingest.BATCH_ROWS = BATCH_ROWS
    static_model()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            with connect_instance(conninfo) as instance:
                instance.import_rows(rows_of(int(line)))
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
