"""`everindex health`: asks the running web application whether it lives; for containers that have no curl."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Annotated

import typer

from everindex.cli.output import say
from everindex.settings import read_settings


def health(
    ready: Annotated[bool, typer.Option("--ready", help="Ask /readyz (database and index) instead of /livez.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the answer.", min=0.1)] = 3.0,
) -> None:
    settings = read_settings()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/{'readyz' if ready else 'livez'}"
    try:
        # Without a proxy: the application is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=timeout) as response:
            say(f"{address} answers {response.status}")
    except urllib.error.HTTPError as exc:
        say(f"{address} answers {exc.code}")
        raise typer.Exit(1) from None
    except OSError as exc:
        say(f"{address} does not answer: {getattr(exc, 'reason', exc)}")
        raise typer.Exit(1) from None
