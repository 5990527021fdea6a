"""The client for blocking code, generated from `raincheck.client.asynchronous`.

Only `compat` is written by hand.
"""
