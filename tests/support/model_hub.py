"""A hub of models on this machine: a real HTTP server with the few addresses of the Hugging Face Hub that its client asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def running(models: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serves the directories under their names; gives the address, and the files that were downloaded."""
    downloaded: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            for name, folder in models.items():
                if path.startswith(f"{name}/resolve/"):
                    file = folder / path.split("/", 4)[4]
                    if not file.is_file():
                        break
                    content = file.read_bytes()
                    if with_body:
                        downloaded.append(file.name)
                    self._send(200, content, with_body=with_body, etag=hashlib.sha1(content).hexdigest())
                    return
                if path.startswith(f"api/models/{name}"):
                    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
                    if f"{name}/tree" in path:
                        found = [
                            {"type": "file", "path": file, "size": (folder / file).stat().st_size, "oid": "0"}
                            for file in files
                        ]
                        self._send(200, json.dumps(found).encode(), with_body=with_body)
                        return
                    about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
                    self._send(200, json.dumps(about).encode(), with_body=with_body)
                    return
            self._send(404, b'{"error": "Repository not found"}', with_body=with_body)

        def _send(self, status: int, content: bytes, *, with_body: bool, etag: str | None = None) -> None:
            self.send_response(status)
            if etag is not None:
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", COMMIT)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", downloaded
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
