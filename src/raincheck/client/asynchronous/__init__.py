"""The client for async code, and the source of the blocking client.

``tools/twin.py`` generates `raincheck.client.blocking` from it (``make twin``; docs/decisions/0012).
Only `compat` is written by hand in both packages.
"""
