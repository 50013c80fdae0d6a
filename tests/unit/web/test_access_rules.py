"""What a request brings to show who sends it, which rule holds for an address, and how much one client may send."""

from __future__ import annotations

import base64

import pytest

from everindex.access.request_limits import SIGN_INS_OF_ADDRESS, SIGN_INS_OF_NAME, RequestLimits, network_of
from everindex.access.scopes import Scope
from everindex.errors import TooManyRequests
from everindex.web.http.given import SECURE_COOKIE, cookie_name, given_in, is_this_machine, set_cookie
from everindex.web.http.route_scopes import ROUTES, rules_for, without_rule
from everindex.web.pages.sign_in import local_path

SECRET = "A" * 43


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "secret", "by"),
    [
        ({"authorization": f"Bearer {SECRET}"}, SECRET, "bearer"),
        ({"authorization": f"bearer   {SECRET} "}, SECRET, "bearer"),
        ({"authorization": "Bearer"}, "", "bearer"),
        ({"authorization": basic(f"any:{SECRET}")}, SECRET, "basic"),
        ({"authorization": basic("any:a:b")}, "a:b", "basic"),
        ({"authorization": basic("no colon")}, "", "basic"),
        ({"authorization": "Basic ÿ%"}, "", "basic"),
        ({"authorization": basic("proxy:x"), "host": "localhost:1", "cookie": f"everindex_session_1={SECRET}"}, SECRET, "cookie"),
        ({"host": "localhost:8000", "cookie": f"a=b; everindex_session_8000={SECRET}"}, SECRET, "cookie"),
        ({"host": "x.example", "cookie": f"{SECURE_COOKIE}={SECRET}"}, SECRET, "cookie"),
        ({"authorization": f"Bearer {SECRET}", "host": "localhost:1", "cookie": "everindex_session_1=c"}, SECRET, "bearer"),
    ],
)  # fmt: skip
def test_credentials_are_read_in_each_form(headers: dict[str, str], secret: str, by: str) -> None:
    given = given_in(headers, takes_basic=True)
    assert given is not None
    assert (given.secret, given.by) == (secret, by)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:8000", "cookie": f"everindex_session_8001={SECRET}"},  # of the server on another port
        {"host": "x.example", "cookie": f"everindex_session_8000={SECRET}"},  # not the one that is sent by TLS alone
        {"host": "localhost:8000", "cookie": f"x_everindex_session_8000={SECRET}"},
        {"host": "localhost:8000", "cookie": ";;=;everindex_session"},
    ],
)
def test_a_cookie_of_another_name_is_nobodys(headers: dict[str, str]) -> None:
    assert given_in(headers, takes_basic=True) is None


@pytest.mark.parametrize("value", ["", "Digest username=x", basic("somebody:password of a proxy")])
def test_what_a_proxy_asks_for_is_not_ours(value: str) -> None:
    assert given_in({"authorization": value}, takes_basic=False) is None


def test_a_cookie_is_secure_except_on_this_machine() -> None:
    for here in (
        "localhost",
        "localhost:8000",
        "127.0.0.1:8000",
        "[::1]:8000",
        "[::1]",
        "app.localhost:1",
        "127.9.9.9",
    ):
        assert is_this_machine(here), here
    for elsewhere in ("search.example.org", "10.0.0.1:8000", "localhost.example.org", "[2001:db8::1]:80", ""):
        assert not is_this_machine(elsewhere), elsewhere
    assert cookie_name("127.0.0.1:8000") == "everindex_session_8000"
    parts = set_cookie("search.example.org", SECRET, seconds=60).split("; ")
    assert parts[0] == f"{SECURE_COOKIE}={SECRET}"
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=Lax", "Max-Age=60"} == set(parts[1:])
    assert "Secure" not in set_cookie("localhost:8000", SECRET, seconds=60)


@pytest.mark.parametrize("text", ["/", "/saved", "/?q=a+b&k=3", "/collections/x%2Fy?filter=%7B%7D"])
def test_the_page_that_was_wanted_is_opened_after_signing_in(text: str) -> None:
    assert local_path(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/\r\nx: y", "/sign-out",
     "/sign-in?next=/", "evil", "/ü", "\\/evil.example", " //evil.example"],
)  # fmt: skip
def test_nobody_is_sent_to_another_site(text: str) -> None:
    assert local_path(text) == "/"


def test_an_address_has_the_strictest_of_its_rules_and_an_unknown_one_has_none() -> None:
    assert rules_for("/api/search")["POST"].scope is Scope.READ
    assert rules_for("/saved/x.rss")["GET"].takes_basic
    assert rules_for("/collections/a/index/verify")["POST"].scope is Scope.OPERATE
    assert rules_for("/collections/a/index")["GET"].scope is Scope.READ
    for unknown in ("/nothing", "/api", "/api/search/", "//api/search", "/saved/{name}.rss/x", "/static", "/livez/x"):
        assert rules_for(unknown) == {}, unknown
    assert without_rule([("GET", "/livez"), ("POST", "/livez"), ("GET", "/new")]) == ["GET /new", "POST /livez"]


def test_whatever_changes_something_needs_more_than_reading_and_leaves_an_audit_line() -> None:
    reading = {("POST", "/api/search"), ("POST", "/api/search/many"), ("POST", "/api/collections/{name}/search")}
    signing = {("POST", "/sign-in"), ("POST", "/sign-out")}
    for path, rules in ROUTES.items():
        for method, rule in rules.items():
            if method != "GET" and (method, path) not in reading:
                assert rule.is_audited, (method, path)
                assert rule.scope >= Scope.WRITE or (method, path) in signing, (method, path)
            assert not (rule.takes_basic and method != "GET")


def test_a_client_has_its_number_of_each_kind_and_takes_nothing_from_another() -> None:
    limits = RequestLimits(per_minute=3)
    for _ in range(3):
        limits.count_expensive("export", "token a")
    with pytest.raises(TooManyRequests, match="export") as refused:
        limits.count_expensive("export", "token a")
    assert 1 <= refused.value.retry_after_seconds <= 60
    limits.count_expensive("export", "token b")
    limits.count_expensive("search-many", "token a")
    unlimited = RequestLimits(per_minute=0)
    for _ in range(100):
        unlimited.count_expensive("export", "token a")


def test_attempts_to_sign_in_are_few_by_address_and_by_name() -> None:
    limits = RequestLimits(per_minute=120)
    for number in range(SIGN_INS_OF_ADDRESS):
        limits.count_sign_in(f"name {number}", "192.0.2.1")
    with pytest.raises(TooManyRequests):
        limits.count_sign_in("another", "192.0.2.1")
    for number in range(SIGN_INS_OF_NAME):
        limits.count_sign_in("anna", f"192.0.2.{number + 2}")
    with pytest.raises(TooManyRequests):
        limits.count_sign_in("anna", "198.51.100.1")


def test_one_subscriber_of_ipv6_is_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("") == ""
