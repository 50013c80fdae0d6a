"""The application of a recommendation: it is stored, deployed through generations, and measured again on all rows.

The choice is stored first and then deployed, so that every other reader of the declaration (a keeper, another deploy) uses
the same. If the deploy fails, or the new generation does not hold the floor on all rows, the previous choice is restored.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

from everindex.errors import EverindexError, GenerationUnproven
from everindex.index.catalog.effective_spec import delete_tuned, store, stored
from everindex.index.catalog.observe import observe
from everindex.index.catalog.tuned import Tuned, TunedPoint
from everindex.index.deploy.executor import Deployed, deploy
from everindex.index.journal import record
from everindex.index.plan.policy import DEPLOY
from everindex.index.reporter import Reporter
from everindex.index.spec import MAX_EF_SEARCH, IndexSpec
from everindex.index.tuning import curve_history
from everindex.index.tuning.choose import nearest_miss
from everindex.index.tuning.curve import Curve, Point
from everindex.index.tuning.recommendation import Advice
from everindex.index.tuning.survey import Say, survey
from everindex.index.tuning.survey_result import Budget, Survey
from everindex.pg import own_schema
from everindex.pg.connections import connect
from everindex.units import count_text

log = logging.getLogger(__name__)

#: Once the choice serves, searches for this multiple of k are measured as well: ef_search is interpolated between the two.
FURTHER_TIMES = 10
MOST_K = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The result of applying a recommendation."""

    tuned: Tuned
    deployed: Deployed
    curve: Curve
    """The survey of the index that serves now, on all rows."""

    point: Point

    def as_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.deployed.outcome,
            "build_seconds": round(self.deployed.build_seconds, 3),
            "did": list(self.deployed.did),
            "warnings": list(self.deployed.warnings),
            "index_bytes": self.curve.size_bytes,
            "point": self.point.as_dict(),
            "points": [
                {"k": each.k, "ef_search": each.ef_search, "candidates": each.candidates} for each in self.tuned.points
            ],
        }


def apply_advice(
    conninfo: str,
    declared: IndexSpec,
    advice: Advice,
    *,
    budget: Budget,
    reporter: Reporter | None = None,
    say: Say = lambda text: None,
) -> Applied:
    """Makes the recommended configuration serve, online, and stores it as the replacement of `declared`.

    `declared` is what the code declares, in its schema. Needs everindex_meta. Raises what `deploy` raises, after restoring
    what was stored before; GenerationUnproven when the new generation does not hold the floor on all rows, in which case the
    previous one serves again.
    """
    own_schema.ensure(conninfo)
    chosen = recommended(declared, advice)
    wanted = chosen.as_declared(declared)
    with connect(conninfo, application_name="everindex tune") as connection:
        before = stored(connection, declared)
        store(connection, declared, chosen)
    try:
        deployed = deploy(conninfo, wanted, reporter=reporter, policy=DEPLOY)
    except BaseException:
        _put_back(conninfo, declared, before)
        raise
    say("measuring the index that serves now, on all rows")
    found = _over_all_rows(conninfo, wanted, budget, say)
    held = None if found.serving is None else found.serving.at_floor(advice.floor)
    if found.serving is None or held is None:
        _put_back(conninfo, declared, before)
        _go_back(conninfo, advice.survey.spec, deployed, reporter)
        raise _unproven(wanted, found, advice.floor)
    points = [TunedPoint(k=budget.k, ef_search=held.ef_search, candidates=held.candidates)]
    further = further_point(conninfo, wanted, budget, advice.floor, say)
    final = replace(chosen, points=(*points, *([] if further is None else [further])))
    with connect(conninfo, application_name="everindex tune") as connection:
        store(connection, declared, final)
        record(
            connection,
            declared,
            "tuned",
            opclass=final.opclass,
            m=final.m,
            ef_construction=final.ef_construction,
            ef_search=held.ef_search,
            recall=held.recall,
        )
        curve_history.keep(connection, _with_choice(found, advice.survey, held.ef_search))
    return Applied(tuned=final, deployed=deployed, curve=found.serving, point=held)


def recommended(declared: IndexSpec, advice: Advice) -> Tuned:
    """The recommendation as a replacement of `declared`. Pure."""
    assert advice.choice is not None  # the caller has checked
    shape, point = advice.choice.curve.shape, advice.choice.point
    return Tuned(
        opclass=shape.opclass,
        m=shape.m,
        ef_construction=shape.ef_construction,
        recall_floor=advice.floor,
        points=(TunedPoint(k=advice.survey.k, ef_search=point.ef_search, candidates=point.candidates),),
        declared_digest=declared.definition_digest,
    )


def reset(conninfo: str, declared: IndexSpec, *, reporter: Reporter | None = None) -> tuple[bool, Deployed]:
    """Goes back to what the code declares; returns whether anything was tuned, and the result of the deploy.

    A previous generation with that definition takes over at once, otherwise it is built. Raises what `deploy` raises.
    """
    with connect(conninfo, application_name="everindex tune") as connection:
        was_tuned = delete_tuned(connection, declared)
        if was_tuned:
            record(connection, declared, "tuning reset")
    done = deploy(conninfo, declared, reporter=reporter, policy=DEPLOY)
    return was_tuned, done


def _over_all_rows(conninfo: str, spec: IndexSpec, budget: Budget, say: Say) -> Survey:
    """A survey of the serving index only."""
    return survey(conninfo, spec, budget=replace(budget, sample_rows=0, other_generations=False), say=say)


def further_point(conninfo: str, spec: IndexSpec, budget: Budget, floor: float, say: Say) -> TunedPoint | None:
    """The point for searches for many more neighbours; None if that is not measured."""
    k = min(MOST_K, FURTHER_TIMES * budget.k)
    if k <= budget.k:
        return None
    with connect(conninfo, application_name="everindex tune") as connection:
        if observe(connection, spec).estimated_rows < 2 * k:
            return None
    started = time.monotonic()
    less = replace(
        budget,
        k=k,
        queries=max(10, budget.queries // 4),
        sample_rows=0,
        other_generations=False,
        max_seconds=budget.max_seconds / 4,
    )
    serving = survey(conninfo, spec, budget=less, say=say).serving
    log.debug(
        "searches for %d neighbours measured in %.1f s",
        k,
        time.monotonic() - started,
        extra={"event": "tuning-measured"},
    )
    if serving is None or not serving.points:
        return None
    held = serving.at_floor(floor) or serving.points[-1]
    return TunedPoint(k=k, ef_search=min(MAX_EF_SEARCH, held.ef_search), candidates=held.candidates)


def _with_choice(found: Survey, before: Survey, ef_search: int) -> Survey:
    """For the web page: the serving index, and the curves that it was chosen from."""
    others = tuple(
        replace(curve, source="generation") if curve.source == "serving" else curve
        for curve in before.curves
        if found.serving is None or curve.shape != found.serving.shape
    )
    return replace(found, curves=(*found.curves[:1], *others), chosen_ef_search=ef_search)


def _put_back(conninfo: str, declared: IndexSpec, before: Tuned | None) -> None:
    try:
        with connect(conninfo, application_name="everindex tune") as connection:
            if before is None:
                delete_tuned(connection, declared)
            else:
                store(connection, declared, before)
    except EverindexError as exc:
        log.warning(
            "the previous tuning could not be restored: %s; `everindex tune --reset` goes back to the code's",
            exc.slug,
            extra={"event": "tuning-not-restored"},
        )


def _go_back(conninfo: str, spec: IndexSpec, deployed: Deployed, reporter: Reporter | None) -> None:
    """Makes the previous generation serve again, if another one has taken over."""
    if deployed.outcome != "already-there":
        deploy(conninfo, spec, reporter=reporter, policy=DEPLOY)


def _unproven(spec: IndexSpec, found: Survey, floor: float) -> GenerationUnproven:
    best = nearest_miss(found.curves[:1])
    why = (
        "it could not be measured"
        if best is None
        else f"at ef_search {best.point.ef_search} recall@{found.k} is {best.point.recall:.3f}, "
        f"{best.point.low:.3f} with confidence"
    )
    return GenerationUnproven(
        f"the tuned generation of index {spec.qualified_name} does not hold recall {floor:g} on all "
        f"{count_text(found.rows, 'row')}.",
        why=f"{why}.",
        next_step="the previous index serves again. Tune with a larger --sample, or a lower --recall.",
    )
