"""VAE: its bounds and verbs. Against PPCA and on real digits: test_exact.py."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from vaes import KEY, conv, data, mlp, model

import genfast as gf
from genfast import ops


def test_loss_is_minus_the_elbo():
    vae, x = model(), data()
    torch.testing.assert_close(vae.loss({"x": x}, KEY), -vae.elbo(x, KEY))
    mu, logvar = vae.encode(x)
    kl = ops.reparameterize_reference(mu, logvar, mu)[1]
    torch.testing.assert_close(model(beta=3.0).loss({"x": x}, KEY), -vae.elbo(x, KEY) + 2 * kl)


def test_elbo_is_the_mean_of_the_log_weights():
    """And each weight is log p(x, z) / q(z | x), written out."""
    vae, x = model().double(), data().double()
    weights = vae.log_weights(x, KEY, 4000)
    elbo = torch.stack([vae.elbo(x, ops.make_key(seed, 12)) for seed in range(1000)])
    error = (weights.var(0) / 4000 + elbo.var(0) / 1000).sqrt()
    assert ((weights.mean(0) - elbo.mean(0)).abs() < 4 * error).all()

    mu, logvar = vae.encode(x)
    q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    z = mu + q.scale * ops.normal(KEY, (4,), ops.Purpose.LATENT, 7, torch.float64)
    prior = torch.distributions.Normal(torch.zeros(4).double(), 1.0).log_prob(z)
    expected = vae.likelihood.log_prob(x, vae.decoder(z)) + (prior - q.log_prob(z)).sum(1)
    torch.testing.assert_close(weights[7], expected, rtol=1e-9, atol=1e-9)


def test_log_weights_in_parts():
    vae, x = model(), data(700)
    key = ops.make_key(1, 700)
    whole = vae.log_weights(x, key, 5)
    parts = [vae.log_weights(x[a:b], key[a:b], 2, first=3) for a, b in ((0, 100), (100, 700))]
    torch.testing.assert_close(torch.cat(parts, 1), whole[3:], rtol=1e-5, atol=1e-5)


def test_log_likelihood_is_streamed():
    vae, x = model(), data()
    found = vae.log_likelihood(x, k=300, seed=5, chunk=5)
    weights = vae.log_weights(x, KEY, 300).double()
    torch.testing.assert_close(found.nats, weights.logsumexp(0) - math.log(300), rtol=1e-6, atol=1e-5)
    assert found.nats.dtype == torch.float64 and (found.se > 0).all()
    assert vae.log_likelihood(x[:0]).nats.shape == (0,)


def test_iwae_grows_with_k():
    """In the mean over samples, and the ELBO is its start. Burda et al. 2016, theorem 1."""
    vae, x = model(), data(400)
    with torch.no_grad():
        vae.decoder[-1].weight *= 6  # far from the posterior that the encoder guesses
    bounds = [float(vae.log_likelihood(x, k=k).nats.mean()) for k in (1, 4, 16, 64, 256)]
    assert bounds == sorted(bounds) and bounds[-1] > bounds[0] + 0.5
    assert abs(bounds[0] - float(vae.elbo(x, ops.make_key(0, 400)).mean())) < 0.2


def test_free_bits():
    """Below the allowance a channel costs the allowance and has no gradient; above, what it holds."""
    vae, x = model(), data()
    mu, logvar = vae.encode(x)
    per_unit = 0.5 * (mu.square() + logvar.exp() - 1 - logvar)
    allowance = per_unit.detach().mean(0).median().item()
    loss = model(free_bits=allowance).loss({"x": x}, KEY)
    expected = per_unit.mean(0).clamp(min=allowance).sum() + (vae.loss({"x": x}, KEY) - per_unit.sum(1)).mean()
    torch.testing.assert_close(loss.mean(), expected)
    free, nothing = model(free_bits=1e3), model(beta=0.0)
    grads = [torch.autograd.grad(m.loss({"x": x}, KEY).sum(), m.encoder.parameters()) for m in (free, nothing)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_warm_up():
    """Beta rises with the number of the sample, not of the call; in training alone."""
    vae, x = model(kl_warmup=8, beta=2.0), data()
    losses, without = (m.loss({"x": x}, KEY).detach() for m in (vae, model(beta=0.0)))
    kl = ops.reparameterize_reference(*vae.encode(x), x[:, :4])[1].detach()
    torch.testing.assert_close((losses - without) / kl, 2 * (torch.arange(12) / 8).clamp(max=1), rtol=1e-4, atol=1e-4)
    assert torch.equal(vae.loss({"x": x}, KEY), losses) and losses.dtype == torch.float32
    assert torch.equal(vae.eval().loss({"x": x}, KEY), model(beta=2.0).loss({"x": x}, KEY))


def test_measure():
    vae, x = conv(), data(4, 1, 8, 8)
    vae.shape = None
    vae.loss({"x": x, "label": torch.arange(4)}, KEY[:4])
    assert vae.shape is None and vae.names is None
    vae.measure({"x": x, "names": tuple("abcdefghij"), "levels": None})
    assert vae.shape == (1, 8, 8) and vae.names == tuple("abcdefghij")
    assert vae.phase(0) == vae.phase(7)


@pytest.mark.parametrize("settings", [{}, {"noise": True}, {"temperature": 0.5}])
def test_samples_are_a_function_of_their_index(settings):
    vae = conv(likelihood="bernoulli")
    label = torch.arange(70) % 10
    whole = vae.sample(70, seed=3, label=label, chunk=16, **settings)
    assert whole.shape == (70, 1, 8, 8)
    index = torch.tensor([69, 3, 3, 40, 0])
    assert torch.equal(vae.sample(index, seed=3, label=label[index], chunk=16, **settings), whole[index])
    assert not torch.equal(vae.sample(70, seed=4, label=label, chunk=16, **settings), whole)
    assert vae.training and len(vae.sample(0, label=1)) == 0


def test_temperature_and_noise():
    vae = model(shape=(6,))
    torch.testing.assert_close(vae.sample(5, temperature=0.0), vae.decode(torch.zeros(5, 4)).detach())
    difference = vae.sample(2000, noise=True) - vae.sample(2000)
    assert abs(float(difference.std()) - 1) < 0.05
    z = ops.normal(ops.make_key(0, 64), (4,), ops.Purpose.PRIOR)
    assert torch.equal(vae.sample(64), vae.decode(z).detach())


def test_interpolation_ends_where_it_should():
    vae, x = model(), data()
    for slerp in (False, True):
        found = vae.interpolate(x[0], x[1], 5, slerp=slerp)
        torch.testing.assert_close(found[[0, 4]], vae.reconstruct(x[:2]))
    mu = vae.encode(x[:2])[0].detach()
    torch.testing.assert_close(vae.interpolate(x[0], x[1], 5)[2], vae.decode(mu.mean(0, keepdim=True))[0].detach())
    half = nn.functional.normalize(nn.functional.normalize(mu).sum(0), dim=0) * mu.norm(dim=1).mean()
    torch.testing.assert_close(vae.interpolate(x[0], x[1], 5, slerp=True)[2], vae.decode(half[None])[0].detach())
    torch.testing.assert_close(vae.interpolate(x[0], x[0], 3, slerp=True)[1], vae.reconstruct(x[:1])[0])


def test_traverse():
    vae, x = model(), data()
    z = vae.encode(x[:1])[0].detach().repeat(3, 1)
    z[:, 2] = torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(vae.traverse(x[0], 2, (-1, 1), 3), vae.decode(z).detach())


def test_active_units():
    vae, x = model(), data(500)
    with torch.no_grad():
        vae.encoder[-1].weight[1] = 0  # mu_1 does not depend on x
        vae.encoder[-1].weight[3] *= 100
    found = vae.active_units(x, threshold=1e-3, chunk=64)
    assert found.variance.shape == (4,) and found.variance[1] < 1e-12 and found.variance[3] > 1
    assert found.count == int((found.variance > 1e-3).sum()) < 4
    assert conv().active_units((data(20, 1, 8, 8), torch.arange(20) % 10)).variance.shape == (3,)
    assert vae.active_units(x[:2]).variance.isfinite().all()
    with pytest.raises(ValueError, match="data must have at least 2 samples, whose mu can vary; got 1"):
        vae.active_units(x[:1])


class Constant(nn.Module):
    """q(z | x) of parameters alone."""

    def __init__(self, mu, logvar):
        super().__init__()
        self.mu, self.logvar = nn.Parameter(torch.tensor(mu)), nn.Parameter(torch.tensor(logvar))

    def forward(self, x):
        return self.mu.expand(len(x), 2), self.logvar.expand(len(x), 2)


def posterior_gradient(logvar, **settings):
    """d loss / d logvar of q(z | x), of a decoder that does not look at z: that of the KL alone."""
    decoder = nn.Linear(2, 3)
    nn.init.zeros_(decoder.weight)
    vae = gf.VAE(Constant([0.0, 1.0], logvar), decoder, latent=2, shape=(3,), **settings)
    vae.loss({"x": data(12, 3)}, KEY).mean().backward()
    return vae.encoder.logvar.grad


@pytest.mark.parametrize("settings", [{}, {"free_bits": 0.1}])
def test_a_log_variance_out_of_its_range_is_led_back(settings):
    """By the gradient at the edge: (e^logvar - 1) / 2 of the KL."""
    high, low = math.exp(20) / 2, -0.5
    torch.testing.assert_close(
        posterior_gradient([21.0, 400.0], **settings), torch.tensor([high, high]), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(posterior_gradient([-31.0, -400.0], **settings), torch.tensor([low, low]))
    inside = posterior_gradient([1.0, -20.0], **settings)
    torch.testing.assert_close(inside, torch.tensor([(math.e - 1) / 2, -0.5]))


def test_a_log_variance_is_not_led_out_of_its_range():
    logvar = torch.tensor([[21.0, 21.0, -31.0, -31.0, 20.0, -30.0, 1.0]], requires_grad=True)

    class Given(nn.Module):
        def forward(self, x):
            return torch.zeros(1, 7), logvar

    vae = gf.VAE(Given(), nn.Identity(), latent=7, shape=(7,))
    held = vae.encode(torch.zeros(1, 7))[1]
    assert held.tolist() == [[20.0, 20.0, -30.0, -30.0, 20.0, -30.0, 1.0]]
    held.backward(torch.tensor([[1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0]]))
    assert logvar.grad.tolist() == [[1.0, 0.0, 0.0, -1.0, -1.0, 1.0, -1.0]]


def test_derivatives_of_each_sample_and_of_second_order():
    vae, x = model().double(), data().double()

    def loss(x, key):
        return vae.loss({"x": x[None]}, key[None]).sum()

    each = torch.func.vmap(torch.func.grad(loss))(x, KEY)
    whole = torch.func.grad(lambda x: vae.loss({"x": x}, KEY).sum())(x)
    torch.testing.assert_close(each, whole)
    twice = torch.func.jacrev(torch.func.grad(loss))(x[0], KEY[0])
    mixed = torch.func.jacfwd(torch.func.grad(loss))(x[0], KEY[0])
    torch.testing.assert_close(twice, mixed)


def test_answers_that_would_be_nan_are_errors():
    vae, x = model(shape=(6,)), data()
    x_bad, broken = x.clone(), model(shape=(6,))
    x_bad[[9, 3]] = math.nan
    with torch.no_grad():
        broken.decoder[-1].bias[0] = math.nan
    for ask, words in (
        (lambda: broken.sample([4, 9]), r"samples \[4, 9\] are not finite"),
        (lambda: broken.sample(2, noise=True), r"samples \[0, 1\] are not finite"),
        (lambda: broken.reconstruct(x[:2]), r"samples \[0, 1\] are not finite"),
        (lambda: broken.interpolate(x[0], x[1], 2), r"samples \[0, 1\] are not finite"),
        (lambda: broken.traverse(x[0], 1, n=2), r"samples \[0, 1\] are not finite"),
        (lambda: broken.elbo(x[:2], KEY[:2]), r"elbo of samples \[0, 1\] is NaN"),
        (lambda: vae.elbo(x_bad, KEY), r"elbo of samples \[3, 9\] is NaN"),
        (lambda: vae.log_weights(x_bad, KEY, 3), r"log_weights of samples \[3, 9\] is NaN"),
        (lambda: vae.log_likelihood(x_bad, k=3, chunk=5), r"log_likelihood of samples \[3\] is NaN"),
        (lambda: vae.log_likelihood(x_bad[4:], k=3, chunk=2), r"log_likelihood of samples \[5\] is NaN"),
    ):
        with pytest.raises(FloatingPointError, match=words):
            ask()
    latent = gf.LatentDiffusion(broken, gf.Diffusion(gf.nn.MLP(4, width=8, depth=1)))
    latent.scale.fill_(1)
    latent.measured = True
    with pytest.raises(FloatingPointError, match=r"samples \[6\] are not finite"):
        latent.sample([6], steps=2, progress=False)
    with torch.no_grad():
        vae.encoder[-1].bias[0] = math.nan
    with pytest.raises(FloatingPointError, match=r"samples \[0, 1, 2, 3, 4\] are not finite"):
        vae.active_units(x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda vae: pickle.loads(pickle.dumps(vae))])
def test_copies_of_a_trained_one(copied):
    vae = conv()
    gf.fit(vae, (data(40, 1, 8, 8), torch.arange(40) % 10), steps=2, batch=8, progress=False)
    assert torch.equal(copied(vae).sample(3, label=1), vae.sample(3, label=1))


def test_labels_reach_both_networks():
    vae, x = conv(), data(4, 1, 8, 8)
    assert not torch.equal(vae.encode(x, 1)[0], vae.encode(x, 2)[0])
    z = torch.zeros(1, 3)
    assert not torch.equal(vae.decode(z, 1), vae.decode(z, 2))
    torch.testing.assert_close(vae.elbo(x, KEY[:4], torch.arange(4))[2:3], vae.elbo(x[2:3], KEY[2:3], 2))


def test_spatial_latents():
    nets = {"size": (8, 8), "width": 8, "spatial": True}
    vae = gf.VAE(gf.nn.Encoder(latent=2, **nets), gf.nn.Decoder(latent=2, **nets), latent=(2, 4, 4), free_bits=0.5)
    x = data(3, 1, 8, 8)
    assert vae.loss({"x": x}, KEY[:3]).shape == (3,) and vae.log_weights(x, KEY[:3], 2).shape == (2, 3)
    assert vae.sample(2).shape == vae.interpolate(x[0], x[1], 2).shape == (2, 1, 8, 8)
    assert vae.traverse(x[0], 31, n=4).shape == (4, 1, 8, 8)


def test_modes_and_gradients_are_left_alone():
    vae, x = model(), data()
    vae.decoder.eval()
    vae.reconstruct(x), vae.elbo(x, KEY), vae.log_likelihood(x, k=2)
    assert vae.encoder.training and not vae.decoder.training
    assert vae.decode(vae.encode(x)[0]).requires_grad and not vae.elbo(x, KEY).requires_grad


@pytest.mark.parametrize("likelihood", list(gf.vae.likelihoods.LIKELIHOODS))
def test_saved_and_loaded(likelihood, tmp_path):
    vae = conv(likelihood=likelihood, beta=0.5, kl_warmup=3)
    batch = {"x": torch.ones(4, 1, 8, 8), "label": torch.arange(4)}
    gf.save(vae, tmp_path)
    loaded = gf.load(tmp_path)
    assert torch.equal(loaded.sample(3, label=1, noise=True), vae.sample(3, label=1, noise=True))
    assert loaded.config().keys() == vae.config().keys()
    assert torch.equal(loaded.loss(batch, KEY[:4]), vae.loss(batch, KEY[:4]))
    assert repr(loaded) == repr(vae) and likelihood in repr(vae)


def test_networks_of_ones_own_are_passed_to_load(tmp_path):
    vae = model(gf.vae.likelihoods.LearnedVariance((6,)), shape=(6,))
    gf.save(vae, tmp_path)
    loaded = gf.load(tmp_path, {"encoder": mlp(6, 16, 8), "decoder": mlp(4, 16, 6)})
    assert torch.equal(loaded.sample(3), vae.sample(3))


def test_fit_takes_it():
    vae = model()
    logs = gf.fit(vae, data(200), steps=60, batch=64, lr=1e-2, warmup=5, log_every=10, progress=False)
    assert logs[-1]["loss"] < logs[0]["loss"] and vae.shape == (6,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": 0}, "latent must be a positive integer or a sequence of them; got 0"),
        ({"latent": ()}, "latent must be a positive integer"),
        ({"beta": -1.0}, "beta must be a finite number of at least 0; got -1.0"),
        ({"free_bits": math.nan}, "free_bits must be a finite number of at least 0; got nan"),
        ({"kl_warmup": 1.5}, "kl_warmup must be an integer of at least 0; got 1.5"),
        ({"classes": -1}, "classes must be an integer of at least 0; got -1"),
        ({"likelihood": "poisson"}, "likelihood must be one of gaussian"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        gf.VAE(mlp(6, 8), mlp(4, 6), **({"latent": 4} | settings))


def test_bad_input():
    vae, x = model(shape=(6,)), data()
    with pytest.raises(TypeError, match=r"encoder must be a torch\.nn\.Module; got function"):
        gf.VAE(lambda x: x, mlp(4, 6), latent=4)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 6\); got \(12, 5\)"):
        vae.elbo(x[:, :5], KEY)
    with pytest.raises(TypeError, match=r"x must hold floating-point numbers; got torch.int64"):
        vae.encode(x.long())
    new = model()
    with pytest.raises(ValueError, match=r"key must have shape \(12, 2\), one row a sample; got \(3, 2\)"):
        new.loss({"x": x}, KEY[:3])
    assert new.shape is None  # a refused batch has no say
    with pytest.raises(ValueError, match="label was given to a model without classes"):
        vae.sample(3, label=1)
    with pytest.raises(ValueError, match="label is needed: the model has 10 classes"):
        conv().sample(3)
    with pytest.raises(ValueError, match=r"label must lie in \[0, 10\); got 10"):
        conv().sample(3, label=10)  # a VAE has no null label
    with pytest.raises(ValueError, match=r"label must lie in \[0, 10\)"):
        conv().loss({"x": data(2, 1, 8, 8), "label": torch.tensor([0, 10])}, KEY[:2])
    with pytest.raises(ValueError, match=r"encoder must answer with two of shape \(12, 3\).*got \(12, 4\)"):
        gf.VAE(mlp(6, 8), mlp(3, 6), latent=3).loss({"x": x}, KEY)
    with pytest.raises(ValueError, match=r"decoder must answer with the shape of x, \(12, 6\); got \(12, 7\)"):
        gf.VAE(mlp(6, 8), mlp(4, 7), latent=4).loss({"x": x}, KEY)
    with pytest.raises(ValueError, match=r"z must have shape \(B, 4\); got \(2, 3\)"):
        vae.decode(torch.zeros(2, 3))
    for name, call in {
        "samples": lambda: vae.log_weights(x, KEY, 0), "k": lambda: vae.log_likelihood(x, k=0),
        "chunk": lambda: vae.sample(3, chunk=0), "n": lambda: vae.interpolate(x[0], x[1], 1),
        "dim": lambda: vae.traverse(x[0], 4), "temperature": lambda: vae.sample(3, temperature=-1.0),
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name} must .*got"):
            call()
    with pytest.raises(ValueError, match="shape of a sample is not known yet"):
        model().sample(0)
