"""Collections beside the articles: recorded here, over a table of their own or an existing one, and used like them."""
