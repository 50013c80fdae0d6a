"""The server says where it answers, refuses an address it cannot have, and ends when told to."""

from __future__ import annotations

import signal
import socket

import httpx2
import pytest

import warm
from everindex.articles.instance import Instance
from everindex.errors import AddressUnusable
from everindex.web.serving import bind, serve_in_thread, url_of

PROGRAM = """
import sys, everindex
from everindex.web.serving import serve
with everindex.connect(sys.argv[1]) as instance:
    serve(instance, host="127.0.0.1", port=0, on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""

TWICE = """
import os, signal, sys, threading, everindex
from everindex.web.serving import serve

lock, has_told = threading.Lock(), threading.Semaphore(0)

def told():
    with lock:
        has_told.release()

def interrupt(url):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)

with everindex.connect(sys.argv[1]) as instance:
    with lock:
        serve(instance, host="127.0.0.1", port=0, on_ready=interrupt, on_signal=told)
        print("ended", flush=True)
    assert has_told.acquire(timeout=20)
    print("told", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_cleanly(web_instance: Instance, number: signal.Signals) -> None:
    with warm.Process(["-c", PROGRAM, web_instance.conninfo]) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx2.get(f"{url}/livez").json() == {"alive": True}
        assert httpx2.get(f"{url}/?q=crash", timeout=30).status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=20)

    assert out.strip() == "ended", err
    assert process.returncode == 0
    assert "Traceback" not in err


def test_a_signal_that_comes_twice_is_told_twice_and_waits_for_nobody(web_instance: Instance) -> None:
    # `make` and `timeout` pass theirs on, beside that of the terminal. What is told takes a lock, as Event.set does: the
    # interrupted thread may hold it.
    with warm.Process(["-c", TWICE, web_instance.conninfo]) as process:
        out, err = process.communicate(timeout=40)
    assert out.split() == ["ended", "told"], err
    assert process.returncode == 0


def test_a_taken_port_is_told_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AddressUnusable) as refused:
        bind("127.0.0.1", taken.getsockname()[1])

    assert "is taken" in refused.value.what
    assert "another port" in refused.value.next_step


def test_an_unknown_host_and_a_foreign_address_are_told() -> None:
    with pytest.raises(AddressUnusable, match="unknown host"):
        bind("no-such-host.invalid", 0)
    with pytest.raises(AddressUnusable, match="cannot listen"):
        bind("192.0.2.1", 0)


def test_an_ipv6_address_is_served_and_written_as_one(web_instance: Instance) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve_in_thread(web_instance, host="::1") as url:
        assert url.startswith("http://[::1]:")
        assert httpx2.get(f"{url}/livez").status_code == 200


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("localhost", "localhost")]
)
def test_the_address_told_is_one_that_a_browser_can_open(host: str, shown: str) -> None:
    with bind(host, 0) as sock:
        assert url_of(host, sock) == f"http://{shown}:{sock.getsockname()[1]}"


def test_what_on_ready_raises_reaches_the_caller(web_instance: Instance) -> None:
    program = PROGRAM.replace("print(url, flush=True)", "1 / 0")
    ended = warm.run(["-c", program, web_instance.conninfo], timeout=60)

    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr
