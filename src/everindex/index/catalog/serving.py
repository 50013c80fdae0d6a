"""Which index do searches go through now? The declared one, or another of the same vectors and the same distance.

While a generation of another type is on its way (vector, halfvec, bit codes), the one that serves is not as declared, and
searches must go on through it.
"""

from __future__ import annotations

from dataclasses import replace

from everindex.index.catalog.drift import declared_index, serving_index
from everindex.index.catalog.observe import Observed, ObservedIndex
from everindex.index.spec import OPCLASSES, IndexSpec


def serving_spec(spec: IndexSpec, observed: Observed) -> tuple[IndexSpec, ObservedIndex] | None:
    """The valid index that answers the declared searches, and `spec` as it would declare that index; None for none.

    The index of the declared name comes first, then one as declared under another name, then the others. ef_search and
    candidates are only kept where the index is of the declared definition. Pure.
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
    """The opclasses whose indexes can answer the searches of `spec`: its own, and those of a smaller type of its column.

    Sign bits stand for the angle: they answer cosine searches, by re-ranking, and no others.
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
