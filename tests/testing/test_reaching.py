"""What counts as reach, and in which forms images are found."""

from functools import partial

import numpy as np
import pytest
import torch

from fedbench.testing.reach import Gallery, reachable


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held

    def method(self):
        return self.held


def _closure(image):
    return lambda: image


def _running(image):
    def generate(image):
        yield 1
        yield image

    found = generate(image)
    next(found)
    return found


def _with_buffer(image):
    module = torch.nn.Linear(1, 1)
    module.register_buffer("x", image)
    return torch.nn.Sequential(module)


PLACES = {
    "an attribute": Slotted,
    "a list in a dictionary": lambda image: {"a": [image]},
    "a closure": _closure,
    "a default": lambda image: lambda taken=image: taken,
    "a bound method": lambda image: Slotted(image).method,
    "a partial": lambda image: partial(print, image),
    "a generator": _running,
    "a view of one pixel": lambda image: image.flatten()[:1],
    "a larger tensor": lambda image: torch.cat([image, image])[None],
    "an array": lambda image: image.numpy(),
    "bytes": lambda image: b"head" + image.numpy().tobytes(),
    "floats": lambda image: image / 255,
    "normalised floats": lambda image: (image / 255 - 0.3) / 0.2,
    "half precision": lambda image: ((image / 255 - 0.3) / 0.2).bfloat16(),
    "a module's buffer": _with_buffer,
}


@pytest.mark.parametrize("place", PLACES)
def test_an_image_is_found_wherever_it_is(place):
    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4, 1, 8, 8), generator=source, dtype=torch.uint8)
    gallery = Gallery(images, [0.3], [0.2])
    found = gallery.in_reach(PLACES[place](images[2:3].clone()))
    assert found.keys() == gallery.names_of(images[2:3])
    other = torch.randint(256, (1, 1, 8, 8), generator=source, dtype=torch.uint8)
    assert not gallery.in_reach(PLACES[place](other))


def test_a_door_is_not_looked_behind_but_its_room_is_when_it_is_in_reach():
    room = Slotted(np.ones(3))
    assert len([*reachable([room.method], doors=(Slotted,))]) == 2
    assert room.held is dict(reachable([room.method]))["[0].__self__.held"]
    assert "[0].held" in dict(reachable([room, room.method], doors=(Slotted,)))
