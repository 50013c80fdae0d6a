"""initial PostgreSQL schema

Makes `articles` and `raw_articles`, and the indexes that the filters of a search need. Where a table of that name is
there already (an instance set up by hand), it keeps its columns and types and only gains what is missing.

Revision ID: d8d9cdcec340
Revises:
Create Date: 2025-09-01 09:00:00
"""

from __future__ import annotations

from alembic import op

from everindex.migrate.frozen.filter_indexes import create_filter_indexes

revision: str = "d8d9cdcec340"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

# Dates are ISO-8601 text: as text they sort and compare as dates do, and existing instances keep them so.
ARTICLE_COLUMNS = {
    "title": "text",
    "summary": "text",
    "news_source": "text",
    "publication_date": "text",
    "submission_date": "text",
    "category": "text",
    "topic": "text",
    "tags": "text",
    "sentiment": "text",
    "sentiment_explanation": "text",
    "future_signal": "text",
    "future_signal_explanation": "text",
    "time_to_impact": "text",
    "time_to_impact_explanation": "text",
    "driver_type": "text",
    "driver_type_explanation": "text",
    "analyzed": "boolean DEFAULT false",
    "quality_score": "double precision",
    "relevance_score": "double precision",
}
RAW_COLUMNS = {"raw_markdown": "text", "submission_date": "text", "last_updated": "text", "topic": "text"}
FILTER_COLUMNS = ("category", "topic", "news_source", "publication_date")


def upgrade() -> None:
    # fillfactor 70 leaves room in each page for a new version of a row: an analysis that updates unindexed columns
    # then stays a HOT update and touches no index, the vector index least of all (it is hundreds of times dearer).
    _create_or_complete("articles", ARTICLE_COLUMNS, "uri text PRIMARY KEY", "WITH (fillfactor = 70)")
    _create_or_complete(
        "raw_articles", RAW_COLUMNS, "uri text PRIMARY KEY REFERENCES articles (uri) ON DELETE CASCADE", ""
    )
    create_filter_indexes(op, "articles", {f"articles_{column}_idx": column for column in FILTER_COLUMNS})


def downgrade() -> None:
    for table in ("raw_articles", "articles"):
        op.execute(
            f"""
            DO $everindex$
            BEGIN
                -- A table that was here before everindex, or that others depend on, is not ours to drop.
                IF obj_description(to_regclass('{table}'), 'pg_class') = 'everindex: made by revision {revision}' THEN
                    DROP TABLE {table};
                ELSE
                    RAISE NOTICE 'table {table} was not made by this chain: it is kept';
                END IF;
            END $everindex$
            """
        )


def _create_or_complete(table: str, columns: dict[str, str], key: str, options: str) -> None:
    definitions = ",\n                        ".join(f"{name} {kind}" for name, kind in columns.items())
    additions = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {kind}" for name, kind in columns.items())
    op.execute(
        f"""
            DO $everindex$
            BEGIN
                IF to_regclass('{table}') IS NULL THEN
                    CREATE TABLE {table} (
                        {key},
                        {definitions}
                    ) {options};
                    COMMENT ON TABLE {table} IS 'everindex: made by revision {revision}';
                ELSE
                    ALTER TABLE {table} {additions};
                END IF;
            END $everindex$
        """
    )
