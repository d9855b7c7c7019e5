"""What the default recipe takes from the data: their scale, and the noise at which half of them is lost."""

import math

import torch
from torch import Tensor

SPECTRUM = 1000  # samples, at most, whose covariance is looked at
COLUMNS = 2**14  # of them in float64 at once


def root_mean_square(x: Tensor) -> float:
    """sqrt(mean x^2) over all numbers of x, (N, *). Raises ValueError unless it is a finite number above 0."""
    squares = [float(part.cpu().double().square().sum()) for part in x.split(64)]
    rms = math.sqrt(sum(squares) / x.numel())
    if not 0 < rms < math.inf:
        wanted = "finite numbers, not all of them 0, to tell the scale of the data"
        raise ValueError(f"batch must hold {wanted}; got x with a root mean square of {rms:g}")
    return rms


def log_half_lost(x: Tensor) -> float:
    """log sigma at which the best linear denoiser has lost half of the variance of x, (N, *), on average over it:

        m = sum_i l_i log sqrt(l_i) / sum_i l_i,    l_i the eigenvalues of the covariance

    of at most the first 1,000 samples, by their Gram matrix where they are fewer than the numbers of one. Where nothing
    varies, as in a single sample, it is the log of the root mean square. Raises ValueError as that does.
    """
    x = x[:SPECTRUM].flatten(1).cpu()
    parts = [part.double() - part.double().mean(0) for part in x.split(COLUMNS, 1)]
    products = sum(part @ part.T for part in parts) if len(x) < x.shape[1] else parts[0].T @ parts[0]
    eigenvalues = torch.linalg.eigvalsh(products / len(x)).clamp(min=0)
    total, rms = float(eigenvalues.sum()), root_mean_square(x)
    if total <= 2.0**-46 * rms**2 * x.shape[1]:  # the rounding of float32 makes 2^-50 of it
        return math.log(rms)
    return float(torch.xlogy(eigenvalues, eigenvalues).sum()) / (2 * total)
