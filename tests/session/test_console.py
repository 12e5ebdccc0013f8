"""What is said of errors and on what may surprise."""

import io

from rich.console import Console

from fedbench.session.console import fail, warn


def test_errors_and_warnings_show_names_in_brackets_as_they_are(monkeypatch):
    there = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr("fedbench.session.console.stderr", there)
    fail("/data/[b]/x")
    warn("/data/[i]/y")
    assert "error: /data/[b]/x" in there.file.getvalue()
    assert "warning: /data/[i]/y" in there.file.getvalue()
