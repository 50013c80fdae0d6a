"""Search by vectors; above the request, below hybrid search, beside the search by words."""
