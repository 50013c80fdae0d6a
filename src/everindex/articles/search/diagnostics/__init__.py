"""The diagnostics of a search: plans as they ran, and the log line of a slow one, both without the query."""
