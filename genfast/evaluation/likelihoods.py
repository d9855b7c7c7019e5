"""Log-likelihood of the real data under a model, by what the model offers, the first of

log_prob(x) -> (N,)                                    exact
log_weights(x, key, samples, first=0) -> (samples, N)  log p(x_i, z) - log q(z | x_i) of a latent model, for draws z:
                                                       number first + j of row i is a function of (key_i, first + j)
                                                       alone, so that many draws may come in parts
log_likelihood(x, seed=, progress=, ...) -> (nats, se) by the probability flow of a diffusion model, (N,) each
elbo(x, key) -> (N,)                                   a lower bound, of one draw a row

in nats. x: (N, *) float32; key: (N, 2), of `ops.make_key`. A model that knows the data's labels or conditions is
told label=, (N,) int64, or condition=, (N, *) float32, too.
One whose `log_likelihood` takes index=, (N,) int64, is told the rows' numbers, by which their draws go.
A model that has `likelihood_options` takes those names in `log_likelihood`, and no others.
A model whose `probability_levels` is a number gives probabilities of so many values, -1 to 1 at equal distances.
"""

import inspect
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..common import processes
from ..common.checks import as_tensor, require_count, require_integer
from ..common.conditions import takes
from ..common.indices import share
from ..common.warn import warn_user
from ..data.dataset import Data
from ..data.matching import told
from ..metrics import ImportanceWeights
from ..ops import Purpose, make_key, uniform
from ..ops.noise import MAX_STEP
from .chunks import CHUNK
from .model_traits import device_of
from .splits import subset

FLOW_SAMPLES = 128  # the flow costs hundreds of network evaluations a sample
DRAWS, PART = 64, 16  # of z, and how many at a time
LEVELS = 256  # no more distinct values than this are taken for gray levels


class Likelihoods(NamedTuple):
    """nats: (N,) float64, log p(x_i) or a bound.  how: which.  se: (N,), what the estimate of each leaves, or None.
    elbo: (N,), the evidence lower bound, where nats is a tighter one, or None.  bits_offset: what dequantization adds
    to the bits a dimension.  note: a warning, or ""."""

    nats: Tensor
    how: str
    se: Tensor | None = None
    elbo: Tensor | None = None
    bits_offset: float = 0.0
    note: str = ""


@torch.no_grad()
def likelihoods(model, data: Data, options: dict, *, seed: int, progress: bool) -> Likelihoods | None:
    """log p(x_i) of the data, or of a random subset of them; None if the model offers none.

    data: as the model is told of them, see `as_told`.
    options:
    n       how many samples, by default all, or 128 by the flow
    levels  data of so many values, -1 to 1 at equal distances, are dequantized: x + 2 (u - 1/2) / (levels - 1) with
            u ~ U[0, 1)^d: bits_per_dim then bounds those of the discrete data (Theis et al. 2016, arXiv:1511.01844).
            By default as many as the data say, of models that give densities; None for the data as they are
    draws   of z, 64 by default, for log_weights
    All others are those of `model.log_likelihood`, by default {"divergence": "exact", "steps": 50} up to 8 dimensions,
    above {"divergence": "rademacher", "probes": 2, "steps": 25}.
    Raises ValueError if an option is unknown, an answer has the wrong shape, or `levels` is for probabilities.
    """
    kind = _kind(model)
    if kind is None:
        if options:
            raise ValueError(f"likelihood must be empty, for there is no model that offers one; got {options!r}")
        return None
    if len(data) < 2:
        raise ValueError(f"data must have at least 2 samples for a likelihood; got {len(data)}")
    n, levels, options = _checked(model, kind, data, options)
    discrete = getattr(model, "probability_levels", None)
    index = subset(len(data), n, seed)
    device = device_of(model, data)
    conditions = {name: value.to(device) for name, value in told(data, index).items()}
    if "condition" in conditions and not takes(getattr(model, kind), "condition"):
        del conditions["condition"]
        name = f"{type(model).__name__}.{kind}"
        warn_user(f"data have conditions, which {name} does not take: they are left out")
    key = make_key(seed, index, device)
    x, offset = _dequantized(data.rows(index)["x"].to(device), key, levels)
    found = _shared(model, kind, x, conditions, key, {"seed": seed, "progress": progress} | options)
    if levels is not None:
        found = found._replace(how=f"{found.how}, dequantized from {levels} levels")
    if discrete is not None:
        return found._replace(how=f"{found.how} of probabilities", note=_off_grid_note(x, discrete))
    return found._replace(bits_offset=offset, note=_grid_note(x))


def _shared(model, kind: str, x: Tensor, conditions: dict, key: Tensor, options: dict) -> Likelihoods:
    """Those of all rows, of which each of several processes finds its share, in whole chunks."""
    options, chunk, every = dict(options), CHUNK, False
    if kind == "log_likelihood":
        chunk, every = options.get("chunk", chunk), "index" in options or not _is_told_rows(model)
    rows = share(len(x), chunk, *((0, 1) if every else processes.world()))
    if kind == "log_likelihood" and not every:
        options["index"] = rows
    told = {name: value[rows.to(value.device)] for name, value in conditions.items()}
    x, key = x[rows.to(x.device)], key[rows.to(x.device)]

    def ask() -> list[Likelihoods]:
        return [_answered(model, kind, x, told, key, options)] if len(rows) else []

    parts = ask() if every else processes.gather(processes.together(ask))
    return parts[0]._replace(**{name: _joined(parts, name) for name in ("nats", "se", "elbo")})


def _is_told_rows(model) -> bool:
    """Whether its `log_likelihood` takes the rows' numbers."""
    names = getattr(model, "likelihood_options", None)
    return "index" in (inspect.signature(model.log_likelihood).parameters if names is None else names)


def _answered(model, kind: str, x: Tensor, conditions: dict, key: Tensor, options: dict) -> Likelihoods:
    found = KINDS[kind](model, x, conditions, key, **options)
    for name in ("nats", "se", "elbo"):
        value = getattr(found, name)
        if value is not None and value.shape != (len(x),):
            raise ValueError(f"model.{kind} must answer with shape ({len(x)},); got {tuple(value.shape)}")
    return found


def _joined(parts: list[Likelihoods], name: str) -> Tensor | None:
    """One column of all parts; None where one of them lacks it."""
    columns = [getattr(part, name) for part in parts]
    return None if any(column is None for column in columns) else torch.cat(columns)


def check_options(model, data: Data, options: dict) -> None:
    """Raises as `likelihoods` does for options that it would not take, before anything is computed."""
    if options and _kind(model) is not None:
        _checked(model, _kind(model), data, options)


def _kind(model) -> str | None:
    return next((name for name in KINDS if callable(getattr(model, name, None))), None)


def _checked(model, kind: str, data: Data, options: dict) -> tuple[int, int | None, dict]:
    """n, levels and the rest of the options."""
    count, discrete = len(data), getattr(model, "probability_levels", None)
    n = options.get("n", min(count, FLOW_SAMPLES) if kind == "log_likelihood" else count)
    n = require_integer('likelihood["n"]', n, 2, count)
    levels = options.get("levels", data.levels if discrete is None else None)
    levels = None if levels is None else require_count('likelihood["levels"]', levels, 2, 2**53)
    options = {name: value for name, value in options.items() if name not in ("n", "levels")}
    known = {"log_weights": {"draws"}}.get(kind, set())
    if kind == "log_likelihood":
        own = getattr(model, "likelihood_options", None)
        known = {name for name in options if takes(model.log_likelihood, name)} if own is None else own
    if unknown := options.keys() - known:
        settings, got = (", ".join(sorted(names)) for names in ({"n", "levels"} | known, unknown))
        raise ValueError(f"likelihood must have settings among {settings} for {kind}; got {got}")
    if "draws" in options and kind == "log_weights":
        require_count('likelihood["draws"]', options["draws"], 1, MAX_STEP)
    if discrete is not None and levels is not None:
        why = f"the model gives probabilities of {discrete} levels, no densities"
        raise ValueError(f'likelihood["levels"] must be left out, for {why}; got {levels}')
    return n, levels, options


def _dequantized(x: Tensor, key: Tensor, levels: int | None) -> tuple[Tensor, float]:
    """x with its bins filled evenly, and log2 of bins in a unit of length; x and 0 without levels."""
    if levels is None:
        return x, 0.0
    step = 2 / (levels - 1)
    if not _on_grid(x, levels):
        remedy = 'likelihood={"levels": None} takes them as they are'
        raise ValueError(f"data must be of {levels} levels, -1 to 1 at equal distances; got other values: {remedy}")
    return x + step * (uniform(key, x.shape[1:], Purpose.DEQUANTIZE) - 0.5), -math.log2(step)


def _on_grid(x: Tensor, levels: int) -> bool:
    step = 2 / (levels - 1)
    return bool((((x + 1) / step).round() * step - 1 - x).abs().max() <= step / 100)


def _in_chunks(x: Tensor, conditions: dict, key: Tensor, progress: bool) -> Iterator[tuple[Tensor, dict, Tensor]]:
    rows = torch.arange(len(x), device="cpu").split(CHUNK)
    for part in tqdm(rows, desc="likelihood", unit="chunk", delay=1, leave=False, disable=None if progress else True):
        yield x[part], {name: value[part] for name, value in conditions.items()}, key[part]


def _exact(model, x, conditions, key, progress, **_) -> Likelihoods:
    parts = [_wide(model.log_prob(rows, **own)) for rows, own, _ in _in_chunks(x, conditions, key, progress)]
    return Likelihoods(torch.cat(parts), "exact")


def _bound(model, x, conditions, key, progress, **_) -> Likelihoods:
    parts = [_wide(model.elbo(rows, keys, **own)) for rows, own, keys in _in_chunks(x, conditions, key, progress)]
    return Likelihoods(torch.cat(parts), "lower bound (ELBO)")


def _weighted(model, x, conditions, key, progress, draws: int = DRAWS, **_) -> Likelihoods:
    columns = []
    for rows, own, keys in _in_chunks(x, conditions, key, progress):
        weights = ImportanceWeights()
        for first in range(0, draws, PART):
            weights.update(_wide(model.log_weights(rows, keys, min(PART, draws - first), first=first, **own)))
        columns.append((weights.iwae, weights.se, weights.elbo))
    nats, se, elbo = (torch.cat(column) for column in zip(*columns))
    return Likelihoods(nats, f"lower bound (IWAE of {draws})", _known(se), elbo)


def _flow(model, x, conditions, key, seed, progress, **options) -> Likelihoods:
    if math.prod(x.shape[1:]) <= 8:
        defaults = {"divergence": "exact", "steps": 50}
    else:
        defaults = {"divergence": "rademacher", "probes": 2, "steps": 25}
    nats, se = model.log_likelihood(x, **conditions, **defaults | {"seed": seed, "progress": progress} | options)
    return Likelihoods(_wide(nats), "probability flow", _known(_wide(se)))


KINDS = {"log_prob": _exact, "log_weights": _weighted, "log_likelihood": _flow, "elbo": _bound}


def _known(se: Tensor) -> Tensor | None:
    """None where a single draw or probe leaves it unknown."""
    return None if se.isnan().any() else se


def _wide(value) -> Tensor:
    return as_tensor("likelihood", value, torch.float64).detach().cpu()


def _grid_note(x: Tensor) -> str:
    """A density can be as large as it likes on a grid of values."""
    levels = len(x[:FLOW_SAMPLES].unique())
    if levels > min(LEVELS, x[:FLOW_SAMPLES].numel() / 4):
        return ""
    return (
        f"the data have {levels} distinct values, at which a density can be made as large as one likes: dequantize "
        f'them, likelihood={{"levels": {levels}}} if they are evenly spaced from -1 to 1'
    )


def _off_grid_note(x: Tensor, levels: int) -> str:
    """What is said of values that have no probability is no likelihood."""
    if _on_grid(x, levels):
        return ""
    return (
        f"the model gives probabilities of {levels} values at equal distances from -1 to 1, and the data have others: "
        "these numbers are a loss, no likelihood"
    )
