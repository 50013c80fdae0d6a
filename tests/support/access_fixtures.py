"""Tokens, users and sessions of a database, and clients that use them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import psycopg

from everindex.access.scopes import ScopeName
from everindex.access.tokens import create_token, revoke_token
from everindex.access.users import create_user
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.pg.connections import connect
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

PASSWORD = "correct horse battery"
SCOPES: tuple[ScopeName, ...] = ("read", "write", "operate")


@dataclass(frozen=True, kw_only=True)
class People:
    """Whoever may use a database: a token and a user of each scope, and tokens that are over."""

    tokens: dict[str, str] = field(default_factory=dict)


def let_in(conninfo: str) -> People:
    """Creates them."""
    people = People()
    with connect(conninfo) as connection:
        for scope in SCOPES:
            people.tokens[scope], _ = create_token(connection, f"t-{scope}", scope=scope, days=1, conninfo=conninfo)
            create_user(connection, f"u-{scope}", password=PASSWORD, scope=scope, conninfo=conninfo)
        for over in ("expired", "revoked"):
            people.tokens[over], _ = create_token(connection, over, scope="operate", days=1, conninfo=conninfo)
        revoke_token(connection, "revoked", conninfo=conninfo)
    with psycopg.connect(conninfo, autocommit=True) as sql:
        sql.execute("UPDATE everindex_meta.access_token SET expires_at = now() - interval '1 s' WHERE name = 'expired'")
    people.tokens["unknown"] = "everindex_" + "A" * 43
    return people


@contextmanager
def served(conninfo: str, **settings: str) -> Iterator[tuple[Instance, str]]:
    """The application of a database, and its address."""
    with connect_instance(conninfo, settings=Settings(**settings)) as instance, serve_in_thread(instance) as url:
        yield instance, url


@contextmanager
def signed_in(url: str, name: str, *, password: str = PASSWORD) -> Iterator[httpx2.Client]:
    """A client with the session of a user."""
    with httpx2.Client(base_url=url, timeout=30) as client:
        answer = client.post("/sign-in", data={"name": name, "password": password})
        assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"any:{token}".encode()).decode()}
