"""The plan is data made from data: for every state that can be observed, its steps or one of the documented errors."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.errors import (
    ColumnMismatch,
    ExtensionTooOld,
    IndexDefinitionDiffers,
    InternalError,
    NotMigrated,
    SpecIllegal,
)
from everindex.index.catalog.drift import declared_digests, is_as_declared
from everindex.index.catalog.generations import next_name, previous_name, previous_note, serving_note
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import duplicates, serving_index
from everindex.index.plan.invariants import check_invariants
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import DEPLOY, HEAL, MIGRATE, DeployPolicy
from everindex.index.plan.situation import situation_of
from everindex.index.plan.steps import Build, DropIndex, DropReason, Prove, Rename, Step, Swap, WaitForBuild
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
OTHER_M = replace(AS_DECLARED, m=8)
NEXT = replace(AS_DECLARED, name="declared__next", oid=2)
PREVIOUS = replace(AS_DECLARED, name="declared__prev", oid=3)
BY_HAND = replace(AS_DECLARED, name="by_hand", oid=4)
TABLE = Observed(table_exists=True, column_type="vector", dimensions=64, estimated_rows=300, is_superuser=True)
BUILD = Build(spec=SPEC, is_online=True, estimated_rows=300, dimensions=64)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def with_indexes(*indexes: ObservedIndex) -> Observed:
    return replace(TABLE, indexes=indexes)


def dropped(name: str, why: DropReason) -> DropIndex:
    return DropIndex(schema="public", name=name, why=why, definition=AS_DECLARED.definition)


def renamed(old: str, *, is_hidden: bool = False) -> Rename:
    return Rename(schema="public", old=old, new="declared", is_hidden=is_hidden)


BUILD_NEXT = replace(BUILD, spec=replace(SPEC, name="declared__next"))
PROVE = Prove(name="declared__next", floor=0.95)
SWAP = Swap(
    schema="public",
    serving="declared",
    successor="declared__next",
    previous="declared__prev",
    keep_seconds=SPEC.build.keep_previous_seconds,
)
HIDDEN = replace(PREVIOUS, is_valid=False, comment=previous_note(keep_until=NOW, is_hidden=True))

STATES: dict[str, tuple[Observed, tuple[Step, ...]]] = {
    "absent": (TABLE, (BUILD,)),
    "absent, the table empty": (replace(TABLE, is_empty=True), (replace(BUILD, is_online=False),)),
    "valid": (with_indexes(AS_DECLARED), ()),
    "invalid, ready": (
        with_indexes(replace(AS_DECLARED, is_valid=False)),
        (dropped("declared", "invalid"), BUILD),
    ),
    "invalid, not ready": (
        with_indexes(replace(AS_DECLARED, is_valid=False, is_ready=False, size_bytes=0)),
        (dropped("declared", "invalid"), BUILD),
    ),
    "being built": (
        with_indexes(replace(AS_DECLARED, is_valid=False, builder_pid=4121)),
        (WaitForBuild(schema="public", name="declared", pid=4121),),
    ),
    "duplicate only": (with_indexes(BY_HAND), (renamed("by_hand"),)),
    "duplicate beside": (with_indexes(BY_HAND, AS_DECLARED), (dropped("by_hand", "duplicate"),)),
    "duplicate and an invalid one": (
        with_indexes(BY_HAND, replace(AS_DECLARED, is_valid=False)),
        (dropped("declared", "invalid"), renamed("by_hand")),
    ),
    "ivfflat beside": (with_indexes(replace(AS_DECLARED, name="old", method="ivfflat")), (BUILD,)),
    "left over from a reindex": (
        with_indexes(AS_DECLARED, replace(AS_DECLARED, name="declared_ccnew", is_valid=False)),
        (dropped("declared_ccnew", "left-over"),),
    ),
    "a reindex that is going on": (
        with_indexes(AS_DECLARED, replace(AS_DECLARED, name="declared_ccnew1", is_valid=False, builder_pid=7)),
        (),
    ),
    # What serves nobody may go, whatever its definition was.
    "invalid of another definition": (
        with_indexes(replace(AS_DECLARED, is_valid=False, opclass="vector_l2_ops")),
        (dropped("declared", "invalid"), BUILD),
    ),
    "another definition": (with_indexes(OTHER_M), (BUILD_NEXT, PROVE, SWAP)),
    "another definition, its successor built": (with_indexes(OTHER_M, NEXT), (PROVE, SWAP)),
    "another definition, its successor INVALID": (
        with_indexes(OTHER_M, replace(NEXT, is_valid=False)),
        (dropped("declared__next", "invalid"), BUILD_NEXT, PROVE, SWAP),
    ),
    "another definition, its successor of a third": (
        with_indexes(OTHER_M, replace(NEXT, m=4)),
        (dropped("declared__next", "superseded"), BUILD_NEXT, PROVE, SWAP),
    ),
    "another definition and a previous generation": (
        with_indexes(OTHER_M, replace(PREVIOUS, m=4)),
        (BUILD_NEXT, PROVE, dropped("declared__prev", "displaced"), SWAP),
    ),
    # It was proven when it served, and has been kept up to date since.
    "another definition, the declared one is the previous": (
        with_indexes(OTHER_M, PREVIOUS),
        (replace(SWAP, successor="declared__prev"),),
    ),
    "valid, a successor beside": (with_indexes(AS_DECLARED, NEXT), (dropped("declared__next", "superseded"),)),
    "absent, a successor beside": (with_indexes(NEXT), (renamed("declared__next"),)),
    "absent, a previous generation beside": (with_indexes(PREVIOUS), (renamed("declared__prev"),)),
    "absent, a hidden previous generation beside": (with_indexes(HIDDEN), (renamed("declared__prev", is_hidden=True),)),
    "valid, a previous generation that is kept": (
        with_indexes(
            AS_DECLARED, replace(HIDDEN, comment=previous_note(keep_until=NOW + timedelta(1), is_hidden=True))
        ),
        (),
    ),
    "valid, a previous generation whose time is over": (
        with_indexes(AS_DECLARED, HIDDEN),
        (dropped("declared__prev", "previous"),),
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_every_observed_state_has_its_steps(state: str) -> None:
    observed, steps = STATES[state]
    assert make_plan(SPEC, observed, policy=HEAL, now=NOW).steps == steps


@pytest.mark.parametrize(
    ("observed", "steps"),
    [
        (with_indexes(BY_HAND), (BUILD,)),
        (with_indexes(BY_HAND, AS_DECLARED), ()),
        (with_indexes(AS_DECLARED, replace(AS_DECLARED, name="declared_ccnew", is_valid=False)), ()),
        (with_indexes(AS_DECLARED, HIDDEN), ()),
    ],
    ids=["duplicate only", "duplicate beside", "left over from a reindex", "previous generation"],
)
def test_what_others_left_is_left_alone_by_a_planner_that_does_not_tidy(
    observed: Observed, steps: tuple[Step, ...]
) -> None:
    assert make_plan(SPEC, observed, policy=MIGRATE).steps == steps


def test_only_a_superuser_can_show_a_hidden_generation_again_others_build() -> None:
    observed = replace(with_indexes(HIDDEN), is_superuser=False)
    assert make_plan(SPEC, observed, policy=HEAL).steps == (BUILD,)


def test_a_proven_successor_is_not_proven_again() -> None:
    assert make_plan(SPEC, with_indexes(OTHER_M, NEXT), policy=HEAL, proven=frozenset({NEXT.oid})).steps == (SWAP,)


def test_evidence_against_the_serving_index_replaces_it_by_the_same_definition() -> None:
    assert make_plan(SPEC, with_indexes(AS_DECLARED), policy=replace(HEAL, rebuild_because="recall 0.6")).steps == (
        BUILD_NEXT,
        PROVE,
        SWAP,
    )


def test_a_definition_that_was_taken_back_is_remarked_upon_and_built_only_when_asked_for() -> None:
    refused = replace(OTHER_M, comment=serving_note(tuple(declared_digests(SPEC, TABLE))))
    plan = make_plan(SPEC, with_indexes(refused), policy=HEAL)
    assert plan.steps == ()
    assert "m is 8, declared 16" in plan.remarks[0]
    assert make_plan(SPEC, with_indexes(refused), policy=DEPLOY).steps == (BUILD_NEXT, PROVE, SWAP)


@pytest.mark.parametrize(
    ("observed", "error", "word"),
    [
        (Observed(table_exists=False), NotMigrated, "no table public.t"),
        (replace(TABLE, column_type=None, dimensions=None), NotMigrated, "no column e"),
        (replace(TABLE, column_type="text", dimensions=None), ColumnMismatch, "type text"),
        (replace(TABLE, column_type="halfvec"), ColumnMismatch, "type halfvec"),
        (replace(TABLE, dimensions=None), SpecIllegal, "no fixed dimensions"),
        (replace(TABLE, dimensions=2001), SpecIllegal, "2001"),
        (replace(TABLE, name_taken_by="a table"), IndexDefinitionDiffers, "a table"),
        (with_indexes(replace(AS_DECLARED, m=8)), IndexDefinitionDiffers, "m is 8, declared 16"),
        (with_indexes(replace(AS_DECLARED, ef_construction=200)), IndexDefinitionDiffers, "200, declared 64"),
        (with_indexes(replace(AS_DECLARED, opclass="vector_l2_ops")), IndexDefinitionDiffers, "vector_l2_ops"),
        (
            with_indexes(replace(AS_DECLARED, column=None, expression="(e)::halfvec(64)")),
            IndexDefinitionDiffers,
            "expression is (e)::halfvec(64), declared e",
        ),
        (with_indexes(replace(AS_DECLARED, method="ivfflat")), IndexDefinitionDiffers, "ivfflat"),
        (with_indexes(replace(AS_DECLARED, predicate="(n > 1)")), IndexDefinitionDiffers, "(n > 1)"),
    ],
)
def test_what_may_not_be_planned_is_a_documented_error_that_names_it(
    observed: Observed, error: type[Exception], word: str
) -> None:
    with pytest.raises(error) as raised:
        make_plan(SPEC, observed, policy=MIGRATE)
    assert word in str(raised.value)


def test_a_halfvec_index_on_an_old_pgvector_is_refused_with_both_ways_out() -> None:
    old = replace(TABLE, extension_version=(0, 6, 2))
    with pytest.raises(ExtensionTooOld, match="halfvec_cosine_ops") as raised:
        make_plan(replace(SPEC, opclass="halfvec_cosine_ops"), old, policy=HEAL)
    assert "ALTER EXTENSION vector UPDATE" in raised.value.next_step


@pytest.mark.parametrize("suffix", ["__next", "__prev"])
def test_a_declared_name_that_reads_like_a_generation_is_refused(suffix: str) -> None:
    with pytest.raises(SpecIllegal, match=suffix):
        make_plan(replace(SPEC, name=f"declared{suffix}"), TABLE, policy=HEAL)


def test_a_duplicate_serves_and_is_known_as_a_duplicate() -> None:
    observed = with_indexes(BY_HAND, AS_DECLARED)
    assert duplicates(SPEC, observed) == [BY_HAND]
    assert serving_index(SPEC, observed) == AS_DECLARED
    assert serving_index(SPEC, with_indexes(BY_HAND)) is not None
    assert serving_index(SPEC, with_indexes(replace(AS_DECLARED, predicate="(n > 1)"))) is None


def test_the_digest_of_a_plan_changes_with_what_it_depends_on_and_not_with_sizes() -> None:
    digest = make_plan(SPEC, with_indexes(OTHER_M), policy=HEAL).digest
    assert make_plan(SPEC, with_indexes(replace(OTHER_M, size_bytes=1)), policy=HEAL).digest == digest
    assert (
        make_plan(SPEC, replace(with_indexes(OTHER_M), estimated_rows=9, table_bytes=9), policy=HEAL).digest == digest
    )
    for other in (
        with_indexes(),
        with_indexes(replace(OTHER_M, is_valid=False)),
        with_indexes(replace(OTHER_M, oid=9)),
        with_indexes(OTHER_M, NEXT),
    ):
        assert make_plan(SPEC, other, policy=HEAL).digest != digest
    assert make_plan(replace(SPEC, m=4), with_indexes(OTHER_M), policy=HEAL).digest != digest


indexes = st.builds(
    ObservedIndex,
    oid=st.integers(1, 2**32 - 1),
    name=st.sampled_from(["declared", "other", "declared_ccnew", "declared__next", "declared__prev"]),
    method=st.sampled_from(["hnsw", "hnsw", "ivfflat", "btree"]),
    opclass=st.sampled_from(["vector_cosine_ops", "vector_cosine_ops", "vector_l2_ops", "text_ops"]),
    column=st.sampled_from(["e", "e", "f", None]),
    predicate=st.sampled_from([None, None, "(n > 1)"]),
    m=st.sampled_from([16, 16, 8]),
    ef_construction=st.sampled_from([64, 64, 200]),
    is_valid=st.booleans(),
    is_ready=st.booleans(),
    size_bytes=st.integers(0, 2**40),
    definition=st.text(max_size=20),
    builder_pid=st.none() | st.integers(1, 4_000_000),
    comment=st.sampled_from(
        [
            None,
            "somebody's",
            previous_note(keep_until=NOW, is_hidden=True),
            previous_note(keep_until=NOW + timedelta(1), is_hidden=False),
            serving_note(tuple(declared_digests(SPEC, TABLE))),
        ]
    ),
).map(lambda index: replace(index, builder_pid=None) if index.is_valid else index)
observations = st.builds(
    Observed,
    table_exists=st.sampled_from([True, True, True, False]),
    is_empty=st.booleans(),
    column_type=st.sampled_from([None, "vector", "vector", "vector", "vector", "halfvec", "text"]),
    dimensions=st.sampled_from([None, 1, 64, 1536, 2000, 2001, 16000]),
    estimated_rows=st.integers(0, 2**40),
    indexes=st.lists(indexes, max_size=5, unique_by=(lambda index: index.name, lambda index: index.oid)).map(tuple),
    name_taken_by=st.sampled_from([None, None, "a table"]),
    is_superuser=st.booleans(),
)
policies = st.builds(
    DeployPolicy,
    on_drift=st.sampled_from(["replace", "refuse"]),
    remove_leftovers=st.booleans(),
    spare_others=st.booleans(),
    retry_rejected=st.booleans(),
    rebuild_because=st.sampled_from([None, None, "recall"]),
)


BROKEN: dict[str, tuple[Observed, tuple[Step, ...], DeployPolicy, str]] = {
    "the serving index is dropped": (with_indexes(OTHER_M), (dropped("declared", "superseded"), BUILD), HEAL, "serves"),
    "a valid index goes before another one serves": (
        with_indexes(PREVIOUS),
        (dropped("declared__prev", "displaced"), BUILD),
        HEAL,
        "before another index serves",
    ),
    "a successor takes over unproven": (with_indexes(OTHER_M), (BUILD_NEXT, SWAP), HEAL, "without a proof"),
    "an INVALID index is built over": (
        with_indexes(replace(AS_DECLARED, is_valid=False)),
        (BUILD,),
        HEAL,
        "already exists",
    ),
    "an index is built twice": (TABLE, (BUILD, BUILD), HEAL, "twice"),
    "a build of somebody else is dropped": (
        with_indexes(OTHER_M, replace(NEXT, is_valid=False, builder_pid=7)),
        (dropped("declared__next", "invalid"),),
        HEAL,
        "pid 7",
    ),
    "a migration drops a duplicate": (
        with_indexes(AS_DECLARED, BY_HAND),
        (dropped("by_hand", "duplicate"),),
        MIGRATE,
        "others made",
    ),
    "a duplicate of others is renamed": (with_indexes(BY_HAND), (renamed("by_hand"),), MIGRATE, "others made"),
    "an index is dropped twice": (
        with_indexes(AS_DECLARED, BY_HAND),
        (dropped("by_hand", "duplicate"), dropped("by_hand", "duplicate")),
        HEAL,
        "does not exist",
    ),
    "what was dropped takes over": (
        with_indexes(OTHER_M, NEXT),
        (PROVE, dropped("declared__next", "superseded"), SWAP),
        HEAL,
        "dropped before",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_steps_that_break_an_invariant_are_an_internal_error(fault: str) -> None:
    observed, steps, policy, word = BROKEN[fault]
    with pytest.raises(InternalError, match=word):
        check_invariants(situation_of(SPEC, observed), steps, policy=policy, proven=frozenset())


def test_on_an_attached_database_an_index_of_others_never_takes_the_name_of_one_that_answers_other_searches() -> None:
    observed = with_indexes(replace(AS_DECLARED, opclass="vector_l2_ops"), BY_HAND)
    assert make_plan(SPEC, observed, policy=HEAL).steps == (replace(SWAP, successor="by_hand"),)
    spared = make_plan(SPEC, observed, policy=replace(HEAL, spare_others=True))
    assert spared.steps == (BUILD_NEXT, PROVE, SWAP)


@given(observations, policies, st.sampled_from([None, NOW]))
def test_whatever_is_observed_gives_steps_or_a_documented_error_and_never_drops_what_serves(
    observed: Observed, policy: DeployPolicy, now: datetime | None
) -> None:
    try:
        plan = make_plan(SPEC, observed, policy=policy, now=now)
    except (NotMigrated, ColumnMismatch, SpecIllegal, IndexDefinitionDiffers):
        return
    named = {index.name: index for index in observed.indexes}
    done: list[Step] = []
    for step in plan.steps:
        match step:
            case DropIndex(name=name, why=why):
                assert named[name].builder_pid is None, "a builder's index is not dropped under its hands"
                if name == SPEC.name:
                    assert not named[name].is_valid
                if why == "duplicate":
                    assert policy.remove_leftovers
                    assert is_as_declared(SPEC, observed, named[name])
                if why in ("invalid", "left-over"):
                    assert not named[name].is_valid
                if why == "previous" and named.get(SPEC.name) != AS_DECLARED:
                    assert name == previous_name(SPEC.name)
            case WaitForBuild(name=name, pid=pid):
                assert pid == named[name].builder_pid
            case Rename(old=old):
                assert SPEC.name not in named or not named[SPEC.name].is_valid
                assert is_as_declared(SPEC, observed, named[old])
            case Build(spec=built):
                assert built.name in (SPEC.name, next_name(SPEC.name))
                assert is_as_declared(built, observed, replace(AS_DECLARED, opclass=built.opclass))
            case Swap(serving=serving, successor=successor):
                assert named[serving].is_valid
                has_served = successor == previous_name(SPEC.name) or named.get(successor) in duplicates(SPEC, observed)
                assert has_served or any(isinstance(before, Prove) for before in done)
                # The generation that is kept for a rollback goes only after its successor has proven itself.
            case Prove():
                assert not any(isinstance(before, DropIndex) and before.why == "previous" for before in done)
        done.append(step)
    if plan.steps == () and plan.remarks == ():
        assert named[SPEC.name].is_valid
    # A plan changes nothing that it was made from: the same look gives the same plan.
    assert make_plan(SPEC, observed, policy=policy, now=now) == plan
