"""The estimated cost of a build step: rows, memory, disk, WAL and time. Pure; an estimate, not a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from everindex.index.build.footprint import index_bytes
from everindex.index.build.memory import BuildSettings
from everindex.index.build.rate import Rate
from everindex.index.spec import IndexSpec

#: Relative cost of a row that no longer fits into maintenance_work_mem: 20,000 × 1536 took 52.5 s with room for 9,700 of
#: them, 23.5 s with room for all.
SLOW_PHASE_FACTOR = 4.0
#: Speed that each additional process adds to a build, relative to the first: 60,000 rows took one process 1.75 times as long
#: as two (docs/measurements/build.md).
PARALLEL_SHARE = 0.75
#: Rows a second of one process at 1536 float32, m = 16, ef_construction = 64, on the slowest machine measured; used
#: only when neither the journal nor a trial gives a rate.
ASSUMED_ROWS_PER_SECOND = 850.0
ASSUMED_VALUE_BYTES = 6144


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The cost of one build."""

    rows: int
    memory_needed_bytes: int
    memory_given_bytes: int
    disk_bytes: int
    """Size of the new index; while a generation is built, the old one still exists."""

    wal_bytes: int
    seconds: float
    seconds_from: str
    """The source of the time: a past build, a trial, or an assumption."""


def estimate_build(
    spec: IndexSpec,
    *,
    rows: int,
    dimensions: int,
    settings: BuildSettings,
    processors: int | None,
    rate: Rate | None,
    why_assumed: str | None = None,
) -> Estimate:
    """The cost of building `spec` on `rows` rows with `settings`. `processors`: those of the server's machine, None if
    unknown; `why_assumed` says why there is no `rate`."""
    size = index_bytes(rows=rows, dimensions=dimensions, m=spec.m, key_type=spec.key_type)
    processes = 1 + settings.parallel_workers
    if processors is not None:
        processes = min(processes, processors)
    return Estimate(
        rows=rows,
        memory_needed_bytes=settings.needed_bytes,
        memory_given_bytes=settings.maintenance_work_mem_bytes,
        disk_bytes=size,
        wal_bytes=size,  # pgvector logs the finished pages in full
        seconds=build_seconds(
            rows=rows,
            share_in_memory=min(1.0, settings.maintenance_work_mem_bytes / max(1, settings.needed_bytes)),
            processes=processes,
            rate=rate or assumed_rate(spec, dimensions=dimensions),
        ),
        seconds_from=rate.source if rate else "an assumption" + (f": {why_assumed}" if why_assumed else ""),
    )


def build_seconds(*, rows: int, share_in_memory: float, processes: int, rate: Rate) -> float:
    """Seconds of a build, from a measured one of the same shape: a row costs as much as the logarithm of the rows before it.

    Source: Malkov and Yashunin, arXiv:1603.09320, section 4.2.2 (insertion is O(log n)).
    """
    if rows <= 0:
        return 0.0
    a_row = rate.seconds / rate.rows * math.log2(rows + 2) / math.log2(rate.rows + 2)
    slowed = share_in_memory + (1 - share_in_memory) * SLOW_PHASE_FACTOR
    speed = 1 + PARALLEL_SHARE * (processes - 1) if rate.is_serial else 1.0
    return rows * a_row * slowed / speed


def assumed_rate(spec: IndexSpec, *, dimensions: int) -> Rate:
    """The rate assumed for this shape on an unknown machine."""
    value = {"vector": 4.0, "halfvec": 3.0, "bit": 0.5}[spec.key_type] * dimensions
    work = (0.25 + 0.75 * value / ASSUMED_VALUE_BYTES) * spec.ef_construction / 64 * spec.m / 16
    rows = 20_000
    return Rate(rows=rows, seconds=rows / ASSUMED_ROWS_PER_SECOND * work, is_serial=True, source="an assumption")
