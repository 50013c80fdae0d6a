"""Who may use the web application and the MCP server over HTTP: tokens, users, their sessions, and their scopes."""
