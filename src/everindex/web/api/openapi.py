"""The OpenAPI document: what FastAPI writes of the routes, with the errors that every route can answer.

Errors are `application/problem+json` everywhere; bounds and either/or rules stand in the schemas (web/api/schemas.py).
"""

from __future__ import annotations

from typing import Any

PROBLEM = "#/components/schemas/ProblemOut"
#: What any address can answer, whatever it is asked.
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
#: The envelope takes it over from every request; told where something is changed, which is what one looks for in a log.
REQUEST_ID = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Of 8 to 64 letters, digits, `.`, `_`, `-`: the request's id in the answer and the log. Else one is made.",
}
WITH_A_BODY = {
    "403": "A browser sent this request from another site.",
    "415": "Unsupported content type.",
}
SEARCHES = {
    "409": "Right in its parts, and yet not to be answered: the parts do not fit each other, a cursor is of another search, a "
    "filter names a column that the table does not have, a "
    "vector is not as wide as the column or has no direction, the table holds vectors of another model than the query would get."
}
#: Of these 503 is an answer of its own, and no problem.
OWN_ANSWERS = {("/readyz", "503")}


def completed(document: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    """`document` with every error that is possible; changes it. `problem` is the schema of one."""
    document.setdefault("components", {}).setdefault("schemas", {}).setdefault("ProblemOut", problem)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            responses = operation["responses"]
            if "incidents" in operation.get("tags", ()) and "requestBody" in operation:
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
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document
