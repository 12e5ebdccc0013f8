"""Sheets, outlines and maps: the right images in the right places, pixel for pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from PIL import Image

from fedbench.errors import SettingsError
from fedbench.report.figures import style
from fedbench.report.figures.render import to_svg
from fedbench.report.pictures.crops import feature_map, on_picture, place, selection_sheet
from fedbench.report.pictures.generated import generated_sheet, share_lines
from fedbench.report.pictures.inversion import confusion
from fedbench.report.pictures.look import class_looks, to_png
from fedbench.report.pictures.sets import set_sheet
from fedbench.report.pictures.sheet import Row, Strip, sheet

NAMES = ("cat", "dog", "owl")
LOOKS = class_looks(NAMES, np.array([3, 2, 1]))


def flat(count, size=32):
    """Return images of one colour each: red tells which, and green is 77 in them alone."""
    images = np.full((count, 3, size, size), 77, dtype=np.uint8)
    images[:, 0] = np.arange(count)[:, None, None]
    images[:, 2] = 0
    return images


def raster(sketch):
    return np.asarray(Image.open(io.BytesIO(to_png(sketch))).convert("RGB")).astype(int)


def seen(sketch, size=96):
    """Return the flat images of a sheet as (x, y, number), by line."""
    pixels = raster(sketch)
    ours = (pixels[..., 1] == 77) & (pixels[..., 2] == 0)
    assert ours.sum() % size**2 == 0
    corners = ours & ~np.roll(ours, 1, axis=0) & ~np.roll(ours, 1, axis=1)
    return [(x, y, pixels[y, x, 0]) for y, x in np.argwhere(corners)]


def test_ten_classes_have_looks_of_their_own_and_rarer_ones_share_grey():
    names = [f"class {label}" for label in range(12)]
    counts = np.array([5, 0, *range(1, 11)])
    looks = class_looks(names, counts)
    assert [look.name for look in looks] == names
    assert [look.name for look in looks if not look.own] == ["class 1", "class 2"]
    assert len({(look.colour, look.marker) for look in looks if look.own}) == 10
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == 11
    ten = class_looks(names[:10], counts[:10])
    assert [look.colour for look in ten] == [
        look.colour for look in class_looks(names[:10], counts[:10][::-1])
    ]


def test_every_pixel_of_a_sheet_is_an_exact_square():
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    pixels = raster(sheet("s", ["Title"], "", [""], [Row("cat", (), [Strip(image)])], 1))
    large = image[0].repeat(3, axis=1).repeat(3, axis=2).transpose(1, 2, 0)
    found = [
        (y, x)
        for y, x in np.argwhere((pixels[..., :] == large[0, 0]).all(axis=-1))
        if pixels[y : y + 96, x : x + 96].shape == large.shape
        and (pixels[y : y + 96, x : x + 96] == large).all()
    ]
    assert len(found) == 1


@pytest.mark.parametrize(("size", "side"), [(8, 96), (16, 96), (28, 84), (64, 128), (224, 224)])
def test_images_of_any_size_are_enlarged_by_a_whole_number(size, side):
    drawn = seen(set_sheet("s", ["T"], flat(2, size), np.array([0, 1]), NAMES[:2]), side)
    assert [number for *_, number in drawn] == [0, 1]


def test_grey_images_and_classes_without_images_are_drawn():
    grey = np.full((1, 1, 16, 16), 90, dtype=np.uint8)
    pixels = raster(set_sheet("s", ["T"], grey, np.array([1]), NAMES))
    assert (pixels == 90).all(axis=-1).sum() >= 96 * 96


def test_sets_are_drawn_by_class_from_their_beginning_to_their_end():
    labels = np.array([0, 1] * 12 + [0])
    drawn = seen(set_sheet("s", ["T"], flat(25), labels, NAMES, count=4))
    lines = sorted({y for _, y, _ in drawn})
    numbers = [[n for _, y, n in drawn if y == line] for line in lines]
    assert numbers == [[0, 8, 16, 24], [1, 9, 15, 23]]


def test_tiles_of_a_canvas_stay_together():
    labels = np.repeat([0, 1, 0, 0], 4)
    drawn = seen(set_sheet("s", ["T"], flat(16), labels, NAMES[:2], count=9, group=4))
    first = [(x, n) for x, y, n in drawn if y == drawn[0][1]]
    assert [n for _, n in first] == [0, 1, 2, 3, 12, 13, 14, 15]
    steps = np.diff([x for x, _ in first])
    assert steps[3] > steps[0] == steps[2] == steps[6]


def test_many_classes_stand_in_bands_side_by_side():
    labels = np.arange(60)
    drawn = seen(set_sheet("s", ["T"], flat(60), labels, [str(label) for label in labels]))
    assert len(drawn) == 60
    bands = sorted({x for x, *_ in drawn})
    assert len(bands) == 3
    assert [n for x, _, n in drawn if x == bands[1]] == list(range(20, 40))


def selection(count=100, classes=2):
    source = np.random.default_rng(1)
    predicted = np.arange(120) % classes
    confidence = source.permutation(120) / 120
    chosen = np.sort(source.permutation(120)[:40])
    looks = class_looks([str(label) for label in range(classes)], np.bincount(predicted))
    drawn = selection_sheet(
        "s", ["T"], flat(120), predicted, confidence, chosen, looks, count=count
    )
    return seen(drawn), predicted, confidence, chosen


def test_before_and_after_selection_stand_side_by_side_surest_first():
    drawn, predicted, confidence, chosen = selection(count=40)
    middle = (min(x for x, *_ in drawn) + max(x for x, *_ in drawn)) / 2
    lines = sorted({y for _, y, _ in drawn})
    assert len(lines) == 4  # two lines of ten for each class
    for label in (0, 1):
        own = [(x, y, n) for x, y, n in drawn if y in lines[2 * label : 2 * label + 2]]
        for side in (
            [n for x, _, n in own if x < middle],
            [n for x, _, n in own if x > middle],
        ):
            assert len(set(side)) == len(side) > 10
            assert set(predicted[side]) == {label}
            assert list(confidence[side]) == sorted(confidence[side], reverse=True)
        assert {n for x, _, n in own if x > middle} <= set(chosen.tolist())
        assert {n for x, _, n in own if x < middle} - set(chosen.tolist())


def test_the_most_frequent_classes_are_drawn_where_there_are_more_than_lines():
    drawn, predicted, *_ = selection(count=30, classes=7)
    assert set(predicted[[n for *_, n in drawn]]) == {0, 1, 2}
    assert selection(count=30, classes=7)[0] == drawn


def test_selected_crops_are_framed_in_the_bank_only():
    chosen, ink = np.array([1]), np.rint(np.array(style.matplotlib.colors.to_rgb("#0072B2")) * 255)
    drawn = selection_sheet(
        "s", ["T"], flat(2), np.zeros(2, int), np.array([0.9, 0.1]), chosen, LOOKS
    )
    pixels, places = raster(drawn), seen(drawn)
    framed = [(pixels[y - 4, x - 4] == ink).all() for x, y, _ in places]
    assert [n for *_, n in places] == [0, 1, 1]
    assert framed == [False, True, False]


def test_outlines_lie_where_they_belong_on_an_upright_picture():
    picture = np.zeros((3, 40, 60), dtype=np.uint8)
    picture[0, :20, :30] = 255  # the upper left quarter
    outlines = np.array(
        [[[1, 2], [11, 2], [11, 12], [1, 12]], [[30, 20], [50, 20], [50, 39], [30, 39]]]
    )
    drawn = on_picture("p", "header", picture, outlines, np.array([2, 0]), LOOKS)
    axes = drawn.drawing.axes[0]
    assert axes.get_xlim() == (0, 60)
    assert axes.get_ylim() == (40, 0)
    found = [c for c in axes.collections if isinstance(c, PolyCollection)]
    top = {tuple(c.get_edgecolor()[0][:3]): c.get_paths()[0].vertices[:4] for c in found[2:]}
    assert len(top) == 2
    for row, label in ((1, 0), (0, 2)):
        colour = style.matplotlib.colors.to_rgb(LOOKS[label].colour)
        assert (top[colour] == outlines[row]).all()
    pixels = raster(drawn)
    height, width = pixels.shape[:2]
    assert (pixels[height // 5, width // 3] == (255, 0, 0)).all()
    assert (pixels[height // 5, 2 * width // 3] == 0).all()


def test_grey_pictures_have_outlines_too():
    picture, none = np.full((1, 8, 8), 9, dtype=np.uint8), np.empty((0, 4, 2))
    assert raster(on_picture("p", "h", picture, none, np.empty(0, int), LOOKS)).size


def test_maps_are_the_same_each_time_and_take_what_the_size_allows():
    source = np.random.default_rng(0)
    features = np.concatenate([source.normal(0, 1, (20, 5)), source.normal(50, 1, (20, 5))])
    places, how = place(features)
    assert how == "tsne"
    assert (place(features)[0] == places).all()
    apart = np.linalg.norm(places[:20].mean(0) - places[20:].mean(0))
    assert apart > 2 * places[:20].std()
    assert place(features[:5])[1] == "pca"
    assert place(source.normal(0, 1, (2001, 3)))[1] == "pca"
    with pytest.raises(SettingsError, match="t-SNE of 5 points"):
        place(features[:5], "tsne")
    features[3, 1] = np.inf
    with pytest.raises(SettingsError, match="not finite"):
        place(features)


def test_principal_components_keep_a_plane():
    flat_points = np.random.default_rng(0).normal(0, (3, 1), (50, 2))
    turned = flat_points @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0][:2]
    places, _ = place(turned + 7, "pca")
    own = np.linalg.norm(flat_points[:, None] - flat_points[None], axis=-1)
    assert np.allclose(np.linalg.norm(places[:, None] - places[None], axis=-1), own)
    assert place(np.ones((3, 1)), "pca")[0].shape == (3, 2)


def test_selected_points_of_a_map_are_filled_and_the_others_hollow():
    places = np.arange(12.0).reshape(6, 2)
    labels, chosen = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 0, 0, 0, 1, 1], dtype=bool)
    drawn = feature_map("m", "h", places, "pca", labels, chosen, LOOKS)
    found = {True: [], False: []}
    for line in drawn.drawing.axes[0].lines:
        found[line.get_markerfacecolor() != "none"] += list(line.get_xdata())
    assert sorted(found[True]) == [0, 8, 10]
    assert sorted(found[False]) == [2, 4, 6]
    legend = [text.get_text() for text in drawn.drawing.legends[0].get_texts()]
    assert legend[:3] == ["cat (1 of 2)", "dog (0 of 2)", "owl (2 of 2)"]


def test_rare_classes_of_a_map_are_one_entry():
    looks = class_looks([str(label) for label in range(13)], np.arange(13)[::-1])
    labels, chosen = np.arange(13), np.ones(13, dtype=bool)
    drawn = feature_map("m", "h", np.zeros((13, 2)), "tsne", labels, chosen, looks)
    legend = [text.get_text() for text in drawn.drawing.legends[0].get_texts()]
    assert legend[-2] == "3 other classes (3 of 3)"
    assert len(legend) == 12


def test_files_are_the_same_bytes_each_time():
    def made():
        drawn = set_sheet("s", ["T", "<facts>"], flat(3), np.array([0, 1, 2]), NAMES)
        with style.context():
            return to_png(drawn), to_svg(drawn)

    (png, svg), again = made(), made()
    assert again == (png, svg)
    assert svg.startswith("<svg")
    assert "data:image/png;base64" in svg
    assert "<script" not in svg
    assert Image.open(io.BytesIO(png)).text["Title"] == "T"


def test_made_images_stand_by_class_and_epoch():
    images = np.zeros((5, 1, 8, 8), dtype=np.uint8)
    labels, epochs = np.array([0, 0, 1, 0, 1]), np.array([1, 1, 1, 5, 5])
    sketch = generated_sheet("some", ["A title"], images, labels, epochs, ["cat", "dog"])
    words = [text.get_text() for text in sketch.drawing.axes[0].texts]
    assert {"cat", "dog", "epoch 1", "epoch 5"} <= set(words)


@pytest.mark.parametrize("clients", [1, 3, 14])
def test_shares_of_an_ensemble_sum_to_all_of_it(clients):
    shares = np.linspace(0.1, 1, 4 * clients).reshape(4, clients)
    sketch = share_lines("some", "facts", shares)
    lines = [line.get_ydata() for line in sketch.drawing.axes[0].lines]
    assert len(lines) == clients
    assert np.allclose(np.sum(lines, axis=0), 100)
    labels = [text.get_text() for text in sketch.drawing.legends[0].get_texts()]
    assert ("4 others" in labels) == (clients == 14)


@pytest.mark.filterwarnings("error")  # matplotlib warns of each glyph that its font lacks
def test_names_that_the_font_cannot_write_stand_as_code_points():
    names = ("猫", "犬", "owl")
    counts = np.array([3, 2, 1])
    assert [look.name for look in class_looks(names, counts)] == ["[732B]", "[72AC]", "owl"]
    to_png(set_sheet("set", ["title 猫"], flat(3), np.arange(3), names))
    owned = np.array([False, True, False])
    to_svg(confusion("confusion", "digits", np.diag(counts), names, owned))
