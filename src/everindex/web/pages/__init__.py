"""The HTML pages, the top of the handlers: they import the API, the application state, reports and HTTP."""
