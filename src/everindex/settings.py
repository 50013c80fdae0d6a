"""The settings of a process, from the environment or, with lower priority, `.env`; `NAME_FILE` reads a secret from a file."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from everindex.env_file import read_env_file
from everindex.errors import SettingInvalid
from everindex.host_names import names_of

#: How long a deployment waits for a server that does not answer yet, unless EVERINDEX_WAIT or `--wait` says otherwise. A
#: container's database starts at the same time; somebody who runs another command wants to know at once.
DEPLOYMENT_WAIT_SECONDS = 60.0

ENV_FILE = Path(".env")

#: Variables whose value may be in a file named by `<NAME>_FILE`, as with container secrets.
FILE_VARIABLES = (
    "DATABASE_URL", "DATABASE_URL_DIRECT", "DATABASE_URL_READ", "DB_PASSWORD", "OPENAI_API_KEY", "EVERINDEX_TARGETS",
)  # fmt: skip


class SecretFiles(PydanticBaseSettingsSource):
    """Reads `<NAME>_FILE` for each of FILE_VARIABLES in `variables`; both forms at once are an error."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # __call__ below answers for all fields at once

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in FILE_VARIABLES:
            path = self._variables.get(f"{name}_FILE")
            if not path:
                continue
            if name in self._variables:
                raise SettingInvalid(
                    f"both {name} and {name}_FILE are set.",
                    why="only one of them can apply, and it is not clear which.",
                    next_step=f"unset {name} or {name}_FILE.",
                )
            try:
                found[name] = Path(path).read_text(encoding="utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError) as exc:
                why = (exc.strerror or str(exc)) if isinstance(exc, OSError) else "it is not UTF-8 text"
                raise SettingInvalid(
                    f"the file named by {name}_FILE cannot be read: {path}.",
                    why=f"{why}.",
                    next_step=f"mount the secret there, readable by this user, or unset {name}_FILE.",
                ) from None
        return found


class EnvFile(PydanticBaseSettingsSource):
    """The settings in `.env` of the working directory, and the secret files that it names."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # __call__ below answers for all fields at once

    def __call__(self) -> dict[str, Any]:
        names = list(_variables(self.settings_cls).values())
        found = read_env_file(ENV_FILE, names=[*names, *(f"{name}_FILE" for name in FILE_VARIABLES)])
        return SecretFiles(self.settings_cls, found)() | {name: found[name] for name in names if name in found}


def default_home() -> Path:
    """Where the embedded server keeps its data: `./.everindex` where it exists, else the user's data directory."""
    local = Path.cwd() / ".everindex"
    return local if local.is_dir() else Path(platformdirs.user_data_path("everindex"))


def _named(name: str, default: Any = ..., **limits: Any) -> Any:
    return Field(default, validation_alias=AliasChoices(name), **limits)


class Settings(BaseSettings):
    """All settings, each named after its environment variable; `docs/settings.md` documents them for users."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: SecretStr | None = _named("DATABASE_URL", None)
    database_url_direct: SecretStr | None = _named("DATABASE_URL_DIRECT", None)
    """The same database without the pooler that DATABASE_URL leads through: for builds, migrations and the keeper."""

    database_url_read: SecretStr | None = _named("DATABASE_URL_READ", None)
    """Its read replicas, one or more hosts: for searches and for reading articles."""

    db_host: str | None = _named("DB_HOST", None)
    db_port: int = _named("DB_PORT", 5432, ge=1, le=65535)
    db_name: str = _named("DB_NAME", "everindex")
    db_user: str = _named("DB_USER", "everindex")
    db_password: SecretStr | None = _named("DB_PASSWORD", None)
    home: Path = Field(default_factory=default_home, validation_alias=AliasChoices("EVERINDEX_HOME"))
    wait_seconds: float | None = _named("EVERINDEX_WAIT", None, ge=0)
    """How long to wait for a server that does not answer yet, in seconds; when unset, only a deployment waits."""

    host: str = _named("EVERINDEX_HOST", "127.0.0.1")
    port: int = _named("PORT", 8000, ge=0, le=65535)
    """0 picks a free port."""

    max_connections: int = _named("EVERINDEX_MAX_CONNECTIONS", 500, ge=10, le=100_000)
    """Client connections open at one time."""

    allowed_hosts: str = _named("EVERINDEX_ALLOWED_HOSTS", "")
    """Additional hosts that the web application serves, in the form that `host_names.names_of` reads."""

    trusted_proxies: str = _named("EVERINDEX_TRUSTED_PROXIES", "")
    """Addresses and networks of proxies, separated by commas, whose X-Forwarded-Proto and X-Forwarded-For are believed."""

    access: Literal["auto", "sign-in", "open", "local"] = _named("EVERINDEX_ACCESS", "auto")
    """Who may use the web application (docs/decisions/0028): `sign-in` asks everybody for a token or a password, `open` lets
    everybody read, `local` lets everybody do everything and listens on loopback alone; `auto` is `sign-in` once there is a
    token or a user, and until then `local`."""

    session_hours: float = _named("EVERINDEX_SESSION_HOURS", 12.0, gt=0, le=8760)
    """How long a sign-in on the pages lasts."""

    requests_per_minute: int = _named("EVERINDEX_REQUESTS_PER_MINUTE", 120, ge=0, le=1_000_000)
    """How many of each kind of expensive request one client may send in a minute, unless access is `local`; 0: any number."""

    delete_over_http: Literal["off", "on"] = _named("EVERINDEX_DELETE_OVER_HTTP", "off")
    """Whether the web application deletes articles and rows of collections on request (docs/decisions/0025)."""

    declared: str | None = _named("EVERINDEX_DECLARED", None)
    """The declaration that the commands work on, as `--declared`; None for the one in pyproject.toml, or the articles."""

    targets: SecretStr | None = _named("EVERINDEX_TARGETS", None)
    """The targets of `everindex fleet` as text, in the form of a file for `--targets`."""

    dimensions: int = _named("EVERINDEX_DIMENSIONS", 1536, ge=1, le=16000)
    """Dimensions of `articles.embedding`; read once, by revision 8eadb2079747. After that the column itself decides."""

    recall_floor: float = _named("EVERINDEX_RECALL_FLOOR", 0.95, gt=0, le=1)
    build: Literal["wait", "background", "auto"] = _named("EVERINDEX_BUILD", "wait")
    """Whether a migration waits for the index build or leaves it to the keeper; auto waits when the build takes seconds."""

    text_search: str = _named("EVERINDEX_TEXT_SEARCH", "english", min_length=1)
    """The text search configuration of keyword search: a name from pg_ts_config, with its schema if needed."""

    attached: bool = _named("EVERINDEX_ATTACHED", False)
    """Whether the database belongs to an application with its own migrations; if so, alembic_version is neither read nor
    written."""

    keep: Literal["on", "off"] = _named("EVERINDEX_KEEP", "on")
    """Whether `serve` and `up` also run the keeper."""

    keep_seconds: float = _named("EVERINDEX_KEEP_SECONDS", 60.0, ge=1)
    keep_recall_seconds: float = _named("EVERINDEX_KEEP_RECALL_SECONDS", 5.0, ge=0)
    """How long one recall measurement of the keeper may take; 0 means never. It uses at most 1 % of the time."""

    keep_drift: Literal["report", "replace"] = _named("EVERINDEX_KEEP_DRIFT", "report")
    """What the keeper does about a valid index with another definition."""

    keep_expired: Literal["leave", "delete"] = _named("EVERINDEX_KEEP_EXPIRED", "leave")
    """What the keeper does about rows that have expired."""

    warm_seconds: float = _named("EVERINDEX_WARM_SECONDS", 30.0, ge=0)
    """How long to spend reading an index into memory after a start, a build or a swap; 0 means never."""

    sample_queries: int = _named("EVERINDEX_SAMPLE_QUERIES", 200, ge=0, le=10_000)
    """How many query vectors of searches are stored to measure with; 0 means none."""

    openai_api_key: SecretStr | None = _named("OPENAI_API_KEY", None)
    openai_base_url: str | None = _named("OPENAI_BASE_URL", None)
    embedding_model: str | None = _named("EMBEDDING_MODEL", None)
    """`static` (the default without a key), `local:` and a directory or hub name, or the name of a model at the
    OpenAI-compatible endpoint."""

    query_prompt: str | None = _named("EVERINDEX_QUERY_PROMPT", None)
    """What a local model gets before a query; None for the model's own, empty for nothing."""

    document_prompt: str | None = _named("EVERINDEX_DOCUMENT_PROMPT", None)
    """The same before a document."""

    rerank_model: str | None = _named("EVERINDEX_RERANK_MODEL", None)
    """The cross-encoder that re-ranks: `local:` and a directory or hub name."""

    rerank: int = _named("EVERINDEX_RERANK", 0, ge=0, le=200)
    """How many candidates of every search by a text it re-ranks; 0: only where a request asks for it."""

    passages: Literal["on", "off"] = _named("EVERINDEX_PASSAGES", "on")
    """Whether whole texts of articles are cut into passages when they are stored, and by `embed`."""

    passage_tokens: int = _named("EVERINDEX_PASSAGE_TOKENS", 128, ge=16, le=8192)
    """The longest passage, in tokens of the model; never more than it reads."""

    embedding_timeout_seconds: float = _named("EMBEDDING_TIMEOUT", 30.0, gt=0)
    incident_statuses: str = _named("EVERINDEX_INCIDENT_STATUSES", "active,acknowledged,resolved")
    """The statuses of an incident, separated by commas; a new incident gets the first. Other statuses that rows already have
    are left unchanged."""

    slow_query_ms: float = _named("EVERINDEX_SLOW_QUERY_MS", 250.0, ge=0)
    statement_timeout_ms: int = _named("EVERINDEX_STATEMENT_TIMEOUT_MS", 15_000, ge=0)
    """Time limit of every statement of the web application, milliseconds; 0 means none. Builds never have one."""

    pool_size: int = _named("EVERINDEX_POOL_SIZE", 6, ge=1, le=1000)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _named("EVERINDEX_LOG_LEVEL", "INFO")
    log_format: Literal["console", "json"] = _named("EVERINDEX_LOG_FORMAT", "console")

    def __init__(self, **values: Any) -> None:
        """`values` are named as their variables and come before the environment. Raises SettingInvalid, which names the
        variable and never its value."""
        for name in values:
            if name.upper() not in _variables(type(self)).values():
                raise _no_such_setting(type(self), name)
        try:
            super().__init__(**values)
        except ValidationError as exc:
            first = exc.errors(include_input=False, include_url=False)[0]
            name = str(first["loc"][0]) if first["loc"] else "a setting"
            raise SettingInvalid(
                f"{name} cannot be used.",
                why=f"{first['msg']}.",
                next_step=f"correct {name} in the environment or in .env; docs/settings.md lists the values that each setting "
                "takes.",
            ) from None

    @field_validator(
        "wait_seconds", "declared", "database_url", "database_url_direct", "database_url_read", "db_host", "db_password",
        "openai_api_key", "openai_base_url", "embedding_model", "rerank_model", "targets", mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_are_hosts(cls, value: str) -> str:
        names_of(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_networks(cls, value: str) -> str:
        for part in filter(None, map(str.strip, value.split(","))):
            ipaddress.ip_network(part, strict=False)
        return value

    @field_validator("incident_statuses")
    @classmethod
    def _statuses_are_words(cls, value: str) -> str:
        if not all(1 <= len(one) <= 40 and one.isprintable() for one in (one.strip() for one in value.split(","))):
            raise ValueError(
                "write one or more statuses of 1 to 40 characters, separated by commas, such as active,seen,deleted"
            )
        return value

    @property
    def statuses_of_incidents(self) -> tuple[str, ...]:
        """The statuses in the order in which they are offered, without repetitions."""
        return tuple(dict.fromkeys(one.strip() for one in self.incident_statuses.split(",")))

    @field_validator("attached", mode="before")
    @classmethod
    def _empty_is_no(cls, value: Any) -> Any:
        return False if isinstance(value, str) and not value.strip() else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls, os.environ), EnvFile(settings_cls)

    @property
    def deployment_wait_seconds(self) -> float:
        """How long migrations, deploys and web servers wait for the database."""
        return DEPLOYMENT_WAIT_SECONDS if self.wait_seconds is None else self.wait_seconds

    @property
    def uses_embedded_server(self) -> bool:
        """True when no server is configured, so everindex runs its own."""
        return self.database_url is None and self.db_host is None


def _variables(settings: type[BaseSettings]) -> dict[str, str]:
    """Field → variable."""
    return {
        name: str(field.validation_alias.choices[0])
        for name, field in settings.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
    }


def _no_such_setting(settings: type[BaseSettings], name: str) -> SettingInvalid:
    variable = _variables(settings).get(name)
    near = [] if variable else difflib.get_close_matches(name.upper(), _variables(settings).values(), n=1)
    return SettingInvalid(
        f"there is no setting {name[:80]!r}.",
        why="Settings takes its values by the names of their environment variables.",
        next_step=f"write {variable}=…"
        if variable
        else f"did you mean {near[0]}? docs/settings.md lists them all."
        if near
        else "docs/settings.md lists them all.",
    )


def read_settings() -> Settings:
    """Reads the settings now. Raises SettingInvalid."""
    return Settings()


@cache
def current_settings() -> Settings:
    """The settings, read once per process, for code that no caller can pass them to (alembic's env.py)."""
    return read_settings()
