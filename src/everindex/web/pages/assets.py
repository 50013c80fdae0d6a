"""The assets of the pages: the package's static files, read once, named by content hash, and cached by browsers."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

from everindex.errors import PageNotFound

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file with its compressed form and its ETag."""

    content: bytes
    compressed: bytes
    media_type: str
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """Every asset by its name under /static/: `everindex.css`, `vendor/htmx.min.js`."""
    found: dict[str, Asset] = {}
    _collect(resources.files("everindex.web") / "static", "", found)
    return found


def _collect(directory: Traversable, prefix: str, found: dict[str, Asset]) -> None:
    for entry in directory.iterdir():
        if entry.is_dir():
            _collect(entry, f"{prefix}{entry.name}/", found)
        elif (media_type := TYPES.get("." + entry.name.rpartition(".")[2])) is not None:
            content = entry.read_bytes()
            found[prefix + entry.name] = Asset(
                content=content, compressed=gzip.compress(content, mtime=0), media_type=media_type,
                tag=hashlib.sha256(content).hexdigest()[:12],
            )  # fmt: skip


def asset_url(name: str) -> str:
    """The address of an asset; it changes with the content, so that a browser may cache it indefinitely."""
    return f"/static/{name}?v={assets()[name].tag}"


async def serve_asset(request: Request) -> Response:
    """GET /static/{name}: only names in the package; nothing is looked up on disk."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        raise PageNotFound(
            "no such file exists.", why="everindex has no file with this name.", next_step="reload the page."
        )
    headers = {"etag": f'"{asset.tag}"', "vary": "accept-encoding", "cache-control": "no-cache"}
    if request.query_params.get("v") == asset.tag:
        headers["cache-control"] = "public, max-age=31536000, immutable"
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.compressed, media_type=asset.media_type, headers=headers | {"content-encoding": "gzip"})
    return Response(asset.content, media_type=asset.media_type, headers=headers)
