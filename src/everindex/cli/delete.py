"""`everindex delete`: removes rows by key or by filters, with all that is recorded of them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from everindex.articles.model import Filters
from everindex.articles.search.filters import both
from everindex.articles.search.filters.conditions import parse_json
from everindex.cli.collection_option import CollectionOption
from everindex.cli.output import JsonOption, is_terminal, print_json, say
from everindex.cli.waiting import WaitOption, open_instance
from everindex.errors import UsageError
from everindex.units import count_text


def delete(
    keys: Annotated[
        list[str] | None, typer.Argument(help="URIs of articles, or keys of the collection's rows.")
    ] = None,
    category: Annotated[str | None, typer.Option("--category", help="Only articles of this category.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Only articles of this topic.")] = None,
    news_source: Annotated[str | None, typer.Option("--source", help="Only articles from this source.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="From this date on.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Up to and including this date.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="JSON", help="Only rows that pass this filter.")
    ] = None,
    is_expired: Annotated[
        bool, typer.Option("--expired", help="Delete the expired rows instead (everindex expire, or expires).")
    ] = False,
    orphans: Annotated[
        bool,
        typer.Option("--orphans", help="Delete only records about rows that were deleted outside everindex."),
    ] = False,
    collection: CollectionOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the rows.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking for confirmation.")] = False,
    wait: WaitOption = None,
    as_json: JsonOption = False,
) -> None:
    named = Filters(category=category, topic=topic, news_source=news_source, since=since, until=until)
    filters = both(named, None if where is None else parse_json(where))
    chosen = None if filters.is_empty else filters
    if is_expired and (keys or chosen is not None or orphans):
        raise UsageError(
            "--expired takes no keys, filters or --orphans.",
            why="it deletes all rows that have expired.",
            next_step="run  everindex delete --expired  alone, or with --collection .",
        )
    if orphans:
        _delete_orphans(wait, dry_run=dry_run, as_json=as_json, is_alone=not (keys or chosen or collection))
        return
    with open_instance(wait) as instance:
        target = instance if collection is None else instance.collection(collection)
        writer = target.writer
        remove = writer.delete_expired if is_expired else partial(writer.delete, keys or None, filters=chosen)
        count = remove(is_dry_run=True)
        if not dry_run and count:
            _confirm(count, yes=yes)
            count = remove()
    if as_json:
        print_json({"deleted": 0 if dry_run else count, "matching": count, "dry_run": dry_run})
    else:
        say(f"{count_text(count, 'row')} {'would be deleted' if dry_run else 'deleted'}")


def _confirm(count: int, *, yes: bool) -> None:
    if yes:
        return
    if is_terminal() and typer.confirm(f"Delete {count_text(count, 'row')}?", err=True):
        return
    raise UsageError(
        f"{count_text(count, 'row')} would be deleted.",
        why="a deletion cannot be undone, and this one was not confirmed.",
        next_step="run it again with --yes , or with --dry-run to count only.",
    )


def _delete_orphans(wait: float | None, *, dry_run: bool, as_json: bool, is_alone: bool) -> None:
    """Needs no confirmation: no stored row is removed."""
    if not is_alone:
        raise UsageError(
            "--orphans takes no keys, filters or collection.",
            why="it removes records of rows that are gone, of the articles and of all collections.",
            next_step="run  everindex delete --orphans  alone.",
        )
    with open_instance(wait) as instance:
        removed = instance.delete_orphans(dry_run=dry_run)
    if as_json:
        print_json({"orphans": removed, "dry_run": dry_run})
        return
    for table, count in removed.items():
        say(f"{table}: {count_text(count, 'row')} {'would be removed' if dry_run else 'removed'}")
