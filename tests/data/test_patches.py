from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tv

from fedbench.data.patches import CropSettings, bank_digest, crop_bank, crop_outlines, draw
from fedbench.data.pictures import read_picture
from fedbench.errors import DataError, SettingsError

SETTINGS = CropSettings()
PLAIN = CropSettings(jitter=0.0)
CHANGES = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
DIGEST = (
    "import torch; from pathlib import Path\n"
    "from fedbench.data.patches import *; from fedbench.data.pictures import read_picture\n"
    "torch.set_num_threads(2)\n"
    "china = read_picture('china', Path(), pixels=60_000, channels=3)\n"
    "print(bank_digest(crop_bank(china, CropSettings(), count=600, size=32, seed=5)))"
)


def photo(pixels=15_000, channels=3):
    return read_picture("china", Path("nowhere"), pixels=pixels, channels=channels)


def one_by_one(picture, settings, *, count, size, seed):
    """S1's way: torchvision's transforms on one PIL image after another, with the same draws."""
    image, side = tv.to_pil_image(picture), int(settings.oversize * size)
    draws, crops = draw(count, picture.shape[1:], settings, seed), []
    for i in range(count):
        left, top, width, height = draws.windows[i].tolist()
        crop = tv.resized_crop(
            image, top, left, height, width, [side, side], InterpolationMode.BICUBIC
        )
        angle, shear = float(draws.angle[i]), float(draws.shear[i])
        crop = tv.affine(crop, angle, [0, 0], 1.0, [shear, 0.0], InterpolationMode.BILINEAR, [0])
        for flip, wanted in zip((tv.hflip, tv.vflip), draws.mirrored[i], strict=True):
            crop = flip(crop) if wanted else crop
        crop = tv.center_crop(crop, [size, size])
        if draws.jittered[i]:
            for number in draws.order[i]:
                crop = CHANGES[number](crop, float(draws.factors[i, number]))
        crops.append(tv.pil_to_tensor(crop))
    return torch.stack(crops)


def black(crops):
    return (crops == 0).all(1)


def test_si_1_another_process_with_other_threads_makes_the_same_bytes():
    here = crop_bank(photo(60_000), SETTINGS, count=600, size=32, seed=5)
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == bank_digest(here)


def test_si_1_a_small_bank_is_the_beginning_of_a_large_one():
    large = crop_bank(photo(), SETTINGS, count=530, size=16, seed=2)
    for count in (1, 7, 256, 300):
        assert torch.equal(
            crop_bank(photo(), SETTINGS, count=count, size=16, seed=2), large[:count]
        )
    assert len(large.flatten(1).unique(dim=0)) > 500  # some are white sky


def test_si_1_the_bytes_are_those_of_version_1():
    """If this fails on purpose, raise the version of the crops' artefact in single_image.py."""
    noise = read_picture("noise", Path(), pixels=60_000, channels=3)
    bank = crop_bank(noise, replace(SETTINGS, flip="both"), count=64, size=16, seed=1)
    assert bank_digest(bank) == ("83eae5bc02eb564fd061438714c36d97aa100fd86d05f231df4c61cfee43cfe0")


def test_seed_and_settings_matter_and_the_global_generators_do_not():
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    digests = {
        bank_digest(crop_bank(photo(), settings, count=9, size=16, seed=seed))
        for settings in (SETTINGS, PLAIN, replace(SETTINGS, flip="both"))
        for seed in (0, 1)
    }
    assert len(digests) == 6
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical", "both"])
@pytest.mark.parametrize("size", [32, 28])
def test_small_windows_give_the_bytes_of_torchvision(channels, flip, size):
    """But for pixels at the middle, which rotation leaves between rounding up and down."""
    settings, what = replace(SETTINGS, flip=flip), {"count": 80, "size": size, "seed": 4}
    bank = crop_bank(photo(channels=channels), settings, **what)
    off = (bank.int() - one_by_one(photo(channels=channels), settings, **what).int()).abs()
    assert (off > 0).float().mean() < 1e-3
    assert off.max() <= 6


def test_large_windows_come_nearer_to_torchvision_than_jpeg():
    what = {"count": 250, "size": 32, "seed": 3}
    picture = photo(None)
    ours, theirs = (make(picture, SETTINGS, **what) for make in (crop_bank, one_by_one))
    off = (ours.int() - theirs.int()).abs().float()
    assert 0 < off.mean() < 0.6
    assert off.mean((1, 2, 3)).max() < 4
    assert off.quantile(0.99) <= 4
    # As sharp, as bright, and black in the same corners.
    sharp = [crops.float().diff(dim=-1).abs().mean() for crops in (ours, theirs)]
    assert sharp[0] / sharp[1] == pytest.approx(1, abs=0.01)
    assert ours.float().mean() == pytest.approx(theirs.float().mean().item(), abs=0.1)
    assert (black(ours) != black(theirs)).float().mean() < 0.002
    assert 0.002 < black(ours).float().mean() < 0.2


def test_windows_follow_the_recipe():
    draws = draw(8000, (300, 500), SETTINGS, seed=0)
    left, top, width, height = draws.windows.T
    assert min(left.min(), top.min()) == 0
    assert (left + width).max() == 500
    assert (top + height).max() == 300
    assert max(width.max(), height.max()) == 150
    source = np.random.default_rng(1)
    area = source.uniform(1 / 500, 1, 200_000)
    aspect = np.exp(source.uniform(math.log(3 / 4), math.log(4 / 3), 200_000))
    kept = area * np.maximum(aspect, 1 / aspect) <= 1
    shares = width * height / 150**2
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(shares, share) == pytest.approx(np.quantile(area[kept], share), abs=0.02)
    assert shares.min() == pytest.approx(1 / 500, rel=0.3)
    assert np.log(width / height).std() == pytest.approx(np.log(aspect[kept]).std(), rel=0.03)
    large = np.minimum(width, height) > 50
    assert (width / height)[large].max() <= 4 / 3 * 1.02
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.04
    square, inside = source.random((2, 8000))
    assert left.std() == pytest.approx((square * 350 + inside * (150 - width)).std(), rel=0.03)


def test_turns_flips_and_colours_follow_the_recipe():
    draws = draw(8000, (300, 500), replace(SETTINGS, flip="vertical"), seed=0)
    for values in (draws.angle, draws.shear):
        assert 29.9 < abs(values).max() <= 30
        assert abs(values.mean()) < 0.6
    assert draws.mirrored.mean(0).tolist() == [0, pytest.approx(0.5, abs=0.02)]
    assert draws.jittered.mean() == pytest.approx(0.5, abs=0.02)
    for column, (low, high) in enumerate([(0.6, 1.4)] * 3 + [(-0.1, 0.1)]):
        values = draws.factors[:, column]
        assert values.min() == pytest.approx(low, abs=1e-3)
        assert values.max() == pytest.approx(high, abs=1e-3)
    _, times = np.unique(draws.order, axis=0, return_counts=True)
    assert len(times) == 24
    assert times.min() > 250
    assert not draw(50, (300, 500), PLAIN, seed=0).jittered.any()


def test_other_draws_stay_when_one_is_switched_off():
    one, other = (draw(40, (90, 90), settings, seed=3) for settings in (SETTINGS, PLAIN))
    assert np.array_equal(one.windows, other.windows)
    assert np.array_equal(one.angle, other.angle)


@pytest.mark.parametrize("flip", ["none", "both"])
def test_outlines_show_where_the_pixels_come_from(flip):
    """The picture's red and green are x and y, and its blue tells picture from black."""
    y, x = torch.meshgrid(torch.arange(200), torch.arange(250), indexing="ij")
    picture = torch.stack([x, y, torch.full_like(x, 255)]).to(torch.uint8)
    settings, size, where = replace(PLAIN, flip=flip), 32, torch.tensor([3, 39, 0, 17, 21])
    bank = crop_bank(picture, settings, count=40, size=size, seed=6)[where]
    outlines = crop_outlines((200, 250), settings, indices=where, size=size, seed=6)
    assert outlines.shape == (5, 4, 2)
    windows = torch.from_numpy(draw(40, (200, 250), settings, 6).windows)[where]
    steps = (torch.arange(size) + 0.5) / size
    for crop, corners, window in zip(bank, outlines, windows, strict=True):
        right, down = corners[1] - corners[0], corners[3] - corners[0]
        assert torch.allclose(corners[2], corners[0] + right + down, atol=1e-3)
        place = corners[0] + steps[:, None, None] * down + steps[:, None] * right
        depth = torch.minimum(place - window[:2], window[:2] + window[2:] - place).amin(-1)
        edge = 2 * max(1.0, window[2:].max() / 45)  # where the filters reach over it
        inside, outside = depth > edge, depth < -edge / 4
        assert inside.sum() > 300
        # A pixel's middle is half a pixel further, and Pillow drops half a level on average.
        shown = crop[:2].permute(1, 2, 0) + 1.0
        assert (shown[inside] - place[inside]).abs().max() <= 1.3
        assert (crop[2][inside] == 255).all()
        assert (crop[:, outside] == 0).all()


def test_outlines_of_no_crops_are_none():
    none = torch.empty(0, dtype=torch.int64)
    assert crop_outlines((90, 90), SETTINGS, indices=none, size=8, seed=0).shape == (0, 4, 2)


@pytest.mark.parametrize("size", [32, 31])
def test_a_picture_as_small_as_a_crop_serves(size):
    assert crop_bank(photo()[:, :32, :40], SETTINGS, count=40, size=size, seed=0).float().std() > 10


def test_what_cannot_be_cropped_is_refused():
    with pytest.raises(DataError, match="150x100 pixels is smaller than a crop of 101x101"):
        crop_bank(photo(), SETTINGS, count=1, size=101, seed=0)
    with pytest.raises(DataError, match="must be uint8"):
        crop_bank(photo().float(), SETTINGS, count=1, size=8, seed=0)
    with pytest.raises(SettingsError, match="count of crops is 0; it must be at least 1"):
        crop_bank(photo(), SETTINGS, count=0, size=8, seed=0)
    impossible = replace(SETTINGS, area=(0.9, 1.0), aspect=(2, 3))
    with pytest.raises(SettingsError, match=r"no window was found in 1000 tries.*aspect \(2, 3\)"):
        crop_bank(photo(), impossible, count=3, size=8, seed=0)


def test_progress_counts_up_to_all():
    told = []
    crop_bank(photo(), PLAIN, count=600, size=8, seed=0, progress=lambda *now: told.append(now))
    assert told == sorted(told)
    assert told[-1] == (600, 600)
    assert len(told) == 3


def test_digests_know_shape_and_bytes():
    bank = torch.arange(48, dtype=torch.uint8).view(4, 3, 2, 2)
    assert bank_digest(bank) == bank_digest(bank.clone())
    assert bank_digest(bank) != bank_digest(bank.view(12, 1, 2, 2))
    assert bank_digest(bank) != bank_digest(bank.flip(0))
    assert bank_digest(bank.flip(0).flip(0)) == bank_digest(bank)
