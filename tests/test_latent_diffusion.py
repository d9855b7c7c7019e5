"""LatentDiffusion: the frozen VAE, the scale of its latents, samples and checkpoints; on real digits."""

import pytest
import torch

import genfast as gf
from genfast import ops
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
    model.loss(batch(), ops.make_key(0, 50))
    return model


def test_autoencoder_keeps_the_layout():
    vae = gf.vae.autoencoder_kl((7, 9), 3, latent=5, width=8, multipliers=(1, 1, 2))
    assert vae.latent == (5, 2, 3) and vae.sample(2).shape == (2, 3, 7, 9)


def test_latents_are_standardized(trained):
    z = ops.reparameterize(*trained.vae.encode(batch()["x"]), ops.make_key(0, 50))[0]
    u = (z - trained.shift) / trained.scale
    torch.testing.assert_close(u.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(u.std((0, 2, 3)), torch.ones(2))
    scale = trained.scale.clone()
    trained.loss({"x": 5 * batch()["x"], "label": batch()["label"]}, ops.make_key(0, 50))
    assert torch.equal(trained.scale, scale)


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
    vae = gf.VAE(torch.nn.Linear(6, 4), torch.nn.Linear(2, 6), latent=2)
    model = gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(2, 4)))
    with pytest.raises(ValueError, match="batch must have at least 2 samples, for the scale of the latents; got 1"):
        model.loss({"x": torch.zeros(1, 6)}, ops.make_key(0, 1))
    assert not model.scale.any()
    model.loss({"x": torch.randn(2, 6)}, ops.make_key(0, 2))
    one = gf.LatentDiffusion(*models())
    one.loss({name: value[:1] for name, value in batch().items()}, ops.make_key(0, 1))
    assert bool((one.scale > 0).all())


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
    conditional = gf.VAE(vae.encoder, vae.decoder, latent=(2, 4, 4), classes=3)
    with pytest.raises(ValueError, match="diffusion must have the 3 classes of the VAE; got 10"):
        gf.LatentDiffusion(conditional, diffusion)


@pytest.mark.slow
def test_digits_are_those_asked_for():
    """A judge that has seen other digits agrees with the label of at least 90 %."""
    train, test = gf.data.digits("train"), gf.data.digits("test")
    torch.manual_seed(0)
    vae = gf.vae.autoencoder_kl((8, 8), 1, latent=2, width=8, multipliers=(1, 2))
    gf.fit(vae, train.x, steps=120, lr=5e-3, ema=0.98, progress=False)
    diffusion = gf.Diffusion(gf.nn.MLP(features=32, width=128, depth=3, classes=10), schedule="vp_cosine")
    model = gf.LatentDiffusion(vae, diffusion)
    gf.fit(model, train, steps=250, lr=3e-3, ema=0.99, progress=False)
    label = torch.arange(200) % 10
    samples = model.sample(200, label=label, guidance=1.5, progress=False)
    judge = classifier(test.x, test.label, steps=100)
    found = judge.probabilities(samples).argmax(1)
    agreement = (found == label).double().mean()
    assert agreement >= 0.9, agreement
