"""The client for code that is not async, generated from `raincheck.client.asynchronous`.

Only `seam` is written by hand.
"""
