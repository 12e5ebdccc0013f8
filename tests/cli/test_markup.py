"""Names and paths in brackets are shown as they are: they are no markup of the terminal's."""

from __future__ import annotations

import io

from rich.console import Console

from fedbench.cli import inspect, listing, system


def console():
    return Console(file=io.StringIO(), width=200)


def test_class_names_and_titles(monkeypatch):
    there = console()
    there.print(inspect._counts([[1, 2]], ["[b]", "[/i]"], "split of [red]"))
    shown = there.file.getvalue()
    assert all(name in shown for name in ("[b]", "[/i]", "split of [red]"))


def test_lists_of_things(monkeypatch):
    there = console()
    monkeypatch.setattr(listing, "stdout", there)
    listing.listed([{"name": "[b]", "what": ["[/i]", "x"]}], False, "Things")
    assert "[b]" in there.file.getvalue()
    assert "[/i], x" in there.file.getvalue()


def test_the_data_root(monkeypatch, tmp_path):
    there = console()
    (tmp_path / "[b]data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDBENCH_DATA", "[b]data")
    monkeypatch.setattr(system, "stdout", there)
    system.data()
    shown = there.file.getvalue()
    assert f"Data below {tmp_path / '[b]data'} (FEDBENCH_DATA)" in shown
    assert f"no file of it is below {tmp_path / '[b]data'} (set" in shown
