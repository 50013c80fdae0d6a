"""The HTML pages; the top of the handlers: imports fall to the API, the state of the application, reports and HTTP."""
