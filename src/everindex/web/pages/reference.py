"""The API reference for people: the OpenAPI document as rows of a page without scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter, or a member of a request or response body."""

    name: str
    kind: str
    is_required: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address."""

    anchor: str
    tag: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Field]
    body: list[Field]
    answer: list[Field]
    statuses: list[tuple[str, str]]


def operations(document: dict[str, Any]) -> dict[str, list[Operation]]:
    """The operations of an OpenAPI document by tag, in document order."""
    schemas = document.get("components", {}).get("schemas", {})
    grouped: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            operation = _operation(path, method, described, schemas)
            grouped.setdefault(operation.tag, []).append(operation)
    return grouped


def _operation(path: str, method: str, described: dict[str, Any], schemas: dict[str, Any]) -> Operation:
    statuses = described.get("responses", {})
    good: dict[str, Any] = next((response for status, response in statuses.items() if status.startswith("2")), {})
    return Operation(
        anchor=f"{method}{path.replace('/', '-')}",
        tag=described.get("tags", ["other"])[0],
        method=method.upper(),
        path=path,
        summary=described.get("summary", ""),
        description=described.get("description", ""),
        parameters=[
            Field(
                name=parameter["name"],
                kind=_kind(parameter["schema"]),
                is_required=parameter.get("required", False),
                description=parameter.get("description", ""),
            )
            for parameter in described.get("parameters", [])
        ],
        body=_members(_json_schema(described.get("requestBody", {})), schemas),
        answer=_members(_json_schema(good), schemas),
        statuses=[(status, response.get("description", "")) for status, response in statuses.items()],
    )


def _json_schema(part: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = part.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _members(schema: dict[str, Any], schemas: dict[str, Any]) -> list[Field]:
    if "$ref" in schema:
        schema = schemas.get(schema["$ref"].rpartition("/")[2], {})
    required = schema.get("required", [])
    return [
        Field(name=name, kind=_kind(member), is_required=name in required, description=member.get("description", ""))
        for name, member in schema.get("properties", {}).items()
    ]


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2]).removesuffix("Out")
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
