"""The export of a result: the hits of a search as rows of CSV, JSONL or Parquet, page by page, in memory of one page."""

from everindex.articles.export.columns import export_columns
from everindex.articles.export.walk import MAX_EXPORT, Exported, export_to, first_page, format_of, next_page, walk
from everindex.articles.export.writers import FORMATS, ExportFormat, ExportWriter, writer_for

__all__ = [
    "FORMATS",
    "MAX_EXPORT",
    "ExportFormat",
    "ExportWriter",
    "Exported",
    "export_columns",
    "export_to",
    "first_page",
    "format_of",
    "next_page",
    "walk",
    "writer_for",
]
