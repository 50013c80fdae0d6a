"""The resident memory of `everindex serve` before, right after and a minute after a bounded campaign of greedy requests.

    python bench/http_memory.py http://127.0.0.1:8000 PID [ROUNDS]

PID is that of the server process, on this machine (Linux). A round is 60 requests at once of each kind: pages and answers with
k = 1,000, 100 searches in one, bodies of 900 kB, and searches of ever new shapes (k, filters). What a second campaign adds to
the first is what leaks; what the first one adds is caches, threads and what the allocator keeps.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

AT_ONCE = 60
QUIET_SECONDS = 60
FILTERS = ("category", "topic", "source", "since", "until")


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def ask(url: str, body: bytes | None = None) -> int:
    request = Request(url, data=body, headers={"content-type": "application/json"} if body else {})
    try:
        with urlopen(request, timeout=120) as answer:
            answer.read()
            return int(answer.status)
    except HTTPError as refusal:
        refusal.read()
        return refusal.code


def shape(number: int) -> str:
    """A search of a shape that no other number has."""
    chosen = {name: "2001" for bit, name in enumerate(FILTERS) if number >> bit & 1}
    return urlencode({"q": f"crash {number}", "mode": "semantic", "k": 1 + number % 1000, **chosen})


def kinds(url: str) -> list[Callable[[int], int]]:
    many = json.dumps({"texts": [f"leak {n}" for n in range(100)], "k": 100}).encode()
    long = json.dumps({"vectors": [[0.123456789] * 1536] * 45, "k": 1}).encode()
    return [
        lambda n: ask(f"{url}/?q=crash+{n}&k=1000"),
        lambda n: ask(f"{url}/api/search?q=crash+{n}&k=1000"),
        lambda n: ask(f"{url}/api/search/many", many),
        lambda n: ask(f"{url}/api/search/many", long),
        *[lambda n, part=part: ask(f"{url}/api/search?{shape(n * 12 + part)}") for part in range(12)],
    ]


def campaign(url: str, rounds: int) -> dict[int, int]:
    statuses: dict[int, int] = {}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for number in range(rounds):
            for kind in kinds(url):
                for status in threads.map(kind, range(number * AT_ONCE, (number + 1) * AT_ONCE)):
                    statuses[status] = statuses.get(status, 0) + 1
    return statuses


def main() -> None:
    url, pid, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1
    ask(f"{url}/api/search?q=warm")
    print(f"before: {resident_mb(pid):.0f} MB")
    for number in (1, 2):
        started = time.monotonic()
        statuses = campaign(url, rounds)
        after = resident_mb(pid)
        print(
            f"campaign {number}: {statuses} in {time.monotonic() - started:.0f} s; after it {after:.0f} MB", flush=True
        )
        time.sleep(QUIET_SECONDS)
        print(f"after a quiet minute: {resident_mb(pid):.0f} MB", flush=True)


if __name__ == "__main__":
    main()
