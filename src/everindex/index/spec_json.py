"""Index declarations as JSON objects or table rows, for applications without SQLAlchemy.

A file holds one object or a list of them. `null`, as in a row with empty columns, means that nothing is declared and the
default applies. Keys that are unknown, have the wrong type or are out of range are rejected by name before any database is
used.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from everindex.errors import SourceUnreadable, SpecIllegal
from everindex.index.spec import GENERATION_SUFFIXES, MAX_DIMENSIONS, OPCLASSES, BuildPolicy, IndexSpec

#: The opclass of a declaration that names only the type: cosine, as in IndexSpec; Hamming for bits.
OPCLASS_OF_TYPE = {"vector": "vector_cosine_ops", "halfvec": "halfvec_cosine_ops", "bit": "bit_hamming_ops"}

_TEXT = ("name", "table", "column", "schema", "opclass", "expression", "predicate", "type")
_WHOLE = ("m", "ef_construction", "dimensions", "ef_search", "candidates")
_KEYS = (*(field.name for field in dataclasses.fields(IndexSpec) if field.name != "is_located"), "type")
_POLICY_KEYS = tuple(field.name for field in dataclasses.fields(BuildPolicy))


def from_json(document: object) -> tuple[IndexSpec, ...]:
    """The declared indexes of a parsed document: one object or a list of them. Raises SpecIllegal."""
    if isinstance(document, Mapping):
        return (from_row(document),)
    if not isinstance(document, Sequence) or isinstance(document, str | bytes):
        raise _refused(
            "the declaration", f"it is {_kind(document)}", "a declaration must be an object or a list of objects."
        )
    specs = tuple(from_row(row, place=f"declaration {number}") for number, row in enumerate(document, start=1))
    seen: set[tuple[str, str]] = set()
    for spec in specs:
        if (spec.schema, spec.name) in seen:
            raise _refused(
                f"index {spec.name!r}",
                f"{spec.qualified_name} is declared twice",
                "a name can identify only one index in a schema.",
                "remove one of the two, or give it another name.",
            )
        seen.add((spec.schema, spec.name))
    return specs


def from_row(row: object, *, place: str = "the declaration") -> IndexSpec:
    """The declared index of one object, or of one row of a table. Raises SpecIllegal; `place` names it until it has a name."""
    if not isinstance(row, Mapping):
        raise _refused(place, f"it is {_kind(row)}", "an index is declared as an object with names and values.")
    name = row.get("name")
    what = f"index {name!r}" if isinstance(name, str) else place
    _refuse_unknown(what, row, _KEYS)
    given: dict[str, Any] = {}
    for key, value in row.items():
        if value is None:
            continue
        if key in _TEXT:
            given[key] = _text(what, key, value)
        elif key in _WHOLE:
            given[key] = _whole(what, key, value)
        elif key == "recall_floor":
            given[key] = _number(what, key, value)
        else:
            given[key] = policy(what, value)
    for key in ("name", "table"):
        if key not in given:
            raise _refused(what, f"it has no {key}", f"a declaration needs at least {_listed(_NEEDED)}.")
    refuse_generation_name(given["name"])
    kind = given.pop("type", None)
    if kind is not None:
        given["opclass"] = _opclass_of(what, kind, given.get("opclass"))
    return IndexSpec(**given)


def refuse_generation_name(name: str) -> None:
    """Raises SpecIllegal for a name that everindex gives to the generations of a declared index."""
    if name.endswith(GENERATION_SUFFIXES):
        raise _refused(
            f"index {name!r}",
            f"its name ends with {' or '.join(GENERATION_SUFFIXES)}",
            "the generations of a declared index have such names.",
            "choose another index name.",
        )


def policy(what: str, value: object) -> BuildPolicy:
    """The build policy of an object such as {"give_up_after_seconds": 3600}. Raises SpecIllegal; `what` names the index."""
    if not isinstance(value, Mapping):
        raise _refused(
            what, f"its build is {_kind(value)}", f"a build policy is an object with any of {_listed(_POLICY_KEYS)}."
        )
    _refuse_unknown(what, value, _POLICY_KEYS, inside="build.")
    numbers = {key: _number(what, f"build.{key}", number) for key, number in value.items() if number is not None}
    for key, number in numbers.items():
        if number < 0:
            raise _refused(what, f"its build.{key} is {number}", "a time cannot be negative.")
    return BuildPolicy(**numbers)


def to_json(spec: IndexSpec) -> dict[str, object]:
    """The declaration as an object for JSON, without omitted values; `from_json` restores the same declaration."""
    document = {key: getattr(spec, key) for key in _KEYS if key not in ("type", "build")}
    document = {key: value for key, value in document.items() if value is not None}
    given = {
        field.name: getattr(spec.build, field.name)
        for field in dataclasses.fields(BuildPolicy)
        if getattr(spec.build, field.name) != field.default
    }
    return {**document, "type": spec.key_type, **({"build": given} if given else {})}


def read_declarations(path: Path) -> tuple[IndexSpec, ...]:
    """The declared indexes of a JSON file (UTF-8). Raises SourceUnreadable, SpecIllegal."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_doubles)
    except (OSError, ValueError) as exc:
        raise SourceUnreadable(
            f"the declarations in {path} cannot be read.",
            why=f"{exc.strerror if isinstance(exc, OSError) else exc}.",
            next_step="name a JSON file (UTF-8) with one declaration or a list of them; docs/alembic-kit.md shows one.",
        ) from exc
    return from_json(document)


_NEEDED = ("name", "table", "column or expression")


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Rejects repeated keys: JSON allows them and Python takes the last, so it is unclear which one applies."""
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"key {key!r} appears twice in one object")
        document[key] = value
    return document


def _refuse_unknown(what: str, row: Mapping[Any, object], known: Sequence[str], *, inside: str = "") -> None:
    unknown = sorted(str(key) for key in row if key not in known)
    if unknown:
        raise _refused(
            what,
            f"it has unknown {'keys' if len(unknown) > 1 else 'key'} {_listed([inside + key for key in unknown])}",
            f"the known ones are {_listed([inside + key for key in known])}.",
            "correct the spelling, or remove it: unknown keys are never ignored.",
        )


def _opclass_of(what: str, kind: str, opclass: str | None) -> str:
    if kind not in MAX_DIMENSIONS:
        raise _refused(what, f"its type is {kind!r}", f"an HNSW index here has type {_listed(tuple(MAX_DIMENSIONS))}.")
    if opclass is not None and opclass in OPCLASSES and OPCLASSES[opclass][0] != kind:
        raise _refused(
            what,
            f"its type is {kind} and its opclass {opclass}",
            f"{opclass} is of type {OPCLASSES[opclass][0]}.",
            "omit one of the two, or make them agree.",
        )
    return opclass or OPCLASS_OF_TYPE[kind]


def _text(what: str, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise _refused(what, f"its {key} is {_kind(value)}", f"{key} must be a text.")
    return value


def _whole(what: str, key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _refused(what, f"its {key} is {_kind(value)}", f"{key} must be a whole number.")
    return value


def _number(what: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or value != value:
        raise _refused(what, f"its {key} is {_kind(value)}", f"{key} must be a number.")
    return float(value)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {value[:60]!r}"
        case int() | float() | Decimal():
            return f"the number {value}"
        case Mapping():
            return "an object"
        case Sequence():
            return "a list"
    return f"of type {type(value).__name__}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _refused(
    what: str, fault: str, why: str, next_step: str = "correct the declaration; no database was touched."
) -> SpecIllegal:
    return SpecIllegal(f"{what} cannot be declared: {fault}.", why=why, next_step=next_step)
