"""A changed declaration is built beside what serves, proven and swapped in; something serves at every moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import scene
from by_hand import rows, run
from everindex.errors import GenerationUnproven, IndexDefinitionDiffers, NothingToRollBack, PlanOutOfDate
from everindex.index.catalog.drift import differences, is_rejected
from everindex.index.catalog.generations import previous_note, read_note, words_of_others
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import declared_index
from everindex.index.deploy.drop import drop, drop_previous, rollback
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.plan.planner import Plan, make_plan
from everindex.index.plan.policy import DEPLOY, HEAL, MIGRATE_CHANGED, DeployPolicy
from everindex.index.plan.steps import DropIndex
from everindex.index.recall.verify import note_of_shortfall
from everindex.index.spec import BuildPolicy, IndexSpec
from everindex.pg.connections import connect
from scene import SPEC, Heard, InBackground, builder_in_phase, state

NAME, NEXT, PREVIOUS = SPEC.name, f"{SPEC.name}__next", f"{SPEC.name}__prev"
OTHER_M = replace(SPEC, m=8)
HALFVEC = replace(SPEC, opclass="halfvec_cosine_ops")
#: Ten candidates by their signs: it finds few of the true neighbours.
BLUNT = replace(SPEC, opclass="bit_hamming_ops", candidates=10, recall_floor=0.99)
DECLARED = f"CREATE INDEX {NAME} ON items USING hnsw (embedding vector_cosine_ops)"
INVALIDATE = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"


def heal(conninfo: str, spec: IndexSpec, *, policy: DeployPolicy = HEAL, **given: Any) -> Deployed:
    """What a keeper does: replaces, removes leftovers, and leaves alone what was rejected."""
    return deploy(conninfo, spec, policy=policy, **given)


def look(conninfo: str, spec: IndexSpec = SPEC) -> Observed:
    with connect(conninfo) as connection:
        return observe(connection, spec)


def planned(conninfo: str, spec: IndexSpec, now: datetime | None = None) -> Plan:
    return make_plan(spec, look(conninfo, spec), policy=HEAL, now=now or datetime.now(UTC))


def oids(conninfo: str) -> dict[str, int]:
    return {index.name: index.oid for index in look(conninfo).indexes}


def comment_on(conninfo: str, name: str) -> str | None:
    return next(index.comment for index in look(conninfo).indexes if index.name == name)


def is_noted(conninfo: str, spec: IndexSpec) -> bool:
    """The serving index says of this definition that it was rolled back, or failed its acceptance test."""
    observed = look(conninfo, spec)
    serving = declared_index(spec, observed)
    return serving is not None and is_rejected(spec, observed, serving)


def is_served_as(conninfo: str, spec: IndexSpec) -> bool:
    """The declared name belongs to a valid index of this very definition."""
    observed = look(conninfo, spec)
    found = declared_index(spec, observed)
    return found is not None and found.is_valid and differences(spec, observed, found) == []


@dataclass
class Watched:
    """How often the question was asked, and each moment at which nothing served."""

    looks: int = 0
    gaps: list[str] = None  # type: ignore[assignment]


@contextmanager
def served_at_every_moment(conninfo: str, order_by: str, *, table: str = "items") -> Iterator[Watched]:
    """Asks again and again: is the declared name a valid index, and does a search that must use an index find one?"""
    watched = Watched(gaps=[])
    stop = threading.Event()

    def watch() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("SET enable_seqscan = off")
            connection.execute("SET enable_sort = off")
            while not stop.is_set():
                valid = connection.execute(
                    "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                    "WHERE i.indrelid = %s::regclass AND c.relname = %s",
                    (table, NAME),
                ).fetchall()
                if valid != [(True,)]:
                    watched.gaps.append(f"index {NAME}: {valid}")
                plan = connection.execute(f"EXPLAIN SELECT id FROM {table} ORDER BY {order_by} LIMIT 5").fetchall()
                if not any("Index Scan" in line for (line,) in plan):
                    watched.gaps.append(str(plan))
                watched.looks += 1

    watcher = InBackground(watch)
    try:
        scene.wait_until(lambda: watched.looks)
        yield watched
        seen = watched.looks
        scene.wait_until(lambda: watched.looks > seen or not watcher.is_alive())
    finally:
        stop.set()
        watcher.finish()
    assert watched.gaps == []


AT = f"'[{','.join(['1'] * scene.DIMENSIONS)}]'"
COSINE = f"embedding <=> {AT}"
HALFVEC_COSINE = f"(embedding::halfvec(64)) <=> {AT}::halfvec(64)"

#: name → (what served before, a search that it serves, what is declared now)
CHANGES: dict[str, tuple[str, str, IndexSpec]] = {
    "m": (DECLARED, COSINE, OTHER_M),
    "ef_construction": (DECLARED, COSINE, replace(SPEC, ef_construction=128)),
    "vector to halfvec": (DECLARED, COSINE, HALFVEC),
    "vector to bit": (DECLARED, COSINE, replace(SPEC, opclass="bit_hamming_ops", recall_floor=0.5)),
    "halfvec to vector": (
        f"CREATE INDEX {NAME} ON items USING hnsw ((embedding::halfvec(64)) halfvec_cosine_ops)",
        HALFVEC_COSINE,
        SPEC,
    ),
    "opclass": (DECLARED, COSINE, replace(SPEC, opclass="vector_l2_ops")),
    "expression": (
        DECLARED,
        COSINE,
        replace(SPEC, expression="subvector(embedding, 1, 32)::vector(32)", recall_floor=0.1),
    ),
    "predicate": (DECLARED, COSINE, replace(SPEC, predicate="n = 0")),
    "ivfflat": (
        f"CREATE INDEX {NAME} ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = 5)",
        COSINE,
        SPEC,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_swapped_in_without_a_gap_taken_back_without_a_build_and_tried_again_when_asked(
    items: str, change: str
) -> None:
    before, search, spec = CHANGES[change]
    run(items, before)
    old = oids(items)[NAME]
    with pytest.raises(IndexDefinitionDiffers):
        deploy(items, spec)
    with served_at_every_moment(items, search):
        assert heal(items, spec).outcome == "replaced"
    assert is_served_as(items, spec)
    new = oids(items)
    assert set(new) == {NAME, PREVIOUS}
    assert new[PREVIOUS] == old
    assert planned(items, spec).steps == ()
    assert heal(items, spec).outcome == "already-there"

    started = time.monotonic()
    with served_at_every_moment(items, search):
        rollback(items, spec)
    assert time.monotonic() - started < 5
    assert oids(items) == {NAME: old, PREVIOUS: new[NAME]}
    # Neither a keeper nor a migration builds again what was taken back; who deploys does, and need not build it.
    kept = heal(items, spec)
    assert (kept.outcome, len(kept.remarks)) == ("already-there", 1)
    assert oids(items) == {NAME: old, PREVIOUS: new[NAME]}
    with served_at_every_moment(items, search):
        again = heal(items, spec, policy=DEPLOY)
    assert (again.outcome, again.build_seconds) == ("replaced", 0.0)
    assert oids(items) == {NAME: new[NAME], PREVIOUS: old}
    assert is_served_as(items, spec)


def test_a_second_rollback_returns_to_what_was_rolled_back_and_nothing_is_refused_then(items: str) -> None:
    deploy(items, SPEC)
    heal(items, OTHER_M)
    before = oids(items)
    rollback(items, OTHER_M)
    rollback(items, OTHER_M)
    assert oids(items) == before
    assert planned(items, OTHER_M) == replace(planned(items, OTHER_M), steps=(), remarks=())
    assert state(items) == [(NAME, True), (PREVIOUS, False)]


def test_without_a_previous_generation_a_rollback_says_so_and_changes_nothing(items: str) -> None:
    deploy(items, SPEC)
    with pytest.raises(NothingToRollBack, match="no previous generation"):
        rollback(items, SPEC)
    assert state(items) == [(NAME, True)]


def test_the_previous_generation_is_out_of_sight_kept_up_to_date_and_in_sight_again_after_a_rollback(
    items: str,
) -> None:
    deploy(items, replace(SPEC, m=4))  # the planner would prefer it
    heal(items, replace(SPEC, m=32))
    assert state(items) == [(NAME, True), (PREVIOUS, False)]
    run(items, "INSERT INTO items (id, embedding) SELECT 1000, embedding FROM items WHERE id = 7", "SET ROLE NONE")
    rollback(items, replace(SPEC, m=32))
    assert state(items) == [(NAME, True), (PREVIOUS, False)]
    with psycopg.connect(items) as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        search = "SELECT id FROM items ORDER BY embedding <=> (SELECT embedding FROM items WHERE id = 7) LIMIT 2"
        plan = connection.execute(f"EXPLAIN {search}").fetchall()
        assert any(f"Index Scan using {NAME} " in line for (line,) in plan)
        assert {number for (number,) in connection.execute(search)} == {7, 1000}


def test_the_previous_generation_is_kept_until_its_time_and_then_dropped(items: str) -> None:
    spec = replace(OTHER_M, build=BuildPolicy(keep_previous_seconds=3600))
    deploy(items, SPEC)
    heal(items, spec)
    now = datetime.now(UTC)
    assert planned(items, spec, now + timedelta(minutes=59)).steps == ()
    (only,) = planned(items, spec, now + timedelta(minutes=61)).steps
    assert isinstance(only, DropIndex)
    assert (only.name, only.why) == (PREVIOUS, "previous")


def test_a_previous_generation_whose_time_is_over_goes_with_the_next_heal(items: str) -> None:
    deploy(items, SPEC)
    heal(items, OTHER_M)
    yesterday = previous_note(keep_until=datetime.now(UTC) - timedelta(days=1), is_hidden=True)
    run(items, f"COMMENT ON INDEX {PREVIOUS} IS '{yesterday}'")
    assert deploy(items, OTHER_M).outcome == "already-there"  # a migration drops nothing
    healed = heal(items, OTHER_M)
    assert "retention time has passed" in "; ".join(healed.did)
    assert state(items) == [(NAME, True)]


def test_what_was_taken_back_is_kept_no_longer_than_any_previous_generation(items: str) -> None:
    spec = replace(OTHER_M, build=BuildPolicy(keep_previous_seconds=0.01))
    deploy(items, SPEC)
    deploy(items, replace(OTHER_M, build=BuildPolicy()), policy=MIGRATE_CHANGED)
    rollback(items, spec)
    healed = heal(items, spec)
    assert healed.remarks != ()
    assert state(items) == [(NAME, True)]
    assert is_served_as(items, SPEC)


def test_a_policy_that_keeps_nothing_leaves_nothing(items: str) -> None:
    deploy(items, SPEC)
    heal(items, replace(OTHER_M, build=BuildPolicy(keep_previous_seconds=0)))
    assert state(items) == [(NAME, True)]


def test_forgetting_drops_the_previous_generation_alone(items: str) -> None:
    deploy(items, SPEC)
    assert drop_previous(items, SPEC) is False
    heal(items, OTHER_M)
    assert drop_previous(items, OTHER_M) is True
    assert state(items) == [(NAME, True)]
    assert is_served_as(items, OTHER_M)


def test_dropping_drops_every_generation(items: str) -> None:
    deploy(items, SPEC)
    heal(items, OTHER_M)
    assert drop(items, OTHER_M) is True
    assert state(items) == []


# --- the table's owner, who is not a superuser --------------------------------------------------------------------------


@pytest.fixture
def owner(items: str) -> Iterator[str]:
    """The role that owns `items` and may do nothing else."""
    name = f"owner_{rows(items, 'SELECT current_database()')[0][0]}"
    run(
        items,
        f"CREATE ROLE {name} LOGIN",
        f"ALTER TABLE items OWNER TO {name}",
        f"GRANT CREATE ON SCHEMA public TO {name}",
    )
    yield make_conninfo(items, user=name)
    run(items, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_an_owner_proves_and_swaps_too_and_keeps_what_the_planner_likes_less(items: str, owner: str) -> None:
    deploy(owner, replace(SPEC, m=32))
    with served_at_every_moment(items, COSINE):
        deployed = heal(owner, replace(SPEC, m=4, ef_construction=64))
    assert (deployed.outcome, deployed.warnings) == ("replaced", ())
    assert state(items) == [(NAME, True), (PREVIOUS, True)]
    rollback(owner, replace(SPEC, m=4))
    assert is_served_as(items, replace(SPEC, m=32))


def test_an_owner_who_cannot_hide_it_drops_a_previous_generation_that_the_planner_prefers(
    items: str, owner: str
) -> None:
    deploy(owner, replace(SPEC, m=4))
    with served_at_every_moment(items, COSINE):
        deployed = heal(owner, replace(SPEC, m=48, ef_construction=96))
    assert deployed.outcome == "replaced"
    (warning,) = deployed.warnings
    assert "the planner prefers the previous generation" in warning
    assert state(items) == [(NAME, True)]


def test_an_owner_s_proof_leaves_the_serving_index_where_it_was_when_it_fails(items: str, owner: str) -> None:
    deploy(owner, SPEC)
    with pytest.raises(GenerationUnproven):
        heal(owner, BLUNT)
    assert state(items) == [(NAME, True)]
    assert is_served_as(items, SPEC)


# --- what does not prove itself --------------------------------------------------------------------------------------


def test_a_generation_below_the_floor_is_refused_dropped_and_noted_and_the_old_one_serves(items: str) -> None:
    deploy(items, SPEC)
    before = oids(items)
    with served_at_every_moment(items, COSINE), pytest.raises(GenerationUnproven) as raised:
        heal(items, BLUNT)
    assert "the floor is 0.99" in raised.value.why
    assert len(str(raised.value).split("\n")) == 3
    assert oids(items) == before
    assert is_noted(items, BLUNT)
    # A keeper does not build for hours, again and again, what fails each time.
    assert heal(items, BLUNT).remarks != ()
    assert oids(items) == before
    with pytest.raises(GenerationUnproven):
        heal(items, BLUNT, policy=DEPLOY)
    # Who declares again what serves has nothing to do, and a better one is built.
    assert heal(items, SPEC).outcome == "already-there"
    assert heal(items, OTHER_M).outcome == "replaced"


#: What stands under our name and answers other searches than the declared ones: it outranks no generation.
STRANGERS = {
    "other distance": "USING hnsw (embedding vector_l2_ops)",
    "other column": "USING hnsw (other vector_cosine_ops)",
    "other cast": "USING hnsw ((embedding::halfvec(64)) halfvec_l2_ops)",
    "other expression": "USING hnsw ((subvector(embedding, 1, 2)::vector(2)) vector_cosine_ops)",
    "other predicate": "USING hnsw (embedding vector_cosine_ops) WHERE n = 0",
    "ivfflat": "USING ivfflat (embedding vector_cosine_ops) WITH (lists = 5)",
}


@pytest.mark.parametrize("definition", STRANGERS.values(), ids=STRANGERS)
def test_where_nothing_serves_the_declaration_the_best_that_could_be_built_takes_over_with_a_finding(
    items: str, definition: str
) -> None:
    coarse = replace(SPEC, m=2, ef_construction=4, ef_search=10, recall_floor=0.999)
    run(
        items,
        "ALTER TABLE items ADD COLUMN other vector(64)",
        "UPDATE items SET other = embedding",
        f"CREATE INDEX {NAME} ON items {definition}",
        f"COMMENT ON INDEX {NAME} IS 'ours since 2024'",
    )
    done = heal(items, coarse)
    assert done.outcome == "replaced"
    assert any("nothing else serves the declared search" in warning for warning in done.warnings)
    assert is_served_as(items, coarse)
    built = oids(items)[NAME]
    shortfall = read_note(comment_on(items, NAME)).shortfall
    assert shortfall is not None
    assert shortfall.recall < 0.999
    assert words_of_others(comment_on(items, NAME)) == "ours since 2024"
    with connect(items) as connection:
        (told,) = note_of_shortfall(connection, coarse, look(items, coarse))
        assert not told.holds
        assert "serves below its floor" in told.sentence
        # A floor that it holds, or another graph under the same comment, is another matter.
        assert note_of_shortfall(connection, replace(coarse, recall_floor=0.01), look(items, coarse)) == ()
        connection.execute(f"REINDEX INDEX {NAME}")
        assert note_of_shortfall(connection, coarse, look(items, coarse)) == ()
    # It is not built again and again, and a better attempt takes its place.
    assert heal(items, coarse).outcome == "already-there"
    assert oids(items)[NAME] == built
    better = replace(SPEC, recall_floor=0.9)
    assert heal(items, better).outcome == "replaced"
    assert read_note(comment_on(items, NAME)).shortfall is None


def test_a_generation_below_the_floor_that_serves_still_outranks_a_worse_one_of_a_smaller_type(items: str) -> None:
    run(items, f"CREATE INDEX {NAME} ON items USING hnsw ((embedding::halfvec(64)) halfvec_cosine_ops)")
    with pytest.raises(GenerationUnproven, match="failed its acceptance test"):
        heal(items, BLUNT)
    assert is_served_as(items, HALFVEC)


def test_an_index_as_declared_under_another_name_takes_over_from_one_that_answers_other_searches(items: str) -> None:
    run(items, f"CREATE INDEX {NAME} ON items USING hnsw (embedding vector_l2_ops)")
    run(items, "CREATE INDEX by_hand ON items USING hnsw (embedding vector_cosine_ops)")
    by_hand = oids(items)["by_hand"]
    assert heal(items, SPEC).did == (
        f"swap: by_hand takes the name {NAME}; the old index is kept for 7.0 days as {PREVIOUS}",
    )
    assert oids(items)[NAME] == by_hand
    assert set(oids(items)) == {NAME, PREVIOUS}


def test_below_the_floor_and_no_worse_than_before_is_an_improvement_and_is_warned_of(many_items: str) -> None:
    run(many_items, f"{DECLARED} WITH (m = 2, ef_construction = 4)")
    deployed = heal(many_items, replace(SPEC, m=3, ef_construction=8, recall_floor=1.0))
    assert deployed.outcome == "replaced"
    assert any("below the floor of 1.00, but no worse than before" in warning for warning in deployed.warnings)


def test_evidence_against_the_serving_index_replaces_it_once_by_the_same_definition(items: str) -> None:
    deploy(items, SPEC)
    old = oids(items)[NAME]
    with served_at_every_moment(items, COSINE):
        deployed = heal(items, SPEC, policy=replace(HEAL, rebuild_because="recall@10 was 0.61"))
    assert deployed.outcome == "replaced"
    assert len(deployed.did) == 2, deployed.did  # built and swapped, once
    assert oids(items)[PREVIOUS] == old
    assert is_served_as(items, SPEC)
    assert heal(items, SPEC).outcome == "already-there"


# --- what an interrupted deploy, or somebody else, left --------------------------------------------------------------


def test_a_proven_successor_takes_the_declared_name_when_nothing_has_it(items: str) -> None:
    run(items, DECLARED.replace(NAME, NEXT))
    old = oids(items)[NEXT]
    assert heal(items, SPEC).outcome == "repaired"
    assert oids(items) == {NAME: old}


def test_a_previous_generation_takes_the_declared_name_when_nothing_has_it(items: str) -> None:
    run(items, DECLARED.replace(NAME, PREVIOUS))
    old = oids(items)[PREVIOUS]
    assert heal(items, SPEC).outcome == "repaired"
    assert oids(items) == {NAME: old}


def test_a_hidden_previous_generation_is_shown_again_when_it_takes_the_declared_name(items: str) -> None:
    deploy(items, SPEC)
    old = oids(items)[NAME]
    heal(items, OTHER_M)
    run(items, f"DROP INDEX {NAME}")
    assert heal(items, SPEC).outcome == "repaired"
    assert oids(items) == {NAME: old}
    assert state(items) == [(NAME, True)]
    assert comment_on(items, NAME) is None


def test_an_invalid_successor_is_dropped_and_built_anew(items: str) -> None:
    run(items, DECLARED, DECLARED.replace(NAME, NEXT) + " WITH (m = 8)", INVALIDATE.format(NEXT))
    half = oids(items)[NEXT]
    with served_at_every_moment(items, COSINE):
        assert heal(items, OTHER_M).outcome == "replaced"
    assert half not in oids(items).values()
    assert is_served_as(items, OTHER_M)


def test_a_valid_successor_of_an_interrupted_deploy_is_not_built_again(items: str) -> None:
    run(items, DECLARED, DECLARED.replace(NAME, NEXT) + " WITH (m = 8)")
    built = oids(items)[NEXT]
    deployed = heal(items, OTHER_M)
    assert (deployed.outcome, deployed.build_seconds) == ("replaced", 0.0)
    assert oids(items)[NAME] == built


def test_a_successor_of_a_declaration_that_has_changed_since_is_dropped(items: str) -> None:
    run(items, DECLARED, DECLARED.replace(NAME, NEXT) + " WITH (m = 6)")
    assert heal(items, SPEC).outcome == "repaired"
    assert state(items) == [(NAME, True)]


def fail_to_reindex(conninfo: str, phase: str) -> None:
    """A REINDEX CONCURRENTLY that dies while it waits in `phase`."""
    with psycopg.connect(conninfo) as blocker:
        blocker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        if phase == scene.OLD_SNAPSHOT:
            blocker.execute("SELECT count(*) FROM pg_class")
        else:
            blocker.execute("LOCK TABLE items IN ACCESS SHARE MODE")
        reindexing = InBackground(lambda: run(conninfo, f"REINDEX INDEX CONCURRENTLY {NAME}"))
        run(conninfo, f"SELECT pg_terminate_backend({builder_in_phase(conninfo, phase)})")
        with pytest.raises(psycopg.OperationalError):
            reindexing.finish()
        blocker.rollback()
    scene.wait_until(lambda: not rows(conninfo, "SELECT FROM pg_stat_progress_create_index"))


@pytest.mark.parametrize(
    ("phase", "rest"),
    [(scene.OLD_SNAPSHOT, f"{NAME}_ccnew"), ("waiting for readers before marking dead", f"{NAME}_ccold")],
)
def test_the_rest_of_a_failed_reindex_is_dropped_by_who_tidies_and_left_alone_by_others(
    items: str, phase: str, rest: str
) -> None:
    deploy(items, SPEC)
    fail_to_reindex(items, phase)
    assert state(items) == [(NAME, True), (rest, False)]
    assert deploy(items, SPEC).outcome == "already-there"
    assert state(items) == [(NAME, True), (rest, False)]
    with served_at_every_moment(items, COSINE):
        assert heal(items, SPEC).outcome == "repaired"
    assert state(items) == [(NAME, True)]


def test_duplicates_are_dropped_by_who_tidies_and_left_alone_by_others(items: str) -> None:
    run(items, DECLARED, DECLARED.replace(NAME, "by_hand"), DECLARED.replace(NAME, "other") + " WITH (m = 8)")
    assert deploy(items, SPEC).outcome == "already-there"
    assert state(items) == [("by_hand", True), (NAME, True), ("other", True)]
    assert heal(items, SPEC).outcome == "repaired"
    assert state(items) == [(NAME, True), ("other", True)]


def test_a_duplicate_takes_the_declared_name_where_nothing_has_it_and_others_of_its_kind_go(items: str) -> None:
    run(items, DECLARED.replace(NAME, "by_hand"), DECLARED.replace(NAME, "by_hand_too"))
    before = oids(items)
    assert heal(items, SPEC).outcome == "repaired"
    assert oids(items) == {NAME: before["by_hand"]}


def test_a_duplicate_of_what_was_taken_back_is_left_alone_because_it_may_be_all_that_serves_its_searches(
    items: str,
) -> None:
    deploy(items, SPEC)
    heal(items, HALFVEC)
    rollback(items, HALFVEC)
    drop_previous(items, HALFVEC)
    run(items, "CREATE INDEX theirs ON items USING hnsw ((embedding::halfvec(64)) halfvec_cosine_ops)")
    heal(items, HALFVEC)
    assert state(items) == [(NAME, True), ("theirs", True)]


# --- plans and comments ----------------------------------------------------------------------------------------------


def test_a_plan_of_another_catalog_is_refused_and_nothing_is_changed(items: str) -> None:
    deploy(items, SPEC)
    digest = planned(items, OTHER_M).digest
    run(items, DECLARED.replace(NAME, "meanwhile"))
    before = oids(items)
    with pytest.raises(PlanOutOfDate, match="out of date"):
        heal(items, OTHER_M, expected_digest=digest)
    assert oids(items) == before
    assert heal(items, OTHER_M, expected_digest=planned(items, OTHER_M).digest).outcome == "replaced"


def test_a_plan_of_another_declaration_is_refused(items: str) -> None:
    deploy(items, SPEC)
    with pytest.raises(PlanOutOfDate):
        heal(items, OTHER_M, expected_digest=planned(items, SPEC).digest)
    assert is_served_as(items, SPEC)


def test_what_somebody_has_written_in_the_comment_stays_with_the_serving_index(items: str) -> None:
    theirs = "ask Ada before you touch this\neverindex: it is hers"
    deploy(items, SPEC)
    run(items, f"COMMENT ON INDEX {NAME} IS '{theirs}'")
    heal(items, OTHER_M)
    assert comment_on(items, NAME) == theirs
    assert read_note(comment_on(items, PREVIOUS)).is_hidden
    rollback(items, OTHER_M)
    assert words_of_others(comment_on(items, NAME)) == theirs
    assert is_noted(items, OTHER_M)
    heal(items, OTHER_M, policy=DEPLOY)
    assert comment_on(items, NAME) == theirs
    with pytest.raises(GenerationUnproven):
        heal(items, BLUNT)
    assert words_of_others(comment_on(items, NAME)) == theirs
    assert is_noted(items, BLUNT)
    assert len(read_note(comment_on(items, NAME)).rejected_definitions) == 1


def test_a_renamed_index_keeps_what_somebody_has_written_in_its_comment(items: str) -> None:
    run(items, DECLARED.replace(NAME, "by_hand"), "COMMENT ON INDEX by_hand IS 'made in a hurry'")
    heal(items, SPEC)
    assert comment_on(items, NAME) == "made in a hurry"


def test_what_happens_is_told_in_the_users_names(items: str) -> None:
    deploy(items, SPEC)
    heard = Heard()
    deployed = heal(items, OTHER_M, reporter=heard.reporter)
    assert f"building index public.{NEXT}" in heard.text
    assert "recall@10 of the new generation is" in heard.text
    assert f"index public.{NAME} is the new generation; the old one is {PREVIOUS}" in heard.text
    assert [sentence.split()[0] for sentence in deployed.did] == ["build", "swap:"]


def test_an_index_of_all_rows_does_not_stand_in_the_way_of_a_partial_ones_proof(items: str) -> None:
    run(items, DECLARED.replace(NAME, "by_hand"), DECLARED + " WITH (m = 4)")
    spec = replace(SPEC, predicate="id > 5")
    assert heal(items, spec).outcome == "replaced"
    assert is_served_as(items, spec)


def test_an_older_declarations_successor_that_alone_serves_goes_only_when_the_declared_index_is_there(
    items: str,
) -> None:
    run(items, DECLARED.replace(NAME, NEXT) + " WITH (m = 6)")
    deployed = heal(items, SPEC)
    assert [sentence.split()[0] for sentence in deployed.did] == ["build", "drop"]
    assert state(items) == [(NAME, True)]
