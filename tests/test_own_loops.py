"""Anybody's loop can call `loss`: torch alone, and Lightning Fabric."""

import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import genfast as gf

SEED, BATCH = 3, 32


def mlp(*widths):
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


def ring(n=512):
    angle = torch.arange(n) % 8 * (torch.pi / 4)
    return torch.stack([angle.cos(), angle.sin()], 1)


MODELS = {
    "diffusion": lambda: gf.Diffusion(gf.nn.MLP(2, width=32, depth=1)),
    "vae": lambda: gf.VAE(mlp(2, 32, 4), mlp(2, 32, 2), latent=2, likelihood="learned_variance", kl_warmup=512),
    "gan": lambda: gf.GAN(mlp(2, 32, 2), mlp(2, 32, 1), latent=2, lazy=4),
}


def made(name):
    torch.manual_seed(0)
    model = MODELS[name]().train()
    model.measure({"x": ring()})
    return model


def players(model):
    """The arguments of each turn in a step, and what its optimizer trains."""
    if not hasattr(model, "players"):
        return [({}, list(model.parameters()))]
    return [({"player": name}, group["params"]) for name, group in model.players().items()]


def train(loss, turns, batches, backward=torch.Tensor.backward):
    """The loop: `loss` of each player in turn, of keys that number the samples."""
    found = []
    for step, (x,) in enumerate(batches):
        key = gf.ops.make_key(SEED, range(step * BATCH, step * BATCH + len(x)))
        means = []
        for arguments, optimizer in turns:
            optimizer.zero_grad()
            means.append(loss({"x": x}, key, step=step, **arguments).mean())
            backward(means[-1])
            optimizer.step()
        found.append(torch.stack(means).detach())
    return torch.stack(found)


def loader():
    return DataLoader(TensorDataset(ring().repeat(4, 1)), batch_size=BATCH)


def trained(name):
    model = made(name)
    turns = [(arguments, torch.optim.AdamW(params, lr=5e-3)) for arguments, params in players(model)]
    return model, train(model.loss, turns, loader())


@pytest.mark.parametrize("name", MODELS)
def test_plain_torch(name):
    model, losses = trained(name)
    again, same = trained(name)
    assert losses.isfinite().all() and torch.equal(losses, same)
    if name != "gan":
        assert losses[-8:].mean() < losses[:8].mean()
    assert model.sample(5).shape == (5, 2) and torch.equal(model.sample(5), again.sample(5))


@pytest.mark.parametrize("name", MODELS)
def test_lightning_fabric(name):
    """The model is set up as any other; `loss` is one of its methods that compute."""
    fabric_of = pytest.importorskip("lightning_fabric")
    fabric, model = fabric_of.Fabric(accelerator="cpu", devices=1), made(name)
    own = players(model)
    wrapped, *optimizers = fabric.setup(model, *(torch.optim.AdamW(params, lr=5e-3) for _, params in own))
    wrapped.mark_forward_method("loss")
    turns = [(arguments, optimizer) for (arguments, _), optimizer in zip(own, optimizers, strict=True)]
    losses = train(wrapped.loss, turns, fabric.setup_dataloaders(loader()), fabric.backward)
    other, same = trained(name)
    assert torch.equal(losses, same) and torch.equal(model.sample(5), other.sample(5))
