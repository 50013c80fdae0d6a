"""The OpenAPI document says what is so: every error, its type, and the bounds of what is taken."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest


@pytest.fixture
def document(client: httpx2.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_every_error_is_problem_json_and_is_described(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            responses = operation["responses"]
            assert {"400", "408", "413", "421", "431", "500", "503"} <= set(responses), (method, path)
            assert ({"403", "415"} <= set(responses)) == ("requestBody" in operation)
            for status, response in responses.items():
                if status >= "400" and (path, status) != ("/readyz", "503"):
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_bounds_and_either_or_rules_are_those_of_the_answers(client: httpx2.Client, document: dict[str, Any]) -> None:
    parameters = {each["name"]: each["schema"] for each in document["paths"]["/api/search"]["get"]["parameters"]}
    for name, low, high in (("k", 1, 1000), ("ef_search", 1, 1000), ("min_similarity", -1, 1), ("diversity", 0, 1)):
        assert (parameters[name]["minimum"], parameters[name]["maximum"]) == (low, high)
        for value, status in ((low, 200), (high, 200), (low - 1, 422), (high + 1, 422)):
            assert client.get("/api/search", params={"q": "crash", name: value}).status_code == status, (name, value)
    for path, one, other in (("/api/search", "text", "vector"), ("/api/search/many", "texts", "vectors")):
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert [rule.get("required") for rule in schema["oneOf"]][:2] == [[one], [other]]


def test_names_of_facets_in_an_address_are_bounded_as_the_document_says(
    client: httpx2.Client, document: dict[str, Any]
) -> None:
    (facets,) = [each for each in document["paths"]["/api/search"]["get"]["parameters"] if each["name"] == "facets"]
    (pattern,) = [each["pattern"] for each in facets["schema"]["anyOf"] if "pattern" in each]
    for value, is_valid in (
        ("category", True),
        ("category,,topic", True),
        ("x" * 201, False),
        (",".join("abcdefghijk"), False),
    ):
        assert (re.search(pattern, value) is not None) == is_valid
        answer = client.get("/api/search", params={"q": "crash", "facets": value})
        assert answer.status_code == (200 if is_valid else 422), value
