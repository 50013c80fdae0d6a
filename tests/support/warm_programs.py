"""`everindex` and `alembic` for shell scripts of tests: each call is forked with everything loaded, as warm.py says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import warm
from shipping import WARM, executable

#: Passes its arguments, environment, directory and streams on, and ends as what was forked ends. It loads no site-packages.
#: The shell starts Python: the path of an interpreter after #! may have no space.
PROGRAM = """\
#!/bin/sh
'''exec' "{python}" -ISE "$0" "$@"
' '''
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([{words!r} + sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
socket.send_fds(server, [b"x"], [0, 1, 2])
server.sendall(request)
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.makefile().read()))
"""


@contextmanager
def warm_programs(place: Path) -> Iterator[Path]:
    """A directory for the start of PATH, in `place`."""
    address = place / "warm.socket"
    programs = place / "warm"
    programs.mkdir()
    for name, words in WARM.items():
        executable(programs / name, PROGRAM.format(python=sys.executable, address=str(address), words=words))
    with socket.create_server(str(address), family=socket.AF_UNIX) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        yield programs
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:  # the end of the block
            return
        threading.Thread(target=_run, args=(client,), daemon=True).start()


def _run(client: socket.socket) -> None:
    with ExitStack() as stack:
        stack.enter_context(client)
        _, numbers, _, _ = socket.recv_fds(client, 1, 3)
        stdin, stdout, stderr = (
            stack.enter_context(open(number, "rb" if at == 0 else "wb")) for at, number in enumerate(numbers)
        )
        with client.makefile() as request:
            words, environment, place = json.load(request)
        try:
            with warm.Process(
                words, env=environment, cwd=Path(place), stdin=stdin, stdout=stdout, stderr=stderr
            ) as process:
                status = process.wait(120)
        except (subprocess.TimeoutExpired, OSError):
            status = 99
        client.sendall(str(status).encode())
