"""LatentDiffusion: the frozen VAE, the scale of its latents, samples and checkpoints; on real digits."""

import copy
import math
import pickle

import pytest
import torch

import genfast as gf
from genfast import ops
from genfast.diffusion.scale import log_half_lost
from genfast.features import classifier


def models(classes=10, **settings):
    torch.manual_seed(0)
    vae = gf.vae.autoencoder_kl((8, 8), 1, latent=2, width=8, multipliers=(1, 2))
    net = gf.nn.MLP(features=32, width=32, depth=1, classes=classes)
    return vae, gf.Diffusion(net, schedule="vp_cosine", **settings)


def batch(n=50):
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return {"x": x, "label": torch.arange(n) % 10}


@pytest.fixture
def trained():
    model = gf.LatentDiffusion(*models())
    return model.measure(batch())


def test_autoencoder_keeps_the_layout():
    vae = gf.vae.autoencoder_kl((7, 9), 3, latent=5, width=8, multipliers=(1, 1, 2))
    assert vae.latent == (5, 2, 3) and vae.sample(2).shape == (2, 3, 7, 9)


def test_latents_are_standardized(trained):
    """The variance of z is that of mu and the mean of e^logvar: as of many draws."""
    mu, logvar = trained.vae.encode(batch()["x"])
    z = torch.cat([ops.reparameterize(mu, logvar, ops.make_key(seed, 50))[0] for seed in range(200)])
    u = (z - trained.shift) / trained.scale
    torch.testing.assert_close(u.mean((0, 2, 3)), torch.zeros(2), atol=0.01, rtol=0)
    torch.testing.assert_close(u.std((0, 2, 3)), torch.ones(2), atol=0.01, rtol=0)
    assert logvar.exp().mean() > 0.1  # the noise counts


def test_the_scale_does_not_depend_on_the_chunk(trained):
    for chunk in (1, 7, 50):
        other = gf.LatentDiffusion(*models()).measure(batch(), chunk=chunk)
        torch.testing.assert_close((other.shift, other.scale), (trained.shift, trained.scale))


def test_what_the_diffusion_sees_is_measured_too(trained):
    """Of draws of z, not of its mean: the noise counts."""
    u = (ops.reparameterize(*trained.vae.encode(batch()["x"]), ops.make_key(0, 50))[0] - trained.shift) / trained.scale
    model = gf.LatentDiffusion(models()[0], gf.Diffusion(gf.nn.MLP(features=32, width=8, depth=1, classes=10)))
    model.measure(batch() | {"names": tuple("abcdefghij"), "levels": 17}, chunk=7)
    assert model.diffusion.parameterization.sigma_data == pytest.approx(u.square().mean().sqrt().item(), rel=1e-5)
    assert model.diffusion.times.mean == pytest.approx(log_half_lost(u) - 0.2, abs=1e-5)
    assert (model.shape, model.levels, model.names) == ((1, 8, 8), 17, tuple("abcdefghij"))
    assert model.diffusion.levels is None and model.diffusion.shape == (2, 4, 4)


def test_the_loss_changes_nothing_and_reads_nothing(trained):
    key = ops.make_key(0, 50)
    state, config = {name: value.clone() for name, value in trained.state_dict().items()}, trained.config()
    with gf.testing.no_host_reads():
        first = trained.loss(batch(), key, step=0)
        trained.log_snr(key)
        assert trained.phase(0) == trained.phase(7)
    assert torch.equal(trained.loss(batch(), key, step=12), first) and trained.config() == config
    assert all(torch.equal(value, state[name]) for name, value in trained.state_dict().items())
    assert torch.equal(trained.log_snr(key), trained.diffusion.log_snr(key))


def test_the_loss_takes_what_is_encoded(trained):
    """In the place of x, with the same loss; what is neither is refused."""
    key, found = ops.make_key(0, 50), trained.encoded(batch())
    assert found.shape == (50, 2, 2, 4, 4) and not found.requires_grad
    assert torch.equal(trained.loss(batch() | {"x": found}, key), trained.loss(batch(), key))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\)"):
        trained.loss(batch() | {"x": found[:, :1]}, key)
    vae = gf.VAE(Pair(), torch.nn.Identity(), latent=4)
    ambiguous = gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(4, width=8, depth=1)))
    x = torch.randn(50, 2, 4, generator=torch.Generator().manual_seed(2))
    ambiguous.measure({"x": x})
    z = ops.reparameterize(*ambiguous.vae.encode(x), key)[0]
    found = ambiguous.diffusion.loss({"x": (z - ambiguous.shift) / ambiguous.scale}, key)
    assert torch.equal(ambiguous.loss({"x": x}, key), found)  # these are samples, and no mean and log-variance


class Pair(torch.nn.Module):
    """mu = the second part of x, with a log-variance of its own."""

    def forward(self, x):
        return x[:, 1], torch.full_like(x[:, 1], -2.0)


def test_what_is_measured_is_known_to_copies(trained, tmp_path):
    fresh = gf.LatentDiffusion(*models())
    assert not fresh.measured
    fresh.load_state_dict(trained.state_dict())
    gf.save(trained, tmp_path)
    loss = trained.loss(batch(), ops.make_key(0, 50))
    for model in (fresh, copy.deepcopy(trained), pickle.loads(pickle.dumps(trained)), gf.load(tmp_path)):
        assert model.measured and torch.equal(model.loss(batch(), ops.make_key(0, 50)), loss)
    unknown = gf.LatentDiffusion(*models())
    unknown.load_state_dict(gf.LatentDiffusion(*models()).state_dict())
    assert not unknown.measured


def test_images_are_clipped_and_latents_are_not(trained):
    settings = {"label": 3, "steps": 3, "progress": False}
    plain = trained.sample(20, **settings)
    trained.vae.likelihood.mean, mean = lambda f: 9 * mean(f), trained.vae.likelihood.mean
    loud = trained.sample(20, **settings)
    assert torch.allclose(loud, 9 * plain) and loud.abs().max() > 1
    assert torch.equal(trained.sample(20, **settings, clip=(-0.5, 2)), loud.clamp(-0.5, 2))
    trained.levels = trained.diffusion.levels = 17
    assert torch.equal(trained.sample(20, **settings), loud.clamp(-1, 1))
    assert torch.equal(trained.sample(20, **settings, clip=None), loud)


def test_measured_once(trained):
    """What was trained is for the first scale."""
    scale = trained.scale.clone()
    gf.fit(trained, (5 * batch()["x"], batch()["label"]), steps=1, batch=10, progress=False)
    assert torch.equal(trained.measure({"x": 5 * batch()["x"]}).scale, scale)


class Known(torch.nn.Module):
    """mu = x, log-variance -20."""

    def forward(self, x):
        return x, torch.full_like(x, -20.0)


def known(size=8):
    vae = gf.VAE(Known(), torch.nn.Identity(), latent=size, shape=(size,))
    return gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(size, width=8, depth=1)))


@pytest.mark.parametrize("size", [2, 4, 32])
def test_fit_takes_the_scale_from_all_the_data(size):
    """Not from a batch, of which it is off by up to 980 times; and from all over data that are sorted."""
    x, model = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0)), known()
    gf.fit(model, x, steps=1, batch=size, progress=False)
    torch.testing.assert_close(model.shift, x.mean(0))
    torch.testing.assert_close(model.scale, x.std(0))
    many, model = torch.linspace(-1, 1, 10_000)[:, None].expand(-1, 8), known()
    gf.fit(model, many, steps=1, batch=size, progress=False)
    torch.testing.assert_close(model.shift, torch.zeros(8), atol=0.03, rtol=0)
    torch.testing.assert_close(model.scale, many.std(0), atol=0.03, rtol=0)


def test_small_latents_keep_their_spread():
    """The scale of a channel is held to a thousandth of the largest, whatever that is."""
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    spread = (x.double().var(0) * 1e-8 + math.exp(-20)).sqrt()
    torch.testing.assert_close(known(2).measure({"x": 1e-4 * x}).scale, spread.float())
    held = known(2).measure({"x": x * torch.tensor([1.0, 0.0])}).scale
    assert held[1] == pytest.approx(1e-3 * float(held[0]))


def test_far_latents_keep_their_spread():
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) + 1e4
    model = known().measure({"x": x})
    torch.testing.assert_close(model.scale, x.double().std(0).float())


def test_the_vae_is_frozen(trained):
    trained.train()
    assert trained.diffusion.training and not any(module.training for module in trained.vae.modules())
    before = [p.clone() for p in trained.vae.parameters()]
    gf.fit(trained, (batch()["x"], batch()["label"]), steps=3, batch=10, warmup=0, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(trained.vae.parameters(), before, strict=True))


def test_samples_are_a_function_of_their_index(trained):
    label, settings = torch.arange(40) % 10, {"steps": 3, "chunk": 16, "progress": False}
    whole = trained.sample(40, label=label, **settings)
    index = torch.tensor([39, 2, 2, 17])
    assert whole.shape == (40, 1, 8, 8)
    assert torch.equal(trained.sample(index, label=label[index], **settings), whole[index])
    assert trained.sample(0, **settings).shape == (0, 1, 8, 8)


def test_sampled_in_float64(trained):
    settings = {"label": 3, "steps": 3, "progress": False}
    found = trained.sample(2, dtype=torch.float64, **settings)
    torch.testing.assert_close(found, trained.sample(2, **settings), rtol=1e-3, atol=1e-3)


def test_the_scale_needs_two_samples():
    """Of a vector: in a latent with a layout one sample has several numbers a channel."""
    model = known(2)
    with pytest.raises(ValueError, match="batch must have at least 2 samples, for the scale of the latents; got 1"):
        model.measure({"x": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match=r"at least 2 samples.*got 0"):
        model.measure({"x": torch.zeros(0, 2)})
    assert not model.scale.any() and not model.measured
    model.measure({"x": torch.randn(2, 2)})
    one = gf.LatentDiffusion(*models()).measure({name: value[:1] for name, value in batch().items()})
    assert bool((model.scale > 0).all()) and bool((one.scale > 0).all())


def test_unmeasured_latents_have_no_loss():
    with pytest.raises(ValueError, match=r"call measure\(batch\) with 4,096 samples, or all, or train with fit"):
        known().loss({"x": torch.randn(9, 8)}, ops.make_key(0, 9))


def test_latents_that_are_all_alike_have_no_scale():
    """Not even a noise of their own."""
    model = known(2)
    model.vae.encoder.forward = lambda x: (torch.zeros_like(x), torch.full_like(x, -torch.inf))
    model.vae._posterior = lambda x, conditions: model.vae.encoder(x)
    with pytest.raises(
        ValueError, match="batch must have latents that differ, for their scale; got latents that are all"
    ):
        model.measure({"x": torch.zeros(9, 2)})
    assert not model.measured and model.diffusion.times.mean is None


def test_latents_that_are_not_finite_have_no_scale():
    model = known()
    with pytest.raises(FloatingPointError, match="the latents of the batch are not finite"):
        model.measure({"x": torch.full((9, 8), float("inf"))})
    assert not model.scale.any()


def test_saved_and_loaded(trained, tmp_path):
    gf.save(trained, tmp_path)
    loaded = gf.load(tmp_path)
    settings = {"label": 3, "steps": 3, "progress": False}
    assert torch.equal(loaded.sample(2, **settings), trained.sample(2, **settings))


def test_bad_input():
    vae, diffusion = models()
    with pytest.raises(TypeError, match="diffusion must be a Diffusion; got VAE"):
        gf.LatentDiffusion(vae, vae)
    with pytest.raises(ValueError, match=r"diffusion must be of the shape of latents, \(2, 4, 4\); got \(3,\)"):
        gf.LatentDiffusion(vae, models(shape=(3,))[1])
    with pytest.raises(ValueError, match="scale of the latents is not known yet"):
        gf.LatentDiffusion(vae, diffusion).sample(2)
    nets = [kind((8, 8), latent=2, width=4, spatial=True, classes=3) for kind in (gf.nn.Encoder, gf.nn.Decoder)]
    conditional = gf.VAE(*nets, latent=(2, 4, 4))
    with pytest.raises(ValueError, match="diffusion must have the 3 classes of the VAE; got 10"):
        gf.LatentDiffusion(conditional, diffusion)


@pytest.mark.slow
def test_digits_are_those_asked_for():
    """A judge that has seen other digits agrees with the label of at least 90 %."""
    train, test = gf.data.digits("train"), gf.data.digits("test")
    torch.manual_seed(0)
    vae = gf.vae.autoencoder_kl((8, 8), 1, latent=2, width=8, multipliers=(1, 2))
    gf.fit(vae, train.x, steps=120, lr=5e-3, progress=False)
    diffusion = gf.Diffusion(gf.nn.MLP(features=32, width=128, depth=3, classes=10), schedule="vp_cosine")
    model = gf.LatentDiffusion(vae, diffusion)
    gf.fit(model, train, steps=250, lr=3e-3, progress=False)
    label = torch.arange(200) % 10
    samples = model.sample(200, label=label, guidance=1.5, progress=False)
    judge = classifier(test.x, test.label, steps=100)
    found = judge.probabilities(samples).argmax(1)
    agreement = (found == label).double().mean()
    assert agreement >= 0.9, agreement


def test_a_source_is_an_image(trained):
    """Encoded to its mean, noised there and brought back; a function of its own row."""
    x, settings = batch(20)["x"], {"steps": 6, "chunk": 8, "progress": False}
    whole = trained.sample(20, source=x, strength=0.4, **settings)
    u = (trained.vae.encode(x)[0] - trained.shift) / trained.scale
    latents = trained.diffusion.sample(20, source=u, strength=0.4, **settings)
    torch.testing.assert_close(whole, trained.vae.decode(trained.scale * latents + trained.shift), rtol=1e-3, atol=1e-4)
    index = torch.tensor([11, 3, 11])
    assert torch.equal(trained.sample(index, source=x[index], strength=0.4, **settings), whole[index])
    near = trained.sample(20, source=x, strength=0.01, **settings)
    assert (near - trained.vae.decode(trained.vae.encode(x)[0])).abs().max() < 0.2
    assert torch.equal(trained.sample(20, source=x.numpy(), strength=0.4, **settings), whole)
    for source in (x[:3], x[:, :, :4], u):
        with pytest.raises(ValueError, match=r"source must have shape \((20|N), 1, 8, 8\)"):
            trained.sample(20, source=source, strength=0.4, **settings)
    with pytest.raises(TypeError, match=r"source must hold floating-point numbers; got torch\.int32"):
        trained.sample(20, source=x.int(), strength=0.4, **settings)
    with pytest.raises(ValueError, match="source must be finite"):
        trained.sample(20, source=x / 0, strength=0.4, **settings)
    with pytest.raises(ValueError, match="source and strength go together"):
        trained.sample(20, source=x, **settings)
