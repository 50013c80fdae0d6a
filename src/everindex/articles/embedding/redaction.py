"""The redaction of secrets in texts and log records: no six characters in a row of a key or password remain.

An endpoint may repeat the key, whole or in part, in its message, and the client libraries log requests, responses and
addresses. The caller registers its secrets here, and texts and logs no longer contain them.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any
from urllib.parse import quote, quote_plus

PIECE = 6
HIDDEN = "***"
#: The loggers involved in a request: the client, its HTTP libraries, and the retry library.
LOGGERS = re.compile(r"(?:openai|httpx\d?|httpcore\d?|stamina)(?:\.|$)")
#: Loggers of the lower HTTP library, which are created with the objects that they log about.
_LATE = tuple(
    f"httpcore{number}.{part}" for number in ("", "2") for part in ("connection", "http11", "http2", "proxy", "socks")
)
#: Keys that an endpoint has masked itself, such as sk-ab****wxyz, and anything after the name of a credential.
_MASKED = re.compile(r"[\w.+/=-]*(?:\*{2,}|x{4,}|•{2,}|…)[\w.+/=*•…-]*")
_CREDENTIAL = re.compile(
    r"(?i)\b(authorization|bearer|basic|x-api-key|api[-_ ]?key|access[-_ ]?token|token)\b(['\"]?\s*[:=]\s*['\"]?|\s+)"
    r"(?:bearer\s+|basic\s+)?(?=\S*[\d_+/=-]|\S{16})[^\s'\",;)}\]]{6,}"
)
_LIKE_A_KEY = re.compile(r"\b(?:sk|pk|rk)-[\w-]{4,}")


class Secrets:
    """Secrets in every form in which they may be sent or repeated."""

    def __init__(self, *secrets: str | None) -> None:
        forms: set[str] = set()
        for secret in filter(None, secrets):
            encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
            forms |= {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), encoded}
            forms |= {json.dumps(secret)[1:-1], repr(secret)[1:-1], encoded.translate(str.maketrans("+/", "-_"))}
        self._whole = sorted((form for form in forms if len(form) >= 3), key=len, reverse=True)
        self._pieces = {form[at : at + PIECE] for form in forms for at in range(len(form) - PIECE + 1)}
        ends = {
            end for secret in filter(None, secrets) if len(secret) >= 2 * PIECE for end in (secret[:4], secret[-4:])
        }
        self._ends = re.compile("|".join(rf"(?<!\w){re.escape(end)}(?!\w)" for end in ends)) if ends else None

    def clean(self, text: str) -> str:
        """The text without the secrets."""
        for form in self._whole:
            text = text.replace(form, HIDDEN)
        marked = [False] * len(text)
        for at in range(len(text) - PIECE + 1):
            if text[at : at + PIECE] in self._pieces:
                marked[at : at + PIECE] = [True] * PIECE
        if any(marked):
            text = re.sub(
                "\0+", HIDDEN, "".join("\0" if is_marked else c for c, is_marked in zip(text, marked, strict=True))
            )
        if self._ends is not None:
            text = self._ends.sub(HIDDEN, text)
        text = _CREDENTIAL.sub(lambda found: f"{found[1]}{found[2]}{HIDDEN}", text)
        return _LIKE_A_KEY.sub(HIDDEN, _MASKED.sub(HIDDEN, text))

    def keep_out_of_logs(self) -> None:
        """Cleans every later record of LOGGERS and their children, for any handler."""
        found = [name for name in logging.root.manager.loggerDict if LOGGERS.match(name)]
        for name in {"stamina", *_LATE, *found}:
            logger = logging.getLogger(name)
            if not any(isinstance(each, _Cleaning) and each.secrets._whole == self._whole for each in logger.filters):
                logger.addFilter(_Cleaning(self))


class _Cleaning(logging.Filter):
    """A filter that passes every record but cleans its text and extra fields and reduces its traceback to the error class."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self.secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict):
            # A structlog event (from stamina) for structlog's own formatter, which accepts only a dict.
            record.msg, record.args = {name: self._cleaned(value) for name, value in record.msg.items()}, None
            record.exc_info = record.exc_text = record.stack_info = None
            return True
        record.msg, record.args = self.secrets.clean(record.getMessage()), None
        if record.exc_info and record.exc_info[0] is not None:
            record.msg += f" ({record.exc_info[0].__name__})"
        record.exc_info = record.exc_text = record.stack_info = None
        for name, value in vars(record).items():
            if name not in _OF_EVERY_RECORD:
                setattr(record, name, self._cleaned(value))
        return True

    def _cleaned(self, value: Any) -> Any:
        return value if value is None or isinstance(value, (bool, int, float)) else self.secrets.clean(str(value))


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({})))
