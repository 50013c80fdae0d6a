"""Article search: imports go down from the instance to writing and search, to models, the table and connections."""
