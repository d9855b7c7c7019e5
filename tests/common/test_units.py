"""Models of standardized data answer in the data's units: samples, likelihoods, and all that takes data."""

import copy
import math

import pytest
import torch
from torch import nn

import genfast as gf
from genfast.common.units import Units
from genfast.data.dataset import Data
from genfast.diffusion import guidance, sampling
from genfast.diffusion.process.denoisers import Denoiser, Unscaled
from genfast.diffusion.solvers import plan

MEAN, SD = (100.0, -3.0), (20.0, 0.5)
UNITS = Units(MEAN, SD)
LOG_VOLUME = math.log(20) + math.log(0.5)
X = torch.tensor(MEAN) + torch.tensor(SD) * torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
QUIET = {"progress": False}


class Standard(nn.Module):
    """The exact v of x_0 ~ N(0, I) on VP cosine: none, for x_t is N(0, I) at all times, and E[v | x_t] = 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, y, t):
        return 0 * self.weight * y


def standard(units=UNITS):
    """A diffusion model of N(0, I), in these units, and of the schedule at which it is exact."""
    return gf.Diffusion(Standard(), "vp_cosine", "v", shape=(2,), units=units)


MODEL, PLAIN = standard(), standard(None)


def test_units_are_the_affine_map():
    x = torch.randn(3, 2, 4, 5)
    expected = (x.double() - torch.tensor(MEAN).view(2, 1, 1)) / torch.tensor(SD).view(2, 1, 1)
    assert torch.equal(UNITS.standardized(x), expected.float())
    torch.testing.assert_close(UNITS.original(UNITS.standardized(x)), x, atol=1e-5, rtol=1e-6)
    assert UNITS.log_volume((2,)) == pytest.approx(LOG_VOLUME, abs=1e-12)
    assert UNITS.log_volume((2, 4, 5)) == pytest.approx(20 * LOG_VOLUME, abs=1e-11)
    assert Units(**UNITS.described()) == UNITS != Units((0.0, 0.0), SD)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(UNITS.original(leaf).sum(), leaf)
    assert torch.equal(grad[:, 0], torch.full((3, 4, 5), 20.0))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: Units([0.0], [0.0]), ValueError, "sd must be 1 numbers above 0"),
        (lambda: Units([0.0, 1.0], [1.0]), ValueError, "sd must be 2 numbers"),
        (lambda: Units([math.nan], [1.0]), ValueError, "mean must be finite"),
        (lambda: Units([], []), ValueError, "mean must be"),
        (lambda: UNITS.standardized(torch.zeros(4, 3)), ValueError, "units must be of 3 features or channels.*got 2"),
        (lambda: Data(torch.zeros(4, 3), units=UNITS), ValueError, "units must be of 3 features or channels.*got 2"),
        (lambda: standard(units=3), TypeError, "units must be Units, a dict of mean and sd, or None; got 3"),
    ],
)
def test_bad_units(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("solver", ["dpmpp_2m", "heun"])
def test_samples_have_the_mean_and_sd_of_the_data(solver):
    x = MODEL.sample(4096, solver=solver, steps=10, **QUIET)
    assert torch.equal(x, UNITS.original(PLAIN.sample(4096, solver=solver, steps=10, **QUIET)))
    for mean, sd, column in zip(MEAN, SD, x.T):
        assert abs(float(column.mean()) - mean) < 4 * sd / 64
        assert abs(float(column.std()) / sd - 1) < 4 / math.sqrt(2 * 4096) + 0.02  # and the error of ten steps


def test_likelihoods_are_densities_of_x():
    """Of N(mean, sd^2), and of what the standardized model says, less log sd."""
    x, u = X[:20], UNITS.standardized(X[:20])
    exact = torch.distributions.Normal(torch.tensor(MEAN), torch.tensor(SD)).log_prob(x).sum(1)
    key = gf.ops.make_key(0, 20)
    for found, plain in (
        (MODEL.log_likelihood(x, **QUIET).nats, PLAIN.log_likelihood(u, **QUIET).nats),
        (MODEL.elbo(x, key), PLAIN.elbo(u, key)),
    ):
        torch.testing.assert_close(found, plain - LOG_VOLUME, atol=1e-9, rtol=0)
    torch.testing.assert_close(MODEL.log_likelihood(x, **QUIET).nats.float(), exact, atol=0.01, rtol=0)


def test_bits_of_levels_are_probabilities_of_x():
    """log p(k) = log p(x) + log of the width of a bin of x, for bins that are narrow: 16-bit levels, of sd 0.3."""
    units, x = Units((0.1, -0.2), (0.3, 0.2)), torch.tensor([[0.0, 0.1], [0.5, -0.3]])
    levels = 2**16
    x = ((x + 1) / 2 * (levels - 1)).round() / (levels - 1) * 2 - 1
    found = standard(units).bits_per_dim(x, levels=levels, **QUIET).bits
    exact = torch.distributions.Normal(torch.tensor([0.1, -0.2]), torch.tensor([0.3, 0.2])).log_prob(x).sum(1)
    expected = -(exact / 2 + math.log(2 / (levels - 1))) / math.log(2)
    torch.testing.assert_close(found.float(), expected, atol=0.01, rtol=0)


def test_what_samples_are_made_of_is_in_their_units():
    few = {"steps": 8, **QUIET}
    source = X[:6]
    close = MODEL.sample(6, source=source, strength=0.02, **few)
    assert float(((close - source).abs() / torch.tensor(SD)).max()) < 0.3
    u = UNITS.standardized(source)
    assert torch.equal(close, UNITS.original(PLAIN.sample(6, source=u, strength=0.02, **few)))
    mask = torch.tensor([1.0, 0.0])
    filled = MODEL.sample(6, known=source, mask=mask, **few)
    torch.testing.assert_close(filled[:, 0], source[:, 0])
    adaptive, _ = MODEL.sample_adaptively(6, rtol=0.01, atol=0.01, **QUIET)
    assert torch.equal(adaptive, UNITS.original(PLAIN.sample_adaptively(6, rtol=0.01, atol=0.01, **QUIET)[0]))
    queue = MODEL.queue(capacity=2)
    ticket = queue.add(3, steps=4)
    assert torch.equal(dict(queue)[ticket], MODEL.sample([3], steps=4, chunk=2, **QUIET)[0])


def test_a_callback_sees_the_way_in_their_units():
    seen = []
    x = MODEL.sample(3, steps=4, callback=seen.append, **QUIET)
    assert torch.equal(seen[-1].x, x) and torch.equal(seen[-1].denoised, x)


def test_an_inversion_leads_back():
    with_noise = sampling.invert(MODEL.denoiser, X[:5], solver="euler", steps=5, **QUIET)
    within = sampling.invert(PLAIN.denoiser, UNITS.standardized(X[:5]), solver="euler", steps=5, **QUIET)
    assert torch.equal(with_noise, within) and float(with_noise.abs().max()) < 6 and MODEL.denoiser.units == UNITS
    back = MODEL.sample(5, start=with_noise, solver="euler", steps=5, **QUIET)
    torch.testing.assert_close(back, X[:5], atol=0.1, rtol=0.01)


def A(x):
    """The sum of both features."""
    return x[:, :1] + 2 * x[:, 1:]


def test_dps_measures_x():
    given = {"condition": {"measurement": torch.full((64, 1), 120.0)}, **QUIET}
    way, within = plan("euler", "vp_cosine", 10), guidance.DPS(PLAIN.denoiser, lambda u: A(UNITS.original(u)))
    x = sampling.sample(guidance.DPS(MODEL.denoiser, A), (2,), way, 64, **given)
    assert torch.equal(x, UNITS.original(sampling.sample(within, (2,), way, 64, **given)))


@pytest.mark.parametrize("method", [guidance.PiGDM, guidance.MMPS])
def test_linear_inverse_problems_are_in_their_units(method):
    """The samples have what was measured of x."""
    way, y = plan("euler", "vp_cosine", 40), torch.full((64, 1), 120.0)
    denoiser = method(MODEL.denoiser, A, noise_std=0.5)
    x = sampling.sample(denoiser, (2,), way, 64, condition={"measurement": y}, **QUIET)
    assert float((A(x) - y).abs().mean()) < 2.0
    # E[x | y] of the Gaussian: mean + sd^2 a (y - a mean) / |a sd|^2, where noise is small
    a, sd, mean = torch.tensor([1.0, 2.0]), torch.tensor(SD), torch.tensor(MEAN)
    expected = mean + sd**2 * a * (120 - (a * mean).sum()) / (a * sd).square().sum()
    assert bool(((x.mean(0) - expected).abs() < 0.5 * sd).all())


@pytest.mark.parametrize("name, value", [("clamp", (-1.0, 1.0)), ("threshold", 0.9)])
def test_bounds_of_the_way_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be None for a model of standardized data; got .*clip="):
        MODEL.sample(2, **{name: value}, **QUIET)
    with pytest.raises(ValueError, match="clamp must be None for a model of standardized data"):
        MODEL.queue(clamp=(-1.0, 1.0))
    x = MODEL.sample(64, clip=(90.0, 110.0), **QUIET)
    assert float(x.min()) == 90 and float(x.max()) <= 110


def small(family):
    """A model of two numbers of each family."""
    torch.manual_seed(0)
    if family == "vae":
        return gf.VAE(gf.nn.FeedForward(2, 4, width=16), gf.nn.FeedForward(2, 2, width=16), latent=2)
    if family == "gan":
        return gf.GAN(gf.nn.FeedForward(2, 2, width=16), gf.nn.FeedForward(2, 1, width=16), latent=2)
    return gf.Diffusion(gf.nn.MLP(2, width=16, depth=1))


@pytest.mark.parametrize("family", ["diffusion", "vae", "gan"])
def test_a_model_keeps_the_units_of_its_first_data(family, tmp_path):
    model, data = small(family), Data(X).standardized()
    gf.fit(model, data, test=X[:64], steps=2, batch=64, out=tmp_path / "run", **QUIET)
    assert model.units == data.units and model.config()["units"] == data.units.described()
    loaded = gf.load(tmp_path / "run")
    quiet = {} if family != "diffusion" else QUIET
    assert loaded.units == data.units and torch.equal(loaded.sample(4, **quiet), model.sample(4, **quiet))
    plain = copy.deepcopy(model)
    plain.units = None
    assert torch.equal(model.sample(4, **quiet), data.units.original(plain.sample(4, **quiet)))
    other = Data(X + 1000).standardized()
    gf.fit(model, other, steps=1, batch=64, **QUIET)
    assert model.units == data.units
    seen = []
    model.loss, loss = lambda batch, *a, **k: (seen.append(batch["x"]), loss(batch, *a, **k))[1], model.loss
    gf.fit(model, X, steps=1, batch=64, **QUIET)
    assert torch.equal(seen[0], data.batch(0, 0, 64)["x"])


def test_held_out_data_are_seen_in_the_units_of_training():
    data = Data(X).standardized()
    for test in (X[:64], Data(X[:64]).standardized()):
        held = gf.Fit(small("diffusion"), data, test=test, steps=1, **QUIET).test
        assert held.units == data.units and torch.equal(held.x, data.units.standardized(X[:64]))


def test_a_resumed_run_has_the_same_units(tmp_path):
    def run(steps, data):
        model = small("diffusion")
        gf.fit(model, data, steps=steps, batch=16, out=tmp_path / "run", warmup=1, decay="constant", **QUIET)
        return model

    data = Data(X[:64]).standardized()
    run(2, data)
    assert run(4, data).units == data.units
    with pytest.raises(ValueError, match="units"):
        run(6, Data(X[:64]))


def test_a_vae_takes_and_answers_with_x_in_their_units():
    model = small("vae")
    model.units, plain = UNITS, small("vae")
    x, u, key = X[:6], UNITS.standardized(X[:6]), gf.ops.make_key(0, 6)
    for found, expected in (
        (model.elbo(x, key), plain.elbo(u, key) - LOG_VOLUME),
        (model.log_weights(x, key, 3), plain.log_weights(u, key, 3) - LOG_VOLUME),
        (model.log_likelihood(x, k=4).nats, plain.log_likelihood(u, k=4).nats - LOG_VOLUME),
        (model.encode(x)[0], plain.encode(u)[0]),
        (model.reconstruct(x), UNITS.original(plain.reconstruct(u))),
        (model.sample(5, noise=True), UNITS.original(plain.sample(5, noise=True))),
        (model.interpolate(x[0], x[1]), UNITS.original(plain.interpolate(u[0], u[1]))),
        (model.traverse(x[0], 1), UNITS.original(plain.traverse(u[0], 1))),
        (model.active_units(X[:32]).variance, plain.active_units(UNITS.standardized(X[:32])).variance),
        (model.active_units(Data(X[:32]).standardized()).variance, model.active_units(X[:32]).variance),
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_latent_model_has_the_units_of_its_vae():
    vae = small("vae")
    gf.fit(vae, Data(X).standardized(), steps=2, batch=64, **QUIET)
    model = gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(2, width=8, depth=1)))
    gf.fit(model, X[:100], steps=1, batch=32, **QUIET)
    assert model.units == vae.units == Data(X).standardized().units
    u = model.diffusion.sample(4, clip=None, **QUIET)
    torch.testing.assert_close(model.sample(4, **QUIET), vae.decode(model.scale * u + model.shift))
    near = model.sample(3, source=X[:3], strength=0.001, **QUIET)
    torch.testing.assert_close(near, vae.reconstruct(X[:3]), atol=0.1, rtol=0.1)

    plain = small("vae")
    gf.fit(plain, X, steps=1, batch=64, **QUIET)
    model = gf.LatentDiffusion(plain, gf.Diffusion(gf.nn.MLP(2, width=8, depth=1)))
    run = gf.Fit(model, Data(X[:100]).standardized(), steps=1, batch=32, **QUIET)
    run.run()
    assert model.units is None and run.data.units is None


@pytest.mark.parametrize("units", ["array", None, "own", UNITS])
def test_evaluation_compares_in_the_units_of_the_data(units):
    given = X[:256] if units == "array" else Data(X[:256], units=None if units == "own" else units)
    given = given.standardized() if units == "own" else given
    metrics = {"metrics": ["frechet", "likelihood"], "likelihood": {"steps": 20, "n": 256}}
    report = gf.evaluate(MODEL, given, sampling={"steps": 10}, **metrics, **QUIET)
    exact = torch.distributions.Normal(torch.tensor(MEAN), torch.tensor(SD)).log_prob(X[:256]).sum(1).mean()
    assert report["nats"].estimate.value == pytest.approx(float(exact), abs=0.02)
    assert report["frechet"].estimate.value < 30 and not report.warnings  # |mean|^2 is 10^4


def test_samples_are_compared_in_the_units_of_the_data():
    data = Data(X[:256]).standardized()
    for samples in (X[256:512], Data(X[256:512]), Data(X[256:512]).standardized()):
        assert gf.evaluate(samples, data, metrics=["frechet"], **QUIET)["frechet"].estimate.value < 30


class Foreign:
    """A model that draws what it was trained on, standardized, and knows of no units."""

    shape = (2,)

    def sample(self, n, seed=0):
        return torch.randn(len(n) if torch.is_tensor(n) else n, 2, generator=torch.Generator().manual_seed(seed))


def test_a_model_without_units_is_compared_as_it_was_trained():
    report = gf.evaluate(Foreign(), Data(X[:256]).standardized(), metrics=["frechet"], n=256, **QUIET)
    assert report["frechet"].estimate.value < 0.2


def test_a_classifier_asks_its_models_in_their_units():
    far = standard(Units((0.0, 0.0), (5.0, 5.0)))
    near = gf.GenerativeClassifier([MODEL, far], steps=10, progress=False)
    x = torch.cat([X[:20], 5 * torch.randn(20, 2)])
    label = torch.arange(40) // 20
    assert near.accuracy((x, label)) == near.accuracy(Data(x, label).standardized()) == 1


def test_a_denoiser_of_a_formula_has_no_units():
    assert Denoiser(Standard(), "vp_cosine", Unscaled()).units is None
