"""NSL-KDD: attack groups, scaling fitted on training flows, one-hot words, the square layout."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from data_files import flow, load_all, put, write_flows

from fedbench.data.readers.network import _GROUP_OF
from fedbench.data.specs import NSL_KDD
from fedbench.errors import DataError

NUMBERS = 38
TRAIN = [
    flow("normal", duration="0", f22="1", f24="0.00"),
    flow("neptune", duration="999", f22="11", f24="1.00", service="private", flag="S0"),
    flow("nmap", f22="6", protocol="icmp", service="eco_i"),
]


def load_flows(folder, train, test):
    write_flows(folder / "nsl_kdd", train, test)
    return load_all("nsl_kdd", folder, folder / "cache")


def rows(split):
    return split.images.flatten(1).numpy()


def test_attacks_map_to_five_groups(tmp_path):
    attacks = ["normal", "smurf", "satan", "spy", "rootkit"]
    data = load_flows(tmp_path, [flow(attack) for attack in attacks], [flow("mailbomb")])
    assert data.classes == ("normal", "dos", "probe", "r2l", "u2r")
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.test.labels.tolist() == [1]


def test_all_forty_names_are_known_once():
    assert len(_GROUP_OF) == 40
    assert set(_GROUP_OF.values()) == set(NSL_KDD.classes)


def test_numbers_are_scaled_by_the_training_part(tmp_path):
    data = load_flows(tmp_path, TRAIN, [flow(f22="3"), flow(f22="500"), flow(f22="0")])
    count = 22 - 3  # three words stand before it
    assert rows(data.train)[:, count].tolist() == [0, 255, 128]
    assert rows(data.test)[:, count].tolist() == [51, 255, 0]


def test_heavy_tails_are_logarithmic(tmp_path):
    data = load_flows(tmp_path, TRAIN, [flow(duration="30")])
    expected = round(255 * np.log1p(30) / np.log1p(999))
    assert rows(data.test)[0, 0] == expected


def test_constant_features_are_zero(tmp_path):
    data = load_flows(tmp_path, TRAIN, [flow(f19="7")])
    assert rows(data.test)[0, 19 - 3] == 0


def test_words_are_one_hot_and_unseen_ones_all_zeros(tmp_path):
    data = load_flows(tmp_path, TRAIN, [flow(service="never_seen", protocol="icmp")])
    words = rows(data.train)[:, NUMBERS:]
    # protocol: icmp, tcp; service: eco_i, http, private; flag: S0, SF
    np.testing.assert_array_equal(
        words[:, :7] // 255, [[0, 1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 0, 0, 1]]
    )
    assert not words[:, 7:].any()
    assert (rows(data.test)[0, NUMBERS : NUMBERS + 7] // 255).tolist() == [1, 0, 0, 0, 0, 0, 1]


def test_image_is_square_and_survives_three_halvings(tmp_path):
    data = load_flows(tmp_path, TRAIN, TRAIN)
    assert data.train.images.shape == (3, 1, 12, 12)
    assert data.size // 2 // 2 // 2 >= 1


def test_full_training_file_comes_first(tmp_path):
    put(tmp_path / "nsl_kdd" / "KDDTrain+_20Percent.txt", flow("spy").encode())
    data = load_flows(tmp_path, TRAIN, TRAIN)
    assert data.train.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (flow("zero_day"), "unknown attack 'zero_day'"),
        (flow(f22="many"), "not a number"),
        (flow(f22="-1"), "negative"),
        (flow(f22="nan"), "not finite"),
        (flow() + ",extra", "44 fields in row 2"),
        ("<html>", "1 fields in row 2"),
    ],
)
def test_foreign_rows_are_named(tmp_path, row, word):
    with pytest.raises(DataError, match=word) as caught:
        load_flows(tmp_path, [flow(), row], TRAIN)
    assert str(tmp_path / "nsl_kdd" / "KDDTrain+.txt") in str(caught.value)


def test_truncated_and_empty_files_are_named(tmp_path):
    write_flows(tmp_path / "nsl_kdd", TRAIN, TRAIN)
    path = tmp_path / "nsl_kdd" / "KDDTest+.txt.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"KDDTest\+\.txt\.gz: cannot be read"):
        load_all("nsl_kdd", tmp_path, tmp_path / "cache")
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="is empty"):
        load_all("nsl_kdd", tmp_path, tmp_path / "cache")


def test_more_features_than_pixels_is_an_error(tmp_path):
    many = [flow(service=f"service_{number}") for number in range(105)]
    with pytest.raises(DataError, match="145 features; at most 144"):
        load_flows(tmp_path, many, TRAIN)
