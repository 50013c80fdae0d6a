"""What the gate before all routes costs a request: `Gate.admit` called in a loop, without a network and without a search.

    python bench/access_overhead.py [ROUNDS]

Prints microseconds per request as JSON, the median of several runs: where nobody is asked, with a cached token, with a cached
session, and for an address with a parameter. No database is needed: what is cached is put there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from starlette.datastructures import Headers

from everindex.access import authenticator as module
from everindex.access.authenticator import Authenticator
from everindex.access.credentials import new_secret
from everindex.access.request_limits import RequestLimits
from everindex.access.scopes import Principal, Scope
from everindex.web.http.gate import Gate

TIMES = 7


@contextlib.contextmanager
def no_connection() -> Iterator[Any]:
    raise RuntimeError("nothing is looked up here")
    yield


async def not_called(work: Callable[[], Any]) -> Any:
    raise RuntimeError("nothing is looked up here")


async def main(rounds: int) -> dict[str, float]:
    module.CACHED_SECONDS = 3600
    secret = new_secret()
    found = {}
    for name, mode, kind, path, headers in (
        ("nobody is asked", "local", "token", "/api/search", {}),
        ("nobody is asked, address with a parameter", "local", "token", "/collections/docs/row", {}),
        ("cached token", "sign-in", "token", "/api/search", {"authorization": f"Bearer {secret}"}),
        (
            "cached session",
            "sign-in",
            "session",
            "/",
            {"host": "localhost:8000", "cookie": f"everindex_session_8000={secret}"},
        ),
    ):
        authenticator = Authenticator(no_connection, mode=mode)  # type: ignore[arg-type]
        principal = Principal(kind="token", name="x", scope=Scope.READ)
        authenticator.remember(secret, principal, kind=kind, expires_at=None)  # type: ignore[arg-type]
        gate = Gate(authenticator, RequestLimits(per_minute=0), in_database=not_called)
        given = Headers(headers)
        runs = []
        for _ in range(TIMES):
            started = time.perf_counter()
            for _ in range(rounds):
                await gate.admit({"method": "GET", "path": path, "client": ("127.0.0.1", 1)}, given)
            runs.append((time.perf_counter() - started) / rounds * 1e6)
        found[name] = round(statistics.median(runs), 2)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)), indent=2))
