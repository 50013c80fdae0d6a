"""The list of the commands, in the order of the help: the name of each, where its function is, and its line of help.

It loads none of them, and not Typer either: a caller that only lists the commands (`everindex --help`, `--commands`, a
shell that completes a name) does not pay for the search and the web framework. The text here is the whole help of a
command, so its function has no docstring. docs/cli.md is made of it (everindex/cli/reference.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

#: What every command's exit status means, unless it says otherwise.
EXITS: Mapping[int, str] = MappingProxyType(
    {
        0: "done, and everything is as it should be",
        1: "failed: three lines on stderr say what happened, why, and what to do next",
        2: "the command line or a value in it cannot be used; nothing was touched",
        3: "done, and something is not as it should be: a finding, a proof that does not hold, a step that is left",
        130: "interrupted (Ctrl-C or SIGTERM)",
    }
)


class ListedCommand(NamedTuple):
    """One command, not loaded."""

    name: str
    home: str
    """`module:function` in everindex.cli."""

    summary: str
    """Its line of help, without the exit statuses."""

    group: str
    """The heading under which `--help` and docs/cli.md list it."""

    exits: Mapping[int, str] = MappingProxyType({})
    """When it exits with a status other than 0, beyond what EXITS says: {status: `when …`}."""

    takes_unknown_options: bool = False
    """What looks like an option that there is not is an argument: `--down -1`."""

    @property
    def help(self) -> str:
        """The whole help, exit statuses included."""
        told = [f"Exit {status} when {meaning}." for status, meaning in self.exits.items()]
        return " ".join([self.summary, *told])


COMMANDS = (
    ListedCommand(
        "up",
        "up:up",
        "Start everything: the server (embedded where none is named), the migrations, the sample, the index; verify; serve.",
        "Start and serve",
    ),
    ListedCommand(
        "serve",
        "serve:serve",
        "Serve the pages and the API until Ctrl-C or SIGTERM, and keep the index as declared meanwhile "
        "(EVERINDEX_KEEP).",
        "Start and serve",
    ),
    ListedCommand(
        "health",
        "health:health",
        "Ask the application that runs here whether it answers; with several, all of them.",
        "Start and serve",
        exits={1: "an application does not answer"},
    ),
    ListedCommand(
        "migrate",
        "migrate:migrate",
        "Bring the database to REVISION (head); an index that is missing or INVALID there is built online.",
        "Migrations",
        takes_unknown_options=True,
    ),
    ListedCommand(
        "attach",
        "attach:attach",
        "Look after the indexes of a database whose application has migrations of its own: alembic_version is left alone.",
        "Migrations",
        exits={3: "an index is not as declared yet"},
    ),
    ListedCommand(
        "detach",
        "attach:detach",
        "Remove what everindex made in an attached database: its indexes, its lines in comments, "
        "everindex_meta. Shows it first.",
        "Migrations",
    ),
    ListedCommand(
        "import",
        "importing:import_articles",
        "Import articles and embed what is new or changed.",
        "Articles",
        exits={1: "a row was left out; the good rows are stored"},
    ),
    ListedCommand(
        "embed",
        "embed:embed",
        "Complete the vectors.",
        "Articles",
        exits={1: "articles are still without a vector; running it again continues"},
    ),
    ListedCommand(
        "model",
        "model:model",
        "Show which models made the vectors; `declare NAME` records the model of those without a record, "
        "after a comparison.",
        "Articles",
    ),
    ListedCommand(
        "search",
        "search:search",
        'Search articles by meaning and by words; "quoted phrases", or, and -minus are understood. Filters '
        "alone list the newest.",
        "Articles",
    ),
    ListedCommand(
        "similar",
        "article:similar",
        "Show the articles nearest in meaning to one article, excluding the article itself.",
        "Articles",
    ),
    ListedCommand(
        "article",
        "article:article",
        "Show one article with all that is known of it.",
        "Articles",
    ),
    ListedCommand(
        "status",
        "status:status",
        "Show the revision, the state of every declared index, and who answers reads.",
        "The declared index",
        exits={3: "something is not as declared"},
    ),
    ListedCommand(
        "plan",
        "plan:plan",
        "Show what `deploy` would do: steps, locks, cost, SQL. Changes nothing.",
        "The declared index",
        exits={3: "there is something to do"},
    ),
    ListedCommand(
        "deploy",
        "deploy:deploy",
        "Bring every declared index to its declaration, online: build, replace, repair, clean up. Shows its plan first.",
        "The declared index",
    ),
    ListedCommand(
        "heal",
        "deploy:heal",
        "Bring every declared index back to its declaration from a broken state; what was rolled back is left"
        " as it is.",
        "The declared index",
    ),
    ListedCommand(
        "rollback",
        "deploy:rollback",
        "Let the previous generation of an index serve again, at once and without a build.",
        "The declared index",
    ),
    ListedCommand(
        "keep",
        "keep:keep",
        "Keep the declared indexes as declared until Ctrl-C or SIGTERM: heal what breaks, rebuild on evidence.",
        "The declared index",
        exits={3: "--once leaves a finding, or another process leads or builds", 1: "an index cannot be kept (--once)"},
    ),
    ListedCommand(
        "verify",
        "verify:verify",
        "Prove that the index is there, used and accurate. Reads only.",
        "The declared index",
        exits={3: "a proof does not hold"},
    ),
    ListedCommand(
        "measure",
        "measure:measure",
        "Measure recall@k against latency over ef_search. Reads the table only; other configurations are "
        "tried on a sample.",
        "Recall and speed",
    ),
    ListedCommand(
        "tune",
        "tune:tune",
        "Find the cheapest configuration whose recall holds a floor with confidence.",
        "Recall and speed",
        exits={3: "no configuration holds the floor"},
    ),
    ListedCommand(
        "warm",
        "warm:warm",
        "Read the index into shared_buffers (pg_prewarm), or search until it is there.",
        "Recall and speed",
        exits={3: "nothing could be warmed"},
    ),
    ListedCommand(
        "bench",
        "bench:bench",
        "Compare a search in process and over HTTP with raw psycopg on the same index and settings.",
        "Recall and speed",
    ),
    ListedCommand(
        "doctor",
        "doctor:doctor",
        "Examine the server and its vector indexes.",
        "Diagnosis",
        exits={3: "a finding is critical or a warning"},
    ),
    ListedCommand(
        "check",
        "check:check",
        "Ask PostgreSQL whether statements use a vector index, and if not, why. Executes none.",
        "Diagnosis",
        exits={3: "a statement uses no vector index", 2: "a statement cannot be checked"},
    ),
)
