"""The web application: imports fall from the pages to the API, to the state of the application, to reports and HTTP."""
