"""The search: imports fall from the service to hybrid search, to search by words and by vectors, to the request."""
