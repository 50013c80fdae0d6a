"""The opening of an instance: finds its server, waits for it, and closes the instance afterwards.

Guarantees one successful connection before the instance is returned. Does not check the schema.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from everindex.articles.instance import Instance
from everindex.pg import address
from everindex.pg.address import Addresses
from everindex.pg.connections import WaitReport, connect, make_pool
from everindex.pg.pool import MakePool
from everindex.settings import Settings, read_settings

log = logging.getLogger(__name__)


def log_wait(text: str) -> None:
    """Writes a sentence about a server that is waited for to the log."""
    log.warning("%s", text, extra={"event": "database-awaited"})


@contextmanager
def connect_instance(
    conninfo: str | None = None,
    *,
    settings: Settings | None = None,
    wait_seconds: float | None = None,
    tell_wait: Callable[[str], None] = log_wait,
) -> Iterator[Instance]:
    """Opens an instance: at `conninfo`, otherwise at the address in the settings, otherwise on the embedded server
    (started for the duration of the block).

    DATABASE_URL_DIRECT and DATABASE_URL_READ are used where `conninfo` equals DATABASE_URL. Waits up to `wait_seconds`
    for a server that is not up yet (default: EVERINDEX_WAIT, otherwise no wait) and passes one sentence about it to
    `tell_wait`. Raises what connecting raises.
    """
    with open_instance(
        conninfo, settings=settings, wait_seconds=wait_seconds, tell_wait=tell_wait, make_pool=make_pool
    ) as instance:
        yield instance


@contextmanager
def open_instance(
    conninfo: str | None,
    *,
    settings: Settings | None,
    wait_seconds: float | None,
    tell_wait: Callable[[str], None],
    make_pool: MakePool,
) -> Iterator[Instance]:
    """As `connect_instance`, over pools of connections that `make_pool` makes."""
    settings = settings or read_settings()
    seconds = (settings.wait_seconds or 0.0) if wait_seconds is None else wait_seconds
    if conninfo is not None:
        with _opened(address.belonging_to(conninfo, settings), settings, seconds, tell_wait, make_pool) as instance:
            yield instance
    else:
        with address.servers(settings) as found, _opened(found, settings, seconds, tell_wait, make_pool) as instance:
            yield instance


@contextmanager
def _opened(
    addresses: Addresses, settings: Settings, wait_seconds: float, tell_wait: Callable[[str], None], make_pool: MakePool
) -> Iterator[Instance]:
    on_wait = WaitReport(tell_wait, where=address.describe(addresses.main))
    connect(addresses.main, wait_seconds=wait_seconds, on_wait=on_wait).close()
    instance = Instance(addresses, settings, make_pool=make_pool)
    try:
        yield instance
    finally:
        instance.close()
