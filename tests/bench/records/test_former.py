"""Settings of an older form: they are read as today's, and mean the same cells."""

import json
from pathlib import Path

import pytest

from fedbench.bench.records.former import of_today
from fedbench.bench.records.record import read_record
from fedbench.bench.suites.planfile import Entry, Plan, read_plan, write_plan
from fedbench.config import address, identity, parse
from fedbench.data.schemes import SCHEMES
from fedbench.errors import SettingsError

LEADERBOARDS = Path(__file__).parents[3] / "leaderboards"
RECORDS = sorted(LEADERBOARDS.glob("*/records/*.json"))
BAG = {
    "scheme": "dirichlet_capped",
    "clients": 5,
    "beta": 0.5,
    "min_size": 10,
    "max_tries": 1000,
    "floor": 10,
    "sigma": 0.0,
    "filling": "in_turn",
    "shards": 2,
    "classes_per_client": 2,
    "iid_share": 0.5,
    "validation": 0.0,
}


def test_every_published_record_gets_its_id_back():
    """With the versions of its time: a raised one makes another cell, and takes no record away."""
    assert len(RECORDS) > 400
    for path in RECORDS:
        record = read_record(path)
        found = identity(parse(record.settings))
        found["versions"] = record.versions
        assert address(found) == record.cell_id == path.stem, path


@pytest.mark.parametrize("name", SCHEMES.names())
def test_what_other_schemes_take_is_left_out(name):
    settings = {"method": "local", "partition": {**BAG, "scheme": name}}
    found = of_today(settings)
    assert parse(found) == parse({"method": "local", "partition": {"scheme": name}})
    assert of_today(found) == found


def test_a_plan_is_read_as_todays(tmp_path):
    path = tmp_path / "plan.json"
    entry = Entry("0", None, {"partition": {**BAG, "scheme": "iid"}})
    write_plan(path, Plan("s", "", "quick", (entry,)))
    assert read_plan(path).cells[0].settings["partition"] == {
        "scheme": "iid",
        "clients": 5,
        "validation": 0.0,
    }


def test_only_the_older_form_is_forgiven():
    stray = {"method": "local", "partition": {"scheme": "iid", "beta": 0.5}}
    assert of_today(stray) == stray
    with pytest.raises(SettingsError, match="unknown key 'beta'"):
        parse(of_today(stray))


def test_a_whole_cell_of_another_kind_stays_as_it_is():
    theirs = json.loads(json.dumps({"partition": {**BAG, "scheme": "theirs"}}))
    assert of_today(theirs) == theirs
    assert of_today({}) == {}
