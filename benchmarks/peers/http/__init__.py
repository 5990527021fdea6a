"""FastAPI apps in front of a peer, as a user would build them: ``uvicorn benchmarks.peers.http.NAME:app``."""
