"""Measures raincheck against baselines and a peer, all in the same run: ``python -m benchmarks``."""
