"""Functions: their registry, their signatures, and the context that a running function receives."""
