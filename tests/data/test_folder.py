"""Own image folders: every mode, orientation and shape that a camera or a tool writes."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from data_files import load_all, pixels, put, write_picture
from PIL import Image

from fedbench.errors import DataError

RED = np.full((20, 20, 3), (255, 0, 0), np.uint8)
BLUE = np.full((20, 20, 3), (0, 0, 255), np.uint8)


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    for split in ("train", "test"):
        write_picture(folder / split / "red" / "1.png", RED)
        write_picture(folder / split / "blue" / "1.png", BLUE)
    return folder


def load_folder(mine, said=None, **settings):
    return load_all("folder", mine.parent, mine.parent / "cache", said, path="mine", **settings)


def test_classes_are_sorted_and_colours_kept(mine):
    data = load_folder(mine)
    assert data.classes == ("blue", "red")
    assert data.train.images.shape == (2, 3, 32, 32)
    assert data.train.labels.tolist() == [0, 1]
    assert data.train.images[:, :, 5, 5].tolist() == [[0, 0, 255], [255, 0, 0]]
    assert data.constants.mean == data.constants.std == (0.5, 0.5, 0.5)


def test_image_size_is_decoded_from_the_original(mine):
    image = pixels(1, 3, 64)[0].transpose(1, 2, 0)
    write_picture(mine / "train" / "blue" / "0.png", image)
    data = load_folder(mine, image_size=64)
    np.testing.assert_array_equal(data.train.images[0].permute(1, 2, 0).numpy(), image)


def test_shorter_side_is_scaled_and_the_centre_is_cut_out(mine):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    write_picture(mine / "train" / "blue" / "0.png", wide)
    write_picture(mine / "train" / "blue" / "00.png", wide.transpose(1, 0, 2))
    data = load_folder(mine, image_size=10)
    assert (data.train.images[:2] == 255).all()


def test_exif_orientation_is_applied(mine):
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: turn by 90 degrees clockwise to view
    stored = Image.fromarray(np.rot90(upright))
    write_picture(mine / "train" / "blue" / "0.jpg", stored, exif=exif, quality=100)
    image = load_folder(mine).train.images[0]
    assert image[:, :15].float().mean() > 250
    assert image[:, 17:].float().mean() < 5


def test_all_grey_gives_one_channel(mine):
    for path in mine.rglob("*.png"):
        path.unlink()
        for number, mode in enumerate(("L", "1", "P", "RGB", "LA")):
            level = np.full((20, 20), 255 if mode == "1" else 128, np.uint8)
            write_picture(path.with_name(f"{number}.png"), level, mode)
    data = load_folder(mine)
    assert data.train.images.shape == (10, 1, 32, 32)
    assert data.train.images[:5, 0, 9, 9].tolist() == [128, 255, 128, 128, 128]
    assert data.constants.mean == (0.5,)


def test_one_coloured_test_image_gives_three_channels(mine):
    for name in ("red", "blue"):
        for split in ("train", "test"):
            write_picture(mine / split / name / "1.png", np.full((9, 9), 7, np.uint8))
    write_picture(mine / "test" / "red" / "2.png", RED)
    assert load_folder(mine).channels == 3


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(RED).convert("P"), [255, 0, 0]),
        (Image.new("RGBA", (9, 9), (255, 0, 0, 255)), [255, 0, 0]),
        (Image.new("RGBA", (9, 9), (255, 0, 0, 0)), [255, 255, 255]),
        (Image.new("LA", (9, 9), (0, 0)), [255, 255, 255]),
        (Image.fromarray(np.full((9, 9), 257 * 200, np.uint16)), [200, 200, 200]),
        (Image.fromarray(np.full((9, 9), 65_535, np.uint16)), [255, 255, 255]),
    ],
    ids=["palette", "opaque", "transparent", "transparent grey", "16 bits", "16 bits white"],
)
def test_modes(mine, picture, expected):
    write_picture(mine / "train" / "blue" / "0.png", picture)
    assert load_folder(mine).train.images[0, :, 4, 4].tolist() == expected


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "bmp", "webp", "gif", "tif", "ppm"])
def test_formats(mine, suffix):
    write_picture(mine / "train" / "blue" / f"0.{suffix}", RED)
    seen = load_folder(mine).train.images[0, :, 9, 9].tolist()
    assert seen == pytest.approx([255, 0, 0], abs=4)


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_unreadable_image_is_named(mine, content):
    path = mine / "train" / "red" / "2.png"
    whole = write_picture(path, pixels(1, 3, 32)[0].transpose(1, 2, 0)).read_bytes()
    put(path, whole[:500] if content is None else content)
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        load_folder(mine)
    assert str(path) in str(caught.value)


def test_floating_point_image_is_refused_by_name(mine):
    path = write_picture(mine / "test" / "red" / "2.tif", np.zeros((9, 9), np.float32))
    with pytest.raises(DataError, match="floating-point") as caught:
        load_folder(mine)
    assert str(path) in str(caught.value)


def test_class_without_test_images_is_kept_and_said(mine):
    write_picture(mine / "train" / "green" / "1.png", RED)
    said = []
    data = load_folder(mine, said)
    assert data.classes == ("blue", "green", "red")
    assert data.test.labels.tolist() == [0, 2]
    assert any(line.endswith("class 'green' is without test images") for line in said)


def test_class_with_test_images_only_is_an_error(mine):
    write_picture(mine / "test" / "green" / "1.png", RED)
    with pytest.raises(DataError, match="'green' is only there and not in train/"):
        load_folder(mine)


def test_errors_name_the_folders_that_are_there(mine):
    (mine / "train").rename(mine / "training")
    (mine / "test").rename(mine / "val")
    write_picture(mine / "val" / "green" / "1.png", RED)
    with pytest.raises(DataError, match=f"{mine / 'val'}: class 'green' .* not in training/"):
        load_folder(mine)
    write_picture(mine / "training" / "caf\udce9" / "1.png", RED)
    with pytest.raises(DataError, match=f"{mine / 'training'}: the folder "):
        load_folder(mine)
    shutil.rmtree(mine / "val")
    shutil.rmtree(mine / "training" / "red")
    for place in (mine / "training").iterdir():
        place.rename(mine / place.name)
    (mine / "training").rmdir()
    with pytest.raises(DataError, match=f"{mine}: the folder "):
        load_folder(mine)


def test_an_added_image_is_noticed(mine):
    assert len(load_folder(mine).train) == 2
    write_picture(mine / "train" / "red" / "2.png", RED)
    assert len(load_folder(mine).train) == 3


def test_a_folder_without_train_is_an_error(mine):
    (mine / "train").rename(mine / "elsewhere")
    with pytest.raises(DataError, match="mine lacks train/") as caught:
        load_folder(mine)
    assert "PATH/train/<class>/" in str(caught.value)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_test_part_of_another_name_is_taken(mine, name):
    (mine / "test").rename(mine / name)
    (mine / "train").rename(mine / "training")
    assert [len(part) for part in (load_folder(mine).train, load_folder(mine).test)] == [2, 2]


@pytest.mark.parametrize("below", ["", "train"])
def test_without_a_test_part_a_fifth_is_drawn_and_a_single_image_stays(tmp_path, below):
    folder = tmp_path / "mine"
    for name, count in (("red", 10), ("blue", 5), ("one", 1)):
        for number in range(count):
            write_picture(folder / below / name / f"{number}.png", RED - number)
    said = []
    data = load_folder(folder, said)
    assert data.classes == ("blue", "one", "red")
    assert data.train.labels.bincount().tolist() == [4, 1, 8]
    assert data.test.labels.bincount().tolist() == [1, 0, 2]
    assert any("3 of 16 are drawn for testing" in line for line in said)
    again = load_folder(folder)
    assert (again.test.images == data.test.images).all()


def test_all_bad_images_are_named_at_once(mine):
    for number in range(12):
        put(mine / "train" / "red" / f"bad{number:02}.png", b"no image")
    with pytest.raises(DataError) as caught:
        load_folder(mine)
    message = str(caught.value)
    assert all(f"bad{number:02}.png" in message for number in range(10))
    assert "and 2 more" in message


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("content", [None, "photo.heic"])
def test_a_class_without_an_image_is_an_error(mine, split, content):
    (mine / split / "green").mkdir()
    if content:
        put(mine / split / "green" / content, b"x")
    if split == "test":
        write_picture(mine / "train" / "green" / "1.png", RED)
    with pytest.raises(DataError, match=f"no image in '{split}/green'"):
        load_folder(mine)


def test_a_class_that_became_empty_is_an_error_even_if_the_rest_is_cached(mine):
    load_folder(mine)
    (mine / "train" / "green").mkdir()
    with pytest.raises(DataError, match="no image in 'train/green'"):
        load_folder(mine)


def test_jfif_is_jpeg(mine):
    Image.fromarray(BLUE).save(mine / "train" / "blue" / "0.jfif", format="JPEG", quality=100)
    assert len(load_folder(mine).train) == 3


def test_what_is_left_out_is_counted_named_and_noted(mine):
    said = []
    assert load_folder(mine, said).notes == ()
    for name in ("red/Thumbs.db", "red/.hidden.png", "blue/photo.heic", "red/.git/x.png"):
        put(mine / "train" / name, b"x")
    put(mine / "train" / "stray.png", b"x")
    (note,) = load_folder(mine, said).notes
    assert note.startswith("5 entries are left out")
    for name in ("Thumbs.db", ".hidden.png", "photo.heic", ".git", "stray.png"):
        assert name in note
    assert any(note in line for line in said)


def test_links_to_files_and_folders_are_followed(mine, tmp_path):
    write_picture(tmp_path / "elsewhere" / "deep" / "1.png", RED)
    write_picture(tmp_path / "elsewhere" / "2.png", RED)
    (mine / "train" / "red" / "more").symlink_to(tmp_path / "elsewhere")
    (mine / "train" / "red" / "one.png").symlink_to(tmp_path / "elsewhere" / "2.png")
    (mine / "train" / "green").symlink_to(tmp_path / "elsewhere")
    data = load_folder(mine)
    assert data.classes == ("blue", "green", "red")
    assert data.train.labels.bincount().tolist() == [1, 2, 4]


def test_links_that_lead_back_and_broken_links_are_noted(mine):
    (mine / "train" / "red" / "again").symlink_to(mine / "train" / "red")
    (mine / "train" / "red" / "gone.png").symlink_to(mine / "nowhere.png")
    (mine / "train" / "blue" / "above").symlink_to(mine / "train")
    (mine / "train" / "blue" / "top").symlink_to(mine)
    (mine / "train" / "class").symlink_to(mine / "train")
    data = load_folder(mine)
    assert len(data.train) == 2
    (note,) = data.notes
    assert "again" in note
    assert "above" in note
    assert "top" in note
    assert "class" in note
    assert data.classes == ("blue", "red")
    assert "gone.png" in note


def test_images_swapped_between_classes_are_noticed(mine):
    red, blue = mine / "train" / "red" / "1.png", mine / "train" / "blue" / "1.png"
    before = load_folder(mine)
    for path in (red, blue):
        os.utime(path, (10**9, 10**9))
    red.rename(mine / "x.png")
    blue.rename(red)
    (mine / "x.png").rename(blue)
    after = load_folder(mine)
    assert after.fingerprint != before.fingerprint
    assert after.train.images[0].tolist() == before.train.images[1].tolist()


@pytest.mark.parametrize("name", ["caf\udce9", "two\nlines"])
def test_class_names_that_no_page_can_show_are_refused(mine, name):
    write_picture(mine / "train" / name / "1.png", RED)
    with pytest.raises(DataError, match="rename it"):
        load_folder(mine)
