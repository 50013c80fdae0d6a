"""The names of a source's columns, as fields of an article: the same rules for CSV, Parquet and Arrow."""

from __future__ import annotations

from collections.abc import Sequence

from everindex.articles.importers.opening import OpenSource, unreadable
from everindex.articles.importers.row import FIELD_OF, column_field
from everindex.errors import SourceUnreadable


def known_columns(opened: OpenSource, header: Sequence[str], *, what: str) -> list[str]:
    """The column names in lower case, with underscores for blanks. Raises SourceUnreadable where none is a uri, or where one
    that is known is there twice; `what` holds them."""
    columns = [column_field(cell) for cell in header]
    known = [column for column in columns if column in FIELD_OF]
    if "uri" not in (FIELD_OF[column] for column in known):
        raise bad_header(opened, f"{what} has no column named uri, url or link.")
    if twice := sorted({column for column in known if known.count(column) > 1}):
        raise bad_header(opened, f"{what} names a column twice: {', '.join(twice)}.")
    return columns


def bad_header(opened: OpenSource, why: str) -> SourceUnreadable:
    return unreadable(
        opened.name, why=why, next_step="name the columns in the first row; docs/importing.md lists the names."
    )
