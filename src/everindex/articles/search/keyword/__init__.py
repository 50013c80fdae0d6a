"""Keyword search: above the request and its parsed query, below hybrid search, beside vector search."""
