"""The loss is a pure function: in parts what it is as a whole, it changes nothing and reads nothing of the device.

So micro-batches, a step that is done again, CUDA graphs and a loop of anybody's own all train the same model.
"""

import pickle

import pytest
import torch
from torch import nn

import genfast as gf
from genfast import ops
from genfast.testing import no_host_reads

N, SIZE = 12, (8, 8)
NETS = {"size": SIZE, "width": 8, "classes": 3}


def images(low=-1.0, high=1.0):
    """Of rising contrast, so that what is measured of a part is not what is measured of the whole."""
    x = low + (high - low) * torch.rand(N, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    return {"x": torch.linspace(0.1, 1, N).reshape(N, 1, 1, 1) * x, "label": torch.arange(N) % 3}


BLACK_AND_WHITE = {"x": images()["x"].sign(), "label": torch.arange(N) % 3}
GRAYS = {"x": (images(0, 255)["x"].round() / 127.5 - 1), "label": torch.arange(N) % 3}
VECTORS = {"x": torch.randn(N, 6, generator=torch.Generator().manual_seed(0))}


class Dropping(nn.Module):
    """A network with dropout of one's own."""

    wants_key = True

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, 16), nn.Linear(16, outputs)

    def forward(self, x, key=None):
        hidden = torch.tanh(self.first(x))
        return self.second(ops.dropout(hidden, key, 0.3, 0) if self.training else hidden)


def unet(channels=1, **settings):
    net = gf.nn.UNet(channels, 8, (1, 2), classes=3, **settings)
    nn.init.normal_(net.output.weight, std=0.1)
    return net


def diffusion(**settings):
    return gf.Diffusion(unet(dropout=0.2), **settings)


def latent_diffusion():
    nets = {**NETS, "latent": 2, "spatial": True, "classes": 0}
    vae = gf.VAE(gf.nn.Encoder(**nets), gf.nn.Decoder(**nets), latent=(2, 4, 4))
    model = gf.LatentDiffusion(vae, gf.Diffusion(unet(2, dropout=0.2)))
    model.measure(images())
    return model


def vae(**settings):
    return gf.VAE(gf.nn.Encoder(latent=3, **NETS), gf.nn.Decoder(latent=3, **NETS), latent=3, **settings)


def gan(**settings):
    return gf.GAN(gf.nn.Generator(latent=4, **NETS), gf.nn.Discriminator(**NETS), latent=4, lazy=4, **settings)


def dropping_gan():
    return gf.GAN(Dropping(2, 6), Dropping(6, 1), latent=2, gradient_penalty=1.0, dragan=1.0)


MODELS = {
    "diffusion": (diffusion, images()),
    "diffusion, v": (lambda: diffusion(schedule="vp_cosine", label_dropout=0.5), images()),
    "latent diffusion": (latent_diffusion, images()),
    "vae": (lambda: vae(kl_warmup=9), images()),
    "vae, learned_variance": (lambda: vae(likelihood="learned_variance"), images()),
    "vae, bernoulli": (lambda: vae(likelihood="bernoulli"), BLACK_AND_WHITE),
    "vae, discretized_logistic": (lambda: vae(likelihood="discretized_logistic"), GRAYS),
    "vae, dropout": (lambda: gf.VAE(Dropping(6, 4), Dropping(2, 6), latent=2), VECTORS),
    "gan, all penalties": (lambda: gan(gradient_penalty=2.0, dragan=2.0), images()),
    "gan, augmented": (lambda: gan(augment=["color", "translation", "cutout"]), images()),
    "gan, dropout": (dropping_gan, VECTORS),
    **{f"gan, {name}": (lambda name=name: gan(loss=name), images()) for name in gf.gan.losses.LOSSES},
}


def made(build):
    torch.manual_seed(0)
    return build().train()


def rows(batch, part):
    return {name: value[part] for name, value in batch.items()}


def losses(model, batch, key, step):
    """(players, B): of all players, or the one of a model without."""
    players = [{"player": name} for name in model.players()] if hasattr(model, "players") else [{}]
    return torch.stack([model.loss(batch, key, step=step, **player) for player in players])


@pytest.mark.parametrize("step", [10, 12])
@pytest.mark.parametrize("name", MODELS)
def test_parts_and_whole(name, step):
    build, batch = MODELS[name]
    model, key = made(build), ops.make_key(7, range(5, 5 + N))
    state, before = {k: v.clone() for k, v in model.state_dict().items()}, pickle.dumps(model)
    with no_host_reads():
        whole = losses(model, batch, key, step)
        parts = [losses(model, rows(batch, part), key[part], step) for part in (slice(0, 5), slice(5, N))]
        again = losses(model, batch, key, step)
    assert whole.shape[1:] == (N,) and bool(whole.isfinite().all())
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(again, whole)
    assert all(torch.equal(value, state[k]) for k, value in model.state_dict().items())
    assert pickle.dumps(model) == before, "an attribute was changed"
    assert model.phase(step) == model.phase(step + 4)


@pytest.mark.parametrize("name", [name for name in MODELS if "dropout" in name or "diffusion" in name])
def test_dropout_is_there_in_training(name):
    build, batch = MODELS[name]
    model, key = made(build), ops.make_key(7, N)
    training = losses(model, batch, key, 0)
    assert not torch.allclose(training, losses(model.eval(), batch, key, 0), rtol=1e-3)


def test_penalties_are_in_every_fourth_step():
    model, key = made(gan), ops.make_key(7, N)
    by_step = [model.loss(images(), key, step=step, player="discriminator").mean().item() for step in range(5)]
    assert by_step[0] == by_step[4] > by_step[1] == by_step[2] == by_step[3]
    assert [model.phase(step) for step in range(5)] == [True, False, False, False, True]


def batch_normed():
    return gf.VAE(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)), nn.Linear(2, 6), latent=2)


@pytest.mark.parametrize(
    ("build", "batch", "changed"),
    [
        (lambda: gan(spectral_norm=True), images(), {"weight_u", "weight_v"}),
        (batch_normed, VECTORS, {"running_mean", "running_var", "num_batches_tracked"}),
        (lambda: vae(free_bits=0.1), images(), set()),
    ],
)
def test_exceptions(build, batch, changed):
    """They are in the docstring; they change just these buffers, and read nothing either."""
    model, key = made(build), ops.make_key(7, N)
    assert all(words in type(model).__doc__ for words in ("two\n    exceptions", "BatchNorm"))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with no_host_reads():
        losses(model, batch, key, 0)
    moved = [k for k, value in model.state_dict().items() if not torch.equal(value, state[k])]
    assert {k.rpartition(".")[2] for k in moved} == changed
