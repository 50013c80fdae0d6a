"""Search by words; above the request and its parsed query, below hybrid search, beside the search by vectors."""
