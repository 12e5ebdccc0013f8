"""Guided sampling: LM-1 to LM-5 and LM-9; what gradients, clamps and orders of steps do."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fedbench.data.normalisation import Normalisation
from fedbench.errors import ModelError, TrainingError
from fedbench.models.factory import build
from fedbench.models.inference import Inference
from fedbench.models.settings import Model
from fedbench.seeding import isolated
from fedbench.synthesis.diffusion import guidance as module
from fedbench.synthesis.diffusion.guidance import Guidance, Guide
from fedbench.synthesis.diffusion.model import Diffusion, Sampler
from fedbench.synthesis.diffusion.priors import SCHEDULE
from fedbench.synthesis.teachers import Teachers

HALF = Normalisation((0.5,), (0.5,))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
NOISE = {**SCHEDULE, "prediction_type": "epsilon", "beta_schedule": "scaled_linear"}


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def denoiser():
    """A network that predicts something smooth of its samples and timesteps."""
    with isolated(3):
        net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 1, 3, padding=1))
    return net.requires_grad_(False)


def diffusion(net=None, settings=SCHEDULE, **over):
    net = denoiser() if net is None else net

    def predict(noisy, times, labels):
        return net(noisy) * (1 + times.view(-1, 1, 1, 1) / 1000)

    return Diffusion(predict, (1, 8, 8), settings, lambda clean: clean, **over)


def teacher():
    net = build(Model(name="resnet8", width=4), channels=1, size=8, classes=3, seed=1, device="cpu")
    net.train()
    with isolated(4), torch.no_grad():
        net(torch.randn(16, 1, 8, 8))  # running statistics of some data
    return Teachers([net], Inference(HALF, torch.device("cpu")))


def guide(guidance, model=None, kind="ddim", steps=4, client=None):
    model = diffusion() if model is None else model
    sampler = Sampler(model, kind, steps)
    return Guide(model, sampler, teacher() if client is None else client, HALF, guidance)


def by_hand(kind, steps, seed):
    """What diffusers' scheduler makes of the same noise without us."""
    from diffusers import DDIMScheduler, DDPMScheduler

    model, draws = diffusion(), source(seed)
    formula = Sampler(model, kind, steps)
    schedule = (DDIMScheduler if kind == "ddim" else DDPMScheduler)(**SCHEDULE)
    schedule.set_timesteps(steps)
    noisy = torch.randn(len(LABELS), 1, 8, 8, generator=draws)
    for time in schedule.timesteps:
        told = model.predict(noisy, time.expand(len(noisy)), None)
        clean = formula.clean(noisy, told, int(time))
        noisy = schedule.step(told, time, noisy, generator=draws).prev_sample
    return ((clean + 1) / 2).clamp(0, 1)


@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_lm_1_without_guidance_the_samples_are_the_schedulers_own(kind):
    plain = guide(Guidance(scale=0.0, edits=3), kind=kind).run(LABELS, source(5)).images
    again = guide(Guidance(cross_entropy=0, batch_norm=0), kind=kind).run(LABELS, source(5)).images
    assert torch.equal(plain, again)
    assert torch.equal(plain, by_hand(kind, 4, 5))


def test_lm_1_nobody_asks_a_classifier_that_does_not_guide(monkeypatch):
    monkeypatch.setattr(Teachers, "logits", lambda *_: pytest.fail("it was asked"))
    made = guide(Guidance(scale=0.0)).run(LABELS, source())
    assert made.trace.shape == (4, 3)
    assert made.trace.isnan().all()


def test_lm_2_weights_get_no_gradient_and_buffers_stay():
    net, client = denoiser().requires_grad_(True), teacher()
    before = {name: value.clone() for name, value in client.nets[0].state_dict().items()}
    guide(Guidance(edits=1), diffusion(net.requires_grad_(False)), client=client).run(
        LABELS, source()
    )
    for network in (net, client.nets[0]):
        assert all(weight.grad is None for weight in network.parameters())
    after = client.nets[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("settings", [SCHEDULE, NOISE], ids=["velocity", "noise"])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_lm_3_the_formula_inverts_the_noising(settings, step):
    from diffusers import DDPMScheduler

    schedule, sampler = DDPMScheduler(**settings), Sampler(diffusion(settings=settings), "ddpm", 4)
    clean, noise = torch.rand(2, 1, 8, 8, generator=source()), torch.randn(2, 1, 8, 8)
    time = torch.full((2,), sampler.timesteps[step])
    noisy = schedule.add_noise(clean, noise, time)
    velocity = settings is SCHEDULE
    told = schedule.get_velocity(clean, noise, time) if velocity else noise
    found = sampler.clean(noisy, told, sampler.timesteps[step])
    torch.testing.assert_close(found, clean, atol=2e-4, rtol=0)


def losses(one, noisy, timestep, rule):
    """The loss that a step is to lower, of each image."""
    with torch.no_grad():
        told = one._diffusion.ask(noisy, timestep, LABELS)
    clean = one._sampler.clean(noisy, told, timestep)
    images = (one._clamped(one._seen(clean)) - one._mean) / one._std
    (logits,), (layers,) = one._teacher.inspect(images)
    entropy = nn.functional.cross_entropy(logits, LABELS, reduction="sum")
    gap = module.batch_norm_gap(layers) * len(LABELS)
    return float(rule.cross_entropy * entropy + rule.batch_norm * gap)


@pytest.mark.parametrize(
    "rule",
    [
        Guidance(batch_norm=0.0),
        Guidance(cross_entropy=0.0),
        Guidance(cross_entropy=1.0, batch_norm=0.1, normalised=False),
        Guidance(cross_entropy=0.0, detach=True),
    ],
    ids=["entropy", "statistics", "raw", "detached"],
)
def test_lm_4_a_small_step_lowers_the_loss_and_one_the_other_way_raises_it(rule):
    rule = replace(rule, scale=1e-3 if rule.normalised else 1.0)
    one = guide(rule)
    noisy, timestep = torch.randn(len(LABELS), 1, 8, 8, generator=source(2)), 500
    step, _, told = one.pull(noisy, LABELS, timestep, rule)
    here = losses(one, noisy, timestep, rule)
    assert losses(one, noisy - step, timestep, rule) < here
    assert losses(one, noisy + step, timestep, rule) > here
    assert told[0] > 0


def test_the_raw_step_is_the_gradient_of_the_loss():
    rule = Guidance(cross_entropy=1.0, batch_norm=0.3, normalised=False, straight=False)
    one, timestep = guide(rule), 300
    noisy = 0.3 * torch.randn(len(LABELS), 1, 8, 8, generator=source(2))
    step, _, _ = one.pull(noisy, LABELS, timestep, rule)
    direction = torch.randn(noisy.shape, generator=source(3))
    ends = [losses(one, noisy + h * direction, timestep, rule) for h in (1e-3, -1e-3)]
    slope = (ends[0] - ends[1]) / 2e-3
    assert float((step * direction).sum()) == pytest.approx(slope, rel=0.02)


def test_a_mean_over_layers_is_the_sum_with_as_many_times_the_weight():
    layers = sum(isinstance(each, torch.nn.BatchNorm2d) for each in teacher().nets[0].modules())
    rule = Guidance(cross_entropy=0.0, batch_norm=0.3, normalised=False)
    noisy = torch.randn(len(LABELS), 1, 8, 8, generator=source(2))
    summed = guide(rule).pull(noisy, LABELS, 500, rule)
    rule = replace(rule, layers="mean", batch_norm=0.3 * layers)
    mean = guide(rule).pull(noisy, LABELS, 500, rule)
    assert layers == 9
    assert torch.allclose(mean[0], summed[0], rtol=1e-4)
    assert mean[2][2] == summed[2][2] > 0  # what is told is the sum


def test_normalised_steps_have_the_length_of_the_noise_whatever_the_loss():
    rule = Guidance(batch_norm=0.0, scale=0.5)
    one = guide(rule)
    noisy = torch.randn(len(LABELS), 1, 8, 8, generator=source(2))
    step, _, _ = one.pull(noisy, LABELS, 500, rule)
    lengths = step.square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(lengths, torch.full((6,), 0.5 * one._sampler.spread(500)))


@pytest.mark.parametrize("which", ["batch_norm", "both"])
def test_lm_5_edits_touch_the_noise_alone(which):
    edited = Guidance(edits=2, edit_with=which)
    one, other = guide(edited), guide(replace(edited, edits=0))
    noise = one._sampler.begin(len(LABELS), source(1))
    moved = one.edit(noise, LABELS)
    assert not torch.equal(moved, noise)
    assert torch.equal(other.edit(noise, LABELS), noise)
    # What follows is what would follow from noise like that.
    other._sampler.begin = lambda count, draws: (
        torch.randn(count, 1, 8, 8, generator=draws),
        moved,
    )[1]
    assert torch.equal(one.run(LABELS, source(1)).images, other.run(LABELS, source(1)).images)


@pytest.mark.parametrize("count", [1, 3])
def test_lm_5_edits_are_m_steps_down_the_loss_at_the_first_timestep(count):
    rule = Guidance(edits=count, normalised=False, batch_norm=0.1)
    one = guide(rule)
    noise = one._sampler.begin(len(LABELS), source(1))
    noisy, first = noise, max(one._sampler.timesteps)
    for _ in range(count):
        here = noisy.clone().requires_grad_()
        clean = one._sampler.clean(here, one._diffusion.ask(here, first, LABELS, 1.0), first)
        (step,) = torch.autograd.grad(wanted_loss(one, clean, rule), here)
        noisy = noisy - step
    torch.testing.assert_close(one.edit(noise, LABELS), noisy, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(noisy, noise, atol=1e-3)


@pytest.mark.parametrize("twice", [True, False], ids=["S4", "DPS"])
def test_guided_sampling_is_the_loop_of_its_text(twice):
    """Step by step with the gradients of a loss of our own; the last step is not guided."""
    rule = Guidance(normalised=False, batch_norm=0.1, twice=twice)
    one = guide(rule)
    sampler, draws = one._sampler, source(1)
    noisy = sampler.begin(len(LABELS), draws)
    for timestep in sampler.timesteps:
        pull = torch.zeros_like(noisy)
        if timestep != sampler.timesteps[-1]:
            here = noisy.clone().requires_grad_()
            clean = sampler.clean(here, one._diffusion.ask(here, timestep, LABELS, 1.0), timestep)
            (pull,) = torch.autograd.grad(wanted_loss(one, clean, rule), here)
        moved = noisy - pull if twice else noisy
        told = one._diffusion.ask(moved, timestep, LABELS, 1.0)
        clean = sampler.clean(moved, told, timestep)
        noisy = sampler.step(told, timestep, moved, draws) - (0 if twice else pull)
    images = ((clean + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(one.run(LABELS, source(1)).images, images, rtol=1e-3, atol=1e-4)


def wanted_loss(one, clean, rule):
    """CE of the wanted classes, summed, and λ times the batch's gap to BatchNorm's statistics."""
    image = ((clean + 1) / 2).clamp(0, 1) if not rule.straight else straight((clean + 1) / 2)
    (logits,), (layers,) = one._teacher.inspect((image - 0.5) / 0.5)
    gaps = [
        (layer.mean - layer.running_mean).norm() + (layer.var - layer.running_var).norm()
        for layer in layers
    ]
    entropy = torch.nn.functional.cross_entropy(logits, LABELS, reduction="sum")
    return entropy + rule.batch_norm * len(LABELS) * sum(gaps)


def straight(image):
    return image + (image.clamp(0, 1) - image).detach()


def test_edits_follow_statistics_alone_where_they_are_to():
    only = Guidance(edits=1, edit_with="batch_norm")
    same = Guidance(edits=1, cross_entropy=0.0)
    noise = torch.randn(len(LABELS), 1, 8, 8, generator=source(1))
    assert torch.equal(guide(only).edit(noise, LABELS), guide(same).edit(noise, LABELS))
    both = guide(replace(only, edit_with="both")).edit(noise, LABELS)
    assert not torch.equal(both, guide(only).edit(noise, LABELS))


def test_lm_9_without_a_weight_no_layer_is_heard(monkeypatch):
    monkeypatch.setattr(Teachers, "inspect", lambda *_: pytest.fail("layers were heard"))
    made = guide(Guidance(batch_norm=0.0, edits=1)).run(LABELS, source())
    assert made.trace[:-1, :2].isfinite().all()
    assert made.trace[:, 2].isnan().all()


def test_a_detached_step_asks_for_no_gradient_of_the_model():
    graphs = []

    def predict(noisy, times, labels):
        graphs.append(torch.is_grad_enabled() and noisy.requires_grad)
        return 0.5 * noisy

    model = Diffusion(predict, (1, 8, 8), SCHEDULE, lambda clean: clean)
    guide(Guidance(detach=True, edits=1), model).run(LABELS, source())
    assert not any(graphs)
    graphs.clear()
    guide(Guidance(edits=1), model).run(LABELS, source())
    assert any(graphs)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("timestep", [300, 900])
def test_a_detached_step_takes_the_noise_for_a_constant_whatever_is_predicted(kind, timestep):
    """Of one model, told as velocity, noise or image: x̂₀ moves by 1/√ᾱ, so the steps are equal."""
    rule = Guidance(batch_norm=0.0, normalised=False, straight=True, detach=True)
    noisy = torch.randn(len(LABELS), 1, 8, 8, generator=source(2))
    settings = {**SCHEDULE, "prediction_type": kind}
    signal = Sampler(diffusion(), "ddim", 4).signal(timestep)
    noise = (1 - signal**2) ** 0.5
    fixed = 0.1 * torch.randn(noisy.shape, generator=source(7))  # the clean images

    def predict(given, times, labels):
        eps = (given - signal * fixed) / noise
        told = {"epsilon": eps, "sample": fixed, "v_prediction": signal * eps - noise * fixed}
        return told[kind]

    model = Diffusion(predict, (1, 8, 8), settings, lambda clean: clean)
    client = teacher()
    step, _, _ = guide(rule, model, client=client).pull(noisy, LABELS, timestep, rule)
    clean = fixed.clone().requires_grad_()
    said = client.logits(((clean + 1) / 2 - 0.5) / 0.5)[0]
    loss = nn.functional.cross_entropy(said, LABELS, reduction="sum")
    (wanted,) = torch.autograd.grad(loss, clean)
    small = 1e-4 * float(step.abs().max())
    torch.testing.assert_close(step, wanted / signal, rtol=2e-3, atol=small)


def test_images_are_cut_before_they_are_resized():
    """Bicubic weights reach below 0: resized first, a far pixel would darken its neighbours."""

    def resize(images):
        return nn.functional.interpolate(images, (8, 8), mode="bicubic", antialias=True)

    def predict(noisy, times, labels):
        return torch.where(torch.arange(16) % 5 == 0, 9.0, -0.2).expand_as(noisy)

    model = Diffusion(
        predict,
        (1, 16, 16),
        {**SCHEDULE, "prediction_type": "sample"},
        lambda clean: clean,
        resize=resize,
    )
    seen, client = [], teacher()
    logits = client.logits
    client.logits = lambda images: (seen.append(images.detach()), logits(images))[1]
    rule = Guidance(batch_norm=0.0, straight=False, normalised=False, detach=True)
    made = guide(rule, model, client=client).run(LABELS, source())
    cut = ((predict(torch.zeros(6, 1, 16, 16), None, None) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(made.images, resize(cut).clamp(0, 1))
    torch.testing.assert_close(seen[0], (resize(cut) - 0.5) / 0.5)


@pytest.mark.parametrize(("twice", "asked"), [(False, 4), (True, 7)])
def test_predicting_twice_asks_the_model_once_more_in_every_guided_step(twice, asked):
    calls = []

    def predict(noisy, times, labels):
        calls.append(len(noisy))
        return 0.5 * noisy

    model = Diffusion(predict, (1, 8, 8), SCHEDULE, lambda clean: clean)
    guide(Guidance(twice=twice), model).run(LABELS, source())
    assert len(calls) == asked


def test_a_hard_clamp_stops_gradients_and_a_straight_one_does_not():
    far = 5 + torch.zeros(len(LABELS), 1, 8, 8)
    for straight, moves in ((False, False), (True, True)):
        rule = Guidance(batch_norm=0.0, straight=straight)
        step, _, _ = guide(rule).pull(far, LABELS, 20, rule)
        assert bool(step.abs().sum() > 0) == moves


def test_guidance_makes_images_of_their_classes():
    """The classifier gives more of the wanted classes where it has guided."""
    client, shares = teacher(), []
    for scale in (0.0, 1.0):
        made = guide(Guidance(batch_norm=0.0, scale=scale), client=client, steps=10)
        images = (made.run(LABELS, source(3)).images - 0.5) / 0.5
        said = client.logits(images)[0].softmax(1)
        shares.append(float(said.gather(1, LABELS[:, None]).mean()))
    assert shares[1] > shares[0] + 0.005


def test_equal_seeds_make_equal_images_and_others_do_not():
    first, again, other = (
        guide(Guidance(edits=1), kind="ddpm").run(LABELS, source(seed)).images for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_emphasis_mixes_two_predictions_and_needs_a_null_class():
    def predict(noisy, times, labels):
        return noisy + labels.view(-1, 1, 1, 1)

    model = Diffusion(predict, (1, 8, 8), SCHEDULE, lambda clean: clean, classes=4, null=3)
    noisy = torch.zeros(2, 1, 8, 8)
    labels = torch.tensor([0, 1])
    found = model.ask(noisy, 5, labels, 3.0)[:, 0, 0, 0]
    assert found.tolist() == [3 + 3 * (0 - 3), 3 + 3 * (1 - 3)]
    assert model.ask(noisy, 5)[0, 0, 0, 0] == 3
    with pytest.raises(ModelError, match="no image without a class"):
        replace(model, null=None).ask(noisy, 5, labels, 3.0)


def test_images_that_are_not_finite_are_an_error():
    model = Diffusion(lambda x, t, _: x * float("nan"), (1, 8, 8), SCHEDULE, lambda clean: clean)
    with pytest.raises(TrainingError, match="lower the method's scale"):
        guide(Guidance(scale=0.0), model).run(LABELS, source())


def test_what_a_model_predicts_and_how_often_is_checked():
    with pytest.raises(ModelError, match="predicts 'score'"):
        diffusion(settings={**SCHEDULE, "prediction_type": "score"})
    with pytest.raises(ModelError, match="take at most 1000"):
        Sampler(diffusion(), "ddim", 1001)
