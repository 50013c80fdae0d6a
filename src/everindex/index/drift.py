"""How does an index differ from its declaration? Pure comparison, in the words of the catalog."""

from __future__ import annotations

from everindex.index.catalog import Observed, ObservedIndex
from everindex.index.spec import IndexSpec


def differences(spec: IndexSpec, found: ObservedIndex) -> list[str]:
    """What of `found` is not as declared, one phrase each; empty when the definitions are the same.

    Options that were left out count with pgvector's defaults (m = 16, ef_construction = 64). Validity is a state and
    not part of the definition.
    """
    wanted: list[tuple[str, object, object]] = [
        ("method", "hnsw", found.method),
        ("column", spec.column, found.column or "an expression"),
        ("opclass", spec.opclass, found.opclass),
        ("predicate", "none", found.predicate or "none"),
    ]
    if found.method == "hnsw":
        wanted += [("m", spec.m, found.m), ("ef_construction", spec.ef_construction, found.ef_construction)]
    return [f"{what} is {have}, declared {want}" for what, want, have in wanted if want != have]


def declared_index(spec: IndexSpec, observed: Observed) -> ObservedIndex | None:
    """The index of the declared name on the declared table, valid or not."""
    return next((index for index in observed.indexes if index.name == spec.name), None)


def serving_index(spec: IndexSpec, observed: Observed) -> ObservedIndex | None:
    """A valid index that answers the declared operator on the declared column, under whatever name."""
    fits = [
        index
        for index in observed.indexes
        if index.is_valid
        and index.method == "hnsw"
        and index.column == spec.column
        and index.opclass == spec.opclass
        and index.predicate is None
    ]
    return next((index for index in fits if index.name == spec.name), fits[0] if fits else None)


def duplicates(spec: IndexSpec, observed: Observed) -> list[ObservedIndex]:
    """Valid indexes of exactly the declared definition under other names: writers pay for each of them."""
    return [i for i in observed.indexes if i.name != spec.name and i.is_valid and not differences(spec, i)]
