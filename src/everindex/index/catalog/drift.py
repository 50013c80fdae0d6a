"""The differences between an index and its declaration, one phrase each, in the catalog's terms. Pure."""

from __future__ import annotations

import hashlib

from everindex.index.catalog.generations import read_note
from everindex.index.catalog.key import is_key, is_predicate, key_texts, stripped
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.spec import IndexSpec


def differences(spec: IndexSpec, observed: Observed, found: ObservedIndex) -> list[str]:
    """What is not as declared in `found`, one phrase each; empty when the definitions are the same.

    Omitted options have pgvector's defaults (m = 16, ef_construction = 64). Validity is a state and not part of the
    definition.
    """
    differing = []
    if found.method != "hnsw":
        differing.append(f"method is {found.method}, declared hnsw")
    if not is_key(spec, observed, column=found.column, expression=found.expression):
        differing.append(f"{_indexed(found)}, declared {_declared(spec, observed)}")
    if found.opclass != spec.opclass:
        differing.append(f"opclass is {found.opclass}, declared {spec.opclass}")
    if not is_predicate(spec, observed, found.predicate):
        differing.append(f"predicate is {found.predicate or 'none'}, declared {spec.predicate or 'none'}")
    if found.method == "hnsw":
        for option, have, want in (
            ("m", found.m, spec.m),
            ("ef_construction", found.ef_construction, spec.ef_construction),
        ):
            if have != want:
                differing.append(f"{option} is {have}, declared {want}")
    return differing


def is_as_declared(spec: IndexSpec, observed: Observed, found: ObservedIndex) -> bool:
    """True when the definition is the declared one, whether or not the index is valid."""
    return not differences(spec, observed, found)


def index_digest(found: ObservedIndex) -> str:
    """12 hex digits that identify the definition of an index, independent of its name, table or declaration."""
    return _digest(
        found.method, found.column, found.expression, found.predicate, found.opclass, found.m, found.ef_construction
    )


def declared_digests(spec: IndexSpec, observed: Observed) -> frozenset[str]:
    """The digests that an index with the declared definition can have: the catalog may print a derived key in two ways."""
    predicate = None if spec.predicate is None else observed.canonical_predicate or spec.predicate
    return frozenset(
        _digest("hnsw", column, expression, predicate, spec.opclass, spec.m, spec.ef_construction)
        for column, expression in key_texts(spec, observed)
    )


def is_rejected(spec: IndexSpec, observed: Observed, serving: ObservedIndex) -> bool:
    """True when the declared definition was rolled back here, or failed its acceptance test."""
    return not declared_digests(spec, observed).isdisjoint(read_note(serving.comment).rejected_definitions)


def _digest(
    method: str,
    column: str | None,
    expression: str | None,
    predicate: str | None,
    opclass: str,
    m: int,
    ef_construction: int,
) -> str:
    texts = (None if text is None else stripped(text) for text in (expression, predicate))
    return hashlib.sha256(repr((method, column, *texts, opclass, m, ef_construction)).encode()).hexdigest()[:12]


def _indexed(found: ObservedIndex) -> str:
    return f"expression is {found.expression}" if found.column is None else f"column is {found.column}"


def _declared(spec: IndexSpec, observed: Observed) -> str:
    if spec.expression is not None:
        return spec.expression
    if observed.column_type != spec.key_type:
        return f"{spec.column} as {spec.key_type}({observed.dimensions})"
    return str(spec.column)
