"""Requests to URLs that come from configuration: where they may go, how they are sent and signed.

A URL can name any host, so it could reach services that only this machine or its network should reach
(server-side request forgery). docs/decisions/0029 explains the rules.
"""
