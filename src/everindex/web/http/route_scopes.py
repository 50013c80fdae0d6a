"""The scope that each route needs, in one place, with what is recorded and limited about it.

A route that is not listed here does not exist: the gate answers 404, and the application does not start. Paths are written
as for the router, which compiles them the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from starlette.routing import compile_path

from everindex.access.scopes import Scope

#: Kinds of expensive requests; each client has EVERINDEX_REQUESTS_PER_MINUTE of each.
Kind = Literal["search-many", "export", "deletion", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for one route."""

    scope: Scope
    limited_as: Kind | None = None
    is_audited: bool = False
    """Whether a line says who sent it, whatever came of it."""

    identifies: bool = True
    """Whether it matters who sends it; otherwise no credentials are looked at, and no query is made."""

    takes_basic: bool = False
    """Whether a token may also be the password of HTTP Basic: what feed readers can send."""


NOBODY = Rule(scope=Scope.PUBLIC, identifies=False)
PUBLIC, READ = Rule(scope=Scope.PUBLIC), Rule(scope=Scope.READ)
WRITE = Rule(scope=Scope.WRITE, is_audited=True)
DELETE = Rule(scope=Scope.WRITE, is_audited=True, limited_as="deletion")
CHECK = Rule(scope=Scope.OPERATE, is_audited=True, limited_as="check")
PLAN, OPERATE = Rule(scope=Scope.OPERATE), Rule(scope=Scope.OPERATE, is_audited=True)
EXPORT = Rule(scope=Scope.READ, limited_as="export", takes_basic=True)
FEED = Rule(scope=Scope.READ, takes_basic=True)
SIGNING = Rule(scope=Scope.PUBLIC, is_audited=True)

#: Path → method → rule.
ROUTES: Mapping[str, Mapping[str, Rule]] = MappingProxyType({
    # probes, and what is in the package
    "/livez": {"GET": NOBODY},
    "/readyz": {"GET": NOBODY},
    "/static/{name:path}": {"GET": NOBODY},
    "/openapi.json": {"GET": NOBODY},
    "/docs": {"GET": PUBLIC},
    "/problems": {"GET": PUBLIC},
    "/problems/{name}": {"GET": PUBLIC},
    "/doctor": {"GET": PUBLIC},
    "/doctor/{name}": {"GET": PUBLIC},
    "/manual": {"GET": PUBLIC},
    "/manual/{name}": {"GET": PUBLIC},
    "/sign-in": {"GET": PUBLIC, "POST": SIGNING},
    "/sign-out": {"POST": SIGNING},
    # pages
    "/": {"GET": READ},
    "/article": {"GET": READ},
    "/similar": {"GET": READ},
    "/collections": {"GET": READ},
    "/collections/{name:path}/row": {"GET": READ},
    "/collections/{name:path}": {"GET": READ},
    "/index": {"GET": READ},
    "/index/proofs": {"GET": READ},
    "/index/report": {"GET": READ},
    "/index/verify": {"POST": CHECK},
    "/index/running": {"GET": READ},
    "/index/operations": {"GET": READ},
    "/index/actions/{action}": {"GET": PLAN, "POST": OPERATE},
    "/index/cancel": {"POST": OPERATE},
    "/collections/{name:path}/index": {"GET": READ},
    "/collections/{name:path}/index/proofs": {"GET": READ},
    "/collections/{name:path}/index/report": {"GET": READ},
    "/collections/{name:path}/index/verify": {"POST": CHECK},
    "/collections/{name:path}/index/running": {"GET": READ},
    "/collections/{name:path}/index/operations": {"GET": READ},
    "/collections/{name:path}/index/actions/{action}": {"GET": PLAN, "POST": OPERATE},
    "/collections/{name:path}/index/cancel": {"POST": OPERATE},
    "/saved": {"GET": READ, "POST": WRITE},
    "/saved/remove": {"POST": WRITE},
    "/saved/{name}.rss": {"GET": FEED},
    "/incidents": {"GET": READ, "POST": WRITE},
    "/incidents/status": {"POST": WRITE},
    "/incident": {"GET": READ},
    "/incident/links": {"POST": WRITE},
    "/incident/unlink": {"POST": WRITE},
    "/incident/notes": {"POST": WRITE},
    # the API
    "/-/versions": {"GET": READ},
    "/metrics": {"GET": READ},
    "/api/search": {"GET": READ, "POST": READ},
    "/api/search/many": {"POST": Rule(scope=Scope.READ, limited_as="search-many")},
    "/api/export": {"GET": EXPORT},
    "/api/similar": {"GET": READ},
    "/api/article": {"GET": READ},
    "/api/articles": {"DELETE": DELETE},
    "/api/articles/expiry": {"PUT": WRITE},
    "/api/article/incidents": {"GET": READ},
    "/api/facets": {"GET": READ},
    "/api/index": {"GET": READ},
    "/api/incidents": {"GET": READ, "POST": WRITE, "PATCH": WRITE},
    "/api/incident": {"GET": READ},
    "/api/incident/links": {"POST": WRITE, "DELETE": WRITE},
    "/api/incident/notes": {"POST": WRITE},
    "/api/saved": {"GET": READ, "POST": WRITE},
    "/api/saved/{name}": {"GET": READ, "DELETE": WRITE},
    "/api/saved/{name}/newest": {"GET": READ},
    "/api/collections": {"GET": READ},
    "/api/collections/{name}/search": {"GET": READ, "POST": READ},
    "/api/collections/{name}/similar": {"GET": READ},
    "/api/collections/{name}/row": {"GET": READ},
    "/api/collections/{name}/rows": {"DELETE": DELETE},
    "/api/collections/{name}/index": {"GET": READ},
    "/api/collections/{name}/export": {"GET": EXPORT},
})  # fmt: skip


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], Mapping[str, Rule]], ...]:
    return tuple((compile_path(path)[0], rules) for path, rules in ROUTES.items() if "{" in path)


def rules_for(path: str) -> Mapping[str, Rule]:
    """Method → rule at a path of a request; empty where there is no such address.

    Where several routes match, the strictest rule of a method holds, whichever the router takes."""
    found = ROUTES.get(path)
    if found is not None and "{" not in path:
        return found
    strictest: dict[str, Rule] = {}
    for pattern, rules in _patterns():
        if pattern.match(path):
            for method, rule in rules.items():
                if method not in strictest or strictest[method].scope < rule.scope:
                    strictest[method] = rule
    return strictest


def without_rule(routes: Iterable[tuple[str, str]]) -> list[str]:
    """Those of the routes (method, path template) that are not listed, as `GET /path`."""
    return sorted(f"{method} {path}" for method, path in routes if method not in ROUTES.get(path, ()))
