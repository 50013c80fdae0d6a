"""Search: imports go down from the service to hybrid search, to keyword and vector search, to the request."""
