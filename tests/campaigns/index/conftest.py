"""Databases for the index engine."""

from index_fixtures import before_index, items, many_items, starts
