"""`everindex health`: checks whether the running web application responds, for containers without curl."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.running_servers import running_servers
from everindex.settings import Settings, read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The response of one application."""

    url: str
    status: int | None
    """The HTTP status; None without a response."""

    reason: str | None
    """Why there was no response."""

    @property
    def is_well(self) -> bool:
        return self.status == 200

    @property
    def sentence(self) -> str:
        return f"{self.url} answers {self.status}" if self.status else f"{self.url} does not respond: {self.reason}"


def health(
    ready: Annotated[
        bool, typer.Option("--ready", help="Check /readyz (database and index) instead of /livez.")
    ] = False,
    host: Annotated[str | None, typer.Option("--host", help="Host to check (EVERINDEX_HOST, 127.0.0.1).")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            "-p",
            help="Port to check (PORT; if unset, the ports of all applications that run with this EVERINDEX_HOME, or "
            "8000).",
            min=1,
            max=65535,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the response.", min=0.1)] = 3.0,
    as_json: JsonOption = False,
) -> None:
    settings = read_settings()
    # Without a proxy: the application is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    found = [
        _ask(opener, f"{address}/{'readyz' if ready else 'livez'}", timeout)
        for address in _addresses(settings, host, port)
    ]
    if as_json:
        print_json({"healthy": all(each.is_well for each in found), "servers": [asdict(each) for each in found]})
    else:
        for each in found:
            say(each.sentence)
    if not all(each.is_well for each in found):
        raise typer.Exit(1)


def _addresses(settings: Settings, host: str | None, port: int | None) -> list[str]:
    """The addresses to check: the given port, otherwise those registered by applications of this home."""
    is_named = port is not None or ("port" in settings.model_fields_set and settings.port != 0)
    if not is_named and host is None:
        running = running_servers(settings.home)
        if running:
            return running
    name = settings.host if host is None else host
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(name, name)
    return [f"http://{f'[{name}]' if ':' in name else name}:{port or settings.port or 8000}"]


def _ask(opener: urllib.request.OpenerDirector, url: str, timeout: float) -> Health:
    try:
        with opener.open(url, timeout=timeout) as response:
            return Health(url=url, status=response.status, reason=None)
    except urllib.error.HTTPError as exc:
        return Health(url=url, status=exc.code, reason=None)
    except (OSError, ValueError, http.client.HTTPException) as exc:
        return Health(url=url, status=None, reason=str(getattr(exc, "reason", exc)))
