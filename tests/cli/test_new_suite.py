"""A first suite for somebody's own data."""

from pathlib import Path

import pytest

from fedbench.bench.suites.planfile import plan_path
from fedbench.cli.new_suite import new_suite
from fedbench.errors import SettingsError


def test_a_new_suite_is_written_once_and_says_what_to_type(home, tmp_path, monkeypatch, capsys):

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDBENCH_DATA", str(tmp_path / "data"))
    lines = [f"{number % 7},{'ab'[number % 2]}" for number in range(400)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["x,class", *lines, ""]))
    new_suite(path)
    said = capsys.readouterr().out
    assert f"suite      {tmp_path}/mine.yaml" in said
    assert f"next       fedbench sweep {tmp_path}/mine.yaml --profile smoke" in said
    assert "left out   single_image: crops of a photograph" in said
    # A fresh home knows published boards.
    assert "scaled from other data or batch sizes" in said.split("\nquick")[1].splitlines()[0]
    assert not plan_path(home, "mine").exists()
    with pytest.raises(SettingsError, match=r"mine.yaml is there already.*--out FILE"):
        new_suite(path)
    with pytest.raises(SettingsError, match=r"let it end in \.yaml"):
        new_suite(path, out=Path("mine.txt"))
