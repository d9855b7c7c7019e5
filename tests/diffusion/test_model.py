"""Diffusion models: the loss against the papers' formulas in float64, its laws, sampling, saving, and training."""

import concurrent.futures
import dataclasses
import itertools
import math
import re
from statistics import NormalDist

import pytest
import torch
from helpers import perturbed

import genfast as gf
from genfast import ops
from genfast.diffusion.process.denoisers import EDM, PARAMETERIZATIONS
from genfast.diffusion.process.schedules import SCHEDULES, as_schedule
from genfast.diffusion.process.tabulated import Tabulated
from genfast.diffusion.times import LogNormal, Uniform, stratified

every_parameterization = pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
SINGULAR = [("flow", name) for name in ("eps", "score", "edm")]  # which the constructor refuses
PAIRS = [pair for pair in itertools.product(SCHEDULES, PARAMETERIZATIONS) if pair not in SINGULAR]


def mlp(features=2, classes=0, seed=0):
    return perturbed(gf.nn.MLP(features, width=32, depth=1, classes=classes), seed)


def batch(count, *shape, seed=0):
    return {"x": torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)), "label": None}


def labeled_model(**settings):
    return gf.Diffusion(mlp(classes=3), "vp_cosine", "v", shape=(2,), **settings)


class Elementwise(torch.nn.Module):
    """No sums, so that nothing can depend on the other rows."""

    def forward(self, y, t):
        return y.relu() * t.view(-1, *[1] * (y.ndim - 1))


# The loss -------------------------------------------------------------------------------------------------------------


def papers(name, schedule, t, x0, z):
    """The papers' own network input, time, target and weight, for t: (B, 1)."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x_t = alpha * x0 + sigma * z
    if name == "edm":  # of x_t / alpha at noise level sigma / alpha, with sigma_data = 1/2
        level, data = sigma / alpha, 0.5
        norm = (level**2 + data**2).sqrt()
        target = (x0 - data**2 / norm**2 * x_t / alpha) / (level * data / norm)
        return x_t / alpha / norm, level.log() / 4, target, 1
    target = {
        "eps": z,
        "x0": x0,
        "v": alpha * z - sigma * x0,
        "score": -z / sigma,
        "flow": schedule.d_alpha(t) * x0 + schedule.d_sigma(t) * z,
    }[name]
    deviation = (alpha**2 + sigma**2).sqrt().clamp(min=1)
    return x_t / deviation, t, target, sigma**2 if name == "score" else 1


@pytest.mark.parametrize(
    ("schedule", "parameterization"), [p for p in PAIRS if p[0] in ("vp_cosine", "flow", "edm", "sub_vp", "ve")]
)
def test_the_loss_is_that_of_the_papers(schedule, parameterization):
    net, count = mlp(12), 40
    model = gf.Diffusion(net, schedule, parameterization)
    key = ops.make_key(3, torch.arange(count) + 7)
    data = batch(count, 3, 4)
    loss = model.loss(data, key)
    assert loss.shape == (count,) and loss.dtype == torch.float32

    schedule = model.schedule
    u = stratified(key)
    if parameterization == "edm":
        log_level = torch.tensor([-1.2 + NormalDist().inv_cdf(value) for value in u.tolist()]).double()
        t = schedule.time(-2 * log_level).clamp(schedule.t_min, 1)
    else:
        t = schedule.t_min + (1 - schedule.t_min) * u
    z = ops.normal(key, (12,), ops.Purpose.TRAIN, dtype=torch.float64)
    y, c_noise, target, weight = papers(parameterization, schedule, t[:, None], data["x"].flatten(1).double(), z)
    F = mlp(12).double()(y, c_noise.flatten())
    expected = (weight * (F - target) ** 2).mean(1)
    assert torch.allclose(loss.double(), expected, rtol=1e-4, atol=0)


def test_the_loss_of_a_sample_is_its_own():
    key, data = ops.make_key(1, torch.tensor([4, 9, 2, 0, 7])), batch(5, 3, 4, 4)
    order = torch.tensor([3, 1, 4, 0, 2])
    models = (gf.Diffusion(Elementwise(), "flow", "flow"), True), (gf.Diffusion(mlp(48), "edm"), False)
    for model, exact in models:
        tolerance = {"rtol": 0 if exact else 1e-5, "atol": 0}
        whole = model.loss(data, key)
        assert len(whole.unique()) == 5
        for part in (slice(0, 2), slice(2, 5), slice(4, 5), order):
            assert torch.allclose(model.loss({"x": data["x"][part]}, key[part]), whole[part], **tolerance)
        assert not (model.loss(data, ops.make_key(2, key[:, 1])) == whole).any()


def test_the_memory_format_of_a_batch_does_not_matter():
    key, data = ops.make_key(1, 5), batch(5, 3, 4, 4)
    model = gf.Diffusion(Elementwise(), "vp_cosine")
    whole = model.loss(data, key)
    last = {"x": data["x"].contiguous(memory_format=torch.channels_last)}
    assert torch.allclose(model.loss(last, key), whole, rtol=1e-6, atol=0)


def test_gradients_reach_every_weight():
    model = labeled_model()
    model.loss(batch(8, 2) | {"label": torch.arange(8) % 3}, ops.make_key(0, 8)).mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_label_dropout_is_a_function_of_the_key():
    seen, times = [], []

    def net(y, t, label):
        seen.append(label), times.append(t)
        return y

    count = 4000
    model = gf.Diffusion(torch.nn.Identity(), "vp_cosine", "v", label_dropout=0.2, classes=5)
    model.net = net_module = torch.nn.Module()
    net_module.forward = net
    label = torch.arange(count) % 5
    data = batch(count, 2) | {"label": label}
    for part in (slice(None), slice(100, 200)):
        model.loss({name: value[part] for name, value in data.items()}, ops.make_key(0, count)[part])
    dropped = seen[0] == 5
    assert torch.equal(seen[0][~dropped], label[~dropped])
    assert abs(dropped.double().mean() - 0.2) < 5 * math.sqrt(0.2 * 0.8 / count)
    assert abs(times[0][dropped].mean() - 0.5) < 5 * math.sqrt(1 / 12 / dropped.sum())  # whatever the time is
    assert torch.equal(seen[1], seen[0][100:200])
    model.loss(data, ops.make_key(1, count))
    assert not torch.equal(seen[2], seen[0])
    model.label_dropout = 0.0
    model.loss(data, ops.make_key(0, count))
    assert torch.equal(seen[3], label)


SCALE = 0.5


class BestForGaussian(torch.nn.Module):
    """E[F*] given x_t for the data N(0, SCALE^2), where c_in = 1 and c_noise = t; `gain` off the best."""

    def __init__(self, model, gain=1.0):
        super().__init__()
        self.coefficients, self.schedule, self.gain = model.denoiser.coefficients, model.schedule, gain

    def forward(self, y, t):
        t = t.double()
        alpha, sigma, c = self.schedule.alpha(t), self.schedule.sigma(t), self.coefficients(t)
        gain = self.gain * alpha * SCALE**2 / (alpha**2 * SCALE**2 + sigma**2)
        return ((c.p * gain + c.q * (1 - alpha * gain) / sigma).float()[:, None] * y).to(y.dtype)


def gaussian_model(parameterization, gain=1.0, schedule="vp_cosine"):
    model = gf.Diffusion(torch.nn.Identity(), schedule, parameterization, shape=(2,))
    net = BestForGaussian(gf.Diffusion(torch.nn.Identity(), schedule, parameterization), gain)
    model.net = net
    return model


@pytest.mark.parametrize("parameterization", ["eps", "x0", "v", "score", "flow"])
def test_the_best_network_has_the_lowest_loss(parameterization):
    data, key = {"x": SCALE * batch(2000, 2)["x"]}, ops.make_key(0, 2000)
    losses = {gain: gaussian_model(parameterization, gain).loss(data, key).mean() for gain in (0.8, 1.0, 1.2)}
    assert losses[1.0] < losses[0.8] and losses[1.0] < losses[1.2]


def test_the_lowest_loss_is_the_posterior_variance():
    count = 20_000
    data, key = {"x": SCALE * batch(count, 2)["x"]}, ops.make_key(0, count)
    model = gaussian_model("x0")
    loss = model.loss(data, key)
    t = torch.linspace(model.schedule.t_min, 1, 10_001, dtype=torch.float64)
    alpha, sigma = model.schedule.alpha(t), model.schedule.sigma(t)
    expected = (SCALE**2 * sigma**2 / (alpha**2 * SCALE**2 + sigma**2)).mean()
    assert abs(loss.mean() - expected) < 5 * loss.std() / math.sqrt(count)


@pytest.mark.parametrize("parameterization", ["eps", "x0", "v", "score", "flow"])
@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_denoise_and_score_of_gaussian_data(parameterization, t):
    """E[x_0 | x_t] and, by Tweedie's formula, the gradient of log N(0, V): -x_t / V."""
    model = gaussian_model(parameterization)
    x_t = batch(6, 2)["x"].double()
    alpha, sigma = model.schedule.alpha(t), model.schedule.sigma(t)
    variance = alpha**2 * SCALE**2 + sigma**2
    for times in (t, torch.full((6,), t, dtype=torch.float64)):
        D, score = model.denoise(x_t, times), model.score(x_t, times)
        # The network gives a float32 factor, of which eps loses digits where alpha is small.
        assert torch.allclose(D, alpha * SCALE**2 / variance * x_t, rtol=0, atol=1e-5)
        assert torch.allclose(score, -x_t / variance, rtol=1e-4, atol=1e-5)
        assert torch.allclose(sigma**2 * score, alpha * D - x_t, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="t must be positive"):
        model.score(x_t, 0.0)


def test_denoise_takes_a_label():
    model = labeled_model()
    x_t = batch(4, 2)["x"]
    null = model.denoise(x_t, 0.5)
    assert torch.equal(model.denoise(x_t, 0.5, label=-1), null)
    assert not torch.allclose(model.denoise(x_t, 0.5, label=0), null, atol=1e-3)
    assert torch.equal(
        model.score(x_t, 0.5, label=1), model.denoiser.score(x_t, 0.5, label=torch.ones(4, dtype=torch.int64))
    )


def test_what_is_chosen_by_default():
    parameterization, times = {}, {}
    for name in SCHEDULES:
        model = gf.Diffusion(mlp(), name)
        parameterization[name], times[name] = type(model.parameterization).__name__, type(model.times)
    assert parameterization == dict.fromkeys(SCHEDULES, "V") | {"ve": "EDM", "edm": "EDM", "flow": "Flow"}
    assert times == dict.fromkeys(SCHEDULES, Uniform) | {"ve": LogNormal, "edm": LogNormal}
    assert gf.Diffusion(mlp(classes=4)).classes == 4 and gf.Diffusion(mlp()).classes == 0
    assert gf.Diffusion(mlp(), times="uniform").times == Uniform()
    default = gf.Diffusion(mlp())
    assert default.schedule == gf.schedules.EDM(0.002, 80.0) and default.parameterization == EDM(sigma_data=None)
    assert default.times == LogNormal(mean=None, std=1.0)


# Sampling -------------------------------------------------------------------------------------------------------------


def test_sample_is_the_loop_with_the_models_own_parts():
    model = labeled_model()
    one = gf.solvers.plan("ddim", "vp_cosine", 5, eta=0.5)
    label, null = torch.tensor([0, 2, 1, 1]), torch.full((4,), 3)
    common = {"seed": 4, "chunk": 8, "progress": False}
    expected = gf.diffusion.sampling.sample(
        model.denoiser, (2,), one, 4, condition={"label": label}, unconditional={"label": null}, guidance=3.0, **common
    )
    named = {"solver": "ddim", "steps": 5, "eta": 0.5}
    assert torch.equal(model.sample(4, label=label, guidance=3.0, solver=one, **common), expected)
    assert torch.equal(model.sample(4, label=[0, 2, 1, 1], guidance=3.0, **named, **common), expected)
    assert torch.equal(model.sample([2], label=1, guidance=torch.tensor([3.0]), **named, **common), expected[2:3])
    plain = gf.diffusion.sampling.sample(model.denoiser, (2,), one, 4, condition={"label": null}, **common)
    assert torch.equal(model.sample(4, **named, **common), plain)
    assert torch.equal(model.sample(4, label=-1, guidance=1.0, **named, **common), plain)


def test_sampling_in_other_dtypes():
    narrow = gf.Diffusion(mlp(), "vp_cosine", shape=(2,)).sample(5, steps=6, progress=False)
    wide = gf.Diffusion(mlp().double(), "vp_cosine", shape=(2,)).sample(5, steps=6, dtype=torch.float64, progress=False)
    half = gf.Diffusion(mlp().bfloat16(), "vp_cosine", shape=(2,)).sample(5, steps=6, progress=False)
    assert (narrow.dtype, wide.dtype, half.dtype) == (torch.float32, torch.float64, torch.float32)
    assert torch.allclose(narrow.double(), wide, atol=1e-4) and torch.allclose(narrow, half, atol=0.1)


def test_modes_are_restored():
    model = labeled_model()
    seen = []
    model.net.register_forward_hook(lambda net, *_: seen.append(net.training))
    model.train()
    model.net.blocks.eval()  # a frozen part
    before = [module.training for module in model.modules()]
    model.sample(2, steps=2, progress=False)
    assert not any(seen) and [module.training for module in model.modules()] == before
    with pytest.raises(ValueError, match="clamp"):
        model.sample(2, steps=2, clamp=(1, 0), progress=False)
    assert [module.training for module in model.modules()] == before
    model.eval().sample(2, steps=2, progress=False)
    assert not any(module.training for module in model.modules())


# Saving ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "parameterization"), PAIRS)
def test_a_loaded_model_is_the_same_model(schedule, parameterization, tmp_path):
    model = gf.Diffusion(mlp(classes=2), schedule, parameterization, label_dropout=0.3, shape=(2,))
    gf.save(model, tmp_path)
    copy = gf.load(tmp_path)
    assert repr(copy) == repr(model) and copy.label_dropout == 0.3
    data, key = batch(6, 2) | {"label": torch.arange(6) % 2}, ops.make_key(0, 6)
    assert torch.equal(copy.loss(data, key), model.loss(data, key))
    ask = {"n": 3, "label": 1, "steps": 3, "chunk": 4, "progress": False}
    assert torch.equal(copy.sample(**ask), model.sample(**ask))


def test_every_setting_is_saved(tmp_path):
    model = gf.Diffusion(
        mlp(classes=2), gf.schedules.EDM(sigma_max=20.0), EDM(sigma_data=0.7), times=LogNormal(-1.0, 0.9), classes=1,
        levels=9,
    )  # fmt: skip
    gf.save(model, tmp_path)
    copy = gf.load(tmp_path)
    assert copy.schedule == gf.schedules.EDM(sigma_max=20.0) and copy.parameterization == EDM(sigma_data=0.7)
    assert copy.times == LogNormal(-1.0, 0.9) and copy.classes == 1 and copy.shape is None and copy.levels == 9


def test_what_is_measured_is_saved(tmp_path):
    model = gf.Diffusion(mlp(classes=2))
    gf.save(model, tmp_path)
    copy = gf.load(tmp_path)
    assert copy.parameterization == EDM() and copy.times == LogNormal() and copy.shape is copy.levels is None
    model.measure(batch(20, 2) | {"names": ("a", "b"), "levels": 17})
    gf.save(model, tmp_path)
    copy = gf.load(tmp_path)
    assert copy.parameterization == model.parameterization != EDM() and copy.times == model.times != LogNormal()
    assert (copy.shape, copy.levels, copy.names) == ((2,), 17, ("a", "b"))


def test_what_is_not_ours_cannot_be_saved(tmp_path):
    @dataclasses.dataclass(frozen=True, repr=False)
    class Own(gf.schedules.EDM):
        pass

    for settings, name in (({"schedule": Own()}, "schedule"), ({"times": lambda schedule, u: u}, "times")):
        model = gf.Diffusion(mlp(), **settings)
        assert model.loss(batch(3, 2), ops.make_key(0, 3)).isfinite().all()
        with pytest.raises(ValueError, match=f"{name} must be one of genfast's own"):
            gf.save(model, tmp_path)


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_thread")
def test_a_small_network_learns_two_modes():
    generator = torch.Generator().manual_seed(0)
    centers, deviation = torch.tensor([[-1.0, 0.5], [1.0, 0.0]]), 0.2
    x = centers[torch.arange(4096) % 2] + deviation * torch.randn(4096, 2, generator=generator)
    torch.manual_seed(0)
    model = gf.Diffusion(gf.nn.MLP(2, width=64, depth=2), "vp_cosine")
    gf.fit(model, gf.data.arrays(x), steps=300, batch=128, lr=4e-3, warmup=20, seed=0, progress=False)
    distance = torch.cdist(model.sample(1000, chunk=1000, progress=False), centers)
    near = (distance < 3 * deviation).double().mean(0)
    assert near.sum() > 0.9 and near.min() > 0.35, near


# Bad requests ---------------------------------------------------------------------------------------------------------


CONSTRUCTION = [
    ({"schedule": "cosine"}, ValueError, "schedule must be one of"),
    ({"schedule": 3}, TypeError, "schedule must be a Schedule or a name"),
    ({"parameterization": "epsilon"}, ValueError, "parameterization must be one of"),
    ({"times": "normal"}, ValueError, "times must be one of uniform, lognormal; got 'normal'"),
    ({"label_dropout": 1.0}, ValueError, r"label_dropout must be a number in \[0, 1\); got 1.0"),
    ({"label_dropout": "0.1"}, ValueError, r"label_dropout must be a number in \[0, 1\); got '0.1'"),
    ({"classes": -1}, ValueError, "classes must be an integer of at least 0; got -1"),
    ({"classes": 2.0}, ValueError, "classes must be an integer of at least 0; got 2.0"),
    ({"shape": (2, 0)}, ValueError, "shape must be a positive integer or a sequence of them"),
    ({"net": 3}, TypeError, "net must be callable"),
    (
        {"net": gf.nn.UNet(1, 8, timesteps={})},
        ValueError,
        "parameterization must tell t to a network that counts steps",
    ),
]

SAMPLING = [
    ({"n": -1}, ValueError, "n must be a number of samples"),
    ({"n": 2.5}, ValueError, "n must be a number of samples"),
    ({"n": [0, -2]}, ValueError, "n must be a number of samples"),
    ({"label": 4}, ValueError, r"label must lie in \[0, 3\), or be -1"),
    ({"label": 3}, ValueError, r"label must lie in \[0, 3\), or be -1 for unknown; got 3 in 3 of 3"),
    ({"label": -2}, ValueError, r"label must lie in \[0, 3\), or be -1"),
    ({"label": [0, 1]}, ValueError, r"label must be one integer or name, or \(3,\) of them"),
    ({"label": 0.5}, ValueError, "label must be one integer"),
    ({"guidance": 2.0}, ValueError, "guidance needs a label"),
    ({"condition": torch.ones(3, 1)}, ValueError, "condition was given to a model whose networks take none"),
    ({"condition": torch.ones(2, 1)}, ValueError, r"condition must hold real numbers, \(3, \*\) or \(1, \*\) for all"),
    ({"condition": torch.ones(3, 1) * 1j}, ValueError, "condition must hold real numbers"),
    ({"condition": torch.tensor([[torch.inf]])}, ValueError, "condition must be finite, or NaN where it is missing"),
    ({"guidance": torch.ones(3)}, ValueError, "guidance needs a label"),
    ({"guidance": [1.0, 2.0], "label": 0}, ValueError, r"guidance must be a number or have shape \(3,\); got \(2,\)"),
    ({"solver": "dpm"}, ValueError, "solver must be one of"),
    ({"steps": -5}, ValueError, "steps must be an integer of at least 1; got -5"),
    ({"steps": 2.5}, ValueError, "steps must be an integer of at least 1"),
    ({"grid": "linear"}, ValueError, "grid must be a function or one of"),
    ({"grid": [1.0, 0.5, 0.0]}, ValueError, "grid must be a function or one of"),
    ({"eta": 1.0}, TypeError, "dpmpp_2m has no option eta"),
    ({"chunk": 0}, ValueError, "chunk must be an integer of at least 1"),
    ({"seed": -1}, ValueError, r"seed must be an integer from 0 to 2\^63 - 1; got -1"),
    ({"dtype": torch.float16}, ValueError, "dtype must be one of torch.float32, torch.float64; got torch.float16"),
]


@pytest.mark.parametrize(("settings", "error", "message"), CONSTRUCTION)
def test_bad_models_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        gf.Diffusion(**{"net": mlp()} | settings)


@pytest.mark.parametrize(("settings", "error", "message"), SAMPLING)
def test_bad_sampling_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        labeled_model().sample(**{"n": 3, "steps": 2, "progress": False} | settings)


def test_bad_batches_are_refused():
    model, key = labeled_model(label_dropout=0.0), ops.make_key(0, 3)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 2\); got \(3, 4\)"):
        model.loss(batch(3, 4), key)
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\), or be -1"):
        model.loss(batch(3, 2) | {"label": torch.tensor([0, 1, 4])}, key)
    with pytest.raises(ValueError, match=r"key must have shape \(3, 2\)"):
        model.loss(batch(3, 2), ops.make_key(0, 2))
    for answer, got in (
        (lambda y: (y,), "with the shape of its input, (3, 2); got tuple"),
        (lambda y: y[:, :1], "with the shape of its input, (3, 2); got (3, 1)"),
        (lambda y: y + 0j, "with floating-point numbers; got torch.complex64"),
        (lambda y: y.long(), "with floating-point numbers; got torch.int64"),
    ):
        other = gf.Diffusion(lambda y, t, answer=answer: answer(y), "flow", shape=(2,))
        with pytest.raises(ValueError, match=re.escape("the network must answer " + got)):
            other.loss(batch(3, 2), key)
        with pytest.raises(ValueError, match=re.escape("the network must answer " + got)):
            other.denoise(torch.zeros(3, 2), 0.5)
    plain = gf.Diffusion(mlp(), shape=(2,))
    for call in (lambda: plain.sample(2, label=0), lambda: plain.denoise(torch.zeros(1, 2), 0.5, label=0)):
        with pytest.raises(ValueError, match="label was given to a model without classes"):
            call()
    with pytest.raises(ValueError, match="guidance needs a label"):
        plain.sample(2, guidance=2.0)
    with pytest.raises(ValueError, match="shape of a sample is not known yet"):
        gf.Diffusion(mlp()).sample(2)


def test_a_replaced_network_is_the_one_that_samples():
    """As `model.net = torch.compile(model.net)` does."""
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    before = model.sample(4, steps=3, progress=False)
    model.net = Doubled()
    assert not torch.equal(model.sample(4, steps=3, progress=False), before)


class Doubled(torch.nn.Module):
    def forward(self, x, t, **condition):
        return 2 * x


# Other ways to sample -------------------------------------------------------------------------------------------------


def test_a_queue_gives_what_sample_gives():
    """Requests of any solver, step count, guidance and class, in one batch."""
    model = labeled_model()
    requests = [
        {"index": 7, "label": 1, "solver": "ddim", "steps": 3},
        {"index": 2, "label": 0, "solver": "dpmpp_2m_sde", "steps": 5, "guidance": 2.0, "seed": 3},
        {"index": 3, "label": 2, "steps": 4, "guidance": 1.5, "negative_label": 0},
        {"index": 1, "solver": "dpmpp_2m_sde", "steps": 4, "noise": "brownian"},
    ]
    model.train()
    queue = model.queue(capacity=3)
    tickets = [queue.add(**request) for request in requests]
    found = dict(queue)
    assert model.training
    for ticket, request in zip(tickets, requests, strict=True):
        expected = model.sample([request.pop("index")], **request, chunk=3, progress=False)[0]
        assert torch.allclose(found[ticket], expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert found.keys() == set(tickets)
    with pytest.raises(ValueError, match="shape of a sample is not known yet"):
        gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), "vp_linear").queue()


def test_samples_of_images_are_clipped():
    """At the end only, by every way to sample, and where the data say that they are of so many levels."""
    model, ask = labeled_model(), {"label": 1, "steps": 4, "progress": False}
    plain = model.sample(40, **ask)
    assert plain.abs().max() > 1 and torch.equal(model.sample(40, **ask, clip=None), plain)
    assert torch.equal(model.sample(40, **ask, clip=(-0.5, math.inf)), plain.clamp(min=-0.5))
    adaptive, settings = model.sample_adaptively(9, label=1, progress=False)[0], {"progress": False, "label": 1}
    model.levels, states = 17, []
    assert torch.equal(model.sample(40, **ask), plain.clamp(-1, 1))
    assert torch.equal(model.sample(40, **ask, clip=None), plain)
    assert torch.equal(model.sample_adaptively(9, **settings)[0], adaptive.clamp(-1, 1))
    assert torch.equal(model.sample_adaptively(9, **settings, clip=None)[0], adaptive)
    model.sample(40, **ask, callback=lambda state: states.append(state.x))
    assert torch.equal(states[-1], plain)
    for clip, bounds in (("auto", (-1, 1)), (None, None), ((0.0, 0.5), (0, 0.5))):
        queue = model.queue(capacity=8, clip=clip)
        for index in range(8):
            queue.add(index, label=1, steps=4)
        found = torch.stack([x for _, x in sorted(queue, key=lambda pair: pair[0])])
        torch.testing.assert_close(found, plain[:8] if bounds is None else plain[:8].clamp(*bounds))
    with pytest.raises(ValueError, match=r"clip must be \(low, high\)"):
        model.sample(3, **ask, clip=(1, 0))


def test_adaptive_sampling_of_a_model():
    model = labeled_model()
    x, evaluations = model.sample_adaptively(5, label=1, seed=2, rtol=1e-5, atol=1e-5, progress=False)
    assert x.shape == (5, *model.shape) and (evaluations > 2).all()
    fine = model.sample(5, label=1, seed=2, solver="rk4", steps=100, progress=False)
    assert (x - fine).abs().max() < 1e-2 * fine.abs().max()
    again, _ = model.sample_adaptively([3], label=1, seed=2, rtol=1e-5, atol=1e-5, progress=False)
    assert torch.equal(again[0], x[3])


def test_negative_labels_replace_the_null_label():
    model = labeled_model()
    settings = {"n": 4, "label": 1, "guidance": 2.0, "steps": 3, "progress": False}
    plain = model.sample(**settings)
    assert torch.equal(model.sample(**settings, negative_label=-1), plain)
    assert not torch.equal(model.sample(**settings, negative_label=0), plain)
    with pytest.raises(ValueError, match=r"^negative_label must lie in"):
        model.sample(**settings, negative_label=99)


class Noting(torch.nn.Module):
    """Notes in which mode it is called."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.weight = seen, torch.nn.Parameter(torch.zeros(()))

    def forward(self, y, t):
        self.seen.append(self.training)
        return torch.tanh(y) + self.weight


def test_threads_that_sample_from_one_model_do_not_disturb_each_others_mode():
    seen = []
    model = gf.Diffusion(Noting(seen), "vp_cosine", "v", shape=(2,)).train()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        steps = [1, 60, 5, 30, 2, 40, 1, 50]
        list(pool.map(lambda n: model.sample(3, steps=n, progress=False), steps))
    assert len(seen) == sum(steps) and not any(seen)
    assert model.training and model.net.training


def test_the_other_network_of_guidance_samples_in_eval_mode_too():
    seen = []
    model, other = gf.Diffusion(Noting([]), "vp_cosine", "v", shape=(2,)), Noting(seen).train()
    model.sample(2, steps=3, guidance=gf.Guidance(2.0, network=other), progress=False)
    assert len(seen) == 3 and not any(seen) and other.training


def test_what_cannot_go_together_is_refused():
    model = labeled_model()
    one = gf.solvers.plan("ddim", model.schedule, 3)
    for settings, error, message in (
        ({"solver": one, "guidence": 3.0}, TypeError, "guidence cannot go with a Plan"),
        ({"solver": one, "grid": "karras"}, TypeError, "grid cannot go with a Plan"),
        ({"label": 1, "negative_label": 2, "guidance": gf.Guidance(2.0, network=model.net)}, ValueError,
         "negative_label cannot go with guidance by a network of its own"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            model.sample(2, steps=3, progress=False, **settings)


def test_a_model_in_float64_samples():
    model = labeled_model()
    narrow = model.sample(3, label=1, steps=4, progress=False, guidance=None)
    wide = model.double().sample(3, label=1, steps=4, progress=False)
    assert wide.dtype == torch.float32 and torch.allclose(wide, narrow, rtol=0, atol=1e-4 * narrow.abs().max().item())


@every_parameterization
@pytest.mark.parametrize("schedule", [*SCHEDULES, "zero terminal snr"])
def test_what_trains_can_be_sampled(schedule, parameterization):
    """Every pair of a schedule and a parameterization does both, or the constructor refuses it: eps, score and edm
    where alpha(1) = 0, from which they know nothing of x_0."""
    noise_only = schedule in ("flow", "zero terminal snr")
    if schedule == "zero terminal snr":
        alphas = torch.linspace(1, 0, 12, dtype=torch.float64)[1:]
        schedule = Tabulated(tuple(alphas.tolist()), tuple((1 - alphas**2).sqrt().tolist()))
    net = gf.nn.MLP(2, width=8, depth=1)
    if noise_only and parameterization in ("eps", "score", "edm"):
        kinds = PARAMETERIZATIONS[parameterization].__name__, type(as_schedule(schedule)).__name__
        with pytest.raises(ValueError, match=f"the {kinds[0]} parameterization is singular at t = 1 of {kinds[1]}"):
            gf.Diffusion(net, schedule, parameterization)
        return
    model = gf.Diffusion(net, schedule, parameterization, shape=(2,))
    assert model.loss({"x": torch.randn(64, 2)}, ops.make_key(0, 64)).isfinite().all()
    assert model.sample(2, steps=4, progress=False).isfinite().all()
    assert model.sample_adaptively(2, progress=False)[0].isfinite().all()
