"""Who may do what over HTTP: every route, scope, mode, origin and host, with each kind of credentials."""

from __future__ import annotations

import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import psycopg
import pytest

from access_fixtures import PASSWORD, People, basic, bearer, let_in, served, signed_in
from clusters import Cluster
from everindex.access import authenticator
from everindex.access.request_limits import SIGN_INS_OF_ADDRESS, WRONG_SECRETS
from everindex.access.scopes import Scope
from everindex.access.tokens import revoke_token
from everindex.articles.instance import Instance
from everindex.errors import AccessNotConfigured, SettingInvalid
from everindex.pg.connections import connect
from everindex.web.app import create_app, routes_of
from everindex.web.http.route_scopes import ROUTES
from everindex.web.serving import bind, serve_in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ORDER = {"public": 0, "read": 1, "write": 2, "operate": 3}
#: What each kind of credentials may do at most; None: it is refused, whatever it asks for.
MAY: dict[str, int | None] = {
    "nothing": 0, "token read": 1, "token write": 2, "token operate": 3, "user u-read": 1, "user u-write": 2,
    "user u-operate": 3, "token expired": None, "token revoked": None, "token unknown": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def protected(cluster: Cluster, with_articles: str) -> Iterator[tuple[str, People]]:
    """A database with a token and a user of each scope, of these tests alone."""
    conninfo = cluster.database(with_articles)
    yield conninfo, let_in(conninfo)
    cluster.drop(conninfo)


@pytest.fixture(scope="module", params=["sign-in", "open"])
def guarded(protected: tuple[str, People], request: pytest.FixtureRequest) -> Iterator[tuple[str, str, People]]:
    """Mode, address of a server in that mode, and who may use it."""
    conninfo, people = protected
    with served(conninfo, EVERINDEX_ACCESS=request.param, EVERINDEX_REQUESTS_PER_MINUTE="0") as (_, url):
        yield request.param, url, people


@pytest.fixture(scope="module")
def closed_url(protected: tuple[str, People]) -> Iterator[str]:
    with served(protected[0], EVERINDEX_REQUESTS_PER_MINUTE="0") as (_, url):
        yield url


@contextmanager
def clients_of(url: str, people: People) -> Iterator[dict[str, httpx2.Client]]:
    """A client for each kind of credentials in MAY."""
    with ExitStack() as stack:
        found = {}
        for kind in MAY:
            who, _, name = kind.partition(" ")
            found[kind] = stack.enter_context(
                signed_in(url, name)
                if who == "user"
                else httpx2.Client(base_url=url, timeout=30, headers=bearer(people.tokens[name]) if name else {})
            )
        yield found


#: Name → scope, method, path, and the body; `{n}` is a number of the cell.
ACTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "probe": ("public", "GET", "/livez", {}),
    "documentation": ("public", "GET", "/manual/settings", {}),
    "page": ("read", "GET", "/?q=crash", {}),
    "api": ("read", "GET", "/api/search?q=crash", {}),
    "search by body": ("read", "POST", "/api/search", {"json": {"text": "crash"}}),
    "export": ("read", "GET", "/api/export?q=crash&k=3", {}),
    "feed": ("read", "GET", "/saved/watched.rss", {}),
    "save": ("write", "POST", "/api/saved", {"json": {"name": "s{n}", "text": "x"}}),
    "save on a page": ("write", "POST", "/saved", {"data": {"name": "p{n}", "q": "x"}}),
    "incident": ("write", "POST", "/api/incidents", {"json": {"incident_name": "i{n}", "topic": "t", "status": "active"}}),
    "check": ("operate", "POST", "/index/verify", {"data": {}}),
}  # fmt: skip


def cells_of(url: str, people: People) -> Iterator[tuple[str, str, httpx2.Client]]:
    with clients_of(url, people) as clients:
        for (kind, client), act in itertools.product(clients.items(), ACTS):
            yield kind, act, client


def test_every_kind_of_credentials_may_do_what_its_scope_includes_and_nothing_else(
    guarded: tuple[str, str, People], protected: tuple[str, People]
) -> None:
    mode, url, people = guarded
    with psycopg.connect(protected[0], autocommit=True) as sql:
        sql.execute(
            "INSERT INTO everindex_meta.saved_search (name, search_text, mode) VALUES ('watched', 'x', 'keyword') "
            "ON CONFLICT DO NOTHING"
        )
    cells, wrong = 0, []
    for kind, act, client in cells_of(url, people):
        needed, method, path, body = ACTS[act]
        cells += 1
        most = MAY[kind]
        filled = json.loads(json.dumps(body).replace("{n}", f"-{mode}-{cells}"))
        answer = client.request(method, path, **filled)
        allowed = ORDER[needed] <= (1 if mode == "open" and kind == "nothing" else most if most is not None else 0)
        expected = 401 if kind == "nothing" or most is None else 403
        if allowed != (answer.status_code < 400) or (not allowed and answer.status_code != expected):
            wrong.append((mode, kind, act, answer.status_code))
        if not allowed:
            assert "Bearer" in answer.headers["www-authenticate"]
            assert ("Basic" in answer.headers["www-authenticate"]) == (
                act in ("export", "feed") and answer.status_code == 401
            )
            problem = answer.json()
            assert problem["type"].removeprefix("/problems/") in ("sign-in-needed", "token-refused", "scope-missing")
    assert wrong == []
    assert cells == len(MAY) * len(ACTS) >= 100


def test_no_route_answers_without_credentials_unless_it_is_public(closed_url: str, web_instance: Instance) -> None:
    walked = routes_of(create_app(web_instance))
    assert {(method, path) for path, rules in ROUTES.items() for method in rules} == set(walked), "each one is a route"
    with httpx2.Client(base_url=closed_url, timeout=30) as client:
        for method, path in walked:
            address = re.sub(r"\{[^}]+\}", "x", path)
            for sent in {method, "HEAD" if method == "GET" else method}:
                answer = client.request(sent, address)
                is_public = ROUTES[path][method].scope is Scope.PUBLIC
                assert (answer.status_code == 401) != is_public, (sent, address, answer.status_code)
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["x-content-type-options"] == "nosniff"
        for method in ("GET", "POST", "DELETE"):
            assert client.request(method, "/nothing").status_code == 404
        assert client.delete("/api/search").status_code == 405


def test_another_site_changes_nothing_through_a_session_and_a_token_is_no_session(
    closed_url: str, protected: tuple[str, People]
) -> None:
    with clients_of(closed_url, protected[1]) as clients:
        from_other_sites(closed_url, clients["user u-operate"], clients["token operate"], protected[1])


def from_other_sites(closed_url: str, user: httpx2.Client, program: httpx2.Client, people: People) -> None:
    own, cells = closed_url, 0
    sites = (None, "same-origin", "none", "same-site", "cross-site")
    origins = (None, own, "https://evil.example", "null", own.replace("127.0.0.1", "localhost"))
    for site, origin, (method, path), content in itertools.product(
        sites, origins, (("POST", "/saved/remove"), ("DELETE", "/api/saved/none")), ("form", "json")
    ):
        cells += 1
        headers = {name: value for name, value in (("sec-fetch-site", site), ("origin", origin)) if value is not None}
        body: dict[str, Any] = {} if method == "DELETE" else {"data": {"name": "none"}}
        if content == "json" and method != "DELETE":
            body = {"json": {"name": "none"}}
        is_foreign = site in ("same-site", "cross-site") if site is not None else origin not in (None, own)
        answer = user.request(method, path, headers=headers, **body)
        assert (answer.status_code == 403) == is_foreign, (site, origin, method, answer.status_code)
        assert program.request(method, path, headers=headers, **body).status_code in (404, 415)
    assert cells >= 60
    foreign = {"sec-fetch-site": "cross-site"}
    assert user.get("/api/search?q=crash", headers=foreign).status_code == 200, "reading changes nothing"
    for credentials in (basic(people.tokens["operate"]), {"authorization": "bearer"}, {}):
        answer = httpx2.post(f"{closed_url}/saved/remove", data={"name": "x"}, headers=foreign | credentials)
        assert answer.status_code in (401, 403)


def test_another_host_is_refused_whoever_sends_the_request(closed_url: str, protected: tuple[str, People]) -> None:
    with clients_of(closed_url, protected[1]) as clients:
        for (kind, client), path in itertools.product(
            clients.items(), ("/", "/livez", "/api/search?q=crash", "/sign-in")
        ):
            answer = client.get(path, headers={"host": "rebound.example"})
            assert answer.status_code == 421, (kind, path)


def test_basic_is_for_feeds_and_exports_alone(closed_url: str, protected: tuple[str, People]) -> None:
    headers = basic(protected[1].tokens["read"])
    for path, status in (
        ("/saved/none.rss", 404),
        ("/api/export?q=crash&k=1", 200),
        ("/", 401),
        ("/api/search?q=x", 401),
    ):
        assert httpx2.get(f"{closed_url}{path}", headers=headers).status_code == status, path
    assert httpx2.get(f"{closed_url}/saved/none.rss?token={protected[1].tokens['read']}").status_code == 401
    password = basic(PASSWORD)
    assert httpx2.get(f"{closed_url}/saved/none.rss", headers=password).status_code == 401


def test_a_browser_signs_in_reads_and_signs_out(protected: tuple[str, People]) -> None:
    conninfo = protected[0]
    with served(conninfo, EVERINDEX_ALLOWED_HOSTS="search.example.org") as (_, url):
        html = {"accept": "text/html"}
        with httpx2.Client(base_url=url, timeout=30, headers=html) as client:
            wanted = client.get("/saved?x=1")
            assert (wanted.status_code, 'value="/saved?x=1"' in wanted.text) == (401, True)
            assert "no-store" in wanted.headers["cache-control"] or "no-cache" in wanted.headers["cache-control"]
            answer = client.post("/sign-in", data={"name": "u-read", "password": PASSWORD, "next": "/saved?x=1"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/saved?x=1")
            assert "HttpOnly" in answer.headers["set-cookie"]
            page = client.get("/saved").text
            assert "u-read" in page
            assert "Sign out" in page
            assert 'action="/saved"' not in page, "nothing is offered that is forbidden"
            forbidden = client.post("/saved", data={"name": "x", "q": "y"})
            assert forbidden.status_code == 403
            assert "needs the scope write; user u-read has the scope read" in forbidden.text
            cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
            assert client.post("/sign-out").status_code == 303
            assert httpx2.get(f"{url}/api/saved", headers=cookie).status_code == 401, (
                "the session is over, not only the cookie"
            )

        host = {"host": "search.example.org"}
        data = {"name": "u-read", "password": PASSWORD}
        plain = httpx2.post(f"{url}/sign-in", data=data, headers=host | {"origin": "http://search.example.org"})
        assert (plain.status_code, "https://" in plain.text) == (401, True)
        secure = httpx2.post(f"{url}/sign-in", data=data, headers=host | {"origin": "https://search.example.org"})
        assert secure.status_code == 303
        assert secure.headers["set-cookie"].startswith("__Host-everindex_session=")
        assert "Secure" in secure.headers["set-cookie"]


def test_wrong_passwords_are_slowed_down_and_wrong_tokens_too(protected: tuple[str, People]) -> None:
    with served(protected[0]) as (_, url), httpx2.Client(base_url=url, timeout=30) as client:
        seen = [
            client.post("/sign-in", data={"name": name, "password": "wrong password"})
            for name in ["u-read", "nobody"] * (SIGN_INS_OF_ADDRESS // 2 + 1)
        ]
        assert [each.status_code for each in seen] == [401] * SIGN_INS_OF_ADDRESS + [429] * 2
        assert 1 <= int(seen[-1].headers["retry-after"]) <= 60
        assert len({re.sub(r'value="(u-read|nobody)"', "", each.text) for each in seen[:SIGN_INS_OF_ADDRESS]}) == 1, (
            "who exists?"
        )
        statuses = [
            client.get("/api/saved", headers=bearer("everindex_" + f"{n:043d}")).status_code for n in range(100)
        ]
        assert statuses == [401] * WRONG_SECRETS + [429] * (100 - WRONG_SECRETS)


def test_a_client_that_exports_too_much_waits_and_another_does_not(protected: tuple[str, People]) -> None:
    _, people = protected
    with served(protected[0], EVERINDEX_REQUESTS_PER_MINUTE="2") as (_, url):
        path = f"{url}/api/export?q=crash&k=1"
        answers = [httpx2.get(path, headers=bearer(people.tokens["read"])) for _ in range(20)]
        assert [each.status_code for each in answers] in (
            [200] * 2 + [429] * 18,
            [200] * 4 + [429] * 16,
        )  # a minute ends
        assert answers[-1].json()["type"] == "/problems/too-many-requests"
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert httpx2.get(path, headers=bearer(people.tokens["write"])).status_code == 200
        assert httpx2.get(f"{url}/api/search?q=crash", headers=bearer(people.tokens["read"])).status_code == 200


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.06)


def test_a_revoked_token_works_no_longer_than_it_is_cached(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticator, "CACHED_SECONDS", 0.05)
    with served(migrated) as (_, url), httpx2.Client(base_url=url, timeout=30) as client:
        assert client.get("/api/saved").status_code == 200, "nobody is asked before there is a token"
        of_a_proxy = basic("a password")
        for path in ("/api/saved", "/saved/none.rss", "/api/export?k=1"):
            assert client.get(path, headers=of_a_proxy).status_code in (200, 404), "a proxy asks for its own password"
        people = let_in(migrated)
        eventually(lambda: client.get("/api/saved").status_code == 401)  # the first token closes a running server
        headers = bearer(people.tokens["read"])
        assert client.get("/api/saved", headers=headers).status_code == 200
        with connect(migrated) as connection:
            revoke_token(connection, "t-read", conninfo=migrated)
        eventually(lambda: client.get("/api/saved", headers=headers).status_code == 401)
    with served(migrated, EVERINDEX_ACCESS="local") as (_, url):
        assert httpx2.get(f"{url}/api/saved").status_code == 200


def test_a_server_that_others_reach_does_not_start_before_it_is_known_who_may(
    migrated: str, protected: tuple[str, People]
) -> None:
    with (
        pytest.raises(AccessNotConfigured, match=r"0\.0\.0\.0") as refused,
        served(migrated) as (instance, _),
        serve_in_thread(instance, host="0.0.0.0"),
    ):
        pass
    assert "everindex user create" in refused.value.next_step
    with (
        pytest.raises(SettingInvalid, match="EVERINDEX_ACCESS=local"),
        served(migrated, EVERINDEX_ACCESS="local") as (instance, _),
        serve_in_thread(instance, host="0.0.0.0"),
    ):
        pass
    with served(migrated, EVERINDEX_ACCESS="open") as (instance, _), serve_in_thread(instance, host="0.0.0.0") as url:
        assert httpx2.get(f"{url}/api/search?q=x").status_code == 200
        assert httpx2.post(f"{url}/api/saved", json={"name": "x", "text": "x"}).status_code == 401
    with served(protected[0]) as (instance, _), serve_in_thread(instance, host="0.0.0.0") as url:
        assert httpx2.get(f"{url}/api/search?q=x").status_code == 401
    bind("127.0.0.1", int(url.rpartition(":")[2])).close()  # nothing listens there any more


def test_each_change_leaves_one_line_that_says_who_and_what_and_no_secret(
    protected: tuple[str, People], caplog: pytest.LogCaptureFixture
) -> None:
    conninfo, people = protected
    with served(conninfo) as (_, url), caplog.at_level(logging.INFO):
        token = people.tokens["write"]
        httpx2.post(f"{url}/api/saved", json={"name": "audited", "text": "a private matter"}, headers=bearer(token))
        httpx2.delete(f"{url}/api/saved/audited?x=%0Afake: line", headers=bearer(token))
        httpx2.post(f"{url}/saved", data={"name": "page", "q": "x"})
        with signed_in(url, "u-write") as user:
            user.post("/incidents", data={"incident_name": "a\nb", "topic": "t", "status": "active"})
        httpx2.post(f"{url}/sign-in", data={"name": "u-write", "password": "not her password"})
        httpx2.get(f"{url}/api/saved", headers=bearer(token))
    lines = [record.getMessage() for record in caplog.records if record.name == "everindex.audit"]
    assert lines == [
        "token t-write: POST /api/saved (name=audited) → 201",
        "token t-write: DELETE /api/saved/audited?x=%0Afake:%20line → 204",
        "anonymous: POST /saved → 401",
        "user u-write: POST /sign-in (as u-write) → 303",
        "user u-write: POST /incidents (incident_name=a\\nb, topic=t, status=active) → 303",
        "anonymous: POST /sign-in (as u-write) → 401",
    ]
    everything = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for secret in (PASSWORD, "not her password", "a private matter", *people.tokens.values()):
        assert secret not in everything
    with psycopg.connect(conninfo) as sql:
        stored = sql.execute(
            "SELECT t::text FROM everindex_meta.access_token t UNION ALL SELECT u::text FROM everindex_meta.access_user u "
            "UNION ALL SELECT s::text FROM everindex_meta.access_session s"
        ).fetchall()
    assert stored
    assert not any(secret in str(row) for row in stored for secret in (PASSWORD, *people.tokens.values()))


def test_the_document_names_the_scope_of_every_operation(closed_url: str, client: httpx2.Client) -> None:
    for url, asks in ((f"{closed_url}/openapi.json", True), ("/openapi.json", False)):
        document = (httpx2 if asks else client).get(url).json()
        assert set(document["components"]["securitySchemes"]) == {"token", "session", "feed"}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                rule = ROUTES[path][method.upper()]
                if rule.scope is Scope.PUBLIC:
                    assert operation["security"] == []
                    continue
                assert {"token": [rule.scope.text]} in operation["security"]
                assert ({} in operation["security"]) != asks
                assert {"401", "403"} <= set(operation["responses"])
                assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
                assert ("429" in operation["responses"]) == (rule.limited_as is not None)


def test_people_sign_in_with_a_browser_and_no_page_of_it_has_a_barrier(
    browser: Browser, protected: tuple[str, People]
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with served(protected[0]) as (_, url):
        context = browser.new_context(
            base_url=url, bypass_csp=True, reduced_motion="reduce", viewport={"width": 360, "height": 740}
        )
        page = context.new_page()
        found = {}

        def look(name: str) -> None:
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                found[name, scheme] = [each["id"] for each in Axe().run(page).response["violations"]]

        page.goto("/incidents")
        look("sign in")
        page.get_by_label("Name").fill("u-write")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        look("refused")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/incidents")
        look("signed in")
        page.get_by_label("Name").fill("outage")
        page.get_by_label("Topic").fill("network")
        page.get_by_role("button", name="Create").click()
        page.get_by_role("link", name="outage").wait_for()
        page.goto("/index")
        assert page.get_by_role("button", name="Verify again").count() == 0, "that needs the scope operate"
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        page.goto("/incidents")
        assert "Sign in" in page.locator("h1").inner_text()
        context.close()
        assert not any(found.values()), found
