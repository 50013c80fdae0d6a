"""everindex: article search on PostgreSQL + pgvector whose HNSW index is declared once and always there."""

__version__ = "0.1.0"
