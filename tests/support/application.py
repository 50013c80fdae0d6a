"""Databases as the application made them that the deployment guide comes from: its own migrations, its own tables, from SQL.

Its revisions have the names of ours up to the vector index, and go on from there; its schema is richer.
"""

from __future__ import annotations

import psycopg

#: A revision of the application that no release of everindex has.
LATER = "4c1d9a77be02"
OTHER_TABLES = 24
TEXT_COLUMNS = (
    "title", "news_source", "publication_date", "submission_date", "summary", "category", "future_signal",
    "future_signal_explanation", "sentiment", "sentiment_explanation", "time_to_impact", "time_to_impact_explanation",
    "tags", "driver_type", "driver_type_explanation", "topic", "bias", "factual_reporting", "mbfc_credibility_rating",
    "bias_source", "bias_country", "press_freedom", "media_type", "popularity", "ingest_status", "quality_issues",
)  # fmt: skip
ROWS = 1200
WIDTH = 32


def statements(*, revision: str | None, rows: int = ROWS, index: str | None = None) -> list[str]:
    """The SQL of an instance at `revision`; `index` is a CREATE INDEX of the application's own."""
    order = ["d8d9cdcec340", "1745b4f22f68", "8eadb2079747", "b6a5ff4214f5", "e0aa2eb4fa0a"]
    done = order.index(revision) + 1 if revision in order else len(order)
    made = [
        f"CREATE TABLE articles (uri text PRIMARY KEY, {', '.join(f'{column} text' for column in TEXT_COLUMNS)}, "
        "analyzed boolean, keyword_relevance_score double precision)",
        "CREATE TABLE raw_articles (uri text PRIMARY KEY REFERENCES articles (uri), raw_markdown text, "
        "submission_date text, last_updated text, topic text)",
        *(
            f"CREATE TABLE application_{number} (id int PRIMARY KEY, uri text REFERENCES articles (uri), note text)"
            for number in range(OTHER_TABLES)
        ),
        "INSERT INTO articles (uri, title, summary, category, news_source, topic, publication_date) "
        "SELECT 'https://news.example/' || n, 'Title ' || n, 'About subject ' || n % 97, 'Category ' || n % 5, "
        f"'Source ' || n % 7, 'Topic ' || n % 3, '2025-01-0' || 1 + n % 9 FROM generate_series(1, {rows}) n",
    ]
    if done >= 2:
        made += [
            "CREATE TABLE article_analysis_cache (id serial PRIMARY KEY, article_uri text NOT NULL, analysis_type text, "
            "content text, model_used text, generated_at timestamp, expires_at timestamp, metadata jsonb, cost_cents int)",
            "CREATE TABLE article_analysis_runs (id serial PRIMARY KEY, article_uri text)",
        ]
    if done >= 3:
        made += [
            "CREATE EXTENSION IF NOT EXISTS vector",
            f"ALTER TABLE articles ADD COLUMN embedding vector({WIDTH})",
            f"UPDATE articles SET embedding = (SELECT array_agg(random() - 0.5)::vector({WIDTH}) "
            f"FROM generate_series(1, {WIDTH}) n WHERE n + length(articles.uri) > 0)",
        ]
    if done >= 4:
        made.append(
            "CREATE TABLE incident_status (id serial PRIMARY KEY, incident_name text NOT NULL, topic text NOT NULL, "
            "status text, created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now(), note text, "
            "UNIQUE (incident_name, topic))"
        )
    if index is not None:
        made.append(index)
    if revision is not None:
        made += [
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            f"INSERT INTO alembic_version VALUES ('{revision}')",
        ]
    return made


def make_application(conninfo: str, *, revision: str | None, rows: int = ROWS, index: str | None = None) -> None:
    """Fills an empty database."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements(revision=revision, rows=rows, index=index):
            connection.execute(statement)


def snapshot(conninfo: str) -> list[tuple[object, ...]]:
    """All that an application can see of its schema, outside of system schemas: relations with owner, columns, privileges,
    indexes, constraints, comments, extensions, schemas, and what alembic_version says."""
    queries = (
        "SELECT 'schema', nspname, nspacl::text, obj_description(oid) FROM pg_namespace "
        "WHERE nspname !~ '^pg_(toast|temp)' ORDER BY 2",
        "SELECT 'relation', c.relname, c.relkind::text, c.relowner::regrole::text, c.relacl::text, c.reloptions::text, "
        "obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' ORDER BY 2",
        "SELECT 'column', attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, "
        "col_description(attrelid, attnum) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped "
        "ORDER BY 2, 3",
        "SELECT 'index', i.indexrelid::regclass::text, i.indexrelid::int8, pg_get_indexdef(i.indexrelid), i.indisvalid "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace ORDER BY 2",
        "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace ORDER BY 2, 3",
        "SELECT 'extension', extname, extversion FROM pg_extension ORDER BY 2",
    )
    with psycopg.connect(conninfo) as connection:
        found = [row for query in queries for row in connection.execute(query).fetchall()]
        if connection.execute("SELECT to_regclass('alembic_version')").fetchone() != (None,):
            found += connection.execute("SELECT 'revision', version_num, xmin::text FROM alembic_version").fetchall()
    return found
