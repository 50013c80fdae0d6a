"""`everindex up`: from nothing to article search: server, migrations, sample, index, checks, web pages."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from everindex.articles.collections.description import has_only_collections
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.cli.output import reporter, row_progress, tell
from everindex.cli.proofs import print_proofs
from everindex.cli.serve import HostOption, PortOption, serve_instance
from everindex.cli.waiting import LongWaitOption, connect_patiently, open_instance
from everindex.errors import EverindexError
from everindex.index.reporter import Reporter
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg import address
from everindex.settings import Settings, read_settings

#: A short verification before serving; `everindex verify` is more thorough.
SAMPLES, SECONDS = 20, 3.0


def up(
    host: HostOption = None,
    port: PortOption = None,
    sample: Annotated[
        bool | None,
        typer.Option(
            "--sample/--no-sample",
            help="Import the sample of 9,940 articles. Default: only into a new embedded server, never into your own.",
        ),
    ] = None,
    wait: LongWaitOption = None,
) -> None:
    started = time.monotonic()
    settings = read_settings()
    with address.server(settings) as conninfo:
        tell(f"PostgreSQL: {address.describe(conninfo)}")
        with connect_patiently(conninfo, settings, wait, deploys=True) as connection:
            is_of_collections = has_only_collections(connection) and not sample
        if is_of_collections:
            _serve_collections(conninfo, settings, wait, host=host, port=port)
            return
        with reporter() as reporting:
            is_new = _set_up_before_index(conninfo, settings, reporting)
        wants_sample = sample if sample is not None else (is_new and settings.uses_embedded_server)
        if wants_sample:
            with open_instance(wait, deploys=True, conninfo=conninfo, settings=settings) as instance:
                _import_sample(instance)
        with reporter() as reporting:
            runner.upgrade(conninfo, wait_seconds=settings.deployment_wait_seconds, reporter=reporting)
        with open_instance(wait, deploys=True, conninfo=conninfo, settings=settings) as instance:
            print_proofs(instance.verify(samples=SAMPLES, max_seconds=SECONDS), to=tell)
            tell(f"ready after {time.monotonic() - started:.1f} s")
            serve_instance(instance, settings, host=host, port=port)


def _serve_collections(
    conninfo: str, settings: Settings, wait: float | None, *, host: str | None, port: int | None
) -> None:
    """Deploys and serves a database that has collections and no articles; nothing is migrated."""
    tell("this database has collections and no articles, and is served as it is (everindex migrate adds the articles)")
    with open_instance(wait, deploys=True, conninfo=conninfo, settings=settings) as instance:
        for spec in instance.collections():
            try:
                collection = instance.collection(spec.name)
                with reporter() as reporting:
                    collection.deploy(reporter=reporting)
                print_proofs(collection.verify(samples=SAMPLES, max_seconds=SECONDS).of(spec.name), to=tell)
            except EverindexError as exc:
                tell(f"{spec.name}: {exc.slug}: {exc.what}")
        serve_instance(instance, settings, host=host, port=port)


def _set_up_before_index(conninfo: str, settings: Settings, reporting: Reporter) -> bool:
    """On a database below head, applies everything but the index: a first load is many times faster without it.

    Returns True if it did: the instance is new, or its first start was interrupted.
    """
    state = runner.state(conninfo, wait_seconds=settings.deployment_wait_seconds)
    if state.kind not in ("none", "behind"):
        return False
    runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=settings.deployment_wait_seconds, reporter=reporting)
    return True


def _import_sample(instance: Instance) -> None:
    tell("importing the sample: 9,940 news items of CPython")
    started = time.monotonic()
    with row_progress("embedding and storing", total=9940) as advance:
        report = instance.import_rows(read_source(str(sample_source())), on_rows=advance)
    tell(
        f"{report.stored.inserted} articles new, {report.stored.unchanged} unchanged, {report.without_vector} without "
        f"a "
        f"vector, in {time.monotonic() - started:.1f} s"
    )
