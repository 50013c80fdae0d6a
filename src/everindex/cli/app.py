"""Which commands are there? The Typer application, in the order of its help."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from everindex import __version__
from everindex.cli import (
    article,
    bench,
    check,
    deploy,
    doctor,
    embed,
    health,
    importing,
    keep,
    measure,
    migrate,
    plan,
    search,
    serve,
    status,
    tune,
    up,
    verify,
    warm,
)
from everindex.cli.output import say

app = typer.Typer(
    name="everindex",
    help="Article search on PostgreSQL + pgvector whose HNSW index is declared once and always there.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        say(f"everindex {__version__}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """`everindex COMMAND --help` explains a command; `--debug` with any of them shows tracebacks."""


app.command("up")(up.up)
app.command("serve")(serve.serve)
# `--down -1`: what looks like an option that there is not is a revision.
app.command("migrate", context_settings={"ignore_unknown_options": True})(migrate.migrate)
app.command("import")(importing.import_articles)
app.command("embed")(embed.embed)
app.command("search")(search.search)
app.command("similar")(article.similar)
app.command("article")(article.article)
app.command("status")(status.status)
app.command("plan")(plan.plan)
app.command("deploy")(deploy.deploy)
app.command("heal")(deploy.heal)
app.command("rollback")(deploy.rollback)
app.command("keep")(keep.keep)
app.command("verify")(verify.verify)
app.command("measure")(measure.measure)
app.command("tune")(tune.tune)
app.command("warm")(warm.warm)
app.command("doctor")(doctor.doctor)
app.command("check")(check.check)
app.command("bench")(bench.bench)
app.command("health")(health.health)
