"""The schema `everindex_meta`: everindex's own tables, versioned apart from the migrations of the application.

Everything works when the schema is missing: then the models of vectors are unknown, and results say so.
`DROP SCHEMA everindex_meta CASCADE` removes it without a trace. It is not called
`everindex`, because a role of that name would find it in its default search_path ("$user", public) before `public`, and
every unqualified table would be created there (docs/decisions/0002).
"""

from __future__ import annotations

import logging

from psycopg import sql

from everindex.errors import PermissionDenied
from everindex.pg.connections import Connection, connect
from everindex.pg.locks import advisory_lock
from everindex.pg.sqlstate import translate_errors

log = logging.getLogger(__name__)

#: Version n is the result of the first n entries. Entries are never edited, only added.
VERSIONS = (
    """
    CREATE TABLE everindex_meta.embedding_record (
        uri text PRIMARY KEY,
        model text NOT NULL,
        embedded_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX embedding_record_model_idx ON everindex_meta.embedding_record (model);
    COMMENT ON TABLE everindex_meta.embedding_record IS 'which model made the vector of an article';
    CREATE TABLE everindex_meta.embedding_failure (
        uri text PRIMARY KEY,
        reason text NOT NULL,
        attempts integer NOT NULL DEFAULT 1,
        failed_at timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE everindex_meta.embedding_failure IS 'why an article has no vector; `everindex embed` tries again';
    """,
    """
    CREATE TABLE everindex_meta.journal (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        index_schema text NOT NULL,
        index_table text NOT NULL,
        index_name text NOT NULL,
        event text NOT NULL,
        details jsonb NOT NULL DEFAULT '{}'
    );
    CREATE INDEX journal_index_name_idx ON everindex_meta.journal (index_schema, index_name, id);
    COMMENT ON TABLE everindex_meta.journal IS 'what was done to which index, and how it ended';
    """,
    """
    CREATE TABLE everindex_meta.recall_history (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        index_schema text NOT NULL,
        index_table text NOT NULL,
        index_name text NOT NULL,
        generation text NOT NULL,
        k integer NOT NULL,
        queries integer NOT NULL,
        found integer NOT NULL,
        wanted integer NOT NULL,
        exact_ms double precision NOT NULL,
        approximate_ms double precision NOT NULL
    );
    CREATE INDEX recall_history_index_name_idx ON everindex_meta.recall_history (index_schema, index_name, generation, id);
    COMMENT ON TABLE everindex_meta.recall_history IS 'recall of serving indexes, measured by the keeper in small samples';
    """,
    """
    CREATE TABLE everindex_meta.tuned (
        index_schema text NOT NULL,
        index_name text NOT NULL,
        index_table text NOT NULL,
        declared_digest text NOT NULL,
        opclass text NOT NULL,
        m integer NOT NULL,
        ef_construction integer NOT NULL,
        recall_floor double precision NOT NULL,
        points jsonb NOT NULL,
        tuned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (index_schema, index_name)
    );
    COMMENT ON TABLE everindex_meta.tuned IS 'what `everindex tune --apply` chose in place of the declared definition';
    CREATE TABLE everindex_meta.curve (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        index_schema text NOT NULL,
        index_name text NOT NULL,
        document jsonb NOT NULL
    );
    CREATE INDEX curve_index_name_idx ON everindex_meta.curve (index_schema, index_name, id);
    COMMENT ON TABLE everindex_meta.curve IS 'curves of recall against latency, as `everindex measure` found them';
    CREATE TABLE everindex_meta.query_sample (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        index_schema text NOT NULL,
        index_name text NOT NULL,
        model text NOT NULL,
        vector real[] NOT NULL
    );
    CREATE INDEX query_sample_index_name_idx ON everindex_meta.query_sample (index_schema, index_name);
    COMMENT ON TABLE everindex_meta.query_sample IS 'a few query vectors of searches, without text, time or user';
    """,
    """
    ALTER TABLE everindex_meta.recall_history ADD COLUMN source text NOT NULL DEFAULT 'stored rows';
    COMMENT ON COLUMN everindex_meta.recall_history.source IS 'which queries: stored rows, titles, sampled searches';
    """,
    """
    CREATE TABLE everindex_meta.found_index (
        index_schema text NOT NULL,
        index_name text NOT NULL,
        index_table text NOT NULL,
        definition text NOT NULL,
        stands_for text,
        found_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (index_schema, index_name)
    );
    COMMENT ON TABLE everindex_meta.found_index IS 'indexes that were there before `everindex attach`; detach leaves them';
    """,
    """
    CREATE TABLE everindex_meta.declared_model (
        table_schema text NOT NULL,
        table_name text NOT NULL,
        model text NOT NULL,
        text_form text NOT NULL,
        compared integer NOT NULL,
        agreed integer NOT NULL,
        median_cosine double precision NOT NULL,
        worst_cosine double precision NOT NULL,
        declared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (table_schema, table_name)
    );
    COMMENT ON TABLE everindex_meta.declared_model IS
        'which model made the vectors that have no record, as `everindex model declare` compared and recorded it';
    """,
    """
    CREATE TABLE everindex_meta.collection (
        name text PRIMARY KEY,
        table_schema text NOT NULL,
        table_name text NOT NULL,
        declaration jsonb NOT NULL,
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        UNIQUE (table_schema, table_name)
    );
    COMMENT ON TABLE everindex_meta.collection IS 'the collections of this database beside the articles, and their declarations';
    CREATE TABLE everindex_meta.collection_record (
        collection text NOT NULL REFERENCES everindex_meta.collection ON UPDATE CASCADE ON DELETE CASCADE,
        key text NOT NULL,
        model text NOT NULL,
        embedded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (collection, key)
    );
    COMMENT ON TABLE everindex_meta.collection_record IS 'which model made the vector of a row';
    CREATE TABLE everindex_meta.collection_failure (
        collection text NOT NULL REFERENCES everindex_meta.collection ON UPDATE CASCADE ON DELETE CASCADE,
        key text NOT NULL,
        reason text NOT NULL,
        attempts integer NOT NULL DEFAULT 1,
        failed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (collection, key)
    );
    COMMENT ON TABLE everindex_meta.collection_failure IS 'why a row has no vector; `everindex embed` tries again';
    """,
    """
    CREATE TABLE everindex_meta.filter_use (
        table_schema text NOT NULL,
        table_name text NOT NULL,
        column_name text NOT NULL,
        members text[] NOT NULL,
        compared text NOT NULL,
        day date NOT NULL DEFAULT CURRENT_DATE,
        searches bigint NOT NULL,
        PRIMARY KEY (table_schema, table_name, column_name, members, compared, day)
    );
    COMMENT ON TABLE everindex_meta.filter_use IS 'how many searches filtered by which columns, by day; no values';
    """,
    """
    CREATE TABLE everindex_meta.saved_search (
        name text PRIMARY KEY,
        search_text text,
        mode text NOT NULL,
        filter jsonb NOT NULL DEFAULT '{}',
        min_similarity double precision,
        saved_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    COMMENT ON TABLE everindex_meta.saved_search IS 'searches that people saved under a name; texts and filters, no vectors';
    """,
    """
    CREATE TABLE everindex_meta.incident_link (
        incident_name text NOT NULL,
        topic text NOT NULL,
        kind text NOT NULL,
        target text NOT NULL,
        target_digest bytea NOT NULL,
        title text,
        linked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (incident_name, topic, kind, target_digest)
    );
    CREATE INDEX incident_link_target_idx ON everindex_meta.incident_link (target) WHERE kind = 'article';
    COMMENT ON TABLE everindex_meta.incident_link IS 'articles, saved searches and texts that incidents are linked to';
    CREATE TABLE everindex_meta.incident_note (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        incident_name text NOT NULL,
        topic text NOT NULL,
        note text NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX incident_note_incident_idx ON everindex_meta.incident_note (incident_name, topic, id);
    COMMENT ON TABLE everindex_meta.incident_note IS 'notes to incidents, never changed';
    """,
    """
    CREATE TABLE everindex_meta.partial_index (
        table_schema text NOT NULL,
        table_name text NOT NULL,
        index_name text NOT NULL,
        filters json NOT NULL,
        predicate text NOT NULL,
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (table_schema, index_name)
    );
    COMMENT ON TABLE everindex_meta.partial_index IS
        'vector indexes of the rows that pass one filter, as `everindex deploy --partial` declared them';
    CREATE TABLE everindex_meta.filter_value (
        table_schema text NOT NULL,
        table_name text NOT NULL,
        column_name text NOT NULL,
        value text NOT NULL,
        day date NOT NULL DEFAULT CURRENT_DATE,
        searches bigint NOT NULL,
        PRIMARY KEY (table_schema, table_name, column_name, value, day)
    );
    COMMENT ON TABLE everindex_meta.filter_value IS
        'how many searches filtered by one value alone, by day; only values that the statistics of the column list as common';
    """,
    """
    CREATE TABLE everindex_meta.article_cut (
        uri text PRIMARY KEY,
        digest bigint NOT NULL,
        characters integer NOT NULL,
        tokens integer,
        passages integer NOT NULL,
        passage_tokens integer NOT NULL,
        model text NOT NULL,
        cut_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX article_cut_model_idx ON everindex_meta.article_cut (model);
    COMMENT ON TABLE everindex_meta.article_cut IS
        'how the whole text of an article was cut into passages; `everindex embed` cuts those that have changed';
    """,
    """
    CREATE TABLE everindex_meta.access_token (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL,
        digest bytea NOT NULL UNIQUE,
        scope text NOT NULL CHECK (scope IN ('read', 'write', 'operate')),
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz,
        revoked_at timestamptz,
        used_at timestamptz
    );
    CREATE UNIQUE INDEX access_token_name_idx ON everindex_meta.access_token (name) WHERE revoked_at IS NULL;
    COMMENT ON TABLE everindex_meta.access_token IS 'tokens of programs that use the web application, as SHA-256';
    CREATE TABLE everindex_meta.access_user (
        name text PRIMARY KEY,
        password_hash text NOT NULL,
        scope text NOT NULL CHECK (scope IN ('read', 'write', 'operate')),
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        password_set_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    COMMENT ON TABLE everindex_meta.access_user IS 'people who sign in on the pages, with argon2id hashes of their passwords';
    CREATE TABLE everindex_meta.access_session (
        digest bytea PRIMARY KEY,
        user_name text NOT NULL REFERENCES everindex_meta.access_user ON UPDATE CASCADE ON DELETE CASCADE,
        made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz NOT NULL
    );
    CREATE INDEX access_session_user_name_idx ON everindex_meta.access_session (user_name);
    COMMENT ON TABLE everindex_meta.access_session IS 'sessions of people who have signed in; cookies as SHA-256';
    """,
    """
    ALTER TABLE everindex_meta.saved_search ADD COLUMN collection text;
    COMMENT ON COLUMN everindex_meta.saved_search.collection IS 'the collection that is searched; NULL: the articles';
    """,
    """
    CREATE TABLE everindex_meta.index_size (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        index_schema text NOT NULL,
        index_table text NOT NULL,
        index_name text NOT NULL,
        estimated_rows bigint NOT NULL,
        index_bytes bigint NOT NULL,
        table_bytes bigint NOT NULL
    );
    CREATE INDEX index_size_index_name_idx ON everindex_meta.index_size (index_schema, index_name, id);
    COMMENT ON TABLE everindex_meta.index_size IS 'size and rows of serving indexes, noted by the keeper once an hour';
    """,
)


def is_readable(connection: Connection, table: str, *, column: str | None = None) -> bool:
    """Whether a table of the schema exists, with that column, and this role may read it; a table that it may not read counts
    as missing. Reads only.

    Determined from the catalog: a failing statement would end the surrounding transaction, and to_regclass needs USAGE.
    """
    row = connection.execute(
        """
        SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'everindex_meta' AND c.relname = %(table)s AND (%(column)s::text IS NULL OR EXISTS (
            SELECT FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname = %(column)s::text AND NOT a.attisdropped))
        """,
        {"table": table, "column": column},
    ).fetchone()
    return row is not None and bool(row[0])


def require_readable(connection: Connection, table: str, *, what: str) -> bool:
    """Whether a table of the schema can be read; False where it does not exist yet. `what` it has, for the error: "the saved
    searches". Raises PermissionDenied where it exists and this role may not read it. Reads only."""
    if is_readable(connection, table):
        return True
    if not _exists(connection, table):
        return False
    role = sql.Identifier(connection.info.user).as_string(None)
    raise PermissionDenied(
        f"this role may not read {what}.",
        why=f"they are recorded in schema everindex_meta, which role {role} may not read.",
        next_step=f"have its owner run  GRANT USAGE ON SCHEMA everindex_meta TO {role}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA everindex_meta TO {role};",
    )


def require_writable(connection: Connection, table: str, *, conninfo: str, what: str) -> None:
    """Makes sure that rows of a table of the schema can be written, and creates the schema or the table where it is missing,
    over `conninfo`, an address without a pooler. Raises PermissionDenied, with the statements that help."""
    role = sql.Identifier(connection.info.user).as_string(None)
    if not _exists(connection, table):
        try:
            ensure(conninfo)
        except PermissionDenied as exc:
            raise PermissionDenied(
                f"this role cannot store {what}.",
                why=f"they belong into schema everindex_meta, which lacks their table, and role {role} may not create it "
                f"({exc.why.rstrip('.')}).",
                next_step="run  everindex migrate  (of an attached database  everindex attach ) as the role that owns "
                "everindex_meta; if there is no such schema, have an administrator run  "
                f"CREATE SCHEMA everindex_meta AUTHORIZATION {role};",
            ) from exc
    row = connection.execute(
        """
        SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
               AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
               AND pg_catalog.has_table_privilege(c.oid, 'UPDATE') AND pg_catalog.has_table_privilege(c.oid, 'DELETE')
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'everindex_meta' AND c.relname = %s
        """,
        (table,),
    ).fetchone()
    if row is not None and row[0]:
        return
    raise PermissionDenied(
        f"this role cannot store {what}.",
        why=f"they are recorded in table everindex_meta.{table}, which role {role} may not write.",
        next_step=f"have its owner run  GRANT USAGE ON SCHEMA everindex_meta TO {role}; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA everindex_meta TO {role};",
    )


def _exists(connection: Connection, table: str) -> bool:
    """Whether a table of the schema exists, whoever may read it. Reads only."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'everindex_meta' AND c.relname = %s)",
        (table,),
    ).fetchone()
    return row is not None and bool(row[0])


def version(connection: Connection) -> int:
    """The version of the schema in this database, 0 if it is missing or may not be read. Reads only."""
    if not is_readable(connection, "schema_version"):
        return 0
    row = connection.execute("SELECT max(version) FROM everindex_meta.schema_version").fetchone()
    return int(row[0] or 0) if row else 0


def ensure(conninfo: str, *, wait_seconds: float = 60.0) -> None:
    """Creates or completes the schema; one process at a time. Raises PermissionDenied when the role may not create it."""
    with connect(conninfo, application_name="everindex own schema") as connection:
        with translate_errors("reading schema everindex_meta"):
            if version(connection) >= len(VERSIONS):
                return
        with (
            advisory_lock(conninfo, "own-schema", wait_seconds=wait_seconds),
            translate_errors("creating schema everindex_meta"),
        ):
            found = version(connection)
            with connection.transaction():
                # Its owner need not have the privilege to create schemas, but IF NOT EXISTS requires it anyway.
                there = connection.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'everindex_meta'")
                if there.fetchone() is None:
                    connection.execute("CREATE SCHEMA IF NOT EXISTS everindex_meta")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS everindex_meta.schema_version "
                    "(version integer PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now())"
                )
                for number, statements in enumerate(VERSIONS, start=1):
                    if number > found:
                        connection.execute(statements)
                        connection.execute("INSERT INTO everindex_meta.schema_version (version) VALUES (%s)", (number,))
            log.info("schema everindex_meta is at version %d", len(VERSIONS), extra={"event": "own-schema-migrated"})
