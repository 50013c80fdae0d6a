"""Vector search: above the request, below hybrid search, beside keyword search."""
