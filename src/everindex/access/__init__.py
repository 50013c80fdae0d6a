"""Who may use the web application and the MCP server over HTTP, and the roles of least privilege in the database."""
