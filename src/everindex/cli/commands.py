"""The list of commands in help order: the name of each, the location of its function, and its help text.

It loads none of them, and not Typer either: a caller that only lists the commands (`everindex --help`, `--commands`, a
shell that completes a name) does not pay for loading search and the web framework. The text here is the complete help
of a command, so its function has no docstring. docs/cli.md is generated from it (everindex/cli/reference.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

#: The meaning of exit statuses, unless a command says otherwise.
EXITS: Mapping[int, str] = MappingProxyType(
    {
        0: "success: done, or everything is in order",
        1: "failed: three lines on stderr say what happened, why, and what to do next",
        2: "usage error: the command line or a value is invalid; nothing was changed",
        3: "finished, and something needs attention: a finding, a failed check, or remaining steps",
        130: "interrupted (Ctrl-C or SIGTERM)",
    }
)


class ListedCommand(NamedTuple):
    """One command that is not loaded yet."""

    name: str
    home: str
    """`module:function` in everindex.cli."""

    summary: str
    """Its help text, without the exit statuses."""

    group: str
    """The heading under which `--help` and docs/cli.md list it."""

    exits: Mapping[int, str] = MappingProxyType({})
    """When it exits with a status other than 0, in addition to EXITS: {status: `when …`}."""

    takes_unknown_options: bool = False
    """Whether unknown options are taken as arguments: `--down -1`."""

    @property
    def help(self) -> str:
        """The complete help, including exit statuses."""
        exits = [f"Exit {status} when {meaning}." for status, meaning in self.exits.items()]
        return " ".join([self.summary, *exits])


COMMANDS = (
    ListedCommand(
        "up",
        "up:up",
        "Set up and serve: start the server (embedded, unless yours is configured), migrate, import the sample, "
        "build the index, verify.",
        "Start and serve",
    ),
    ListedCommand(
        "serve",
        "serve:serve",
        "Serve the web pages and the API until Ctrl-C or SIGTERM. Also checks and repairs the index (EVERINDEX_KEEP).",
        "Start and serve",
    ),
    ListedCommand(
        "mcp",
        "mcp:mcp",
        "Serve read-only tools over the Model Context Protocol: search, similar, article, explain, status, check "
        "(needs everindex[mcp]).",
        "Start and serve",
    ),
    ListedCommand(
        "health",
        "health:health",
        "Check whether the web application on this machine responds; if several run, check all of them.",
        "Start and serve",
        exits={1: "an application does not respond"},
    ),
    ListedCommand(
        "migrate",
        "migrate:migrate",
        "Migrate the database to REVISION (default: head) and build an index that is missing or INVALID, online.",
        "Migrations",
        takes_unknown_options=True,
    ),
    ListedCommand(
        "attach",
        "attach:attach",
        "Maintain the indexes of a database whose application has its own migrations; alembic_version is not touched.",
        "Migrations",
        exits={3: "an index is not as declared yet"},
    ),
    ListedCommand(
        "detach",
        "attach:detach",
        "Remove what everindex created in an attached database: its indexes, its lines in comments, and schema "
        "everindex_meta. Lists them first.",
        "Migrations",
    ),
    ListedCommand(
        "import",
        "importing:import_articles",
        "Import articles and embed what is new or changed.",
        "Articles",
        exits={1: "some rows were skipped; the valid rows are stored"},
    ),
    ListedCommand(
        "embed",
        "embed:embed",
        "Create the missing vectors.",
        "Articles",
        exits={1: "some articles still have no vector; run it again to continue"},
    ),
    ListedCommand(
        "delete",
        "delete:delete",
        "Delete articles by URI or by filters, with all that is recorded about them; --orphans removes records of articles that "
        "are gone.",
        "Articles",
    ),
    ListedCommand(
        "expire",
        "expire:expire",
        "Set when articles expire: from then on no search finds them, and `delete --expired` removes them.",
        "Articles",
    ),
    ListedCommand(
        "collections",
        "collections:collections",
        "List the collections beside the articles; `create NAME` makes one, `of TABLE` uses a table that exists, `drop "
        "NAME` "
        "removes it.",
        "Articles",
    ),
    ListedCommand(
        "model",
        "model:model",
        "Show which models made the vectors; `declare NAME` checks and records the model of vectors without a record, "
        "`fetch NAME` downloads a local model.",
        "Articles",
    ),
    ListedCommand(
        "search",
        "search:search",
        'Search articles by meaning and by words; "quoted phrases", or, and -minus are supported. Without '
        "TEXT, filters list the newest articles.",
        "Articles",
    ),
    ListedCommand(
        "saved",
        "saved:saved",
        "List the saved searches; `add NAME TEXT` saves one, `show NAME` gives its newest answers, `remove NAME` forgets it. "
        "`serve` has a feed of each at /saved/NAME.rss.",
        "Articles",
    ),
    ListedCommand(
        "evaluate",
        "evaluate:evaluate",
        "Measure how well search finds what the judged queries of FILE call relevant: nDCG, MRR and recall of each "
        "mode, model "
        "and re-ranker, with confidence intervals.",
        "Articles",
        exits={3: "a judged key is not in the table"},
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
        "Show one article with all its stored fields.",
        "Articles",
    ),
    ListedCommand(
        "status",
        "status:status",
        "Show the migration revision, the state of every declared index, and which server answers reads.",
        "The declared index",
        exits={3: "something is not as declared"},
    ),
    ListedCommand(
        "plan",
        "plan:plan",
        "Show what `deploy` would do: steps, locks, cost, SQL. Changes nothing.",
        "The declared index",
        exits={3: "there are steps to run"},
    ),
    ListedCommand(
        "deploy",
        "deploy:deploy",
        "Build, replace, repair and clean up the declared indexes online until they match their declarations. "
        "Prints the plan first.",
        "The declared index",
    ),
    ListedCommand(
        "heal",
        "deploy:heal",
        "Repair every declared index that is missing or broken, online. An index that was rolled back stays as it is.",
        "The declared index",
    ),
    ListedCommand(
        "rollback",
        "deploy:rollback",
        "Switch an index back to its previous generation, immediately and without a build.",
        "The declared index",
    ),
    ListedCommand(
        "keep",
        "keep:keep",
        "Watch the declared indexes until Ctrl-C or SIGTERM: repair what breaks, rebuild when measurements call for "
        "it.",
        "The declared index",
        exits={
            3: "--once leaves a finding, or another keeper or build is active",
            1: "an index cannot be kept (--once)",
        },
    ),
    ListedCommand(
        "verify",
        "verify:verify",
        "Check that the index exists, is used by the planner and is accurate. Read-only.",
        "The declared index",
        exits={3: "a check failed"},
    ),
    ListedCommand(
        "fleet",
        "fleet:fleet",
        "Run one operation over many databases and schemas: canaries, then waves, one build at a time per server, one report.",
        "Many databases",
        exits={
            1: "a target failed, or the rollout stopped",
            3: "a target has a finding or steps to run, is named twice, or a server comes near a limit",
        },
    ),
    ListedCommand(
        "measure",
        "measure:measure",
        "Measure recall@k and latency for values of ef_search. Only reads the table; other configurations are "
        "tried on a sample.",
        "Recall and speed",
    ),
    ListedCommand(
        "tune",
        "tune:tune",
        "Find the cheapest index configuration whose recall stays above a floor, with statistical confidence.",
        "Recall and speed",
        exits={3: "no configuration reaches the floor"},
    ),
    ListedCommand(
        "warm",
        "warm:warm",
        "Load the index into shared_buffers, with pg_prewarm or with searches.",
        "Recall and speed",
        exits={3: "nothing could be warmed"},
    ),
    ListedCommand(
        "bench",
        "bench:bench",
        "Compare the latency of a search in process and over HTTP with raw psycopg, on the same index and settings.",
        "Recall and speed",
    ),
    ListedCommand(
        "doctor",
        "doctor:doctor",
        "Check the server, its settings, tables and vector indexes for known problems.",
        "Diagnosis",
        exits={3: "a finding is critical or a warning"},
    ),
    ListedCommand(
        "check",
        "check:check",
        "Check whether statements use a vector index, and if not, explain why. The statements are planned, not "
        "executed.",
        "Diagnosis",
        exits={3: "a statement uses no vector index", 2: "a statement cannot be checked"},
    ),
    ListedCommand(
        "check-migration",
        "check_migration:check_migration",
        "Check what migrations (SQL files, Alembic revisions) would do to vector indexes: blocking builds, dropped indexes, "
        "rewritten tables. Nothing is executed.",
        "Diagnosis",
        exits={3: "a finding is an error or a warning"},
    ),
    ListedCommand(
        "token",
        "tokens:token",
        "List the tokens with which programs use the web application; `create NAME` prints a new one, `revoke NAME` ends one.",
        "Access",
    ),
    ListedCommand(
        "user",
        "users:user",
        "List the people who sign in on the pages; `create NAME` and `password NAME` ask for a password, `remove NAME` ends it.",
        "Access",
    ),
    ListedCommand(
        "roles",
        "roles:roles",
        "Print or make the database roles of least privilege: owner, migrator, app, reader and ops.",
        "Access",
    ),
)
