"""add pgvector support

The extension, and `articles.embedding`. The width is the setting EVERINDEX_DIMENSIONS (1536), read here and never again:
afterwards the column is the truth. A column that is there already keeps its type and width.

Revision ID: 8eadb2079747
Revises: 1745b4f22f68
Create Date: 2025-09-20 09:00:00
"""

from __future__ import annotations

from alembic import op

from everindex.migrate.frozen.requirements import embedding_dimensions, require_pgvector

revision: str = "8eadb2079747"
down_revision: str | None = "1745b4f22f68"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    require_pgvector(op)
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.execute(
        f"""
            DO $everindex$
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('articles')
                               AND attname = 'embedding' AND NOT attisdropped) THEN
                    ALTER TABLE articles ADD COLUMN embedding vector({embedding_dimensions()});
                    COMMENT ON COLUMN articles.embedding IS 'everindex: made by revision {revision}';
                END IF;
            END $everindex$
        """
    )


def downgrade() -> None:
    # The extension stays: other tables may use it, and making it again needs a superuser.
    op.execute(
        f"""
            DO $everindex$
            BEGIN
                IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('articles') AND attname = 'embedding'
                           AND col_description(attrelid, attnum) = 'everindex: made by revision {revision}') THEN
                    ALTER TABLE articles DROP COLUMN embedding;
                ELSE
                    RAISE NOTICE 'column articles.embedding was not made by this chain: it is kept';
                END IF;
            END $everindex$
        """
    )
