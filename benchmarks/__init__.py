"""Measures raincheck against base lines and a peer, both sides in the same run: ``python -m benchmarks``."""
