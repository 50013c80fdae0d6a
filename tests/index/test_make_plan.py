"""The plan is data made from data: for every state that can be observed, its steps or one of the documented errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.errors import ColumnMismatch, IndexDefinitionDiffers, NotMigrated, SpecIllegal
from everindex.index.catalog import Observed, ObservedIndex
from everindex.index.drift import duplicates, serving_index
from everindex.index.plan import Build, DropInvalid, WaitForBuild, make_plan
from everindex.index.spec import IndexSpec

SPEC = IndexSpec(name="declared", table="t", column="e")
AS_DECLARED = ObservedIndex(
    oid=1,
    name="declared",
    method="hnsw",
    opclass="vector_cosine_ops",
    column="e",
    predicate=None,
    m=16,
    ef_construction=64,
    is_valid=True,
    is_ready=True,
    size_bytes=8192,
    definition="CREATE INDEX declared ON public.t USING hnsw (e vector_cosine_ops)",
    builder_pid=None,
)
TABLE = Observed(table_exists=True, column_type="vector", dimensions=64, estimated_rows=300)
BUILD = Build(estimated_rows=300, dimensions=64)


def with_indexes(*indexes: ObservedIndex) -> Observed:
    return replace(TABLE, indexes=indexes)


@pytest.mark.parametrize(
    ("observed", "steps"),
    [
        (TABLE, (BUILD,)),
        (with_indexes(AS_DECLARED), ()),
        (
            with_indexes(replace(AS_DECLARED, is_valid=False)),
            (DropInvalid(name="declared", is_ready=True), BUILD),
        ),
        (
            with_indexes(replace(AS_DECLARED, is_valid=False, is_ready=False, size_bytes=0)),
            (DropInvalid(name="declared", is_ready=False), BUILD),
        ),
        (with_indexes(replace(AS_DECLARED, is_valid=False, builder_pid=4121)), (WaitForBuild(pid=4121),)),
        (with_indexes(replace(AS_DECLARED, name="by_hand")), (BUILD,)),
        (with_indexes(replace(AS_DECLARED, name="by_hand"), AS_DECLARED), ()),
        (with_indexes(replace(AS_DECLARED, name="old", method="ivfflat")), (BUILD,)),
        (with_indexes(replace(AS_DECLARED, name="declared_ccnew", is_valid=False)), (BUILD,)),
        # What serves nobody may go, whatever its definition was.
        (
            with_indexes(replace(AS_DECLARED, is_valid=False, opclass="vector_l2_ops")),
            (DropInvalid(name="declared", is_ready=True), BUILD),
        ),
    ],
    ids=[
        "absent",
        "valid",
        "invalid, ready",
        "invalid, not ready",
        "being built",
        "duplicate only",
        "duplicate beside",
        "ivfflat beside",
        "left over from a reindex",
        "invalid of another definition",
    ],
)
def test_every_observed_state_has_its_steps(observed: Observed, steps: tuple[object, ...]) -> None:
    assert make_plan(SPEC, observed) == steps


@pytest.mark.parametrize(
    ("observed", "error", "word"),
    [
        (Observed(table_exists=False), NotMigrated, "no table public.t"),
        (replace(TABLE, column_type=None, dimensions=None), NotMigrated, "no column e"),
        (replace(TABLE, column_type="text", dimensions=None), ColumnMismatch, "type text"),
        (replace(TABLE, column_type="halfvec"), ColumnMismatch, "type halfvec"),
        (replace(TABLE, dimensions=None), SpecIllegal, "no fixed width"),
        (replace(TABLE, dimensions=2001), SpecIllegal, "2001"),
        (replace(TABLE, is_partitioned=True), SpecIllegal, "partitioned"),
        (replace(TABLE, name_taken_by="a table"), IndexDefinitionDiffers, "a table"),
        (with_indexes(replace(AS_DECLARED, m=8)), IndexDefinitionDiffers, "m is 8, declared 16"),
        (with_indexes(replace(AS_DECLARED, ef_construction=200)), IndexDefinitionDiffers, "200, declared 64"),
        (with_indexes(replace(AS_DECLARED, opclass="vector_l2_ops")), IndexDefinitionDiffers, "vector_l2_ops"),
        (with_indexes(replace(AS_DECLARED, column=None)), IndexDefinitionDiffers, "an expression"),
        (with_indexes(replace(AS_DECLARED, method="ivfflat")), IndexDefinitionDiffers, "ivfflat"),
        (with_indexes(replace(AS_DECLARED, predicate="(n > 1)")), IndexDefinitionDiffers, "(n > 1)"),
    ],
)
def test_what_cannot_be_planned_is_a_documented_error_that_names_it(
    observed: Observed, error: type[Exception], word: str
) -> None:
    with pytest.raises(error) as raised:
        make_plan(SPEC, observed)
    assert word in str(raised.value)


def test_a_duplicate_serves_and_is_known_as_a_duplicate() -> None:
    observed = with_indexes(replace(AS_DECLARED, name="by_hand"), AS_DECLARED)
    assert duplicates(SPEC, observed) == [observed.indexes[0]]
    assert serving_index(SPEC, observed) == AS_DECLARED
    assert serving_index(SPEC, with_indexes(replace(AS_DECLARED, name="by_hand"))) is not None
    assert serving_index(SPEC, with_indexes(replace(AS_DECLARED, predicate="(n > 1)"))) is None


indexes = st.builds(
    ObservedIndex,
    oid=st.integers(1, 2**32 - 1),
    name=st.sampled_from(["declared", "other", "declared_ccnew"]),
    method=st.sampled_from(["hnsw", "ivfflat", "btree"]),
    opclass=st.sampled_from(["vector_cosine_ops", "vector_l2_ops", "text_ops"]),
    column=st.sampled_from(["e", "f", None]),
    predicate=st.sampled_from([None, "(n > 1)"]),
    m=st.sampled_from([16, 8]),
    ef_construction=st.sampled_from([64, 200]),
    is_valid=st.booleans(),
    is_ready=st.booleans(),
    size_bytes=st.integers(0, 2**40),
    definition=st.text(max_size=20),
    builder_pid=st.none() | st.integers(1, 4_000_000),
)
observations = st.builds(
    Observed,
    table_exists=st.booleans(),
    is_partitioned=st.booleans(),
    column_type=st.sampled_from([None, "vector", "vector", "vector", "halfvec", "text"]),
    dimensions=st.sampled_from([None, 1, 64, 1536, 2000, 2001, 16000]),
    estimated_rows=st.integers(0, 2**40),
    indexes=st.lists(indexes, max_size=4, unique_by=lambda index: index.name).map(tuple),
    name_taken_by=st.sampled_from([None, None, "a table"]),
)


@given(observations)
def test_whatever_is_observed_gives_steps_or_a_documented_error_and_never_drops_a_valid_index(
    observed: Observed,
) -> None:
    try:
        steps = make_plan(SPEC, observed)
    except (NotMigrated, ColumnMismatch, SpecIllegal, IndexDefinitionDiffers):
        return
    named = {index.name: index for index in observed.indexes}
    for step in steps:
        match step:
            case DropInvalid(name=name):
                assert name == SPEC.name
                assert not named[name].is_valid
                assert named[name].builder_pid is None
            case WaitForBuild(pid=pid):
                assert pid == named[SPEC.name].builder_pid
                assert steps == (step,)
            case Build():
                assert step is steps[-1]
    if steps == ():
        assert named[SPEC.name].is_valid
    # A plan changes nothing that it was made from: the same look gives the same plan.
    assert make_plan(SPEC, observed) == steps
