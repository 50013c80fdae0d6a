"""What `plan` prints as SQL runs as it is printed, by psql and in its order, and leads to the declared state."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from by_hand import run
from everindex.index.catalog.drift import differences
from everindex.index.catalog.effective_spec import effective_spec, store
from everindex.index.catalog.generations import read_note, words_of_others
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import declared_index
from everindex.index.catalog.tuned import Tuned, TunedPoint
from everindex.index.deploy.executor import deploy
from everindex.index.deploy.preview import PlanPreview, preview_plan
from everindex.index.plan.planner import make_plan
from everindex.index.plan.policy import DEPLOY, HEAL, MIGRATE_CHANGED
from everindex.index.plan.steps import DropIndex, Swap
from everindex.pg import own_schema
from everindex.pg.connections import connect
from everindex.pg.embedded.programs import embedded_binaries
from plan_kinds import KINDS, Kind
from scene import SPEC

PSQL = embedded_binaries().program("psql")
#: Whose plan is about what others still build, or about nothing.
PRINTED = [kind for kind in KINDS if kind.act is deploy and not kind.ends_without]


def preview(conninfo: str, kind: Kind) -> PlanPreview:
    policy = replace(DEPLOY, rebuild_because=kind.policy.rebuild_because)
    with connect(conninfo) as connection:
        return preview_plan(connection, kind.spec, policy=policy, with_trial=False)


def by_psql(conninfo: str, found: PlanPreview) -> None:
    text = "\n".join(statement for each in found.steps for statement in each.statements)
    done = subprocess.run(
        [PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-f", "-"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"


@pytest.mark.parametrize("kind", PRINTED, ids=lambda kind: kind.name)
def test_the_printed_sql_of_every_kind_of_plan_leads_to_the_declared_state(
    starts: Callable[[Kind], str], kind: Kind
) -> None:
    conninfo = kind.connects_to(starts(kind))
    found = preview(conninfo, kind)
    by_psql(conninfo, found)
    with connect(conninfo) as connection:
        observed = observe(connection, kind.spec)
    serving = declared_index(kind.spec, observed)
    assert serving is not None
    assert serving.is_valid
    assert differences(kind.spec, observed, serving) == []
    assert make_plan(kind.spec, observed, policy=HEAL).steps == ()
    if any(isinstance(each.step, Swap) and each.step.keep_seconds > 0 for each in found.steps):
        kept = next(index for index in observed.indexes if index.name.endswith("__prev"))
        assert read_note(kept.comment).keep_until is not None


def test_a_swap_with_the_kept_generation_runs_as_printed_and_keeps_the_words_of_others(items: str) -> None:
    deploy(items, SPEC)
    other = replace(SPEC, m=8)
    deploy(items, other, policy=MIGRATE_CHANGED)
    run(items, f"COMMENT ON INDEX {SPEC.name} IS E'it''s ours\\nsince 2024'")
    found = preview(items, Kind(name="back", prepare=lambda conninfo: None))
    assert [type(each.step) for each in found.steps] == [Swap]
    assert all("\n" not in statement for statement in found.steps[0].statements)
    by_psql(items, found)
    with connect(items) as connection:
        observed = observe(connection, SPEC)
    serving = declared_index(SPEC, observed)
    assert serving is not None
    assert differences(SPEC, observed, serving) == []
    assert words_of_others(serving.comment) == "it's ours\nsince 2024"


@pytest.mark.parametrize("opclass", ["bit_hamming_ops", "halfvec_cosine_ops", "vector_cosine_ops"])
def test_the_printed_sql_of_what_was_tuned_leads_to_the_tuned_index_and_back(items: str, opclass: str) -> None:
    own_schema.ensure(items)
    deploy(items, SPEC)
    tuned = Tuned(
        opclass=opclass,
        m=8,
        ef_construction=40,
        recall_floor=0.6,
        points=(TunedPoint(k=10, ef_search=100, candidates=80 if opclass != "vector_cosine_ops" else None),),
        declared_digest=SPEC.definition_digest,
    )
    with connect(items) as connection:
        store(connection, SPEC, tuned)
        wanted = effective_spec(connection, SPEC)
    assert (wanted.opclass, wanted.m) == (opclass, 8)
    for spec in (wanted, SPEC):  # there, and back by the generation that was kept
        by_psql(items, preview(items, Kind(name="tuned", prepare=lambda conninfo: None, spec=spec)))
        with connect(items) as connection:
            observed = observe(connection, spec)
        serving = declared_index(spec, observed)
        assert serving is not None
        assert serving.is_valid
        assert differences(spec, observed, serving) == []


def test_a_previous_generation_that_makes_room_is_not_called_old(items: str) -> None:
    deploy(items, replace(SPEC, m=4))
    deploy(items, replace(SPEC, m=8), policy=MIGRATE_CHANGED)
    found = preview(items, Kind(name="third", prepare=lambda conninfo: None))
    (dropped,) = [each.step for each in found.steps if isinstance(each.step, DropIndex)]
    assert "only one is kept, and the current one takes its place" in dropped.sentence
    assert "retention time has passed" not in dropped.sentence


def test_a_plan_shows_the_previous_generation_whose_time_is_over_as_the_deploy_then_drops_it(
    starts: Callable[[Kind], str],
) -> None:
    (kind,) = [kind for kind in PRINTED if kind.name == "expired-previous"]
    conninfo = starts(kind)
    shown = [each.step.sentence for each in preview(conninfo, kind).steps]
    assert len(shown) == 1
    assert "retention time has passed" in shown[0]
    assert list(deploy(conninfo, kind.spec, policy=DEPLOY).did) == shown


def test_a_plan_says_why_its_time_is_an_assumption(items: str) -> None:
    kind = Kind(name="absent", prepare=lambda conninfo: None)
    found = preview(items, kind)
    told = found.steps[0].estimate
    assert told is not None
    assert "no trial was requested" in told.seconds_from
    with connect(items) as connection:
        tried = preview_plan(connection, SPEC, policy=HEAL).steps[0].estimate
        assert tried is not None
        assert tried.seconds_from == "a trial with 300 rows"
        connection.execute("DELETE FROM items WHERE id >= 150")
        few = preview_plan(connection, SPEC, policy=HEAL).steps[0].estimate
    assert few is not None
    assert "a trial needs 200 vectors, but there are only 150" in few.seconds_from
