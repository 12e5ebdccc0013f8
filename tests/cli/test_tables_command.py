"""`fedbench tables` and `fedbench index`, and what published boards tell of time."""

import csv
from pathlib import Path

import pytest

from fedbench.bench.suites.planfile import read_plan
from fedbench.bench.survey import survey
from fedbench.cli.index import index
from fedbench.cli.tables import tables
from fedbench.errors import DataError, SettingsError

BOARDS = Path(__file__).parents[2] / "leaderboards"


def test_one_source_is_written_and_told(tmp_path, capsys):
    tables("mtt", out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"mtt.{end}" for end in ("html", "md", "tex", "csv")
    }
    assert (tmp_path / "mtt.csv").read_bytes() == (BOARDS / "tables" / "mtt.csv").read_bytes()
    with (tmp_path / "mtt.csv").open(encoding="utf-8") as file:
        known = sum(bool(line["published"] and line["ours_mean"]) for line in csv.DictReader(file))
    assert known > 20
    said = f"mtt: 4 tables, 28 published cells, {known} with ours beside"
    assert said in capsys.readouterr().out


def test_an_unknown_source_names_the_nearest(tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'collabdm'"):
        tables("colabdm", out=tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no published boards"):
        tables(boards=tmp_path / "nothing")
    with pytest.raises(SettingsError, match="no published boards"):
        index(tmp_path / "nothing")


def test_outside_a_checkout_ones_own_records_stand_beside(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FEDBENCH_HOME", str(tmp_path))
    monkeypatch.setattr("fedbench.cli.tables.published_boards", lambda: None)
    tables("mtt")
    assert (tmp_path / "tables" / "mtt.csv").is_file()
    said = capsys.readouterr()
    assert "28 published cells, 0 with ours beside" in said.out
    assert f"the records of {tmp_path} alone; a checkout of fedbench has them" in said.err


def test_an_index_is_that_of_its_folder(tmp_path, capsys):
    (tmp_path / "digits").symlink_to(BOARDS / "digits")
    index(tmp_path)
    assert "1 boards" in capsys.readouterr().out
    assert "Handwritten digits" in (tmp_path / "index.md").read_text()


def test_estimates_of_a_new_home_rest_on_published_boards(tmp_path):
    plan = read_plan(BOARDS / "digits" / "plan.json")
    alone = survey(tmp_path, plan, device="cpu").estimate
    told = survey(tmp_path, plan, device="cpu", beside=BOARDS).estimate
    assert alone.records == 0
    assert alone.unknown == len(plan.cells)
    assert told.unknown == 0
    assert told.wall(2) > 0
    assert told.sizes_unknown > 0  # outputs of published records are not here to be measured


@pytest.mark.slow
def test_a_dry_run_shows_what_is_missing_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FEDBENCH_HOME", str(tmp_path))
    tables("mtt", run=True, dry_run=True)
    assert "102 done, 0 left" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_suite_without_its_data_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    def sweep(path, **options):
        asked.append(Path(path).stem)
        if len(asked) == 1:
            raise DataError("its data are not here")

    asked = []
    monkeypatch.setenv("FEDBENCH_HOME", str(tmp_path))
    monkeypatch.setattr("fedbench.cli.sweep.sweep", sweep)
    tables("dense", run=True, seeds=1)
    assert len(asked) > 1
    assert f"{asked[0]}: its data are not here" in capsys.readouterr().err


@pytest.mark.parametrize("idle", [{"seeds": 2}, {"profile": "smoke"}, {"dry_run": True}])
def test_what_only_a_sweep_needs_is_refused_without_one(tmp_path, idle):
    with pytest.raises(SettingsError, match="would change nothing without --run"):
        tables("mtt", out=tmp_path, **idle)
    assert not list(tmp_path.iterdir())
