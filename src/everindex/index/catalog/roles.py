"""The roles of the observed indexes for one declaration: the declared index, the serving one, the previous one, duplicates.

While a generation of another type (vector, halfvec, bit codes) is being built, the serving index is not as declared, and
searches must continue to use it. Pure; does not decide what happens to them.
"""

from __future__ import annotations

from dataclasses import replace

from everindex.index.catalog.drift import is_as_declared
from everindex.index.catalog.generations import next_name, previous_name, read_note
from everindex.index.catalog.key import is_key, is_predicate
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.spec import OPCLASSES, IndexSpec


def serving_spec(spec: IndexSpec, observed: Observed) -> tuple[IndexSpec, ObservedIndex] | None:
    """The valid index that serves the declared searches, and `spec` adapted to that index; None if there is none.

    The index with the declared name is preferred, then one as declared under another name, then the others. ef_search and
    candidates are retained only if the index has the declared definition. Pure.
    """
    named = declared_index(spec, observed)
    kinds = [spec, *(replace(spec, opclass=opclass) for opclass in same_distance(spec) if opclass != spec.opclass)]
    found = [(kind, index) for kind in kinds if (index := serving_index(kind, observed)) is not None]
    if not found:
        return None
    kind, index = next((pair for pair in found if pair[1] == named), found[0])
    built = replace(kind, m=index.m, ef_construction=index.ef_construction)
    if built.definition_digest != spec.definition_digest:
        built = replace(built, ef_search=None, candidates=None)
    return built, index


def same_distance(spec: IndexSpec) -> tuple[str, ...]:
    """The opclasses whose indexes can serve the searches of `spec`: its own, and those of a smaller type of its column.

    Sign bits represent the angle: they serve cosine searches, with re-ranking, and no others.
    """
    if spec.expression is not None:
        return (spec.opclass,)
    symbol = "<=>" if spec.opclass == "bit_hamming_ops" else spec.operator
    types = {"vector": 0, "halfvec": 1, "bit": 2}
    return tuple(
        opclass
        for opclass, (kind, operator) in sorted(OPCLASSES.items(), key=lambda item: types[item[1][0]])
        if opclass == spec.opclass
        or (kind != "bit" and operator == symbol)
        or (opclass == "bit_hamming_ops" and symbol == "<=>")
    )


def declared_index(spec: IndexSpec, observed: Observed) -> ObservedIndex | None:
    """The index with the declared name on the declared table, valid or not."""
    return next((index for index in observed.indexes if index.name == spec.name), None)


def serving_index(spec: IndexSpec, observed: Observed) -> ObservedIndex | None:
    """A valid index that serves the declared operator on the declared key, under any name."""
    fits = [index for index in observed.indexes if index.is_valid and answers_declared(spec, observed, index)]
    return next((index for index in fits if index.name == spec.name), fits[0] if fits else None)


def answers_declared(spec: IndexSpec, observed: Observed, found: ObservedIndex) -> bool:
    """True when an index can serve the declared search, whatever its m and ef_construction, and valid or not."""
    return (
        found.method == "hnsw"
        and is_key(spec, observed, column=found.column, expression=found.expression)
        and found.opclass == spec.opclass
        and is_predicate(spec, observed, found.predicate)
    )


def previous_generation(spec: IndexSpec, observed: Observed) -> ObservedIndex | None:
    """The generation that served before and can serve again: valid, or hidden from the planner by us."""
    found = next((index for index in observed.indexes if index.name == previous_name(spec.name)), None)
    if found is None or not (found.is_valid or is_hidden(found)):
        return None
    return found


def is_hidden(found: ObservedIndex) -> bool:
    """True for a previous generation that is complete and kept up to date by writers, but whose `indisvalid` we switched off."""
    return found.is_ready and not found.is_valid and read_note(found.comment).is_hidden


def duplicates(spec: IndexSpec, observed: Observed) -> list[ObservedIndex]:
    """Valid indexes with exactly the declared definition under other names; every write maintains each of them."""
    ours = (spec.name, next_name(spec.name), previous_name(spec.name))
    return [
        index
        for index in observed.indexes
        if index.name not in ours and index.is_valid and is_as_declared(spec, observed, index)
    ]
