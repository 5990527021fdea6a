"""What the tests of the worker share: an app on a database of its own."""

from pathlib import Path

import pytest

from raincheck import App


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(f"sqlite:///{tmp_path / 'jobs.db'}")
