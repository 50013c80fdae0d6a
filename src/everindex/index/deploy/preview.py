"""The preview of a deploy: its plan with estimates, SQL and blockers. Changes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from everindex.index.activity.blockers import Blocker, find_blockers, vacuums_on
from everindex.index.build.estimate import Estimate, estimate_build
from everindex.index.build.memory import settings_for
from everindex.index.build.preflight import ServerMachine, see_machine
from everindex.index.build.rate import NoRate, Rate, measured_rate
from everindex.index.build.vector_index import count_rows
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.deploy.local_policy import policy_here
from everindex.index.plan.other_indexes import Beside, indexes_beside
from everindex.index.plan.planner import Plan, make_plan
from everindex.index.plan.policy import DeployPolicy
from everindex.index.plan.step_sql import step_texts
from everindex.index.plan.steps import Build, Step
from everindex.index.spec import IndexSpec
from everindex.pg.capabilities import look, require_pgvector
from everindex.pg.connections import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewedStep:
    """One step with its SQL and, if it builds, its cost."""

    step: Step
    statements: tuple[str, ...]
    estimate: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPreview:
    """The plan of one declared index."""

    plan: Plan
    observed: Observed
    steps: tuple[PreviewedStep, ...]
    blockers: tuple[Blocker, ...]
    """The sessions that an online build would wait for if it began now; empty when there is nothing to build."""

    vacuums: tuple[str, ...]
    beside: tuple[Beside, ...]
    """Other vector indexes on the column that no step touches."""

    machine: ServerMachine

    def as_dict(self) -> dict[str, Any]:
        spec = self.plan.spec
        return {
            "index": spec.name,
            "schema": spec.schema,
            "table": spec.table,
            "digest": self.plan.digest,
            "remarks": list(self.plan.remarks),
            "steps": [
                {
                    "step": type(each.step).__name__,
                    "sentence": each.step.sentence,
                    "lock": each.step.lock,
                    "reverse": each.step.reverse,
                    "sql": list(each.statements),
                    "estimate": None
                    if each.estimate is None
                    else {
                        "rows": each.estimate.rows,
                        "memory_needed_bytes": each.estimate.memory_needed_bytes,
                        "memory_given_bytes": each.estimate.memory_given_bytes,
                        "disk_bytes": each.estimate.disk_bytes,
                        "wal_bytes": each.estimate.wal_bytes,
                        "seconds": round(each.estimate.seconds, 1),
                        "seconds_from": each.estimate.seconds_from,
                    },
                }
                for each in self.steps
            ],
            "waits_for": [blocker.sentence for blocker in self.blockers] + list(self.vacuums),
            "beside": [other.as_dict() for other in self.beside],
            "disk_free_bytes": self.machine.disk_free_bytes,
            "shared_memory_kind": self.machine.shared_memory.kind,
            "shared_memory_free_bytes": self.machine.shared_memory_free_bytes,
        }


def preview_plan(
    connection: Connection, spec: IndexSpec, *, policy: DeployPolicy, with_trial: bool = True
) -> PlanPreview:
    """Plans and estimates. Reads only, except for the trial (a temporary table that exists for a second; see `rate`).

    Raises what planning raises.
    """
    require_pgvector(look(connection))
    observed = observe(connection, spec)
    now = datetime.now(UTC)
    plan = make_plan(spec, observed, policy=policy_here(connection, policy), now=now)
    machine = see_machine(connection)
    builds = [step for step in plan.steps if isinstance(step, Build)]
    rate = measured_rate(connection, spec, observed, with_trial=with_trial) if builds else None
    return PlanPreview(
        plan=plan,
        observed=observed,
        steps=tuple(
            PreviewedStep(
                step=step,
                statements=tuple(step_texts(step, observed, spec=spec, now=now)),
                estimate=_estimate(connection, step, machine, rate) if isinstance(step, Build) else None,
            )
            for step in plan.steps
        ),
        blockers=find_blockers(connection, spec) if builds else (),
        vacuums=vacuums_on(connection, spec) if builds else (),
        beside=tuple(other for other in indexes_beside(spec, observed) if other.name not in _touched(plan)),
        machine=machine,
    )


def _touched(plan: Plan) -> frozenset[str]:
    """The indexes that a step drops, renames or swaps in."""
    return frozenset(
        name
        for step in plan.steps
        for name in (getattr(step, "name", None), getattr(step, "old", None), getattr(step, "successor", None))
        if name is not None
    )


def _estimate(connection: Connection, step: Build, machine: ServerMachine, rate: Rate | NoRate | None) -> Estimate:
    rows = step.estimated_rows
    if rows == 0 and step.is_online:
        rows = count_rows(connection, step.spec)  # never analyzed: there are no statistics
    settings = settings_for(
        connection,
        look(connection),
        table_rows=rows,
        dimensions=step.dimensions,
        m=step.spec.m,
        key_type=step.spec.key_type,
        memory_share=step.spec.build.memory_share,
    )
    return estimate_build(
        step.spec,
        rows=rows,
        dimensions=step.dimensions,
        settings=settings,
        processors=os.cpu_count() if machine.disk_free_bytes is not None else None,
        rate=rate if isinstance(rate, Rate) else None,
        why_assumed=rate.why if isinstance(rate, NoRate) else None,
    )
