"""`everindex serve`: only the web application, on a database that has already been migrated."""

from __future__ import annotations

import gc
import logging
import sys
from contextlib import ExitStack
from typing import Annotated

import typer

from everindex.articles.background.filter_counting import filters_counted
from everindex.articles.background.keeper import kept_in_background
from everindex.articles.background.query_sampling import queries_sampled
from everindex.articles.background.warming import warmed_in_background
from everindex.articles.instance import Instance
from everindex.cli.output import say
from everindex.cli.running_servers import recorded
from everindex.cli.waiting import LongWaitOption, open_instance
from everindex.errors import EverindexError, SettingInvalid
from everindex.settings import Settings, read_settings

HostOption = Annotated[
    str | None, typer.Option("--host", help="Address to listen on (127.0.0.1); 0.0.0.0 for all interfaces.")
]
PortOption = Annotated[
    int | None, typer.Option("--port", "-p", help="Port (8000); 0 picks a free one.", min=0, max=65535)
]


def serve(host: HostOption = None, port: PortOption = None, wait: LongWaitOption = None) -> None:
    settings = read_settings()
    with open_instance(wait, deploys=True, settings=settings) as instance:
        serve_instance(instance, settings, host=host, port=port)


def serve_instance(instance: Instance, settings: Settings, *, host: str | None, port: int | None) -> None:
    """Serves an open instance with its keeper; returns after SIGINT or SIGTERM, once the last response is sent."""
    # Imported here, so that other commands start without the web framework.
    from everindex.web.http.freed_memory import freed_memory_returned
    from everindex.web.serving import serve as serve_web

    logging.getLogger("everindex.search").setLevel(logging.NOTSET)
    prepare_text_search(instance)
    # Imported objects live until the end: collecting garbage among them would cost every search a few per cent.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    # A thread that writes a long response yields to the event loop after one millisecond instead of five.
    sys.setswitchinterval(0.001)

    def announce(url: str) -> None:
        stack.enter_context(recorded(settings.home, url))
        say(f"everindex serves at {url}  (Ctrl-C stops it)")

    with (
        ExitStack() as stack,
        freed_memory_returned(),
        warmed_in_background(instance, settings),
        queries_sampled(instance, settings),
        filters_counted(instance),
        kept_in_background(instance, settings) as stop_keeping,
    ):
        serve_web(
            instance,
            host=settings.host if host is None else host,
            port=settings.port if port is None else port,
            on_ready=announce,
            on_signal=stop_keeping,
        )


def prepare_text_search(instance: Instance) -> None:
    """Checks EVERINDEX_TEXT_SEARCH once at the start. Raises SettingInvalid if the server does not have it.

    Also loads the static model: loading blocks the whole process, and later /livez would have to wait for it.
    """
    try:
        instance.words.known()
        instance.query_embedder.load()
    except SettingInvalid:
        raise
    except EverindexError:
        return  # a database that is not migrated yet, for one: /readyz tells
