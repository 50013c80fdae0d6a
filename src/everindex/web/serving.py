"""The server of the application: one uvicorn process on a socket bound here, until a signal or the caller ends it."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from everindex.articles.instance import Instance
from everindex.errors import AddressUnusable
from everindex.host_names import is_loopback
from everindex.index.deploy.cancellation import beside
from everindex.web.app import authenticator_of, create_app
from everindex.web.http.protocol import Protocol

log = logging.getLogger(__name__)

GRACEFUL_SECONDS = 10
#: Load balancers keep connections for a minute; a server that closes them earlier causes occasional failures.
KEEP_ALIVE_SECONDS = 75
#: File descriptors other than client connections: database connections, files, connections for probes.
FILES_BESIDE = 150


def serve(
    instance: Instance,
    *,
    host: str,
    port: int,
    on_ready: Callable[[str], None] | None = None,
    on_signal: Callable[[], None] | None = None,
) -> None:
    """Serves `instance` until SIGINT or SIGTERM, then lets running requests finish and returns.

    Port 0 picks a free one. `on_ready(url)` is called in its own thread once the address responds; `on_signal` in
    another at the signal, so that other work can end while the last responses are sent. Raises AddressUnusable,
    AccessNotConfigured where other machines would reach it and nothing says who may use it, and whatever `on_ready` raises.
    Signals are handled only in the main thread.
    """
    sock = bind(host, port)
    server = _Server(_config(instance, host, sock), on_ready=on_ready, url=url_of(host, sock), on_signal=on_signal)
    try:
        server.run(sockets=[sock])
    finally:
        sock.close()
    if server.ready_error is not None:
        raise server.ready_error


@contextmanager
def serve_in_thread(instance: Instance, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves `instance` in a thread for the duration of the block and yields its address. Raises AddressUnusable."""
    sock = bind(host, port)
    answers = threading.Event()
    server = _Server(_config(instance, host, sock), on_ready=lambda url: answers.set(), url=url_of(host, sock))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="everindex-web", daemon=True)
    thread.start()
    try:
        if not answers.wait(30):
            raise AddressUnusable(
                f"the web application did not start at {server.url}.", why="it did not respond for 30 seconds.",
                next_step="check its log.",
            )  # fmt: skip
        yield server.url
    finally:
        server.should_exit = True
        thread.join(GRACEFUL_SECONDS + 5)
        sock.close()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; `host` is a name or an address of either family. Raises AddressUnusable."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as exc:
        raise AddressUnusable(
            f"cannot listen on {host}: unknown host.", why=f"{exc.strerror or exc}.",
            next_step="correct EVERINDEX_HOST or --host: 127.0.0.1 for this machine alone, 0.0.0.0 for the network.",
        ) from exc  # fmt: skip
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host in ("::", ""):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # both families, as people expect of "all"
        sock.bind(where)
        sock.listen(2048)
    except OSError as exc:
        sock.close()
        raise _unusable(host, port, exc) from exc
    sock.setblocking(False)
    return sock


def url_of(host: str, sock: socket.socket) -> str:
    """The address for a browser on this machine, where "all addresses" cannot be opened."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{sock.getsockname()[1]}"


def _unusable(host: str, port: int, exc: OSError) -> AddressUnusable:
    match exc.errno:
        case errno.EADDRINUSE:
            return AddressUnusable(
                f"port {port} on {host} is taken.", why="another program, or another everindex, is using this port.",
                next_step="choose another port (--port or PORT; 0 takes a free one), or end the other program.",
            )  # fmt: skip
        case errno.EACCES:
            return AddressUnusable(
                f"no permission to use port {port} on {host}.", why="ports below 1024 are reserved for the system.",
                next_step="choose a port from 1024 on, such as 8000.",
            )  # fmt: skip
        case _:
            return AddressUnusable(
                f"cannot listen on {host}, port {port}.", why=f"{exc.strerror or exc}.",
                next_step="correct EVERINDEX_HOST or --host: it must be an address of this machine.",
            )  # fmt: skip


def _config(instance: Instance, host: str, sock: socket.socket) -> uvicorn.Config:
    """Closes the socket where the application may not be served at its address."""
    bound = str(sock.getsockname()[0])
    try:
        authenticator = authenticator_of(instance, is_loopback=is_loopback(bound), where=host or bound)
    except BaseException:
        sock.close()
        raise
    most = _connections_within_limits(instance.settings.max_connections)
    proxies = [part.strip() for part in instance.settings.trusted_proxies.split(",") if part.strip()]
    return uvicorn.Config(
        create_app(instance, host=host, authenticator=authenticator), http=partial(Protocol, most=most),  # type: ignore[arg-type]
        log_config=None, access_log=False, server_header=False,
        proxy_headers=bool(proxies), forwarded_allow_ips=proxies,
        lifespan="off", ws="none", timeout_graceful_shutdown=GRACEFUL_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )  # fmt: skip


def _connections_within_limits(wanted: int) -> int:
    """The requested number of connections, reduced to the number of files that the process may open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(10, soft - FILES_BESIDE) if soft != resource.RLIM_INFINITY else wanted
    if possible < wanted:
        log.warning(
            "at most %d connections instead of %d: this process may open %d files (ulimit -n)",
            possible,
            wanted,
            soft,
            extra={"event": "connections-limited"},
        )
    return min(wanted, possible)


class _Server(uvicorn.Server):
    """uvicorn's server, extended to announce when it responds and to return normally after a signal."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_ready: Callable[[str], None] | None,
        url: str,
        on_signal: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self.url = url
        self.ready_error: BaseException | None = None
        self._on_ready = on_ready
        self._on_signal = on_signal
        self._telling: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and self._on_ready is not None:
            self._telling = asyncio.ensure_future(self._tell(self._on_ready))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets=sockets)
        self.config.app.state.site.close()  # type: ignore[union-attr]

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # ten ticks are a second
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol):
                    try:
                        connection.look(now)
                    except Exception:  # the server goes on
                        log.exception("a connection could not be checked", extra={"event": "connection-check-failed"})
        return await super().on_tick(counter)

    async def _tell(self, on_ready: Callable[[str], None]) -> None:
        try:
            await asyncio.to_thread(on_ready, self.url)
        except Exception as exc:  # handed to the caller of `serve`, who gave us the function
            self.ready_error = exc
            self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own method raises the signal again after a clean shutdown, which kills the process.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Any] = {
            number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._on_signal is not None:
            beside(self._on_signal)
        self.handle_exit(number, frame)
