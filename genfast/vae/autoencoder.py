"""The autoencoder of images that latent diffusion is meant for."""

from collections.abc import Sequence

from ..nn import Decoder, Encoder
from .likelihoods import LearnedVariance
from .model import VAE


def autoencoder_kl(
    size: Sequence[int],
    channels: int = 3,
    *,
    latent: int = 4,
    width: int = 64,
    multipliers: Sequence[int] = (1, 2, 4),
    blocks: int = 1,
    beta: float = 0.1,
) -> VAE:
    """The convolutional VAE of images that latent diffusion builds upon: z keeps the layout of the image.

    x: (B, channels, *size) -> z: (B, latent, *size / 2^(levels - 1), rounded up), levels = len(multipliers), by
    `nn.Encoder` and `nn.Decoder`. Gaussian, with a learned variance for each channel of x. beta < 1: z need not follow
    N(0, I), for a diffusion model will learn p(z), and should keep the image's details (Rombach et al. 2022, section
    3.1; their autoencoder also has an adversarial and a perceptual loss, this one has not).
    """
    nets = {
        "size": size, "channels": channels, "latent": latent, "width": width, "multipliers": multipliers,
        "blocks": blocks, "spatial": True,
    }  # fmt: skip
    encoder, decoder = Encoder(**nets), Decoder(**nets)
    return VAE(
        encoder, decoder, latent=decoder.shape, likelihood=LearnedVariance((channels, 1, 1)), beta=beta,
        shape=(channels, *size),
    )  # fmt: skip
