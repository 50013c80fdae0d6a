"""Writes of rows, vectors and records: above search, whose caches they invalidate, below the instance."""
