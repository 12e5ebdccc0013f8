"""Distribution matching: CD-1, CD-2, CD-3, CD-5, CD-6, CD-8, steps, and resuming."""

import hashlib
import multiprocessing

import pytest
import torch
from shared import File

from fedbench.data import dsa
from fedbench.methods.collabdm import MeanTable
from fedbench.models.factory import build
from fedbench.models.settings import Model
from fedbench.synthesis.matching.distribution import (
    Descent,
    Embedding,
    MomentLoader,
    Moments,
    class_moments,
)
from fedbench.synthesis.matching.matcher import DistributionMatching
from fedbench.training.pool import TrainerPool

CLASSES, SIZE = 3, 8
MODEL = Model(name="convnet", width=4, depth=2)
CLASSWISE = Descent("classwise", lr=2.0, momentum=0.5)


def embedding(ops=()):
    return Embedding(MODEL, 2, SIZE, CLASSES, torch.device("cpu"), ops)


def real(counts=(9, 6, 5), seed=0):
    source = torch.Generator().manual_seed(seed)
    return {
        label: torch.randn(count, 2, SIZE, SIZE, generator=source) + label
        for label, count in enumerate(counts)
        if count
    }


def parted(images, clients=3):
    """Spread images over clients, round robin; client 0 has none of class 2."""
    shares = [{} for _ in range(clients)]
    for label, own in images.items():
        owners = range(1, clients) if label == 2 else range(clients)
        for place, client in enumerate(owners):
            shares[client][label] = own[place :: len(owners)]
    return shares


def collected(shares, seeds, one):
    table = MeanTable(len(seeds), CLASSES)
    for images in shares:
        counts = torch.tensor([float(len(own)) for _, own in sorted(images.items())])
        means = torch.stack([class_moments(one, seed, images).means for seed in seeds])
        table.add(torch.arange(len(seeds)), torch.tensor(sorted(images)), counts, means)
    return lambda step: table.moments(step, seeds[step])


def start(count=2):
    source = torch.Generator().manual_seed(9)
    images = torch.randn(count * CLASSES, 2, SIZE, SIZE, generator=source)
    return images, torch.arange(CLASSES).repeat_interleave(count)


def moved(moments, steps, descent=Descent(), one=None, **options):  # noqa: B008  (frozen)
    module = DistributionMatching(*start(), one or embedding(), descent, **options)
    TrainerPool("cpu", "32-true").fit(
        module, MomentLoader(moments, steps, seed=0, epoch_steps=2), steps=steps
    )
    return module.images.detach()


def weights_digest(net):
    values = torch.cat([value.flatten() for value in net.state_dict().values()])
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def report_digest(seed, answers):
    torch.rand(7)
    answers.put(weights_digest(embedding().network(seed)))


def test_cd_1_another_process_builds_the_same_network():
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=report_digest, args=(5, answers))
    child.start()
    assert answers.get(timeout=60) == weights_digest(embedding().network(5))
    child.join()
    assert weights_digest(embedding().network(6)) != weights_digest(embedding().network(5))


@pytest.mark.parametrize("ops", [(), dsa.OPS], ids=["plain", "dsa"])
def test_cd_2_weighted_means_of_clients_are_the_centralised_mean(ops):
    seeds, images = [11, 12, 13], real()
    gathered = collected(parted(images), seeds, embedding(ops))
    for step, seed in enumerate(seeds):
        whole, found = class_moments(embedding(ops), seed, images), gathered(step)
        assert found.labels == whole.labels == (0, 1, 2)
        assert torch.allclose(found.means, whole.means, atol=1e-5)


@pytest.mark.parametrize("ops", [(), dsa.OPS], ids=["plain", "dsa"])
@pytest.mark.parametrize("descent", [Descent(), CLASSWISE], ids=["joint", "classwise"])
def test_cd_3_the_servers_path_does_not_depend_on_the_number_of_clients(ops, descent):
    seeds, images, one = list(range(6)), real(), embedding(ops)
    alone = moved(collected([images], seeds, one), 6, descent, one)
    many = moved(collected(parted(images), seeds, one), 6, descent, one)
    assert torch.allclose(alone, many, atol=1e-4)
    assert not torch.allclose(alone, start()[0], atol=1e-2)


@pytest.mark.parametrize("ops", [(), dsa.OPS], ids=["plain", "dsa"])
def test_cd_5_all_real_images_as_synthetic_ones_have_no_loss(ops):
    images, one = real(), embedding(ops)
    labels = torch.cat([torch.full((len(own),), label) for label, own in images.items()])
    module = DistributionMatching(torch.cat(list(images.values())), labels, one, Descent())
    for seed in range(6):
        target = class_moments(one, seed, images)
        loss = module.loss(one.network(seed), target, [0, 1, 2])
        assert loss < 1e-9
    half = DistributionMatching(*start(), one, Descent())
    assert half.loss(one.network(0), class_moments(one, 0, images), [0, 1, 2]) > 1e-3


def test_cd_6_only_the_images_have_gradients_and_move():
    one, images = embedding(), real()
    net = one.network(3)
    assert not any(weight.requires_grad for weight in net.parameters())
    module = DistributionMatching(*start(), one, Descent())
    module.loss(net, class_moments(one, 3, images), [0, 1, 2]).backward()
    assert all(weight.grad is None for weight in net.parameters())
    assert list(module.state_dict()) == ["images"]
    assert module.images.grad.abs().amax((1, 2, 3)).min() > 0


def test_cd_8_a_class_without_a_vector_is_left_as_it_is():
    images = real((4, 0, 4))
    target = class_moments(embedding(), 0, images)
    assert target.labels == (0, 2)
    assert target.means.shape == (2, 4 * 4)
    for descent in (Descent(), CLASSWISE):
        after = moved(lambda step: target, 2, descent)
        assert torch.isfinite(after).all()
        assert torch.equal(after[2:4], start()[0][2:4])
        assert not torch.equal(after[:2], start()[0][:2])
        assert not torch.equal(after[4:], start()[0][4:])


def test_moments_are_those_of_all_features():
    images, one = real(), embedding(("rotate",))
    found = class_moments(one, 4, images, with_stds=True)
    for row, label in enumerate(found.labels):
        seen = dsa.apply(images[label], one.draw(4, label))
        features = one.network(4).features(seen)
        assert torch.allclose(found.means[row], features.mean(0), atol=1e-6)
        assert torch.allclose(found.stds[row], features.std(0), atol=1e-5)
    assert class_moments(one, 4, real((1, 0, 0)), with_stds=True).stds.count_nonzero() == 0


def test_samples_are_drawn_by_the_networks_seed():
    images = real((40, 1, 0))
    few, again, other = (
        class_moments(embedding(), seed, images, samples=5).means for seed in (1, 1, 2)
    )
    assert torch.equal(few, again)
    assert not torch.allclose(few[0], class_moments(embedding(), 1, images).means[0], atol=1e-3)
    assert not torch.equal(few, other)
    everything = class_moments(embedding(), 1, images, samples=50).means
    assert torch.equal(everything, class_moments(embedding(), 1, images).means)


def test_classes_are_augmented_apart_and_alike_at_both_ends():
    one = embedding(dsa.OPS)
    draws = [one.draw(0, label) for label in range(20)]
    assert len({draw.op for draw in draws}) > 2
    assert all(
        torch.equal(embedding(dsa.OPS).draw(0, label).values, draw.values)
        for label, draw in enumerate(draws)
    )


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunks_change_memory_and_not_the_step(chunk):
    target = class_moments(embedding(), 0, real())
    whole = moved(lambda step: target, 2)
    assert torch.allclose(moved(lambda step: target, 2, chunk=chunk), whole, atol=1e-5)
    module = DistributionMatching(*start(), embedding(), Descent(), chunk=chunk)
    assert len(list(module._groups((0, 1, 2)))) == {1: 3, 4: 2, 100: 1}[chunk]


def test_a_joint_step_is_gradient_descent_on_the_sum():
    one, images = embedding(), real()
    target = class_moments(one, 0, images)
    own = start()[0].requires_grad_()
    features = one.network(0).features(own).view(CLASSES, 2, -1).mean(1)
    (features - target.means).square().sum().backward()
    expected = own.detach() - 20 * own.grad
    assert torch.allclose(moved(lambda step: target, 1), expected, atol=1e-4)


def test_pitfall_a_momentum_of_a_classwise_step_drifts_through_all_classes():
    """The last class has moved once, the first once and twice more by half and by a quarter."""
    target = class_moments(embedding(), 0, real())
    before = start()[0]
    plain = moved(lambda step: target, 1, Descent("classwise", lr=2.0)) - before
    drifted = moved(lambda step: target, 1, CLASSWISE) - before
    assert torch.allclose(drifted[4:], plain[4:], atol=1e-5)
    assert torch.allclose(drifted[2:4], 1.5 * plain[2:4], atol=1e-5)
    assert torch.allclose(drifted[:2], 1.75 * plain[:2], atol=1e-5)


def test_a_canvas_is_matched_by_its_tiles_and_their_deviations():
    one, images = embedding(), real()
    target = class_moments(one, 0, images, with_stds=True)
    module = DistributionMatching(*start(), one, Descent(), factor=2)
    plain = module.loss(one.network(0), target._replace(stds=None), [1])
    both = module.loss(one.network(0), target, [1])
    assert both > plain > 0
    both.backward()
    assert (module.images.grad[2:4] != 0).all()
    assert not module.images.grad[:2].any()


class Killed(BaseException):
    """What no code catches."""


@pytest.mark.parametrize("descent", [Descent(), CLASSWISE], ids=["joint", "classwise"])
def test_a_killed_fit_goes_on_with_the_same_bits(descent, tmp_path):
    one, images, path = embedding(dsa.OPS), real(), tmp_path / "fit.ckpt"

    def moments(step):
        asked.append(step)
        return class_moments(one, step, images)

    def fit(on_epoch=None):
        module = DistributionMatching(*start(), one, descent)
        TrainerPool("cpu", "32-true").fit(
            module,
            MomentLoader(moments, 9, seed=0, epoch_steps=2),
            steps=9,
            checkpoint=File(path),
            checkpoint_every=0.0,
            on_epoch=on_epoch,
        )
        return module.images.detach()

    def kill(done, total, loss):
        assert total == 5
        if done == 3:
            raise Killed

    asked = []
    whole = fit()
    assert asked == list(range(9))
    asked.clear()
    with pytest.raises(Killed):
        fit(kill)
    asked.clear()
    assert torch.equal(fit(), whole)
    assert asked == list(range(4, 9))


def test_bfloat16_moments_are_close_and_summed_in_full():
    images = real((300, 0, 0))
    plain, rough = (class_moments(embedding(), 0, images, bf16=on).means for on in (False, True))
    assert not torch.equal(plain, rough)
    assert torch.allclose(plain, rough, atol=0.02)
    assert rough.dtype == torch.float32


def test_moments_travel_to_the_device_as_they_are():
    from lightning.fabric.utilities import move_data_to_device

    sent = move_data_to_device(Moments(7, (0, 2), torch.ones(2, 3)), torch.device("cpu"))
    assert isinstance(sent, Moments)
    assert sent[:2] == (7, (0, 2))


@pytest.mark.parametrize("classes", [10, 100])
def test_a_random_network_is_the_cells_whatever_its_number_of_classes(classes):
    model = Model(name="dense_cnn")  # its widths depend on it
    own = build(model, channels=3, size=32, classes=classes, seed=5)
    random = Embedding(model, 3, 32, classes, torch.device("cpu")).network(5)
    assert [value.shape for value in random.parameters()] == [p.shape for p in own.parameters()]
    assert all(map(torch.equal, random.parameters(), own.parameters()))
