"""The upkeep of the keyword search index after a migration has reached head; env.py passes this hook down."""

from __future__ import annotations

import logging

from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.articles.search.keyword.index.observed import observe
from everindex.articles.search.keyword.index.script import script
from everindex.errors import EverindexError, SettingInvalid
from everindex.index.reporter import Reporter
from everindex.pg.connections import connect
from everindex.pg.sqlstate import translate_errors
from everindex.settings import Settings, current_settings

log = logging.getLogger(__name__)

#: Under EVERINDEX_BUILD=auto the index of a larger table is left to the keeper. Building it takes half a minute at
#: 20,000 short articles a second (docs/measurements/hybrid.md), and longer for long texts.
ROWS_TO_WAIT_FOR = 200_000


def ensure_keyword_search(conninfo: str, reporter: Reporter) -> None:
    """Builds the index of keyword search where it is missing, INVALID or for another language.

    Search is correct without it, so a failure is logged and does not fail the migration. Raises SettingInvalid for an
    EVERINDEX_TEXT_SEARCH that the server does not have.
    """
    settings = current_settings()
    try:
        if _is_left_to_keeper(conninfo, settings):
            reporter.say(
                f"index {INDEX_NAME} is left to the keeper (EVERINDEX_BUILD={settings.build}): until it is built, "
                f"keyword "
                "search reads every row"
            )
            return
        done = ensure_words(conninfo, text_search=settings.text_search, reporter=reporter)
    except SettingInvalid:
        raise
    except EverindexError as exc:
        log.warning(
            "without index %s keyword search reads every row; the next start tries again: %s",
            INDEX_NAME,
            exc,
            extra={"event": "keyword-index-missing"},
        )
        return
    if done.reason is not None:
        log.warning("%s", done.reason, extra={"event": "keyword-index-left"})


def keyword_search_script() -> list[str]:
    """The build of the index as SQL for psql."""
    return script(current_settings().text_search)


def _is_left_to_keeper(conninfo: str, settings: Settings) -> bool:
    """Whether the build is left to the keeper, by the rule of `migrate.build_mode` for the vector index. Reads only."""
    if settings.build == "wait" or settings.keep == "off":
        return False
    with connect(conninfo, application_name="everindex migrate") as connection, translate_errors("counting articles"):
        found = observe(connection)
        if found is None or not found.may_build or found.exists or found.is_empty:
            return False
        if settings.build == "background":
            return True
        row = connection.execute(
            "SELECT count(*) FROM (SELECT FROM articles LIMIT %s) AS counted", (ROWS_TO_WAIT_FOR,)
        ).fetchone()
        return row is not None and row[0] >= ROWS_TO_WAIT_FOR
