"""Reports: what pages and API say of the index and the articles, as dataclasses; imports no page and no handler."""
