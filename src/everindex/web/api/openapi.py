"""The OpenAPI document: FastAPI's description of the routes, with the errors that every route can return.

Errors are `application/problem+json` everywhere; limits and either/or rules are in the schemas (web/api/schemas.py).
"""

from __future__ import annotations

from typing import Any

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
    "403": "A browser sent this request from another site.",
    "415": "Unsupported content type.",
}
SEARCHES = {
    "409": "Valid options that cannot be answered together: they are not compatible, the cursor belongs to another "
    "search, a filter names a column that the table does not have, the vector does not have the column's width or has "
    "no direction, or the table holds vectors of another model than the query's."
}
#: For these, 503 has its own response and is not a problem document.
OWN_ANSWERS = {("/readyz", "503")}


def completed(document: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    """`document`, changed in place, with every possible error. `problem` is the schema of an error."""
    document.setdefault("components", {}).setdefault("schemas", {}).setdefault("ProblemOut", problem)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            responses = operation["responses"]
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
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document
