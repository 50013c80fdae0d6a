"""Requests to an OpenAI-compatible endpoint, retried where that may help, with its failures as our errors."""

from __future__ import annotations

import base64
import re
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from everindex.articles.embedding.redaction import Secrets

if TYPE_CHECKING:
    import openai

DEFAULT_BASE_URL = "https://api.openai.com/v1"
#: A placeholder key: local servers without keys ignore it, but the client refuses to start without one.
PLACEHOLDER_KEY = "none"
#: Statuses for which a retry may succeed. Source: RFC 9110 section 15; 409 is OpenAI's lock timeout.
RETRIED = frozenset({408, 409, 425, 429})
#: Statuses caused by the texts, not by the endpoint, key or model.
ABOUT_THE_TEXTS = frozenset({400, 413, 422})
MAX_MESSAGE_CHARS = 300


class TextsRefusedError(Exception):
    """The endpoint works but refused these texts; fewer texts may pass. The message is the reason and contains no secret."""


class BatchFailedError(Exception):
    """The server failed or did not answer (5xx, a timeout, a broken connection): it has a problem, or the batch is too
    large for it, which fewer texts show. The message is the reason and contains no secret."""


class EndpointUnusableError(Exception):
    """No text can get a vector now, because of network, key, model or server. The message is the reason and contains no
    secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long a request is retried. Waits double from the first to the longest, plus jitter."""

    attempts: int = 5
    total_seconds: float = 120.0
    """No attempt starts later than this many seconds after the first."""

    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 20.0
    jitter_seconds: float = 0.5
    longest_retry_after_seconds: float = 30.0
    """A `Retry-After` up to this value is obeyed; for a longer one the request fails at once."""


Reason = TextsRefusedError | BatchFailedError | EndpointUnusableError


class _AttemptFailed(Exception):
    """A failed attempt as the retry library gets it: its hooks log it, so it contains only the reason."""

    def __init__(self, reason: Reason, again: bool | float) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.again = again


class Endpoint:
    """One model of one endpoint. Thread-safe; connects at the first request, and closes its connections when it is discarded."""

    def __init__(
        self,
        *,
        model_name: str,
        dimensions: int | None,
        api_key: str | None,
        base_url: str | None,
        timeout_seconds: float,
        retries: RetryPolicy,
    ) -> None:
        """`dimensions` is sent only if not None, since most models refuse it. `timeout_seconds` is per attempt."""
        self._model_name = model_name
        self._dimensions = dimensions
        self._key = (api_key or "").strip() or PLACEHOLDER_KEY
        self._address = take_apart((base_url or DEFAULT_BASE_URL).strip())
        self._secrets = Secrets(
            None if self._key == PLACEHOLDER_KEY else self._key, *(self._address.secrets if self._address else ())
        )
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._connecting = threading.Lock()
        self._client: openai.OpenAI | None = None

    def ask(self, texts: Sequence[str], *, once: bool = False) -> bytes:
        """The body of the endpoint's response for `texts`. With `once`, only a busy server is retried. Raises only
        TextsRefusedError, BatchFailedError or EndpointUnusableError."""
        if not (self._key.isascii() and self._key.isprintable()):
            raise EndpointUnusableError(
                "OPENAI_API_KEY contains a character that an HTTP header cannot, such as a line break"
            )
        if self._address is None:
            raise EndpointUnusableError(
                "the endpoint cannot be used: OPENAI_BASE_URL is not an http(s) address (it is not shown, since it may "
                "contain a password). Write special characters of a password as %2F for /, %40 for @, %3A for :, %3F "
                "for ?, %23 for #"
            )
        import stamina  # as openai: 0.1 s that only a user of an endpoint pays

        policy = self._retries
        try:
            for attempt in stamina.retry_context(
                on=lambda exc: (
                    isinstance(exc, _AttemptFailed)
                    and not (once and isinstance(exc.reason, BatchFailedError))
                    and exc.again
                ),
                attempts=policy.attempts,
                timeout=policy.total_seconds,
                wait_initial=policy.first_wait_seconds,
                wait_max=policy.longest_wait_seconds,
                wait_jitter=policy.jitter_seconds,
            ):
                with attempt:
                    try:
                        return self._ask_once(texts)
                    except Exception as exc:  # the promise of `ask`; each kind becomes a reason, the others their class
                        raise _AttemptFailed(self._as_error(exc), self._again(exc)) from None
        except _AttemptFailed as failed:
            raise failed.reason from None
        raise AssertionError("stamina ends with an answer or an exception")

    def _ask_once(self, texts: Sequence[str]) -> bytes:
        optional: dict[str, Any] = {} if self._dimensions is None else {"dimensions": self._dimensions}
        with self._connecting:
            if self._client is None:
                self._client = self._connect()
                # Not left to the garbage collector, which may end sockets before the client that would have closed them.
                self._closing = weakref.finalize(self, self._client.close)
                self._closing.atexit = False
            client = self._client
        # The raw response: the client's own parser builds objects for every number and trusts their count and order.
        answer = client.embeddings.with_raw_response.create(
            model=self._model_name, input=list(texts), encoding_format="float", **optional
        )
        return answer.http_response.content

    def close(self) -> None:
        """Closes the connections to the endpoint; the next request opens others."""
        with self._connecting:
            if self._client is not None:
                self._closing()
                self._client = None

    def _connect(self) -> openai.OpenAI:
        import openai  # hundreds of modules: only for who uses it

        assert self._address is not None  # `ask` has looked
        self._secrets.keep_out_of_logs()
        return openai.OpenAI(
            api_key=self._key,
            base_url=self._address.url,
            default_headers={"Authorization": self._address.basic} if self._address.basic else None,
            timeout=self._timeout_seconds,
            max_retries=0,
        )

    def _again(self, exc: Exception) -> bool | float:
        """Whether to retry, or after how many seconds."""
        import openai

        if isinstance(exc, openai.APIConnectionError):  # timeouts too
            return True
        if not isinstance(exc, openai.APIStatusError):
            return False
        if exc.code == "insufficient_quota" or (exc.status_code not in RETRIED and exc.status_code < 500):
            return False
        wait = _retry_after_seconds(exc)
        if wait is None:
            return True
        return wait if wait <= self._retries.longest_retry_after_seconds else False

    def _as_error(self, exc: Exception) -> Reason:
        import openai

        match exc:
            case openai.APITimeoutError():
                # An unreachable server fails like this too: a single text shows that as well.
                return BatchFailedError(f"the endpoint did not answer within {self._timeout_seconds:g} s")
            case openai.APIConnectionError():
                reason = self._clean(f"the endpoint cannot be reached: {exc.__cause__ or exc}")
                return (EndpointUnusableError if _has_not_connected(exc) else BatchFailedError)(reason)
            case openai.APIStatusError(status_code=401 | 403 as status):
                # Without the endpoint's message, which may repeat parts of the key.
                return EndpointUnusableError(f"the endpoint refuses the key (HTTP {status})")
            case openai.APIStatusError(status_code=status):
                reason = self._clean(f"the endpoint answered HTTP {status}: {exc.message}")
                if status in ABOUT_THE_TEXTS:
                    return TextsRefusedError(reason)
                return (BatchFailedError if status >= 500 or status == 408 else EndpointUnusableError)(reason)
            case _:
                return EndpointUnusableError(
                    f"the endpoint cannot be used ({type(exc).__name__}); check its address and key"
                )

    def _clean(self, message: str) -> str:
        """One line, of bounded length, without the key or the password of the address."""
        return self._secrets.clean(" ".join(message.split()))[:MAX_MESSAGE_CHARS].rstrip(".")


def _has_not_connected(exc: openai.APIConnectionError) -> bool:
    """Whether no connection was made, so that no text has left this machine. Decided by the class names of its causes,
    which are the same in each HTTP library that the client may use."""
    return type(exc.__cause__).__name__ not in {"ReadError", "WriteError", "RemoteProtocolError"}


def _retry_after_seconds(exc: openai.APIStatusError) -> float | None:
    """The seconds of `Retry-After`; its rare date form and anything that is not a number count as absent."""
    try:
        seconds = float(exc.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if seconds >= 0 else None  # NaN compares false: absent


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Address:
    """An endpoint's address without user and password, which go into a header: clients log addresses."""

    url: str
    basic: str | None
    secrets: tuple[str, ...]


def take_apart(url: str) -> Address | None:
    """The parsed address; None where it is not http(s), or an unescaped character of a password could be taken for part
    of the host."""
    found = re.fullmatch(r"(?is)(https?)://([^/?#]*)(.*)", url)
    if found is None:
        return None
    scheme, authority, rest = found.groups()
    userinfo, at, server = authority.rpartition("@")
    if "@" in userinfo or "@" in rest or not re.fullmatch(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?", server):
        return None
    values = tuple(value for _, value in parse_qsl(rest.partition("?")[2].partition("#")[0]))
    if not at:
        return Address(url=url, basic=None, secrets=values)
    user, _, password = (unquote(part) for part in userinfo.partition(":"))
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    secrets = (password, encoded, *values) if password else (user, encoded, *values)
    return Address(url=f"{scheme}://{server}{rest}", basic=f"Basic {encoded}", secrets=secrets)
