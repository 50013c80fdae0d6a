"""The OpenAPI document: FastAPI's description of the routes, with the errors that every route can return and the scope it needs.

Errors are `application/problem+json` everywhere; limits and either/or rules are in the schemas (web/api/schemas.py).
"""

from __future__ import annotations

from typing import Any

from everindex.access.scopes import Principal, Scope
from everindex.web.http.given import SECURE_COOKIE
from everindex.web.http.route_scopes import ROUTES, Rule

PROBLEM = "#/components/schemas/ProblemOut"
#: Errors that any address can return.
EVERYWHERE = {
    "400": "Not a valid HTTP/1.1 request.",
    "408": "The request was not complete in time.",
    "413": "The request or the response is too large.",
    "421": "This server does not serve the requested host.",
    "431": "The URL and headers are too large.",
    "500": "Internal error, or an error of the database; `next` says which.",
    "503": "Temporarily unavailable: the database or the embedding endpoint does not respond, or there are too "
    "many requests. See Retry-After.",
}
#: The envelope accepts it in every request; it is documented for changes, which are what one looks up in a log.
REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The request id for the response and the log: 8 to 64 letters, digits, `.`, `_`, `-`. Generated if "
    "omitted.",
}
#: The tags of what changes something.
CHANGING = {"incidents", "saved searches"}
WITH_A_BODY = {
    "415": "Unsupported content type.",
}
SEARCHES = {
    "409": "Valid options that cannot be answered together: they are not compatible, the cursor belongs to another "
    "search, a filter names a column that the table does not have, the vector does not have the column's width or has "
    "no direction, or the table holds vectors of another model than the query's."
}
#: Of what changes something, or needs more than reading.
FORBIDDEN = (
    "The scope of the token or user does not include this, another site sent the request through a browser, or the database "
    "role lacks a privilege."
)
NOT_SIGNED_IN = "No valid token or session, where the server asks for one (EVERINDEX_ACCESS); see WWW-Authenticate."
TOO_MANY = "More requests of this kind than one client may send in a minute; see Retry-After."
WWW_AUTHENTICATE = {
    "WWW-Authenticate": {"description": "How to authenticate (RFC 6750).", "schema": {"type": "string"}}
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token made by `everindex token create NAME --scope read|write|operate`. A scope includes those before "
        "it.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SECURE_COOKIE,
        "description": "The session of somebody who has signed in at /sign-in. A request that changes something must then come "
        "from a page of this server.",
    },
    "feed": {
        "type": "http",
        "scheme": "basic",
        "description": "A token as the password, any name: for exports and feeds, and for readers that know no other way.",
    },
}
#: For these, 503 has its own response and is not a problem document.
OWN_ANSWERS = {("/readyz", "503")}


def _with_access(operation: dict[str, Any], rule: Rule, *, everybody: Principal) -> None:
    """Describes which scope an operation needs, and how a client shows that it has it; `everybody` is who sends nothing."""
    if rule.scope is Scope.PUBLIC:
        operation["security"] = []
        return
    needed = rule.scope.text
    ways = ["token", "session", *(["feed"] if rule.takes_basic else [])]
    optional: list[dict[str, list[str]]] = [{}] if everybody.may(rule.scope) else []
    operation["security"] = [{way: [needed]} for way in ways] + optional
    operation["description"] = f"{operation.get('description', '')}\n\nScope: `{needed}`.".strip()
    responses = operation["responses"]
    responses["401"] = {"description": NOT_SIGNED_IN, "headers": WWW_AUTHENTICATE}
    responses["403"] = responses.get("403", {}) | {"description": FORBIDDEN, "headers": WWW_AUTHENTICATE}
    if rule.limited_as is not None or "429" in responses:
        responses["429"] = {"description": TOO_MANY, "headers": RETRY_AFTER}


def completed(document: dict[str, Any], problem: dict[str, Any], *, everybody: Principal) -> dict[str, Any]:
    """`document`, changed in place, with every possible error and the scope of every operation. `problem` is the schema of an
    error, `everybody` says what a request without credentials may do here."""
    document.setdefault("components", {}).setdefault("schemas", {}).setdefault("ProblemOut", problem)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            responses = operation["responses"]
            _with_access(operation, ROUTES[path][method.upper()], everybody=everybody)
            if CHANGING & set(operation.get("tags", ())) and "requestBody" in operation:
                operation.setdefault("parameters", []).append(REQUEST_ID)
            if not operation.get("parameters") and "requestBody" not in operation:
                responses.pop("422", None)
            wanted = EVERYWHERE | (WITH_A_BODY if "requestBody" in operation else {})
            for status, description in (wanted | (SEARCHES if "search" in operation.get("tags", ()) else {})).items():
                responses.setdefault(status, {"description": description})
            for status, response in responses.items():
                if status >= "400" and (path, status) not in OWN_ANSWERS:
                    response["content"] = {"application/problem+json": {"schema": {"$ref": PROBLEM}}}
            operation["responses"] = dict(sorted(responses.items()))
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document
