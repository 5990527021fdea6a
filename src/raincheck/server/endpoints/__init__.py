"""The endpoints of the HTTP API: each takes a request and returns a response."""
