"""What a plan can tell of data that are not here, by a look."""

import gzip

import pytest

from fedbench.bench.cells.lookup import absent, why_absent
from fedbench.config import parse
from fedbench.data.settings import Data

FLOWS = b"bytes,proto,label\n1,tcp,a\n2,udp,b\n"


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def why(root, name, path=None, *, offline=True):
    return why_absent(Data(name=name, path=path), root, offline=offline)


def test_what_is_here_is_no_fault(tmp_path):
    put(tmp_path / "photos" / "cat" / "1.png")
    put(tmp_path / "flows.csv", FLOWS)
    put(tmp_path / "packed" / "train.csv.gz", gzip.compress(FLOWS))
    put(tmp_path / "packed" / "test.csv.gz", gzip.compress(FLOWS))
    assert why(tmp_path, "digits") is None
    assert why(tmp_path, "folder", "photos") is None
    assert why(tmp_path, "flows", "flows.csv") is None
    assert why(tmp_path, "flows", str(tmp_path / "packed")) is None


@pytest.mark.parametrize(
    ("name", "path", "content", "words"),
    [
        ("folder", "photos", None, "photos is not there"),
        ("folder", "photos/note.txt", b"x", "photos has no image in a folder for its class"),
        ("folder", "photos/train/cat/1.png", b"", "train/cat/1.png: is empty"),
        ("folder", "photos.zip", b"x", "photos.zip is a file of another kind"),
        ("flows", "photos/x.csv", b"a,b\n1,2\n", "x.csv: has no column of labels"),
        ("flows", "photos/x.csv", b"1,2\n3,4\n", "x.csv: has no header"),
        ("flows", "photos/x.csv.gz", FLOWS, "x.csv.gz: cannot be read: Not a gzipped file"),
        ("flows", "photos/x.csv", b"\xff\xfe,label\n1,2\n", "x.csv: cannot be read: 'utf-8'"),
        ("nidd_5g", "photos/x.csv", FLOWS, "x.csv: has no column 'Attack Type'"),
    ],
)
def test_a_look_names_the_full_path_and_what_is_wrong(tmp_path, name, path, content, words):
    if content is not None:
        put(tmp_path / path, content)
    asked = path if path.endswith(".zip") else "photos"
    found = why(tmp_path, name, asked)
    assert words in found
    assert str(tmp_path / "photos") in found


def test_what_can_be_downloaded_is_a_fault_where_that_is_not_allowed_or_a_part_is_here(tmp_path):
    root = tmp_path / "none"
    assert why(root, "cifar10", offline=False) is None
    assert f"below {root}, which is no folder (set FEDBENCH_DATA" in why(root, "cifar10")
    put(root / "svhn" / "train_32x32.mat")
    assert "lacks test_32x32.mat" in why(root, "svhn", offline=False)
    assert "to fetch: take KDDTrain+.txt" in why(root, "nsl_kdd", offline=False)


def test_public_data_of_a_method_count(tmp_path):
    cell = parse({"method": {"name": "feddf", "public": "svhn"}, "budget": {"ipc": 1}})
    assert [data.name for data in absent([cell, cell], tmp_path, offline=True)] == ["svhn"]
