"""The page `/sign-in`, and signing out: a password is exchanged for a session, which the browser keeps in a cookie.

Attempts are limited by address and by name. Over a network a password is taken through HTTPS alone.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from everindex.access.credentials import digest_of
from everindex.access.request_limits import RequestLimits, network_of
from everindex.access.scopes import Principal, Scope
from everindex.access.users import sign_in, sign_out
from everindex.errors import EverindexError, PermissionDenied, SignInRefused, TooManyRequests
from everindex.pg import own_schema
from everindex.pg.sqlstate import translate_errors
from everindex.web.http.gate import PRINCIPAL, SUBJECT, address_of_client
from everindex.web.http.given import given_in, is_this_machine, set_cookie
from everindex.web.http.inputs import read_form
from everindex.web.http.problems import as_problem, problem_headers
from everindex.web.pages.render import answer_page
from everindex.web.site import Site, site_of

log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)


@router.get("/sign-in")
async def sign_in_page(request: Request) -> Response:
    """The form; where nobody has to sign in, the search page."""
    site = site_of(request)
    if site.authenticator.mode == "local":
        return RedirectResponse("/", status_code=303)
    return await _form(site, wanted=local_path(request.query_params.get("next", "")))


@router.post("/sign-in")
async def sign_in_with_password(request: Request) -> Response:
    """Signs in and goes to the page that was wanted; a refusal is shown above the form."""
    site = site_of(request)
    limits: RequestLimits = request.app.state.limits
    form = await read_form(request)
    name, wanted = form.get("name", "").strip(), local_path(form.get("next", ""))
    request.scope[SUBJECT] = f"as {name[:100]}"
    host = request.headers.get("host", "")
    try:
        _require_secure(request, host)
        limits.count_sign_in(name, network_of(address_of_client(request.scope)))
        hours = site.instance.settings.session_hours
        secret = await site.comparing_passwords(lambda: _session(site, name, form.get("password", ""), hours=hours))
    except (SignInRefused, TooManyRequests, PermissionDenied) as exc:
        return await _form(site, wanted=wanted, name=name, error=exc)
    request.scope[PRINCIPAL] = Principal(kind="user", name=name, scope=Scope.PUBLIC)
    answer = RedirectResponse(wanted, status_code=303)
    answer.headers.append("set-cookie", set_cookie(host, secret, seconds=round(hours * 3600)))
    answer.headers["cache-control"] = "no-store"
    return answer


@router.post("/sign-out")
async def sign_out_here(request: Request) -> Response:
    """Ends the session, in the database and in this browser."""
    site = site_of(request)
    given = given_in(request.headers, takes_basic=False)
    answer = RedirectResponse("/sign-in" if site.authenticator.mode == "sign-in" else "/", status_code=303)
    if given is not None and given.by == "cookie":
        site.authenticator.forget(given.secret)
        await site.in_database(lambda: _end(site, given.secret))
    answer.headers.append("set-cookie", set_cookie(request.headers.get("host", ""), "", seconds=0))
    return answer


def local_path(text: str) -> str:
    """`text` if it is a path of this application, else `/`: nobody is sent to another site."""
    if not text.startswith("/") or text.startswith(("//", "/\\")) or not text.isascii() or not text.isprintable():
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc or parts.path in ("/sign-in", "/sign-out") else text


def _require_secure(request: Request, host: str) -> None:
    """Raises SignInRefused where a browser sent a password over a network without HTTPS, where it would not keep the cookie."""
    if is_this_machine(host) or not request.headers.get("origin", "").startswith("http://"):
        return
    raise SignInRefused(
        "nobody can sign in over an unencrypted connection.",
        why="this page was loaded over http:// from another machine, so others on the way can read the password.",
        next_step="open it over https://: put a proxy with TLS in front of this server. Then choose a new password.",
    )


def _session(site: Site, name: str, password: str, *, hours: float) -> str:
    """The secret of a new session. Raises SignInRefused, PermissionDenied."""
    with site.instance.connection() as connection, translate_errors("signing in"):
        own_schema.require_readable(connection, "access_user", what="the users")
        secret = (
            sign_in(connection, name, password, hours=hours)
            if own_schema.is_readable(connection, "access_session")
            else None
        )
    if secret is None:
        raise SignInRefused(
            "nobody was signed in.",
            why="no user has this name and password.",
            next_step="try again; whoever operates this server sets a new password with  everindex user password NAME .",
        )
    return secret


def _end(site: Site, secret: str) -> None:
    with site.instance.connection() as connection, translate_errors("signing out"):
        if own_schema.is_readable(connection, "access_session"):
            sign_out(connection, digest_of(secret))


async def _form(site: Site, *, wanted: str, name: str = "", error: EverindexError | None = None) -> Response:
    return await answer_page(
        site, "sign_in.html", status_code=error.http_status if error else 200,
        headers={"cache-control": "no-store"} | (problem_headers(error) if error else {}),
        error=as_problem(error) if error else None, wanted=wanted, name=name, here="/sign-in",
    )  # fmt: skip
