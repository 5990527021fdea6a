"""What a user would build: FastAPI in front of a peer. ``uvicorn benchmarks.peers.http.NAME:app``."""
