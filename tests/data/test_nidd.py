"""5G-NIDD: merged labels, what is left out, scaling by the training part, tiles, foreign files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from data_files import load_all, put

from fedbench.config import parse
from fedbench.data.readers.network import _NIDD
from fedbench.data.settings import Data
from fedbench.data.specs import NIDD_5G
from fedbench.data.subset import stratified
from fedbench.errors import DataError, SettingsError

#: The public csv's header; the first column, the row's number, has no name.
TITLES = (
    ",Seq,Dur,RunTime,Mean,Sum,Min,Max,Proto,sTos,dTos,sDSb,dDSb,sTtl,dTtl,sHops,dHops,Cause,"
    "TotPkts,SrcPkts,DstPkts,TotBytes,SrcBytes,DstBytes,Offset,sMeanPktSz,dMeanPktSz,Load,SrcLoad,"
    "DstLoad,Loss,SrcLoss,DstLoss,pLoss,SrcGap,DstGap,Rate,SrcRate,DstRate,State,SrcWin,DstWin,"
    "sVid,dVid,SrcTCPBase,DstTCPBase,TcpRtt,SynAck,AckDat,Label,Attack Type,Attack Tool"
)
HEADER = TITLES.split(",")
WORDS = {"Proto": "tcp", "sDSb": "cs0", "dDSb": "", "Cause": "Start", "State": "REQ"}
LEFT_OUT = {"", "Seq", "Offset", "Label", "Attack Type", "Attack Tool"}
NUMBERS = [name for name in HEADER if name not in LEFT_OUT and name not in WORDS]


def flow(attack="Benign", **fields):
    """Return one row; fields by column, 1 where nothing is said."""
    row = {name: "1" for name in HEADER} | WORDS | {"Attack Type": attack} | fields
    return ",".join(str(row[name]) for name in HEADER)


def write(folder, rows, name="Combined.csv", header=TITLES):
    return put(folder / "flows" / name, "\n".join([header, *rows, ""]).encode())


def load_flows(folder, rows, said=None, **settings):
    write(folder, rows)
    return load_all("nidd_5g", folder, folder / "cache", said, path="flows", **settings)


def many(count=20, **fields):
    """Return flows of every kind of traffic, each that often."""
    return [flow(attack, **fields) for attack in _NIDD for _ in range(count)]


def features(split, tile=4):
    """Return the grid's 256 values of each image."""
    return split.images[:, 0, ::tile, ::tile].flatten(1).numpy()


def column(name):
    """Return a number's place among the features where each word has one value (dDSb none)."""
    place = 0
    for other in HEADER:
        if other == name:
            return place
        place += other not in LEFT_OUT and other != "dDSb"
    raise KeyError(name)


def test_nine_kinds_of_traffic_become_five_classes_as_collabdm_merges_them(tmp_path):
    """Sorted by name, numbers 0, 1, 5 and 7 are kept; 2, 3, 4, 6 and 8 are one class."""
    names = sorted(_NIDD)
    merged = [NIDD_5G.classes.index(_NIDD[name]) for name in names]
    assert merged == [0, 1, 4, 4, 4, 2, 4, 3, 4]
    data = load_flows(tmp_path, many())
    counts = np.bincount(data.train.labels) + np.bincount(data.test.labels)
    assert counts.tolist() == [20, 20, 20, 20, 100]
    assert data.classes == ("benign", "http_flood", "slowrate_dos", "udp_flood", "other")


def test_a_fifth_of_each_class_is_for_testing_always_the_same(tmp_path):
    rows = [flow(attack, Dur=number) for number, attack in enumerate([*_NIDD] * 20)]
    data = load_flows(tmp_path, rows)
    assert np.bincount(data.test.labels).tolist() == [4, 4, 4, 4, 20]
    again = load_flows(tmp_path / "copy", rows)
    assert data.fingerprint == again.fingerprint
    train, test = ({*features(part)[:, 0].tolist()} for part in (data.train, data.test))
    assert (len(train), len(test)) == (144, 36)
    assert train & test <= {0, 255}  # where the test part is clipped


def test_where_a_flow_was_recorded_is_no_feature(tmp_path):
    """The row's number, Seq, Offset and the other labels would give the attack away."""
    plain = load_flows(tmp_path, many())
    rows = []
    for number, row in enumerate(many()):
        fields = dict(zip(HEADER, row.split(","), strict=True))
        told = dict.fromkeys(LEFT_OUT - {"Attack Type"}, number)
        rows.append(flow(fields["Attack Type"], **told))
    assert load_flows(tmp_path / "told", rows).fingerprint == plain.fingerprint


def test_numbers_are_scaled_by_the_training_part_and_missing_ones_are_zero(tmp_path):
    rows = [flow(attack, Mean=value) for attack in _NIDD for value in (10, 20, 30, 40, "")]
    data = load_flows(tmp_path, rows)
    values = features(data.train)[:, column("Mean")]
    assert set(values) <= {0, 85, 170, 255}
    assert {0, 255} <= set(values)


def test_the_test_part_has_no_say_in_the_scale(tmp_path):
    attacks = [*_NIDD] * 20
    labels = torch.tensor([NIDD_5G.classes.index(_NIDD[attack]) for attack in attacks])
    tested = {*stratified(labels, 36, 0, "nidd_5g", "test").tolist()}
    high = [flow(a, Mean=99 if n in tested else n % 3) for n, a in enumerate(attacks)]
    data = load_flows(tmp_path, high)
    assert set(features(data.train)[:, column("Mean")]) == {0, 128, 255}
    assert set(features(data.test)[:, column("Mean")]) == {255}


def test_heavy_tails_are_logarithmic(tmp_path):
    rates = [*[0] * 40, *range(1, 10), 10**9]
    rows = [flow(attack, Rate=rate) for attack in _NIDD for rate in rates]
    values = features(load_flows(tmp_path, rows).train)[:, column("Rate")]
    assert round(255 * np.log1p(9) / np.log1p(10**9)) in values
    assert values.max() == 255


def test_constant_and_empty_columns_are_zero(tmp_path):
    data = load_flows(tmp_path, many(sVid="", SrcGap=7))
    assert not features(data.train)[:, column("sVid")].any()
    assert not features(data.train)[:, column("SrcGap")].any()


def test_words_are_one_hot_with_the_training_parts_words(tmp_path):
    rows = [flow(attack, Proto=word) for attack in _NIDD for word in ("udp", "tcp", "icmp", "")]
    data = load_flows(tmp_path, [*rows, *many()])
    place = column("Proto")
    blocks = {tuple(row) for row in features(data.train)[:, place : place + 3]}
    assert blocks == {(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)}  # icmp, tcp, udp, missing


def test_a_feature_is_a_tile(tmp_path):
    data = load_flows(tmp_path, [flow(a, Dur=d) for a in _NIDD for d in range(20)])
    assert data.train.images.shape[1:] == (1, 64, 64)
    tiles = data.train.images[:, 0, :4, :4].flatten(1)
    assert (tiles == tiles[:, :1]).all()
    assert len(tiles.unique()) > 10
    assert not data.train.images[:, :, -4:].any()  # fewer features than tiles: the rest is 0


def test_smaller_images_are_as_sharp(tmp_path):
    rows = [flow(attack, Dur=number) for attack in _NIDD for number in range(20)]
    large, small = load_flows(tmp_path, rows), load_flows(tmp_path, rows, image_size=16)
    np.testing.assert_array_equal(features(large.train), features(small.train, tile=1))
    with pytest.raises(DataError, match="20x20 pixels; take a multiple of 16"):
        load_flows(tmp_path, rows, image_size=20)


def test_zipped_and_renamed_files_are_read(tmp_path):
    plain = load_flows(tmp_path, many())
    for name in ("mine.csv", "Combined.csv.gz"):
        path = write(tmp_path / name, many(), name)
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
        again = load_all("nidd_5g", tmp_path / name, tmp_path / "cache", path="flows")
        assert again.fingerprint == plain.fingerprint


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    write(tmp_path, many(), header="\ufeff" + TITLES)
    load_all("nidd_5g", tmp_path, tmp_path / "cache", path="flows")


def test_classes_without_flows_are_said(tmp_path):
    said = []
    load_flows(tmp_path, [flow(), flow("SYNScan")] * 10, said)
    assert "nidd_5g: no flow of http_flood, slowrate_dos, udp_flood" in said


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (flow("ZeroDay"), "not of 5G-NIDD: 'ZeroDay'; known: Benign, HTTPFlood"),
        (flow(""), "not of 5G-NIDD: 'None'"),
        (flow(Rate="fast"), "invalid value 'fast'"),
        (flow(Load="inf"), "infinite value in column 'Load'"),
        (flow() + ",extra", "Expected 52 columns, got 53"),
    ],
)
def test_foreign_rows_are_named(tmp_path, row, word):
    with pytest.raises(DataError, match=word) as caught:
        load_flows(tmp_path, [*many(), row])
    assert str(tmp_path / "flows" / "Combined.csv") in str(caught.value)


def test_files_without_labels_or_flows_are_named(tmp_path):
    short = [name for name in HEADER if name != "Attack Type"]
    write(tmp_path, ["1," * 50 + "1"], header=",".join(short))
    with pytest.raises(DataError, match="no column 'Attack Type'; its columns are: , Seq, Dur"):
        load_all("nidd_5g", tmp_path, tmp_path / "cache", path="flows")
    write(tmp_path, [])
    with pytest.raises(DataError, match="none at all"):
        load_all("nidd_5g", tmp_path, tmp_path / "cache", path="flows")
    write(tmp_path, ["Benign"], header="Attack Type")
    with pytest.raises(DataError, match="gives 0 features"):
        load_all("nidd_5g", tmp_path, tmp_path / "cache", path="flows")


def test_several_files_are_not_guessed_among(tmp_path):
    for name in ("BS1.csv", "BS2.csv"):
        write(tmp_path, many(), name)
    with pytest.raises(DataError, match=r"several csv files \(BS1.csv, BS2.csv\)"):
        load_all("nidd_5g", tmp_path, tmp_path / "cache", path="flows")


def test_it_needs_a_path(tmp_path):
    with pytest.raises(SettingsError, match="needs `path`"):
        parse({"method": "local", "data": {"name": "nidd_5g"}})
    with pytest.raises(DataError, match="is not there"):
        load_all("nidd_5g", tmp_path, tmp_path / "cache", path="nowhere")
    assert Data(name="nidd_5g", path="flows").path == "flows"


def test_columns_of_one_name_are_named(tmp_path):
    write(tmp_path, [flow() + ",1"], header=TITLES + ",Dur")
    with pytest.raises(DataError, match="has columns of one name: 'Dur'"):
        load_all("nidd_5g", tmp_path, tmp_path / "cache", path="flows")


def test_empty_cells_count_as_missing(tmp_path):
    rows = [*many(), flow("Benign", Dur="", Proto="", State=""), flow("Benign", Mean="")]
    assert len(load_flows(tmp_path, rows).train) > 0
