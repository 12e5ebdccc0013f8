"""A user's own csv of flows: which column is the class, what becomes a feature, what is refused."""

import gzip

import numpy as np
import pytest
from data_files import load_all, put

from fedbench.data.csvs import label_of
from fedbench.data.readers.flows import CrowdedError
from fedbench.errors import DataError

HEAD = "id,bytes,proto,address,label"


def rows(count, start=0):
    lines = []
    for number in range(start, start + count):
        kind, proto = ("attack", "udp") if number % 3 == 0 else ("normal", "tcp")
        lines.append(f"{number},{number * 10},{proto},10.0.{number}.1,{kind}")
    return lines


def write(path, lines, head=HEAD):
    put(path, "\n".join([head, *lines, ""]).encode())
    return path


def flows(path, said=None, **settings):
    return load_all("flows", path.parent, path.parent / "cache", said, path=str(path), **settings)


def test_one_file_is_divided_and_what_tells_the_class_is_left_out(tmp_path):
    said = []
    data = flows(write(tmp_path / "mine.csv", rows(150)), said)
    assert data.classes == ("attack", "normal")
    assert (len(data.train), len(data.test)) == (120, 30)
    assert data.train.images.shape == (120, 1, 16, 16)
    pixels = data.train.images.flatten(1)
    # bytes, then the words of proto; the rest of the square is empty.
    assert not pixels[:, 3:].any()
    assert (pixels[:, 1] == 255).equal(data.train.labels == 1)
    assert (pixels[:, 2] == 255).equal(data.train.labels == 0)
    assert any("columns left out: id, address" in line for line in said)
    assert any("the class is column 'label', 3 features" in line for line in said)


@pytest.mark.parametrize("name", ["NA", "null", "nan", "N/A"])
def test_a_class_may_be_called_as_nothing_is(tmp_path, name):
    lines = [line.replace("attack", name) for line in rows(150)]
    data = flows(write(tmp_path / "mine.csv", lines))
    assert data.classes == tuple(sorted([name, "normal"]))
    assert (data.train.images.flatten(1)[:, 1] == 255).equal(
        data.train.labels == data.classes.index("normal")
    )


def test_a_number_that_is_missing_is_no_class(tmp_path):
    lines = [f"{number},1,tcp,x,{'NaN' if number == 3 else number % 2}" for number in range(50)]
    with pytest.raises(DataError, match="has 1 rows without a 'label'"):
        flows(write(tmp_path / "mine.csv", lines))


def test_two_files_are_scaled_by_the_training_part(tmp_path):
    write(tmp_path / "both" / "train.csv", rows(30))
    path = write(tmp_path / "test.csv", [*rows(5, 100), ",,icmp,,normal"])
    put(tmp_path / "both" / "test.csv.gz", gzip.compress(path.read_bytes()))
    data = flows(tmp_path / "both")
    assert (len(data.train), len(data.test)) == (30, 6)
    numbers = data.train.images[:, 0, 0, 0].numpy()
    np.testing.assert_array_equal(numbers, np.rint(np.arange(30) * 255 / 29).astype(np.uint8))
    assert (data.test.images[:5, 0, 0, 0] == 255).all()  # beyond the training part's largest
    assert not data.test.images[5].any()  # a missing number and an unknown word are 0


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (["Label", "Attack Type", "x"], "Attack Type"),
        (["x", "Class"], "Class"),
        (["label", "attack_cat"], "attack_cat"),
        (["x", "y1"], None),
    ],
)
def test_the_label_is_found_by_its_name(columns, label):
    assert label_of(columns) == label


@pytest.mark.parametrize(
    ("head", "lines", "message"),
    [
        ("0,tcp,normal", ["1,udp,attack"], "has no header: its first row is 0, tcp, normal"),
        ("a,b", ["1,2"], "has no column of labels; call it `label`"),
        ("a,a,label", ["1,2,x"], "columns of one name: 'a'"),
        ("a,label", [], "a header and no row"),
        ("a,label", ["1,x", "2,", "3,x"], "1 rows without a 'label'"),
        ("a,label", ["inf,x", "2,y", "3,x"], "infinite value in column 'a'"),
        ("a,label", ["1,x", "2"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, head, lines, message):
    path = write(tmp_path / "mine.csv", lines, head)
    with pytest.raises(DataError, match=message) as caught:
        flows(path)
    assert str(path) in str(caught.value)


def test_several_files_and_too_many_features_are_refused(tmp_path):
    wide = ",".join(f"c{number}" for number in range(257))
    line = ",".join(map(str, range(257)))
    path = write(tmp_path / "wide.csv", [f"{line},{kind}" for kind in "xy" * 10], f"{wide},label")
    with pytest.raises(CrowdedError, match="257 features; 16x16 pixels"):
        flows(path)
    assert flows(path, image_size=32).train.images.shape[2:] == (32, 32)
    write(tmp_path / "other.csv", rows(10))
    with pytest.raises(DataError, match=r"several csv files \(other.csv, wide.csv\)"):
        flows(tmp_path)
