"""Metrics for Prometheus: of a database, as any process may observe it, and of one process that serves searches."""
