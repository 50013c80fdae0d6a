"""Collections beside the articles: recorded in this database, made or laid over a table, written and searched like them."""
