"""Rule: the server allows parallel workers in an index build."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_server
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.index.build.memory import UNSAFE_PARALLEL
from everindex.pg.capabilities import version_text
from everindex.units import count_text

#: The settings and PostgreSQL's defaults.
_SHIPPED = {"max_parallel_maintenance_workers": "2", "max_parallel_workers": "8", "max_worker_processes": "8"}
_WANTS_RESTART = "max_worker_processes"


def check(examined: Examined) -> Iterator[RuleResult]:
    version = examined.capabilities.extension_version
    if version is None:
        return
    if UNSAFE_PARALLEL[0] <= version < UNSAFE_PARALLEL[1]:
        yield good(f"builds with pgvector {version_text(version)} should use one process, and those of everindex do")
        return
    off = [name for name in _SHIPPED if int(examined.number_of(name)) == 0]
    if not off:
        workers = count_text(int(examined.number_of("max_parallel_maintenance_workers")), "parallel worker")
        yield good(f"a build may use {workers}")
        return
    restart = " max_worker_processes requires a restart." if _WANTS_RESTART in off else ""
    yield finding(
        f"every build runs in one process: {' and '.join(f'{name} = 0' for name in off)}",
        fix=Fix(
            statements=tuple(dict.fromkeys(line for name in off for line in set_for_server(name, _SHIPPED[name]))),
            advice=f"leave it at 0 on a machine with one core, or if memory is short.{restart}",
        ),
    )


RULE = Rule(
    slug="parallel-build-disabled",
    severity="notice",
    title="builds may run in parallel",
    reason="a second process reduced a build of 20,000 × 1536 from 23.5 to 16.8 s (measured on two cores; pgvector README, Index "
    "Build Time).",
    check=check,
)
