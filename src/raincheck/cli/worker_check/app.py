"""The app of the server that ``raincheck worker-check`` starts: it has no functions, as workers bring theirs."""

from __future__ import annotations

from raincheck import App

app = App(title="worker-check")
