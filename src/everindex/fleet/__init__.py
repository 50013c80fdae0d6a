"""One operation over many databases and schemas: targets, waves and gates, one build at a time per real server, one report."""
