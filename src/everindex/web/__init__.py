"""The web application: imports go down from the pages to the API, to the application state, to reports and HTTP."""
