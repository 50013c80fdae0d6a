"""The list of the commands, in the order of the help: the name of each, where its function is, and its line of help.

It loads none of them, and not Typer either: whoever only wants to know what there is (`everindex --help`, `--commands`, a
shell that completes a name) does not pay for the search and the web framework. The text here is the whole help of a
command, so its function has no docstring.
"""

from __future__ import annotations

from typing import NamedTuple


class ListedCommand(NamedTuple):
    """One command, not loaded."""

    name: str
    home: str
    """`module:function` in everindex.cli."""

    help: str
    takes_unknown_options: bool = False
    """What looks like an option that there is not is an argument: `--down -1`."""


COMMANDS = (
    ListedCommand(
        "up",
        "up:up",
        "Start everything: the server (embedded where none is named), the chain, the sample, the index; verify; serve.",
    ),
    ListedCommand(
        "serve",
        "serve:serve",
        "Serve the pages and the API until Ctrl-C or SIGTERM, and keep the index as declared meanwhile (EVERINDEX_KEEP).",
    ),
    ListedCommand(
        "migrate",
        "migrate:migrate",
        "Bring the database to REVISION (head); an index that is missing or INVALID there is built online.",
        takes_unknown_options=True,
    ),
    ListedCommand(
        "attach",
        "attach:attach",
        "Look after the indexes of a database whose application has a chain of its own: alembic_version is left alone. "
        "Exit 3 when an index is not as declared yet.",
    ),
    ListedCommand(
        "detach",
        "attach:detach",
        "Remove what everindex made in an attached database: its indexes, its lines in comments, everindex_meta. "
        "Shows it first.",
    ),
    ListedCommand(
        "import",
        "importing:import_articles",
        "Import articles and embed what is new or changed. Exit 1 if a row was left out; the good rows are stored.",
    ),
    ListedCommand(
        "embed",
        "embed:embed",
        "Complete the vectors. Exit 1 if articles are still without one; running it again goes on.",
    ),
    ListedCommand(
        "model",
        "model:model",
        "Show which models made the vectors; `declare NAME` records the model of those without a record, after a comparison.",
    ),
    ListedCommand(
        "search",
        "search:search",
        'Search articles by meaning and by words; "quoted phrases", or, and -minus are understood. '
        "Filters alone list the newest.",
    ),
    ListedCommand(
        "similar", "article:similar", "Show the articles nearest in meaning to one article, itself left out."
    ),
    ListedCommand("article", "article:article", "Show one article with all that is known of it."),
    ListedCommand(
        "status",
        "status:status",
        "Show the revision, the state of every declared index, and who answers reads. "
        "Exit 3 when something is not as declared.",
    ),
    ListedCommand(
        "plan",
        "plan:plan",
        "Show what `deploy` would do: steps, locks, cost, SQL. Changes nothing. Exit 3 when there is something to do.",
    ),
    ListedCommand(
        "deploy",
        "deploy:deploy",
        "Bring every declared index to its declaration, online: build, replace, mend, tidy. Shows its plan first.",
    ),
    ListedCommand(
        "heal",
        "deploy:heal",
        "Bring every declared index back to its declaration from a broken state; what was rolled back is left as it is.",
    ),
    ListedCommand(
        "rollback",
        "deploy:rollback",
        "Let the previous generation of an index serve again, at once and without a build.",
    ),
    ListedCommand(
        "keep",
        "keep:keep",
        "Keep the declared indexes as declared until Ctrl-C or SIGTERM: heal what breaks, rebuild on evidence.",
    ),
    ListedCommand(
        "verify", "verify:verify", "Prove that the index is there, used and accurate. Reads only. Exit 0 or 3."
    ),
    ListedCommand(
        "measure",
        "measure:measure",
        "Measure recall@k against latency over ef_search. Reads the table only; other configurations are tried on a sample.",
    ),
    ListedCommand(
        "tune",
        "tune:tune",
        "Find the cheapest configuration whose recall holds a floor with confidence. Exit 3 when there is none.",
    ),
    ListedCommand(
        "warm",
        "warm:warm",
        "Read the index into shared_buffers (pg_prewarm), or search until it is there. Exit 3 when nothing could be warmed.",
    ),
    ListedCommand(
        "doctor",
        "doctor:doctor",
        "Examine the server and its vector indexes. Exit 3 when a finding is critical or a warning.",
    ),
    ListedCommand(
        "check",
        "check:check",
        "Ask PostgreSQL whether statements use a vector index, and if not, why. Executes none. Exit 0, or 3, or 2.",
    ),
    ListedCommand(
        "bench",
        "bench:bench",
        "Compare a search in process and over HTTP with raw psycopg on the same index and settings.",
    ),
    ListedCommand(
        "health",
        "health:health",
        "Exit 0 when the application that runs here answers, 1 when not; with several, when all answer.",
    ),
)
