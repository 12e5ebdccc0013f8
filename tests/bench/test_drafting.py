"""A first suite for somebody's data: what is seen, what suits it, and that the file can be used."""

import numpy as np
import pytest
from PIL import Image

from fedbench.bench.drafting.choice import choose
from fedbench.bench.drafting.draft import _flow, draft, suite_name
from fedbench.bench.drafting.look import chosen_size, look, whole
from fedbench.bench.suites.checking import check
from fedbench.bench.suites.located import read_value
from fedbench.bench.suites.plan import expand
from fedbench.bench.suites.suite import read_suite
from fedbench.errors import DataError
from fedbench.methods import METHODS


def write(folder, counts, size=(20, 24), mode="L"):
    source = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = source.integers(0, 256, (size[1], size[0]), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{number}.png")
    return folder


def seen(path, tmp_path):
    return look(path, root=tmp_path / "data", cache=tmp_path / "cache", say=lambda _: None)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two large classes and a tiny one, and the suite for it."""
    top = tmp_path_factory.mktemp("photos")
    folder = write(top / "mine", {"cat": 150, "dog": 150, "owl": 3})
    found = seen(folder, top)
    choice = choose(found)
    text, methods = draft(found, choice, "mine")
    path = top / "mine.yaml"
    path.write_text(text)
    return found, choice, methods, path


def test_the_suite_can_be_used_and_has_every_method(photos):
    _, _, methods, path = photos
    checked = check(path)
    assert [problem.line(path) for problem in checked.problems] == []
    assert checked.cells["quick"][1] == 0  # nothing skipped
    assert {line.settings["name"] for line in methods} == {*METHODS.names()}
    assert [line for line in methods if line.why_not] == []
    assert draft(*photos[:2], "mine")[0] == path.read_text()


@pytest.mark.parametrize(
    "name", ["2024", "2024_05", "1e3", "no", "true", "0x10", "0b1", "2024-05-01"]
)
def test_a_suite_may_have_any_name(photos, tmp_path, name):
    found, choice, _, _ = photos
    path = tmp_path / f"{name}.yaml"
    path.write_text(draft(found, choice, name)[0])
    assert [problem.line(path) for problem in check(path).problems] == []


def test_clients_budgets_and_images_suit_the_counts(photos):
    found, choice, _, path = photos
    assert (found.sizes, found.modes, found.shorter) == ({(20, 24): 303}, {"L": 303}, 20)
    assert found.loaded.train.images.shape[1:] == (1, 16, 16)
    assert choice.rarest == ("owl", 2)
    assert choice.sizes["smoke"].rarest == 2
    quick = choice.sizes["quick"]
    assert (quick.clients, quick.ipc, quick.batch) == ((5,), (10,), 16)
    assert choice.public == 30  # the budget's; a tenth of the images is less, a fifth more
    assert quick.train + choice.public == choice.images
    cells = [entry.cell for entry in expand(read_suite(path).sized("quick")).cells]
    assert {cell.budget.pixels for cell in cells if cell.budget} == {10 * 3 * 16 * 16}
    # CollabDM starts from real images of each class, of which there are two owls.
    (collabdm,) = {cell.method for cell in cells if cell.method.name == "collabdm"}
    assert collabdm.initial == "noise"
    text = path.read_text()
    assert "The shorter sides' median is 20" in text
    assert "That is a privilege" in text


def test_a_csv_leaves_out_what_makes_pictures(tmp_path):
    rows = [f"{number % 7},{number % 5},{'ab'[number % 2]}" for number in range(400)]
    path = tmp_path / "my flows.csv"
    path.write_text("\n".join(["x,z,class", *rows, ""]))
    found = seen(path, tmp_path)
    assert suite_name(path, ()) == "my_flows"
    text, methods = draft(found, choose(found), "flows")
    left = {line.settings["name"] for line in methods if line.why_not}
    assert left == {"single_image", "dense", "co_boosting", "deep_inversion", "fedlmg"}
    suite = tmp_path / "flows.yaml"
    suite.write_text(text)
    assert check(suite).usable
    assert "# single_image does not fit: crops of a photograph" in text


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({}, "holds neither images in class folders nor a csv"),
        ({"cat": 9}, "holds one class, 'cat'"),
        ({"cat": 3, "dog": 3}, "too few to spread"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, made, message):
    folder = write(tmp_path / "mine", made)
    folder.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=message):
        choose(seen(folder, tmp_path))


def test_places_are_found_where_they_are_not_named(tmp_path):
    for part in ("train", "val"):
        write(tmp_path / "top" / "photos" / part, {"a": 9, "b": 9})
    for named in ("top", "top/photos", "top/photos/train", "top/photos/val"):
        found = seen(tmp_path / named, tmp_path)
        assert found.sources.folder == tmp_path / "top" / "photos"
        assert (len(found.loaded.train), len(found.loaded.test)) == (18, 18)
    assert whole(tmp_path / "top" / "photos" / "train") == tmp_path / "top" / "photos"
    with pytest.raises(DataError, match="there is no folder or file"):
        seen(tmp_path / "nowhere", tmp_path)


def test_a_data_set_with_a_name_is_named(tmp_path):
    for name in ("KDDTrain+.txt", "KDDTest+.txt"):
        (tmp_path / "nsl_kdd").mkdir(exist_ok=True)
        (tmp_path / "nsl_kdd" / name).write_text("1")
    with pytest.raises(DataError, match="holds the data set nsl_kdd, which fedbench knows by name"):
        seen(tmp_path / "nsl_kdd", tmp_path)


def test_sizes_and_names():
    assert [chosen_size(side) for side in (5, 16, 31, 32, 63, 640)] == [16, 16, 16, 32, 32, 64]
    assert suite_name_of("Über Fotos!") == "ber_fotos"
    assert suite_name_of("digits", ["digits"]) == "digits_own"
    assert suite_name_of("cache") == "cache_own"
    assert suite_name_of("...") == "mine"


def suite_name_of(name, taken=()):
    from pathlib import Path

    return suite_name(Path("/") / name, taken)


@pytest.mark.parametrize(
    "value", ["plain", "a b", "no", "1", "1.5", "12e3", "#x", "a: b", "", "[", "ß/é", "-", "'", '"']
)
def test_texts_are_read_back_as_they_are(value):
    assert read_value(_flow({"key": value})) == {"key": value}
