"""Background work: the keeper, warming, and query sampling; above the instance, imported by commands only."""
