"""The tree of all errors that everindex raises. Each error states what happened, why, and what to do next.

Each line shows a class and its slug. The slug is also the name of the page `docs/problems/<slug>.md`, the problem type over
HTTP and the key in logs.

    EverindexError                everindex-error
      UsageError                  bad-input
        SettingInvalid            setting-invalid
        RevisionNotFound          revision-not-found
        SpecIllegal               spec-illegal
        StatementNotCheckable     statement-not-checkable
        MigrationUnreadable       migration-unreadable
        SourceUnreadable          source-unreadable
        QueryInvalid              query-invalid
          QueryInapplicable       query-inapplicable
          FilterInvalid           filter-invalid
          CursorRefused           cursor-refused
        CollectionInvalid         collection-invalid
        ExtraMissing              extra-missing
        TargetsInvalid            targets-invalid
        RolloutRefused            rollout-refused
        IncidentExists            incident-exists
        SavedSearchExists         saved-search-exists
        AccessNotConfigured       access-not-configured
        CredentialsTaken          credentials-taken
        HeadTooLarge              head-too-large
        RequestMalformed          request-malformed
        RequestTimedOut           request-timed-out
        BodyTooLarge              body-too-large
        ContentTypeRefused        content-type-refused
        AnswerTooLarge            answer-too-large
      ServerUnreachable           server-unreachable
        ServerHostUnknown         server-host-unknown
        ServerSilent              server-unreachable
        NoConnectionFree          server-unreachable
      DirectAddressNeeded         direct-address-needed
      CredentialsRefused          credentials-refused
      DatabaseMissing             database-missing
      EmbeddedServerFailed        embedded-server-failed
      PostgresTooOld              postgres-too-old
      ExtensionUnavailable        extension-unavailable
      ExtensionNotPermitted       extension-not-permitted
      ExtensionNotCreated         extension-not-created
      ExtensionTooOld             extension-too-old
      PermissionDenied            permission-denied
      ReadOnlyServer              server-read-only
      StatementFailed             statement-failed
      StatementTimedOut           statement-timed-out
      LockNotObtained             lock-not-obtained
      ChainBroken                 chain-broken
      RevisionUnknown             revision-unknown
      DatabaseAttached            database-attached
      DatabaseNotAttached         database-not-attached
      ApplicationChainFirst       application-chain-first
      MigrationFailed             migration-failed
      TransactionInTheWay         transaction-in-the-way
      NotMigrated                 not-migrated
        TableNotFound             table-not-found
      ColumnMismatch              column-mismatch
      IndexDefinitionDiffers      index-definition-differs
      BuildFailed                 build-failed
      DiskSpaceShort              disk-space-short
      GenerationUnproven          generation-unproven
      DeployStopped               deploy-stopped
      NothingToRollBack           nothing-to-roll-back
      PlanOutOfDate               plan-out-of-date
      NothingDeclared             nothing-declared
      RowNotFound                 row-not-found
        ArticleNotFound           article-not-found
      CollectionNotFound          collection-not-found
      SyncRefused                 sync-refused
      EmbeddingFailed             embedding-failed
      EmbeddingModelUnusable      embedding-model-unusable
      EmbeddingModelsMixed        embedding-models-mixed
      EmbeddingModelUnrecorded    embedding-model-unrecorded
      DeclarationRefused          declaration-refused
      IncidentNotFound            incident-not-found
      IncidentLinkNotFound        incident-link-not-found
      SavedSearchNotFound         saved-search-not-found
      AddressUnusable             address-unusable
      CredentialsNotFound         credentials-not-found
      SignInNeeded                sign-in-needed
        TokenRefused              token-refused
        SignInRefused             sign-in-refused
      ScopeMissing                scope-missing
      TooManyRequests             too-many-requests
      DeletionRefused             deletion-refused
      HostRefused                 host-refused
      CrossSiteRefused            cross-site-refused
      PageNotFound                page-not-found
      MethodRefused               method-refused
      ServerBusy                  server-busy
      InternalError               internal

No message ever holds a connection string, a password or a token. Exceptions that never leave the module or package that
raises them are not defined here.
"""

from __future__ import annotations

from typing import ClassVar

from everindex.message_text import with_backticks


class EverindexError(Exception):
    """An error in three lines: `slug: what`, `why:`, `next:`. Base of every error that everindex raises."""

    slug: ClassVar[str] = "everindex-error"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, what: str, *, why: str, next_step: str) -> None:
        self.what = what
        self.why = why
        self.next_step = next_step
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.slug}: {self.what}\n  why:  {self.why}\n  next: {self.next_step}"

    def as_dict(self) -> dict[str, str]:
        """The error as the JSON object that `--json` and the API print."""
        lines = {"what": self.what, "why": self.why, "next": self.next_step}
        return {"slug": self.slug} | {name: with_backticks(text) for name, text in lines.items()}


class UsageError(EverindexError):
    """Input that can never work; rejected before anything is changed."""

    slug = "bad-input"
    exit_status = 2
    http_status = 422


class SettingInvalid(UsageError):
    """A setting in the environment or in `.env` cannot be used."""

    slug = "setting-invalid"


# --- reaching the server -------------------------------------------------------------------------------------------


class ServerUnreachable(EverindexError):
    """Nothing answered at the server's address within the time that the caller was ready to wait."""

    slug = "server-unreachable"
    http_status = 503


class ServerHostUnknown(ServerUnreachable):
    """The host name of the server does not resolve; waiting cannot help."""

    slug = "server-host-unknown"


class ServerSilent(ServerUnreachable):
    """The server accepted a statement and no longer responds; repeating the statement cannot help."""


class NoConnectionFree(ServerUnreachable):
    """All connections of the pool are in use, or none can be opened."""


class DirectAddressNeeded(EverindexError):
    """The address leads through a pooler that switches sessions, but this operation needs a session of its own."""

    slug = "direct-address-needed"


class CredentialsRefused(EverindexError):
    """The server answered and rejected the user, the password or the authentication method; waiting cannot help."""

    slug = "credentials-refused"


class DatabaseMissing(EverindexError):
    """The server has no database with that name; waiting cannot help."""

    slug = "database-missing"


class EmbeddedServerFailed(EverindexError):
    """The embedded PostgreSQL could not be created, started or stopped."""

    slug = "embedded-server-failed"


# --- what the server can do ----------------------------------------------------------------------------------------


class PostgresTooOld(EverindexError):
    """The server is older than the oldest supported PostgreSQL."""

    slug = "postgres-too-old"


class ExtensionUnavailable(EverindexError):
    """The files of pgvector are not installed on the server's machine."""

    slug = "extension-unavailable"


class ExtensionNotPermitted(EverindexError):
    """pgvector is installed but not created in this database, and the role may not create it."""

    slug = "extension-not-permitted"


class ExtensionNotCreated(EverindexError):
    """A statement of a revision uses pgvector's types, but the extension is missing or not in the search_path."""

    slug = "extension-not-created"


class ExtensionTooOld(EverindexError):
    """The pgvector of this database has no HNSW (before 0.5.0)."""

    slug = "extension-too-old"


class PermissionDenied(EverindexError):
    """The role lacks a privilege on a named object."""

    slug = "permission-denied"
    http_status = 403


class ReadOnlyServer(EverindexError):
    """The server is a standby, or the transaction is read-only: nothing can be changed here."""

    slug = "server-read-only"
    http_status = 503


class StatementFailed(EverindexError):
    """A statement failed for a reason that has no error class of its own."""

    slug = "statement-failed"


class StatementTimedOut(EverindexError):
    """A statement was cancelled because it reached its time limit."""

    slug = "statement-timed-out"
    http_status = 503


class LockNotObtained(EverindexError):
    """Another process held the lock that this one needs for longer than the caller was ready to wait."""

    slug = "lock-not-obtained"
    http_status = 503


# --- migrations ----------------------------------------------------------------------------------------------------


class ChainBroken(EverindexError):
    """The revision files do not form a single line with a single head."""

    slug = "chain-broken"


class RevisionUnknown(EverindexError):
    """The database is at a revision that this release does not know."""

    slug = "revision-unknown"


class RevisionNotFound(UsageError):
    """The requested revision does not exist."""

    slug = "revision-not-found"


class DatabaseAttached(EverindexError):
    """A command of everindex's migrations was run on a database that belongs to an application with its own migrations."""

    slug = "database-attached"


class DatabaseNotAttached(EverindexError):
    """`everindex detach` was run on a database that everindex's own migrations created."""

    slug = "database-not-attached"


class ApplicationChainFirst(EverindexError):
    """The database is part-way through an application's own migrations; ours would take the place of its later revisions."""

    slug = "application-chain-first"


class MigrationFailed(EverindexError):
    """A revision failed; the revisions before it stay applied."""

    slug = "migration-failed"


class TransactionInTheWay(EverindexError):
    """An open transaction of env.py has locks on the table whose index a revision needs to build or drop."""

    slug = "transaction-in-the-way"


class NotMigrated(EverindexError):
    """The database has no article table, or is not at head."""

    slug = "not-migrated"
    http_status = 503


class TableNotFound(NotMigrated):
    """The table or column of a declared index does not exist in this database, or the name is not that of a table."""

    slug = "table-not-found"


class ColumnMismatch(EverindexError):
    """An existing column has a type that cannot hold what the migrations need."""

    slug = "column-mismatch"


# --- the index -----------------------------------------------------------------------------------------------------


class SpecIllegal(UsageError):
    """A declared index that no server could build."""

    slug = "spec-illegal"


class IndexDefinitionDiffers(EverindexError):
    """An index with the declared name exists with another definition; it was not changed."""

    slug = "index-definition-differs"


class BuildFailed(EverindexError):
    """The build of an index did not produce a valid index."""

    slug = "build-failed"


class DiskSpaceShort(EverindexError):
    """The server's disk certainly has too little space for the index."""

    slug = "disk-space-short"


class GenerationUnproven(EverindexError):
    """A new generation failed its acceptance test; the old one continues to serve."""

    slug = "generation-unproven"


class DeployStopped(EverindexError):
    """The process was asked to stop while it was working on an index."""

    slug = "deploy-stopped"


class NothingToRollBack(EverindexError):
    """There is no previous generation to go back to."""

    slug = "nothing-to-roll-back"


class PlanOutOfDate(EverindexError):
    """The catalog has changed since the plan was made."""

    slug = "plan-out-of-date"


class NothingDeclared(EverindexError):
    """The database has no articles, and no other index is declared."""

    slug = "nothing-declared"
    exit_status = 3


class StatementNotCheckable(UsageError):
    """A statement of an application that cannot be checked: several statements, none, not a SELECT, rejected by PostgreSQL, or
    lacking parameter values."""

    slug = "statement-not-checkable"


class MigrationUnreadable(UsageError):
    """The SQL of a migration cannot be had: no alembic.ini, a broken history, or a revision that needs a database."""

    slug = "migration-unreadable"


# --- articles ------------------------------------------------------------------------------------------------------


class SourceUnreadable(UsageError):
    """A file of articles cannot be opened, or is not in a format that can be imported."""

    slug = "source-unreadable"


class RowNotFound(EverindexError):
    """The row that a request names is not in the collection."""

    slug = "row-not-found"
    http_status = 404


class CollectionNotFound(EverindexError):
    """No collection of that name is recorded in this database."""

    slug = "collection-not-found"
    http_status = 404


class SyncRefused(EverindexError):
    """A synchronisation that would remove more than it may; nothing was removed."""

    slug = "sync-refused"
    http_status = 409


class ArticleNotFound(RowNotFound):
    """No article has that uri."""

    slug = "article-not-found"
    http_status = 404


class QueryInvalid(UsageError):
    """A search with invalid input."""

    slug = "query-invalid"


class CollectionInvalid(UsageError):
    """A declaration of a collection, or a row for it, whose parts do not go together or that another declaration contradicts."""

    slug = "collection-invalid"


class ExtraMissing(UsageError, ImportError):
    """A part of everindex that needs packages of an extra, where these are not installed."""

    slug = "extra-missing"
    http_status = 409

    def __init__(self, extra: str, *, package: str, exc: ImportError, what: str | None = None) -> None:
        """`what` needs the package; None for the module everindex.EXTRA."""
        super().__init__(
            f"{what or f'everindex.{extra}'} needs the package {package}.",
            why=f"importing it failed: {' '.join(str(exc).split())[:300].rstrip('.')}.",
            next_step=f"run  pip install 'everindex[{extra}]'.",
        )


class TargetsInvalid(UsageError):
    """The list of a fleet's targets cannot be read, or names nothing."""

    slug = "targets-invalid"


class RolloutRefused(UsageError):
    """The state file of a rollout is in use, of another rollout, or not one."""

    slug = "rollout-refused"


class QueryInapplicable(QueryInvalid):
    """A search whose parts are each valid, but do not fit together or do not fit this table."""

    slug = "query-inapplicable"
    http_status = 409


class FilterInvalid(QueryInvalid):
    """A filter that is not one of the language, or that names a column or compares with a value that this table does not have."""

    slug = "filter-invalid"
    http_status = 409


class CursorRefused(QueryInvalid):
    """A cursor that this search did not return: damaged, from another version, or from another search."""

    slug = "cursor-refused"
    http_status = 409


class EmbeddingFailed(EverindexError):
    """The embedding provider returned no usable vector for a text."""

    slug = "embedding-failed"
    http_status = 503


class EmbeddingModelUnusable(EverindexError):
    """The configured model cannot produce vectors for this table's column."""

    slug = "embedding-model-unusable"


class EmbeddingModelsMixed(EverindexError):
    """The table holds vectors of a model other than the one that would embed the query."""

    slug = "embedding-models-mixed"
    http_status = 409


class EmbeddingModelUnrecorded(EverindexError):
    """The table holds vectors whose model is neither recorded nor declared."""

    slug = "embedding-model-unrecorded"
    http_status = 409


class DeclarationRefused(EverindexError):
    """The stored vectors are not those of the declared model, or too few can be compared to decide."""

    slug = "declaration-refused"
    http_status = 409


class IncidentExists(UsageError):
    """An incident with that name and topic already exists."""

    slug = "incident-exists"
    http_status = 409


class IncidentNotFound(EverindexError):
    """No incident has that name and topic."""

    slug = "incident-not-found"
    http_status = 404


class IncidentLinkNotFound(EverindexError):
    """The incident has no such link."""

    slug = "incident-link-not-found"
    http_status = 404


class SavedSearchExists(UsageError):
    """A saved search with that name already exists."""

    slug = "saved-search-exists"
    http_status = 409


class SavedSearchNotFound(EverindexError):
    """No saved search has that name."""

    slug = "saved-search-not-found"
    http_status = 404


# --- HTTP ----------------------------------------------------------------------------------------------------------


class AddressUnusable(EverindexError):
    """The web application cannot listen at its address."""

    slug = "address-unusable"


class AccessNotConfigured(UsageError):
    """The web application would be reachable from other machines, and nothing says who may use it."""

    slug = "access-not-configured"


class CredentialsTaken(UsageError):
    """A valid token, or a user, of that name already exists."""

    slug = "credentials-taken"


class CredentialsNotFound(EverindexError):
    """No valid token, or no user, has that name."""

    slug = "credentials-not-found"


class SignInNeeded(EverindexError):
    """A request without a valid token or session, for something that not everybody may do."""

    slug = "sign-in-needed"
    http_status = 401

    def __init__(self, what: str, *, why: str, next_step: str, challenges: tuple[str, ...] = ()) -> None:
        """`challenges` are the values of WWW-Authenticate (RFC 9110, 11.6.1)."""
        super().__init__(what, why=why, next_step=next_step)
        self.challenges = challenges


class TokenRefused(SignInNeeded):
    """A request with a token that is unknown, expired or revoked."""

    slug = "token-refused"


class SignInRefused(SignInNeeded):
    """A name and password that do not belong together."""

    slug = "sign-in-refused"


class ScopeMissing(EverindexError):
    """A request with a valid token or session whose scope does not include what was requested."""

    slug = "scope-missing"
    http_status = 403

    def __init__(self, what: str, *, why: str, next_step: str, challenges: tuple[str, ...] = ()) -> None:
        """`challenges` are the values of WWW-Authenticate."""
        super().__init__(what, why=why, next_step=next_step)
        self.challenges = challenges


class TooManyRequests(EverindexError):
    """A client that sent more of the expensive requests than it may in a minute."""

    slug = "too-many-requests"
    http_status = 429

    def __init__(self, what: str, *, why: str, next_step: str, retry_after_seconds: int) -> None:
        super().__init__(what, why=why, next_step=next_step)
        self.retry_after_seconds = retry_after_seconds


class DeletionRefused(EverindexError):
    """A request to delete, on a server that does not delete over HTTP."""

    slug = "deletion-refused"
    http_status = 403


class HostRefused(EverindexError):
    """A request for a host that is not this application's."""

    slug = "host-refused"
    http_status = 421


class CrossSiteRefused(EverindexError):
    """A request to change something that another site sent through a user's browser."""

    slug = "cross-site-refused"
    http_status = 403


class HeadTooLarge(UsageError):
    """A request whose URL and headers exceed the size limit."""

    slug = "head-too-large"
    http_status = 431


class RequestMalformed(UsageError):
    """The bytes received are not an HTTP/1.1 request."""

    slug = "request-malformed"
    http_status = 400


class RequestTimedOut(UsageError):
    """A request that was not complete within its time limit."""

    slug = "request-timed-out"
    http_status = 408


class BodyTooLarge(UsageError):
    """A request whose body exceeds the size limit."""

    slug = "body-too-large"
    http_status = 413


class ContentTypeRefused(UsageError):
    """A request whose body does not have the content type that this address accepts."""

    slug = "content-type-refused"
    http_status = 415


class PageNotFound(EverindexError):
    """No page or API endpoint exists at that address."""

    slug = "page-not-found"
    http_status = 404


class MethodRefused(EverindexError):
    """The address exists, but does not accept that method."""

    slug = "method-refused"
    http_status = 405


class AnswerTooLarge(UsageError):
    """A request whose response would exceed the size limit."""

    slug = "answer-too-large"
    http_status = 413


class ServerBusy(EverindexError):
    """More requests at once than the server can handle; this one waited as long as a reader would."""

    slug = "server-busy"
    http_status = 503


class InternalError(EverindexError):
    """A fault of everindex itself. Over HTTP the log has the details, under the id of the request."""

    slug = "internal"
