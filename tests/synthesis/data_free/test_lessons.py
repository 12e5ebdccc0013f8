"""Lessons of a student, and what its tutor says of made and of real images."""

import pytest
import torch
from torch.nn import functional

from fedbench.data.normalisation import Normalisation
from fedbench.data.stream import Columns, Stream
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.settings import Model
from fedbench.synthesis.data_free.lessons import OWN, Lesson, Tutor
from fedbench.synthesis.data_free.pool import UNKNOWN
from fedbench.synthesis.teachers import UNSEEN, Teachers
from fedbench.training.distillation import Distillation

HALF = Normalisation((0.5,), (0.5,))
INFERENCE = Inference(HALF, torch.device("cpu"))
RESNET = Model(name="resnet8", width=4)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stream(count, size, mark, seed=0):
    labels = torch.full((count,), mark)
    rows = Columns(draw(count, 1, 8, 8), labels)
    return Stream(rows, batch_size=size, seed=seed, normalisation=HALF)


def tutor(together=False, seen=None):
    nets = [build(RESNET, channels=1, size=16, classes=4, seed=seed) for seed in range(2)]
    teachers = Teachers(nets, INFERENCE, seen)
    return Tutor(teachers, [3, 7], together=together), teachers


def test_a_lesson_shows_what_is_first_and_then_parts_of_every_stream():
    fresh = draw(5, 1, 8, 8), torch.full((5,), 9)
    lesson = Lesson([fresh], [stream(6, 4, 1), stream(50, 3, 2)], steps=8, seed=0)
    batches = list(lesson)
    assert len(batches) == len(lesson) == 8
    assert batches[0] is fresh
    assert all((labels == 2).sum() == 3 for _, labels in batches[1:])
    assert sum(int((labels == 1).sum()) for _, labels in batches[1:]) > 6  # it went round


def test_a_short_lesson_ends_within_what_is_first():
    fresh = draw(5, 1, 8, 8), torch.full((5,), 9)
    assert len(list(Lesson([fresh, fresh], [stream(6, 4, 1)], steps=1, seed=0))) == 1


@pytest.mark.parametrize("together", [False, True])
def test_each_image_is_taught_by_whoever_it_was_made_from(together):
    asked, teachers = tutor(together)
    images = draw(4, 1, 16, 16)
    row = {
        "clients": torch.tensor([7, OWN, UNKNOWN, 3]),
        "classes": torch.tensor([0, 2, 1, 1]),
    }
    (found,) = asked(images, row)
    said = teachers.logits(images)
    mean = said.mean(0)
    assert torch.allclose(found[0], mean[0] if together else said[1, 0], atol=1e-5)
    assert torch.allclose(found[2], mean[2], atol=1e-5)
    assert torch.allclose(found[3], mean[3] if together else said[0, 3], atol=1e-5)
    assert found[1].tolist() == [UNSEEN, UNSEEN, 0.0, UNSEEN]


def test_di_4_a_masked_tutor_gives_no_chance_to_unseen_classes():
    seen = torch.tensor([[True, True, False, False], [False, False, True, True]])
    asked, _ = tutor(seen=seen)
    row = {"clients": torch.tensor([3, 7]), "classes": torch.tensor([0, 2])}
    chances = asked(draw(2, 1, 16, 16), row)[0].softmax(-1)
    assert torch.equal(chances > 0, seen)


def test_the_tutor_of_a_real_image_is_its_label():
    asked, _ = tutor()
    labels, logits = torch.tensor([0, 2]), draw(2, 4, seed=1)
    row = {"clients": torch.full((2,), OWN), "classes": labels}
    loss = Distillation(temperature=3.0, squared=True).loss(
        logits, asked(draw(2, 1, 16, 16), row), torch.ones(1)
    )
    expected = 9 * functional.cross_entropy(logits / 3, labels)
    assert loss == pytest.approx(float(expected), rel=1e-5)
