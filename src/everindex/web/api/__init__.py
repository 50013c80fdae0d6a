"""The JSON API and the probes: below the pages, above the application state."""
