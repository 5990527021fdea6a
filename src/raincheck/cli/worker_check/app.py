"""The app of the server that ``raincheck worker-check`` starts: workers bring the functions."""

from __future__ import annotations

from raincheck import App

app = App(title="worker-check")
