from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from fedbench.data.pictures import (
    NOISE,
    fitted,
    picture_size,
    read_picture,
    source_digest,
    too_small,
)
from fedbench.errors import DataError, SettingsError

NOWHERE = Path("nowhere")
SIDES = st.integers(1, 3000)


def ramp(height, width):
    """An image whose red grows to the right and whose green grows downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


@pytest.fixture
def root(tmp_path):
    """A data root with pictures in a folder, good and bad."""
    folder = tmp_path / "photos"
    folder.mkdir()
    ramp(60, 90).save(folder / "street.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    ramp(60, 90).save(folder / "turned.jpg", exif=turned, quality=95)
    ramp(400, 400).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:4000])
    (folder / "words.png").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("name", ["china", "flower"])
def test_photos_are_those_of_scikit_learn(name):
    picture = read_picture(name, NOWHERE, pixels=None, channels=3)
    assert picture.shape[1:] == picture_size(name, NOWHERE)
    assert np.array_equal(picture.permute(1, 2, 0), load_sample_image(f"{name}.jpg"))


@given(height=SIDES, width=SIDES, pixels=st.integers(1, 9_000_000))
@example(height=1920, width=2560, pixels=512_000)
def test_fitted_is_as_large_as_the_budget_allows_and_keeps_the_shape(height, width, pixels):
    tall, wide = fitted((height, width), pixels)
    assert tall <= height
    assert wide <= width
    assert tall * wide <= pixels
    if height * width <= pixels:
        assert (tall, wide) == (height, width)
    else:
        scale = (pixels / (height * width)) ** 0.5
        assert abs(tall - height * scale) <= 1
        assert abs(wide - width * scale) <= 1
        assert (tall + 1) * (wide + 1) > pixels


def test_without_a_budget_pictures_stay_as_they_are():
    assert fitted((30, 20), None) == (30, 20)
    assert fitted(None, None) == (427, 640)
    tall, wide = fitted(None, 5_000_000)
    assert 0.999 * 5_000_000 < tall * wide <= 5_000_000
    assert wide / tall == pytest.approx(1.5, abs=0.01)


def test_sizes_come_from_the_header_upright(root):
    assert picture_size("photos/street.png", root) == (60, 90)
    assert picture_size(str(root / "photos" / "street.png"), NOWHERE) == (60, 90)
    assert picture_size("photos/turned.jpg", root) == (90, 60)
    assert picture_size("photos/cut.jpg", root) == (400, 400)
    assert picture_size("photos/later.jpg", root) is None
    assert picture_size(NOISE.name, root) is None


def test_a_turned_picture_is_read_upright(root):
    picture = read_picture("photos/turned.jpg", root, pixels=None, channels=3).float()
    assert picture.shape == (3, 90, 60)
    # Shown a quarter turn clockwise: what grew to the right now grows downwards.
    assert picture[0, -1].mean() - picture[0, 0].mean() > 200
    assert picture[1, :, 0].mean() - picture[1, :, -1].mean() > 200


def test_scaling_down_is_antialiased_and_grey_is_luma(root):
    stripes = np.zeros((120, 180, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(root / "stripes.png")
    small = read_picture("stripes.png", root, pixels=2400, channels=3)
    assert small.shape == (3, 40, 60)
    assert (small[:, 2:-2, 2:-2].float() - 100).abs().max() < 8
    grey = read_picture("photos/street.png", root, pixels=None, channels=1)
    colour = read_picture("photos/street.png", root, pixels=None, channels=3).double()
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    assert grey.shape == (1, 60, 90)
    assert (grey[0] - luma).abs().max() <= 0.51


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photos/later.jpg", "there is no picture .*later.jpg; .*FEDBENCH_DATA.*china"),
        ("photos/words.png", "words.png cannot be read as an image"),
        ("photos/cut.jpg", "cut.jpg cannot be read as an image.*truncated"),
    ],
)
def test_files_that_are_no_pictures_are_refused(name, words, root):
    with pytest.raises(DataError, match=words):
        read_picture(name, root, pixels=None, channels=3)


def test_a_file_that_is_no_image_is_found_out_at_plan_time(root):
    with pytest.raises(DataError, match="cannot be read as an image"):
        picture_size("photos/words.png", root)
    (root / "folder.png").mkdir()
    with pytest.raises(DataError, match="cannot be read as an image"):
        picture_size("folder.png", root)


@pytest.mark.parametrize("ask", [picture_size, source_digest])
def test_unknown_names_get_the_known_ones(ask):
    with pytest.raises(SettingsError, match=r"'chnia' .did you mean 'china'.*flower, noise"):
        ask("chnia", NOWHERE)


def test_noise_is_uniform_repeatable_and_of_any_size():
    one = read_picture(NOISE.name, NOWHERE, pixels=60_000, channels=3)
    assert one.shape == (3, 200, 300)
    assert torch.equal(one, read_picture(NOISE.name, NOWHERE, pixels=60_000, channels=3))
    assert read_picture(NOISE.name, NOWHERE, pixels=None, channels=1).shape == (1, 427, 640)
    counts = torch.bincount(one.flatten().long(), minlength=256)
    assert len(counts) == 256
    assert (counts / one.numel() * 256 - 1).abs().max() < 0.2
    assert one.flatten()[:4].tolist() == [56, 177, 154, 167]  # on every machine


def test_a_picture_is_never_scaled_up():
    reason = too_small("china", (427, 640), 500_000, 32)
    assert reason is not None
    assert "640x427 = 273,280" in reason
    assert "enlarging would add no information" in reason
    assert "at most 303,644 pixels" in reason
    assert too_small("china", (427, 640), 303_644, 32) is None
    assert "303,645" in (too_small("china", (427, 640), 303_645, 32) or "")
    with pytest.raises(DataError, match="enlarging would add no information"):
        read_picture("china", NOWHERE, pixels=500_000, channels=3)


def test_s1s_large_picture_serves_five_million_pixels():
    assert too_small("street.jpg", (1920, 2560), 5_000_000, 32) is None
    assert fitted((1920, 2560), 5_000_000) == (1920, 2560)


@given(height=st.integers(32, 900), width=st.integers(32, 900), crop=st.integers(8, 32))
def test_the_budget_that_a_reason_names_will_do(height, width, crop):
    reason = too_small("a.png", (height, width), crop * crop - 1, crop)
    assert reason is not None
    assert "less than one crop" in reason
    enough = int(reason.split("; ")[1].split(" ")[0].replace(",", ""))
    assert too_small("a.png", (height, width), enough, crop) is None
    assert min(fitted((height, width), enough)) >= crop
    assert min(fitted((height, width), enough // 2)) < crop


def test_crops_must_fit_into_the_scaled_picture():
    reason = too_small("china", (427, 640), 1200, 32)
    assert reason is not None
    assert "leaves 42x28 of picture 'china'" in reason
    assert "1,536 pixels would do" in reason
    assert "at least 32" in (too_small("a.png", (20, 600), None, 32) or "")
    assert too_small(NOISE.name, None, 1200, 32) is not None
    assert too_small(NOISE.name, None, 5_000_000, 32) is None
    assert too_small("later.png", None, 2000, 32) is None


def test_digests_follow_the_file(root):
    before = source_digest("photos/street.png", root)
    assert before == hashlib.sha256((root / "photos" / "street.png").read_bytes()).hexdigest()
    ramp(61, 90).save(root / "photos" / "street.png")
    digests = {
        before,
        *(source_digest(name, root) for name in ("photos/street.png", "china", "flower")),
    }
    assert len(digests | {source_digest(NOISE.name, root)}) == 5
    with pytest.raises(DataError, match="there is no picture"):
        source_digest("photos/later.jpg", root)


def test_planning_imports_neither_torch_nor_scikit_learn():
    code = (
        "import sys; from pathlib import Path; from fedbench.data import pictures as p\n"
        "size = p.picture_size('china', Path()); p.too_small('china', size, 1000, 32)\n"
        "p.source_digest('china', Path())\n"
        "print(sorted({'torch', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
