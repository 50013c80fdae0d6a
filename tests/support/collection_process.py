"""A process that works on a collection on command, to be killed: it loads everything once and forks for every operation.

Run with a connection string; for each name of an operation read from stdin it forks, prints the process id, and the fork runs
it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import numpy as np

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance

ROWS, WIDTH = 600, 64
VECTORS = np.random.default_rng(9).normal(size=(ROWS, WIDTH)).astype(np.float32)


def make(instance: Instance) -> None:
    instance.collection("docs", dim=WIDTH, text=("body",), metadata={"part": "integer"})


def fill(instance: Instance) -> None:
    docs = instance.collection("docs")
    for start in range(0, ROWS, 100):
        docs.upsert(
            [{"id": f"{n:04}", "body": f"row {n}", "part": n % 5} for n in range(start, start + 100)],
            vectors=VECTORS[start : start + 100], model="mine",
        )  # fmt: skip


def lay(instance: Instance) -> None:
    instance.collection_of(table="theirs", key="nr", text=["body"], vector="v")


def add_partial(instance: Instance) -> None:
    instance.collection("docs").add_partial_index({"part": 2})


def drop_partial(instance: Instance) -> None:
    instance.collection("docs").drop_partial_index({"part": 2})


def delete(instance: Instance) -> None:
    instance.collection("docs").delete(filters={"part": 3})


def forget(instance: Instance) -> None:
    instance.drop_collection("theirs")


def drop(instance: Instance) -> None:
    instance.drop_collection("docs")


OPERATIONS: dict[str, Callable[[Instance], None]] = {
    each.__name__: each for each in (make, fill, lay, add_partial, drop_partial, delete, forget, drop)
}


def main(conninfo: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            with connect_instance(conninfo) as instance:
                OPERATIONS[line.strip()](instance)
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
