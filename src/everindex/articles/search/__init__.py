"""Searching articles by meaning: which statement (statement), which way (strategy), and the run itself (engine)."""
