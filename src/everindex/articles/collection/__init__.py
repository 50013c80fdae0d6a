"""Collections: what a searched table is, how it is declared and stored, and the methods that search and write it."""
