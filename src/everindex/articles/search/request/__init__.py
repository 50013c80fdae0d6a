"""The request of a search: what was asked, parsed and checked once, and passed whole from there down to the SQL."""
