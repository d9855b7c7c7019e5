"""Elements of a latent that the data move."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..common.checks import require_chunk, require_number
from ..common.eval_mode import evaluating
from ..common.precision import weights_device
from ..data.dataset import Data, as_data
from ..data.matching import for_model, require_shape_of, told
from .answers import finite

if TYPE_CHECKING:
    from .model import VAE


class ActiveUnits(NamedTuple):
    """count: of the elements of z that the data move.  variance: (*latent) float64, Var_x(E[z | x])."""

    count: int
    variance: Tensor


@torch.no_grad()
def active_units(vae: "VAE", data: Data | Tensor, threshold: float, chunk: int) -> ActiveUnits:
    """`VAE.active_units`."""
    require_shape_of(vae, data := as_data(data))
    data, chunk, mu = for_model(data, vae), require_chunk(chunk), []
    threshold = require_number("threshold", threshold, least=0)
    if len(data) < 2:
        raise ValueError(f"data must have at least 2 samples, whose mu can vary; got {len(data)}")
    with evaluating(vae):
        for part in torch.arange(len(data), device="cpu").split(chunk):
            mu.append(vae.encode(data.rows(part)["x"].to(weights_device(vae)), **told(data, part))[0].double())
    variance = finite(torch.cat(mu)).var(0)
    return ActiveUnits(int((variance > threshold).sum()), variance)
