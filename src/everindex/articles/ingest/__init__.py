"""Writes: rows, their vectors and records; above the search, whose caches they invalidate, below the instance."""
