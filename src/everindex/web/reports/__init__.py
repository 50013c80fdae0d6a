"""Reports on the index and the articles for pages and API, as dataclasses; imports no page and no handler."""
