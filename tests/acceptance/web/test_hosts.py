"""Only requests for our own hosts are answered: a name that was made to lead here reads nothing and changes nothing."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from everindex.access.hosts import Hosts
from everindex.articles.instance import Instance
from everindex.errors import HostRefused, SettingInvalid
from everindex.host_names import name_of, names_of
from everindex.settings import read_settings
from everindex.web import serving

FORGED = [
    "attacker.example", "attacker.example:8000", "localhost.attacker.example", "127.0.0.1.attacker.example",
    "attacker.example.", "notlocalhost", "localhost:8000:80", "localhost@attacker.example", "localhost/attacker.example",
    "http://localhost", "127.0.0.1.nip.io", "10.0.0.1", "169.254.169.254", "0.0.0.0", "[::]", "0", "127.1", "2130706433",
    "0x7f000001", "127.0.0.256", "[::2]", "::1", "[::1", "[127.0.0.1]", "localhost:port", "localhost:123456", "local host",
    "localhost, attacker.example", "", ":80", ".localhost", "a..localhost", "xn--bcher-kva.example", "localhost\u00e9",
    "attacker.example#localhost", "localhost%2eattacker.example", "[fe80::1%25lo]", "localhost..",
]  # fmt: skip
OWN = [
    "localhost", "LOCALHOST", "LocalHost:8000", "localhost.", "localhost.:80", "localhost:", "everindex.localhost",
    "127.0.0.1", "127.0.0.1:1", "127.0.0.2", "127.255.255.254:65535", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
]  # fmt: skip
EVERYWHERE = ["/", "/?q=crash", "/incidents", "/index", "/docs", "/openapi.json", "/livez", "/readyz", "/-/versions",
              "/api/search?q=crash", "/api/facets", "/static/everindex.css", "/nothing"]  # fmt: skip


def scope(*hosts: str, server: tuple[str, int] | None = None, target: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"headers": [(b"host", host.encode("utf-8")) for host in hosts], "server": server}
    return found if target is None else {**found, "everindex.target_host": target.encode()}


def is_answered(hosts: Hosts, *given: str, **more: Any) -> bool:
    try:
        hosts.require(scope(*given, **more))
    except HostRefused:
        return False
    return True


@pytest.mark.parametrize("forged", FORGED)
def test_another_host_is_not_ours(forged: str) -> None:
    for bound in ("127.0.0.1", "0.0.0.0", "::", None):
        assert not is_answered(Hosts(bound=bound, allowed=()), forged, server=("192.0.2.7", 8000))


@pytest.mark.parametrize("own", OWN)
def test_this_machine_is_ours_however_it_is_written(own: str) -> None:
    assert is_answered(Hosts(bound="0.0.0.0", allowed=()), own)


def test_the_bound_host_and_the_address_of_the_connection_are_ours() -> None:
    assert is_answered(Hosts(bound="Search.Intra.", allowed=()), "search.intra:8000")
    assert is_answered(Hosts(bound="2001:db8::7", allowed=()), "[2001:DB8:0::7]:8000")
    everywhere = Hosts(bound="0.0.0.0", allowed=())
    assert is_answered(everywhere, "10.244.1.7:8000", server=("10.244.1.7", 8000))  # as kubelet asks
    assert is_answered(
        everywhere, "10.244.1.7", server=("::ffff:10.244.1.7", 8000)
    )  # through a socket of both families
    assert is_answered(everywhere, "[fd00::7]:8000", server=("fd00::7", 8000))
    assert not is_answered(everywhere, "10.244.1.8", server=("10.244.1.7", 8000))
    assert not is_answered(everywhere, "testserver", server=("testserver", 80))  # a name is never taken from there


def test_allowed_hosts_are_ours_and_their_neighbours_are_not() -> None:
    hosts = Hosts(
        bound=None, allowed=names_of("search.example.org, *.Tenants.example ,bücher.example,192.0.2.7,[2001:db8::1]")
    )
    for own in ("search.example.org", "SEARCH.example.org.:443", "a.tenants.example", "a.b.tenants.example:1",
                "xn--bcher-kva.example", "192.0.2.7:80", "[2001:db8::1]"):  # fmt: skip
        assert is_answered(hosts, own), own
    for other in ("example.org", "x.search.example.org", "tenants.example", "eviltenants.example", "192.0.2.8",
                  "search.example.org.evil.example", "*.tenants.example"):  # fmt: skip
        assert not is_answered(hosts, other), other
    assert is_answered(Hosts(bound=None, allowed=names_of("*")), "anything.example")


def test_a_request_has_one_host_and_a_target_of_its_own_must_be_ours_too() -> None:
    hosts = Hosts(bound="127.0.0.1", allowed=())
    assert not is_answered(hosts)
    assert not is_answered(hosts, "localhost", "localhost")
    assert not is_answered(hosts, "localhost", "attacker.example")
    assert is_answered(hosts, "localhost", target="127.0.0.1:8000")
    assert not is_answered(hosts, "localhost", target="attacker.example")
    assert not is_answered(hosts, "attacker.example", target="localhost")
    assert not is_answered(hosts, "localhost", target="")


@pytest.mark.parametrize(
    "written", ["http://a.example", "a.example:80", "a b", "a.example/x", "*", "a.*", "*.*", "*.10.0.0.1", "1.2"]
)
def test_a_setting_that_is_no_host_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("EVERINDEX_ALLOWED_HOSTS", f"a.example, {written}")
    if written == "*":
        assert names_of(read_settings().allowed_hosts) == ("a.example", "*")
        return
    with pytest.raises(SettingInvalid, match="EVERINDEX_ALLOWED_HOSTS") as refused:
        read_settings()
    assert "without a port" in refused.value.why


def test_international_names_are_compared_as_browsers_send_them() -> None:
    assert name_of("Straße.example") == "xn--strae-oqa.example"
    assert name_of("bücher.EXAMPLE.") == "xn--bcher-kva.example"
    assert name_of("a" * 64 + ".example") is None


@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_address_refuses_another_host(client: httpx2.Client, path: str) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"):
        refused = client.request(method, path, headers={"host": "attacker.example", "x-forwarded-host": "localhost"})
        assert refused.status_code == 421
        assert refused.json()["type"] == "/problems/host-refused"
        assert "attacker.example" in refused.json()["title"]
        assert refused.headers["content-security-policy"]
    page = client.get(path, headers={"host": "attacker.example", "accept": "text/html"})
    assert page.status_code == 421
    assert "EVERINDEX_ALLOWED_HOSTS" in page.text


def test_a_forged_host_makes_no_incident(client: httpx2.Client) -> None:
    before = client.get("/api/incidents").json()
    body = {"incident_name": "rebound", "topic": "x"}
    same_origin = {"host": "attacker.example", "origin": "http://attacker.example", "sec-fetch-site": "same-origin"}
    assert client.post("/api/incidents", json=body, headers=same_origin).status_code == 421
    assert client.post("/incidents", data=body, headers=same_origin).status_code == 421
    assert client.get("/api/incidents").json() == before


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", 421),
        (b"GET /livez HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\n\r\n", 421),
        (b"GET /livez HTTP/1.1\r\nhost:\r\n\r\n", 421),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nHost: localhost\r\n\r\n", 421),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: attacker.example\r\n\r\n", 421),
        (b"GET http://attacker.example/livez HTTP/1.1\r\nhost: localhost\r\n\r\n", 421),
        (b"GET http://localhost/livez HTTP/1.1\r\nhost: attacker.example\r\n\r\n", 421),
        (b"GET HTTP://LOCALHOST:8000/livez?a=http://b/ HTTP/1.1\r\nhost: localhost\r\n\r\n", 200),
        (b"GET http://localhost HTTP/1.1\r\nhost: localhost\r\n\r\n", 200),
        (b"GET http://attacker.example@localhost/livez HTTP/1.1\r\nhost: localhost\r\n\r\n", 421),
        (b"GET //attacker.example/livez HTTP/1.1\r\nhost: localhost\r\n\r\n", 404),
        (b"OPTIONS * HTTP/1.1\r\nhost: attacker.example\r\n\r\n", 421),
    ],
    ids=lambda value: value[:60] if isinstance(value, bytes) else None,
)  # fmt: skip
def test_on_the_wire(web_url: str, request_: bytes, status: int) -> None:
    parts = urlsplit(web_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(request_)
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)


def test_the_setting_reaches_the_server(web_instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = web_instance.settings.model_copy(update={"allowed_hosts": "search.example.org", "access": "open"})
    monkeypatch.setattr(web_instance, "settings", settings)
    with serving.serve_in_thread(web_instance, host="0.0.0.0") as url:
        assert httpx2.get(f"{url}/livez").status_code == 200
        assert httpx2.get(f"{url}/livez", headers={"host": "search.example.org"}).status_code == 200
        assert httpx2.get(f"{url}/livez", headers={"host": "other.example.org"}).status_code == 421
