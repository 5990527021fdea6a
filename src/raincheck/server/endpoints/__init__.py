"""What answers each path of the HTTP API."""
