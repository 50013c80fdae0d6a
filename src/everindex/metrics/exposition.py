"""Metrics as text for Prometheus, and as a file for the textfile collector of node_exporter, replaced atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from everindex.errors import UsageError

#: What a scrape answers with: version 0.0.4 of the text format, which every Prometheus and node_exporter reads.
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


#: Memory, processor time and file descriptors of this process, and its garbage collector; on Linux.
OF_PROCESS: tuple[Collector, ...] = (
    ProcessCollector(registry=None), PlatformCollector(registry=None), GCCollector(registry=CollectorRegistry()),
)  # fmt: skip


class Families(Collector):
    """A collector of the families that a function returns at the time of the scrape."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # or registering would read them

    def collect(self) -> Iterable[Metric]:
        return self._read()


class WithoutCreated(Collector):
    """A collector without the moments at which its counters began: twice the series, which Prometheus does not use."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        for family in self._collector.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def as_text(*collectors: Collector) -> bytes:
    """The metrics of these collectors, of a registry of their own."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry)


def write_textfile(path: Path, content: bytes) -> None:
    """Replaces a file in one step, so that a reader sees the old content or the new. Raises UsageError."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).chmod(0o644)  # node_exporter runs as another user
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise UsageError(
            f"the metrics could not be written to {path}.",
            why=f"{exc.strerror or exc}.",
            next_step="choose a directory that exists and that this user may write to.",
        ) from exc
