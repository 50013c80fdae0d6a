"""`everindex mcp`: the MCP server, on stdin and stdout or over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.cli.output import tell
from everindex.cli.waiting import WaitOption, open_instance
from everindex.settings import read_settings

#: Where it listens by default: beside the web application, which has 8000.
DEFAULT_PORT = 8001


def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP at /mcp instead of stdin and stdout.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on with --http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port with --http.", min=1, max=65535)] = DEFAULT_PORT,
    wait: WaitOption = None,
) -> None:
    # Imported here, so that everindex[mcp] is an extra.
    from everindex.mcp.server import make_server

    with open_instance(wait, settings=read_settings()) as instance:
        server = make_server(instance)
        if http:
            from everindex.mcp.over_http import guarded_app, serve_guarded

            app = guarded_app(server, instance, host=host)
            tell(f"everindex serves MCP at http://{host}:{port}/mcp  (Ctrl-C stops it)")
            serve_guarded(app, host=host, port=port)
        else:
            server.run("stdio")
