"""What is run as processes: raincheck's functions, the peer's, and the bare servers."""
