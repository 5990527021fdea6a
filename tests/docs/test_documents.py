"""Every code block in the documentation works as printed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of, reader
from tests.workers.programs import needs_shell_tools

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README.md")]
)

LONG = {
    *("docs/how-to/sign-in.md", "docs/how-to/troubleshooting.md", "docs/how-to/recipes.md"),
    *("docs/how-to/use-with-django.md", "docs/how-to/use-with-flask.md", "docs/how-to/use-the-client.md"),
    *("docs/how-to/test-your-functions.md", "docs/how-to/retry-and-give-up.md", "docs/how-to/groups.md"),
    *("docs/how-to/schedules.md", "docs/how-to/many-jobs.md", "docs/how-to/choose-how-a-function-runs.md"),
    *("docs/how-to/logs.md", "docs/how-to/find-out-why-a-job-failed.md", "docs/how-to/write-a-worker.md"),
    *("docs/how-to/mount-in-another-app.md", "docs/how-to/call-from-code.md"),
    *("docs/how-to/run-in-production.md", "examples/maths/README.md"),
    *("docs/how-to/functions-behind-a-url.md", "examples/push/README.md"),
    *("docs/how-to/share-a-connection-pool.md", "docs/how-to/workers-on-other-machines.md"),
    *("docs/explanation/ancestors.md", "examples/doozer/README.md", "examples/groups/README.md"),
    *("examples/chain/README.md", "examples/workers/node/README.md", "examples/workers/shell/README.md"),
}
"""Slow documents, which `make test-long` reads. Faster tests cover the same features."""

SHELL = ("docs/how-to/write-a-worker.md", "examples/workers/shell/README.md")
"""Documents whose commands need curl and jq."""

NAMED = [
    pytest.param(
        document, id=name, marks=[pytest.mark.long] * (name in LONG) + [needs_shell_tools] * (name in SHELL)
    )
    for document in DOCUMENTS
    for name in [str(document.relative_to(ROOT))]
]


@pytest.mark.acceptance
@pytest.mark.parametrize("document", NAMED)
def test_document(document: Path, tmp_path: Path) -> None:
    """Every block runs, and its output is the one in the document."""
    if document.is_relative_to(ROOT / "examples"):  # such a document describes the files in its folder
        shutil.copytree(document.parent, tmp_path, dirs_exist_ok=True)
    with reader(tmp_path) as blocks:
        for block in blocks_of(document.read_text(encoding="utf-8")):
            try:
                blocks.read(block)
            except AssertionError as error:
                raise AssertionError(f"{document.relative_to(ROOT)}:{block.line}\n{error}") from None
