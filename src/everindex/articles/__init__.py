"""Article search: imports fall from what opens an instance to what writes and searches, to models, the table and connections."""
