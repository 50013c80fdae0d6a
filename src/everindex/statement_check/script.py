"""The statements of a text that are checked, each with the SETs that apply to it.

Follows transactions and savepoints as PostgreSQL does, without executing anything: SET, SET LOCAL, RESET, set_config(), BEGIN,
COMMIT, ROLLBACK. Changes made by functions, DO blocks or psql's own commands are not taken into account.
"""

from __future__ import annotations

from dataclasses import replace

from everindex.errors import StatementNotCheckable
from everindex.statement_check.text import Statement, Token, part, statements, tokens

_BEGINS = (("begin",), ("start", "transaction"))
_ENDS = ("commit", "end", "rollback", "abort")
#: Statements that do not affect the plans of later ones.
_WITHOUT_MEANING = ("savepoint", "release", "show", "deallocate", "execute", "discard", "close")
#: SET with these words concerns the transaction or its constraints, not a setting.
_NO_SETTING = ("transaction", "characteristics", "constraints")
_QUERY = ("select", "with", "table", "values", "(")


def checkable(text: str, *, in_transaction: bool) -> list[Statement]:
    """The statements of a text without those that set the session, which are in `session` of those that follow them.

    `in_transaction` says whether the text runs in a transaction before its first BEGIN, so that SET LOCAL has an effect.
    """
    session = _Session(in_transaction=in_transaction)
    found: list[Statement] = []
    for statement in statements(text):
        words = [token for token in tokens(statement.numbered) if token.is_significant]
        if not session.takes(statement, words):
            found.append(replace(_query_of(statement, words), session=session.in_force, without_effect=session.lost))
    return found


def one_checkable(text: str) -> Statement:
    """The only SELECT of a text, which may also contain SETs. Raises StatementNotCheckable for none and for several."""
    # Drivers open a transaction automatically, and several statements in one text share it.
    found = checkable(text, in_transaction=True)
    if len(found) != 1:
        raise StatementNotCheckable(
            "there is nothing to check."
            if not found
            else f"{len(found)} statements were given, but only one can be checked.",
            why="the text contains no statement that searches." if not found else "they are separated by semicolons.",
            next_step="pass one SELECT." if not found else "check each of them separately.",
        )
    return found[0]


class _Session:
    """The effective SETs in order, including what a COMMIT keeps and a ROLLBACK reverts."""

    def __init__(self, *, in_transaction: bool) -> None:
        self._in_transaction = in_transaction
        self._set: list[tuple[Statement, bool]] = []  # with a flag: local to the transaction
        self._at_begin: list[tuple[Statement, bool]] = []
        self._savepoints: dict[str, list[tuple[Statement, bool]]] = {}
        self.lost: tuple[Statement, ...] = ()
        """SETs that were local to a transaction although none was open."""

    @property
    def in_force(self) -> tuple[Statement, ...]:
        return tuple(statement for statement, _ in self._set)

    def takes(self, statement: Statement, words: list[Token]) -> bool:
        """Whether the statement changes the session, as opposed to one to check."""
        plain = [word.text.lower() for word in words]
        first = plain[0]
        if any(tuple(plain[: len(beginning)]) == beginning for beginning in _BEGINS):
            self._in_transaction, self._at_begin, self._savepoints = True, list(self._set), {}
        elif first in _ENDS:
            self._end(plain)
        elif first in _WITHOUT_MEANING:
            if first == "savepoint":
                self._savepoints[plain[-1]] = list(self._set)
            elif plain[:2] == ["discard", "all"]:
                self._set = []
        elif first == "set":
            if not set(_NO_SETTING) & set(plain[1:4]):
                self._add(statement, is_local=plain[1:2] == ["local"])
        elif first == "reset":
            self._set.append((statement, False))
        elif _calls_set_config_alone(words):
            self._add(statement, is_local=plain[_end_of_arguments(plain) - 1] not in ("false", "'f'", "'false'"))
        else:
            return False
        return True

    def _add(self, statement: Statement, *, is_local: bool) -> None:
        if is_local and not self._in_transaction:
            self.lost = (*self.lost, statement)
        else:
            self._set.append((statement, is_local))

    def _end(self, plain: list[str]) -> None:
        if plain[0] in ("rollback", "abort"):
            if "to" in plain:
                self._set = list(self._savepoints.get(plain[-1], self._at_begin))
                return
            if self._in_transaction:
                self._set = list(self._at_begin)
        self._set = [(statement, False) for statement, is_local in self._set if not is_local]
        self._in_transaction = plain[-2:] == ["and", "chain"]
        self._at_begin, self._savepoints = list(self._set), {}


def _calls_set_config_alone(words: list[Token]) -> bool:
    """Whether it is SELECT set_config('…', '…', true), … with only constants and parameters, so that it has no other effect."""
    plain = [word.text.lower() for word in words]
    at = 1
    if plain[0] != "select":
        return False
    while True:
        if plain[at : at + 2] == ["pg_catalog", "."]:
            at += 2
        if plain[at : at + 2] != ["set_config", "("]:
            return False
        end = _end_of_arguments(plain, at)
        inside = words[at + 2 : end]
        if not all(
            word.kind in ("quoted", "numbered", "number", "cast")
            or word.text.lower() in (",", "true", "false", "null", "text", "boolean", "bool", "varchar")
            for word in inside
        ):
            return False
        at = end + 1
        if plain[at : at + 1] == ["as"]:
            at += 2
        if plain[at : at + 1] != [","]:
            return at == len(plain)
        at += 1


def _end_of_arguments(plain: list[str], start: int = 0) -> int:
    return plain.index(")", start) if ")" in plain[start:] else len(plain)


def _query_of(statement: Statement, words: list[Token]) -> Statement:
    """The query inside EXPLAIN or PREPARE … AS; any other statement unchanged."""
    first = words[0].text.lower()
    if first not in ("explain", "prepare"):
        return statement
    depth = 0
    for number, word in enumerate(words[1:], start=1):
        text = word.text.lower()
        is_list = text == "(" and number <= 2  # the options of EXPLAIN, the types of PREPARE
        if depth == 0 and text in _QUERY and not is_list:
            return part(statement, word.start)
        depth += (text == "(") - (text == ")")
    return statement
