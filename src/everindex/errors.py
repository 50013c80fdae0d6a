"""All errors that everindex raises, as one tree: each composed from facts as what happened, why, and what to do next.

Class, and the slug: also the name of its page `docs/problems/<slug>.md`, its problem type over HTTP and its key in logs.

    EverindexError                everindex-error
      UsageError                  bad-input
        SettingInvalid            setting-invalid
        RevisionNotFound          revision-not-found
        SpecIllegal               spec-illegal
        StatementNotCheckable     statement-not-checkable
        SourceUnreadable          source-unreadable
        QueryInvalid              query-invalid
          QueryInapplicable       query-inapplicable
          CursorRefused           cursor-refused
        IncidentExists            incident-exists
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
      ArticleNotFound             article-not-found
      EmbeddingFailed             embedding-failed
      EmbeddingModelUnusable      embedding-model-unusable
      EmbeddingModelsMixed        embedding-models-mixed
      EmbeddingModelUnrecorded    embedding-model-unrecorded
      DeclarationRefused          declaration-refused
      IncidentNotFound            incident-not-found
      AddressUnusable             address-unusable
      HostRefused                 host-refused
      CrossSiteRefused            cross-site-refused
      PageNotFound                page-not-found
      MethodRefused               method-refused
      ServerBusy                  server-busy
      InternalError               internal

No message ever holds a connection string, a password or a token. Not here: signals that never leave the module or package
that raises them.
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
        told = {"what": self.what, "why": self.why, "next": self.next_step}
        return {"slug": self.slug} | {name: with_backticks(text) for name, text in told.items()}


class UsageError(EverindexError):
    """Input that can never work, refused before anything was touched."""

    slug = "bad-input"
    exit_status = 2
    http_status = 422


class SettingInvalid(UsageError):
    """A setting of the environment or of `.env` cannot be used."""

    slug = "setting-invalid"


# --- reaching the server -------------------------------------------------------------------------------------------


class ServerUnreachable(EverindexError):
    """Nobody answered at the server's address, in the time that the caller was ready to wait."""

    slug = "server-unreachable"
    http_status = 503


class ServerHostUnknown(ServerUnreachable):
    """The host name of the server does not resolve; waiting cannot help."""

    slug = "server-host-unknown"


class ServerSilent(ServerUnreachable):
    """The server took a statement and answers nobody: no use in asking it once more."""


class NoConnectionFree(ServerUnreachable):
    """All connections of the pool are taken, or none can be made."""


class DirectAddressNeeded(EverindexError):
    """The address leads through a pooler that changes sessions, and this needs one session for itself."""

    slug = "direct-address-needed"


class CredentialsRefused(EverindexError):
    """The server answered and refused the user, the password or the way of logging in; waiting cannot help."""

    slug = "credentials-refused"


class DatabaseMissing(EverindexError):
    """The server has no database of that name; waiting cannot help."""

    slug = "database-missing"


class EmbeddedServerFailed(EverindexError):
    """The embedded PostgreSQL could not be made, started or stopped."""

    slug = "embedded-server-failed"


# --- what the server can do ----------------------------------------------------------------------------------------


class PostgresTooOld(EverindexError):
    """The server is older than the oldest supported PostgreSQL."""

    slug = "postgres-too-old"


class ExtensionUnavailable(EverindexError):
    """The files of pgvector are not installed on the machine of the server."""

    slug = "extension-unavailable"


class ExtensionNotPermitted(EverindexError):
    """pgvector is installed but not created in this database, and the role may not create it."""

    slug = "extension-not-permitted"


class ExtensionNotCreated(EverindexError):
    """A statement of a revision uses pgvector's types, and the extension is not where it looks for them."""

    slug = "extension-not-created"


class ExtensionTooOld(EverindexError):
    """The pgvector of this database has no HNSW (before 0.5.0)."""

    slug = "extension-too-old"


class PermissionDenied(EverindexError):
    """The role lacks a privilege on a named object."""

    slug = "permission-denied"
    http_status = 403


class ReadOnlyServer(EverindexError):
    """The server is a standby or the transaction is read-only: nothing can be changed here."""

    slug = "server-read-only"
    http_status = 503


class StatementFailed(EverindexError):
    """A statement failed in a way that has no class of its own."""

    slug = "statement-failed"


class StatementTimedOut(EverindexError):
    """A statement was cancelled because it ran into its time limit."""

    slug = "statement-timed-out"
    http_status = 503


class LockNotObtained(EverindexError):
    """Another process holds what this one needs, longer than the caller was ready to wait."""

    slug = "lock-not-obtained"
    http_status = 503


# --- migrations ----------------------------------------------------------------------------------------------------


class ChainBroken(EverindexError):
    """The revision files do not form one line with one head."""

    slug = "chain-broken"


class RevisionUnknown(EverindexError):
    """The database is at a revision that this release does not have."""

    slug = "revision-unknown"


class RevisionNotFound(UsageError):
    """The requested revision does not exist."""

    slug = "revision-not-found"


class DatabaseAttached(EverindexError):
    """The database belongs to an application with its own migrations, and a command of our migrations was run on it."""

    slug = "database-attached"


class DatabaseNotAttached(EverindexError):
    """`everindex detach` on a database that everindex's own migrations have made."""

    slug = "database-not-attached"


class ApplicationChainFirst(EverindexError):
    """The database is in the middle of an application's own migrations, whose later revisions ours would take the place of."""

    slug = "application-chain-first"


class MigrationFailed(EverindexError):
    """A revision failed; the revisions before it stay applied."""

    slug = "migration-failed"


class TransactionInTheWay(EverindexError):
    """An open transaction of env.py has changed the table whose index a revision wants to build or drop."""

    slug = "transaction-in-the-way"


class NotMigrated(EverindexError):
    """The database has no article table, or is not at head."""

    slug = "not-migrated"
    http_status = 503


class TableNotFound(NotMigrated):
    """The table or column of a declared index is not in this database, or is not a table."""

    slug = "table-not-found"


class ColumnMismatch(EverindexError):
    """An existing column has a type that cannot hold what the migrations need."""

    slug = "column-mismatch"


# --- the index -----------------------------------------------------------------------------------------------------


class SpecIllegal(UsageError):
    """A declared index that no server could build."""

    slug = "spec-illegal"


class IndexDefinitionDiffers(EverindexError):
    """An index of the declared name exists with another definition; it was not touched."""

    slug = "index-definition-differs"


class BuildFailed(EverindexError):
    """The build of an index did not end in a valid index."""

    slug = "build-failed"


class DiskSpaceShort(EverindexError):
    """The server's disk certainly has no room for the index."""

    slug = "disk-space-short"


class GenerationUnproven(EverindexError):
    """A new generation is worse than it must be; the old one goes on serving."""

    slug = "generation-unproven"


class DeployStopped(EverindexError):
    """The process was asked to stop while it worked on an index."""

    slug = "deploy-stopped"


class NothingToRollBack(EverindexError):
    """No previous generation is kept."""

    slug = "nothing-to-roll-back"


class PlanOutOfDate(EverindexError):
    """The catalog has changed since the plan was made."""

    slug = "plan-out-of-date"


class NothingDeclared(EverindexError):
    """The database has no articles, and no other index is declared."""

    slug = "nothing-declared"
    exit_status = 3


class StatementNotCheckable(UsageError):
    """A statement of an application that cannot be checked: several, none, no SELECT, refused, or without its values."""

    slug = "statement-not-checkable"


# --- articles ------------------------------------------------------------------------------------------------------


class SourceUnreadable(UsageError):
    """A file of articles cannot be opened or is not of any format that can be imported."""

    slug = "source-unreadable"


class ArticleNotFound(EverindexError):
    """No article has that uri."""

    slug = "article-not-found"
    http_status = 404


class QueryInvalid(UsageError):
    """A search that cannot be answered as it was asked."""

    slug = "query-invalid"


class QueryInapplicable(QueryInvalid):
    """A search whose parts are right each, and which cannot be answered together, or of this table."""

    slug = "query-inapplicable"
    http_status = 409


class CursorRefused(QueryInvalid):
    """A cursor that this search did not give: damaged, of another version, or of another question."""

    slug = "cursor-refused"
    http_status = 409


class EmbeddingFailed(EverindexError):
    """The embedding provider gave no usable vector for a text."""

    slug = "embedding-failed"
    http_status = 503


class EmbeddingModelUnusable(EverindexError):
    """The configured model cannot fill this table's column."""

    slug = "embedding-model-unusable"


class EmbeddingModelsMixed(EverindexError):
    """The table holds vectors of another model than the query would be embedded with."""

    slug = "embedding-models-mixed"
    http_status = 409


class EmbeddingModelUnrecorded(EverindexError):
    """The table holds vectors of which nobody has recorded or declared the model."""

    slug = "embedding-model-unrecorded"
    http_status = 409


class DeclarationRefused(EverindexError):
    """The stored vectors are not those that the declared model gives, or too few can be compared to tell."""

    slug = "declaration-refused"
    http_status = 409


class IncidentExists(UsageError):
    """An incident of that name and topic is there already."""

    slug = "incident-exists"
    http_status = 409


class IncidentNotFound(EverindexError):
    """No incident has that name and topic."""

    slug = "incident-not-found"
    http_status = 404


# --- HTTP ----------------------------------------------------------------------------------------------------------


class AddressUnusable(EverindexError):
    """The web application cannot listen at its address."""

    slug = "address-unusable"


class HostRefused(EverindexError):
    """A request for a host that is not this application's."""

    slug = "host-refused"
    http_status = 421


class CrossSiteRefused(EverindexError):
    """A changing request that another site sent through somebody's browser."""

    slug = "cross-site-refused"
    http_status = 403


class HeadTooLarge(UsageError):
    """A request whose address and headers have more bytes than are read."""

    slug = "head-too-large"
    http_status = 431


class RequestMalformed(UsageError):
    """What was sent is no request of HTTP/1.1."""

    slug = "request-malformed"
    http_status = 400


class RequestTimedOut(UsageError):
    """A request that did not come to its end in the time that is waited for it."""

    slug = "request-timed-out"
    http_status = 408


class BodyTooLarge(UsageError):
    """A request with more bytes than are read."""

    slug = "body-too-large"
    http_status = 413


class ContentTypeRefused(UsageError):
    """A request whose body is not of the type that is read there."""

    slug = "content-type-refused"
    http_status = 415


class PageNotFound(EverindexError):
    """No page or API has that address."""

    slug = "page-not-found"
    http_status = 404


class MethodRefused(EverindexError):
    """The address exists, but does not take that method."""

    slug = "method-refused"
    http_status = 405


class AnswerTooLarge(UsageError):
    """A question whose answer would have more bytes than are sent."""

    slug = "answer-too-large"
    http_status = 413


class ServerBusy(EverindexError):
    """More requests at once than can be worked on; waited for as long as a reader would."""

    slug = "server-busy"
    http_status = 503


class InternalError(EverindexError):
    """A fault of everindex itself. Over HTTP the log has the details, under the id of the request."""

    slug = "internal"
