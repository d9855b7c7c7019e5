"""One small model of every family, of images 1 x 4 x 4, with classes and conditions if wanted."""

import torch

import genfast as gf

SHAPE = (1, 4, 4)
NULL = ("diffusion", "latent")  # families that know a class for "unknown"
NAMES = ("diffusion", "vae", "gan", "latent", "latent with classes")


def family(name, classes=3, condition=0, **settings):
    """latent: over a VAE without classes or conditions; with classes: over one with both."""
    torch.manual_seed(0)
    known = {"classes": classes, "condition": condition}
    if name == "diffusion":
        return gf.Diffusion(gf.nn.MLP(16, width=8, depth=1, **known), shape=SHAPE, **settings)
    nets = {"size": (4, 4), "latent": 2, "width": 4}
    if name == "gan":
        discriminator = gf.nn.Discriminator((4, 4), width=4, **known)
        return gf.GAN(
            gf.nn.Generator(**nets, **known), discriminator, latent=2, classes=classes, shape=SHAPE, **settings
        )
    own = {} if name == "latent" else known
    encoder, decoder = gf.nn.Encoder(**nets, **own), gf.nn.Decoder(**nets, **own)
    vae = gf.VAE(encoder, decoder, latent=2, classes=own.get("classes", 0), shape=SHAPE, **settings)
    if name == "vae":
        return vae
    model = gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(2, width=8, depth=1, **known)))
    model.scale.fill_(1.0)
    model.measured = True
    return model


def images(n=24, seed=0):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def draw(model, n, **arguments):
    """n samples, of a few steps where it takes any."""
    few = {"steps": 2, "progress": False} if isinstance(model, gf.Diffusion | gf.LatentDiffusion) else {}
    return model.sample(n, **few, **arguments)
