"""An app without code: its functions are in raincheck.yaml, and run in functions.py."""

from raincheck import App

app = App(title="push")
