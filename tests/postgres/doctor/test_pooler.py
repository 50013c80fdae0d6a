"""A pooler between us and the server is noticed: here, a relay that makes up process numbers as poolers do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from examining import is_good, the_finding

#: BackendKeyData: 'K', its length of 12, the process number, the key. PostgreSQL documentation, Message Formats.
KEY_DATA = b"K" + struct.pack("!i", 12)


def copy(source: socket.socket, target: socket.socket, *, renumber: bool) -> None:
    """Copies until one side closes; with `renumber` the first process number that passes becomes another one."""
    while data := source.recv(65536):
        if renumber and KEY_DATA in data:
            at = data.index(KEY_DATA) + len(KEY_DATA)
            (pid,) = struct.unpack_from("!i", data, at)
            data = data[:at] + struct.pack("!i", pid + 1_000_000) + data[at + 4 :]
            renumber = False
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


@pytest.fixture
def through_a_pooler(empty: str) -> Iterator[str]:
    """The address of the empty database through a relay that renumbers one connection."""
    parts = conninfo_to_dict(empty)
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(f"{parts['host']}/.s.PGSQL.{parts['port']}")
                upwards = threading.Thread(target=copy, args=(client, server), kwargs={"renumber": False})
                upwards.start()
                copy(server, client, renumber=True)
                upwards.join()

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        # Without encryption or its negotiation the first message is the start-up itself.
        yield make_conninfo(
            empty, host="127.0.0.1", port=listener.getsockname()[1], sslmode="disable", gssencmode="disable"
        )
        threads[0].join(20)


def test_a_pooler_is_found_and_the_server_itself_is_good(through_a_pooler: str, empty: Any) -> None:
    assert "goes through a pooler" in the_finding(through_a_pooler, "pooler-in-between").sentence
    is_good(empty, "pooler-in-between")
