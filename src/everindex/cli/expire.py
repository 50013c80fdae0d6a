"""`everindex expire`: sets when articles expire, from when on no search finds them, or clears it."""

from __future__ import annotations

from typing import Annotated

import typer

from everindex.articles.saved_searches import moment_of
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError
from everindex.units import count_text


def expire(
    uris: Annotated[list[str], typer.Argument(help="URIs of the articles.")],
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="MOMENT", help="ISO-8601: 2027-01-31, or 2027-01-31T12:00:00+01:00. Without a zone UTC."
        ),
    ] = None,
    never: Annotated[bool, typer.Option("--never", help="Clear it: the articles do not expire.")] = False,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    moment = None if at is None else moment_of(at)
    if (at is None) != never:
        raise UsageError(
            "it is not clear when the articles expire.",
            why="either --at or --never is needed.",
            next_step="add  --at 2027-01-31 , or  --never .",
        )
    if at is not None and moment is None:
        raise UsageError(
            f"{at[:40]!r} is no moment.",
            why="moments are ISO-8601 dates, with or without a time.",
            next_step="write it as 2027-01-31 or 2027-01-31T12:00:00+01:00.",
        )
    with open_instance(wait) as instance:
        count = instance.set_expiry(uris, expires_at=moment)
    if as_json:
        print_json({"articles": count, "expires_at": None if moment is None else moment.isoformat()})
    else:
        shown = "expires: never" if moment is None else f"expires: {moment.isoformat()}"
        say(f"{count_text(count, 'article')} · {shown}")
