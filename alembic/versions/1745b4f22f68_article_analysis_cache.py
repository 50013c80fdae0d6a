"""article analysis cache

Revision ID: 1745b4f22f68
Revises: d8d9cdcec340
Create Date: 2025-09-12 09:00:00
"""

from __future__ import annotations

from alembic import op

from everindex.migrate.frozen.filter_indexes import create_filter_indexes

revision: str = "1745b4f22f68"
down_revision: str | None = "d8d9cdcec340"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.execute(
        f"""
            DO $everindex$
            BEGIN
                IF to_regclass('article_analysis_cache') IS NULL THEN
                    CREATE TABLE article_analysis_cache (
                        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                        article_uri text NOT NULL REFERENCES articles (uri) ON DELETE CASCADE,
                        analysis_type text NOT NULL,
                        content text NOT NULL,
                        model_used text NOT NULL,
                        generated_at timestamptz NOT NULL DEFAULT now(),
                        expires_at timestamptz,
                        metadata jsonb,
                        CONSTRAINT article_analysis_cache_key UNIQUE (article_uri, analysis_type, model_used)
                    );
                    COMMENT ON TABLE article_analysis_cache IS 'everindex: made by revision {revision}';
                END IF;
            END $everindex$
        """
    )
    create_filter_indexes(
        op,
        "article_analysis_cache",
        {
            "article_analysis_cache_uri_idx": "article_uri",
            "article_analysis_cache_type_idx": "analysis_type",
            "article_analysis_cache_expires_idx": "expires_at",
        },
    )


def downgrade() -> None:
    op.execute(
        f"""
            DO $everindex$
            BEGIN
                IF obj_description(to_regclass('article_analysis_cache'), 'pg_class')
                        = 'everindex: made by revision {revision}' THEN
                    DROP TABLE article_analysis_cache;
                ELSE
                    RAISE NOTICE 'table article_analysis_cache was not made by this chain: it is kept';
                END IF;
            END $everindex$
        """
    )
