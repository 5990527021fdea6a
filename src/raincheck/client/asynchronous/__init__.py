"""The client for async code: what is written by hand, and what its blocking twin is generated from.

Only `seam` is written twice. Everything else is turned into `raincheck.client.blocking` by
``tools/twin.py`` (docs/decisions/0012); ``make twin`` does it.
"""
