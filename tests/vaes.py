"""Small VAEs and data for them."""

import itertools

import torch
from torch import nn

import genfast as gf
from genfast import ops


def mlp(*widths):
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


def model(likelihood="learned_variance", seed=0, **settings):
    torch.manual_seed(seed)
    return gf.VAE(mlp(6, 16, 8), mlp(4, 16, 6), latent=4, likelihood=likelihood, **settings)


def conv(**settings):
    torch.manual_seed(0)
    nets = {"size": (8, 8), "width": 8, "classes": 10}
    encoder, decoder = gf.nn.Encoder(latent=3, **nets), gf.nn.Decoder(latent=3, **nets)
    return gf.VAE(encoder, decoder, latent=3, classes=10, shape=(1, 8, 8), **settings)


def data(n=12, *shape, seed=0):
    return torch.randn(n, *(shape or (6,)), generator=torch.Generator().manual_seed(seed))


KEY = ops.make_key(5, 12)
