"""The register of web applications running with this EVERINDEX_HOME: a locked file for each, with its address.

Other commands find there a port that was chosen at startup. A file is valid while its writer holds a lock on it, which
ends with the process in any case. It is best effort: a read-only home has no register, and applications of another home
are not listed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

_FOLDER = "serving"


@contextmanager
def recorded(home: Path, url: str) -> Iterator[None]:
    """Registers this process at `url` for the duration of the block."""
    path = home / _FOLDER / f"{os.getpid()}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 held open and locked for the whole block
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(json.dumps({"pid": os.getpid(), "url": url}))
        file.flush()
    except OSError as exc:
        log.debug(
            "the address could not be recorded in %s, so `everindex health` needs --port: %s",
            path.parent,
            exc,
            extra={"event": "address-not-recorded"},
        )
        yield
        return
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def running_servers(home: Path) -> list[str]:
    """The addresses of running applications, oldest first; removes files of killed ones."""
    found: list[tuple[float, str]] = []
    for path in (home / _FOLDER).glob("*.json"):
        with suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append((os.fstat(file.fileno()).st_mtime, str(json.load(file)["url"])))
            else:
                path.unlink(missing_ok=True)
    return [url for _, url in sorted(found)]
