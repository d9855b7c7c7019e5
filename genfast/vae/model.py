"""Variational autoencoders: an encoder, a decoder and a likelihood, with loss() and sample()."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import ops
from ..checkpoint import register
from ..common.checks import (
    require_bool,
    require_chunk,
    require_count,
    require_integer,
    require_number,
    require_pair,
    require_samples,
    require_shape,
)
from ..common.conditions import (
    Label,
    as_conditions,
    batch_conditions,
    batch_samples,
    condition_width,
    known_to,
    model_classes,
    taken,
)
from ..common.eval_mode import evaluating
from ..common.indices import as_chunk, as_index, in_chunks
from ..common.keys import require_key
from ..common.log_likelihood import LogLikelihood
from ..common.measured import learn
from ..common.precision import weights_device
from ..common.units import Units, as_units, density, described, original, standardized
from ..data.dataset import Data
from ..metrics import ImportanceWeights
from ..ops import Purpose, make_key
from ..ops.noise import MAX_STEP
from .active import ActiveUnits, active_units
from .answers import defined, finite, in_dtype_of
from .latents import held, kl_beyond, on_sphere
from .likelihoods import LIKELIHOODS, as_likelihood, describe, wide

LOG_VARIANCE = (-30.0, 20.0)  # of q(z | x)
PART = 1024  # rows that the decoder gets at once where many draws are asked for


@register
class VAE(nn.Module):
    r"""A latent-variable model p(x) = int p(x | z) p(z) dz, trained through an approximate posterior q(z | x).

        p(z) = N(0, I),   q(z | x) = N(mu(x), diag(e^logvar(x))),   p(x | z) by the likelihood of the decoder's output

        ELBO = E_q log p(x | z) - KL(q(z | x) || p(z)) <= log p(x)          Kingma and Welling 2014, arXiv:1312.6114
        loss = -E_q log p(x | z) + beta_k KL                                Higgins et al. 2017: beta-VAE

    encoder     x (B, *shape) -> (mu, logvar), each (B, *latent), or both in one tensor along dimension 1: `nn.Encoder`,
                or a module of yours. logvar is held to [-30, 20]; beyond, its gradient only leads back.
    decoder     z (B, *latent) -> (B, *shape): the mean of x, or of a Bernoulli likelihood the logit
    latent      shape of z: an integer, or a sequence such as (4, 8, 8)
    likelihood  "gaussian" (sigma = 1), "learned_variance", "bernoulli", "discretized_logistic" (256 levels), or one of
                `vae.likelihoods` with arguments. The variance of x | z is never an output of the decoder.
    beta        weight of the KL; 1 is the ELBO
    kl_warmup   in samples: beta_k = beta min(1, k / kl_warmup) of sample number k = 0, 1, ... of a training, which is
                key[:, 1], in training mode (Sonderby et al. 2016, arXiv:1602.02282); 0 for beta from the start
    free_bits   nats that each channel of z (its first dimension) may hold for nothing: KL becomes the sum over channels
                of max(free_bits, mean KL_j over the batch) (Kingma et al. 2016, arXiv:1606.04934, appendix C.8)
    classes     number of classes; by default that of the networks (`config["classes"]`), or 0. Both are called with
                label=, (B,) int64, where there are any; those that take it also with condition=, (B, *), where given
    shape       of one sample; by default that of the data of the first training
    units       mean and sd of the data, where x is standardized in training; by default as those data say. All but
                `loss` then takes and answers with x, and densities of it, in the data's units

    `loss` is a function of the weights, the batch and the key, row by row, and changes nothing. There are two
    exceptions: free_bits, whose mean is over the rows that it is given, and networks with BatchNorm. A network with
    dropout is given key=, too, if it says `wants_key = True`.

    All that is asked of the model, but loss, encode and decode, runs in eval mode and without gradients, and raises
    FloatingPointError where it would answer NaN. The networks get x and z on the device and in the dtype of their
    weights; q and the likelihood are computed in float32 at least.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        latent: int | Sequence[int],
        likelihood: str | nn.Module = "gaussian",
        beta: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        classes: int | None = None,
        shape: Sequence[int] | None = None,
        units: Units | Mapping | None = None,
    ):
        super().__init__()
        for name, net in (("encoder", encoder), ("decoder", decoder)):
            if not isinstance(net, nn.Module):
                raise TypeError(f"{name} must be a torch.nn.Module; got {type(net).__name__}")
        self.beta = require_number("beta", beta, least=0)
        self.free_bits = require_number("free_bits", free_bits, least=0)
        self.kl_warmup = require_integer("kl_warmup", kl_warmup, 0)
        self.classes = model_classes(classes, encoder, decoder)
        self.names = None  # of the classes, from the first data with names
        self.latent = require_shape("latent", latent)
        self.shape, self.units = None if shape is None else require_shape("shape", shape), as_units(units)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, as_likelihood(likelihood)

    @property
    def probability_levels(self) -> int | None:
        """How many values of an element of x, -1 to 1 at equal distances, p(x) is a probability of; None: a density."""
        return self.likelihood.levels

    @property
    def condition_width(self) -> int | None:
        """How many numbers a row of `condition` has: 0 for none, None where the networks do not say."""
        return condition_width(self.encoder, self.decoder)

    def require_observations(self, x: Tensor) -> None:
        """Raises ValueError unless x, (N, *), can be data of this likelihood; on a GPU too, for it is asked once."""
        self.likelihood.check_data(x)

    def measure(self, batch: Mapping) -> None:
        """Takes the shape, the names of classes and the units from data, x (N, *shape), where they are None; `fit`
        does."""
        learn(self, batch)

    def loss(self, batch: dict[str, Tensor | None], key: Tensor, *, step: int = 0) -> Tensor:
        """The loss of each sample in nats, (B,).

        batch: x (B, *shape) floating point, with classes label (B,) integers, and condition (B, *), None or left out.
        key: (B, 2) = (seed, sample number), see `ops.make_key`: z and beta_k are functions of it.  step: has no part.
        """
        x, key = self._placed(batch_samples(batch, self.shape), key)
        self.likelihood.check(x)
        conditions = batch_conditions(batch, self.classes, self.encoder, self.decoder, null=False) | {"key": key}
        mu, logvar = self._posterior(x, conditions)
        z, kl = ops.reparameterize(mu, logvar, key)
        if self.free_bits:
            kl = kl_beyond(self.free_bits, mu, logvar)
        return (self._beta(key) * kl).to(kl.dtype) - self._log_prob(x, z, conditions)

    def phase(self, step: int) -> int:
        """Which kind of step number `step` is: all are of one."""
        return 0

    def _beta(self, key: Tensor) -> Tensor | float:
        """The weight of the KL of each sample, (B,) float64, or one for all."""
        if not (self.training and self.kl_warmup):
            return self.beta
        return self.beta * (key[:, 1].double() / self.kl_warmup).clamp(max=1)

    def encode(self, x: Tensor, label: Label = None, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """mu and logvar of q(z | x), each (B, *latent); differentiable."""
        x, _ = self._standardized(x)
        return self._posterior(x, self._conditions(x, label, condition))

    def _posterior(self, x: Tensor, conditions: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        out = self.encoder(in_dtype_of(self.encoder, x), **taken(self.encoder, conditions))
        mu, logvar = out.chunk(2, 1) if isinstance(out, Tensor) else out
        if mu.shape != (len(x), *self.latent) or logvar.shape != mu.shape:
            wanted = f"two of shape ({len(x)}, {', '.join(map(str, self.latent))}), or both in one along dimension 1"
            raise ValueError(f"encoder must answer with {wanted}; got {tuple(mu.shape)} and {tuple(logvar.shape)}")
        dtype = wide(mu.dtype)
        return mu.to(dtype), held(logvar.to(dtype), *LOG_VARIANCE)

    def decode(self, z: Tensor, label: Label = None, condition: Tensor | None = None) -> Tensor:
        """E[x | z], (B, *shape); differentiable."""
        z = require_samples("z", z, self.latent, batch="B").to(weights_device(self))
        return original(self.units, self.likelihood.mean(self._decoded(z, self._conditions(z, label, condition))))

    @torch.no_grad()
    def sample(
        self,
        n: int | Sequence[int] | Tensor,
        *,
        seed: int = 0,
        label: Label = None,
        condition: Tensor | None = None,
        temperature: float = 1.0,
        noise: bool = False,
        chunk: int | None = None,
    ) -> Tensor:
        """n new samples, (n, *shape): sample i is a function of the weights, the seed, i and the settings.

        n: how many, or the sample indices themselves.  label: a class for all, or (n,) of them, numbers or
        names.  condition: (n, *), or (1, *) for all.  temperature: z ~ N(0, temperature^2 I).  noise: whether x is
        drawn from p(x | z), a sample of the model, or is E[x | z], as is usual.  chunk: rows that the decoder gets at
        once, always so many, that its rounding does not depend on n; None: at most 64 on a CPU, 256 on a GPU.
        """
        index, chunk = as_index("n", n), as_chunk(chunk, self.shape, weights_device(self))
        temperature, noise = require_number("temperature", temperature, least=0), require_bool("noise", noise)

        def latents(key: Tensor, taken: Tensor, slots: Tensor) -> Tensor:
            return temperature * ops.normal(key, self.latent, Purpose.PRIOR)

        conditions = self._conditions(index, label, condition)
        return self._decode_in_chunks(index, conditions, latents, seed=seed, noise=noise, chunk=chunk)

    def _decode_in_chunks(
        self, index: Tensor, conditions: dict[str, Tensor], latents: Callable[[Tensor, Tensor, Tensor], Tensor], *,
        seed: int, noise: bool, chunk: int,
    ) -> Tensor:  # fmt: skip
        """x of the samples `index`: latents(key, taken, slots), (chunk, *latent), has those at index[taken] in its
        rows `slots`; key: (chunk, 2), of all rows."""
        device = weights_device(self)

        def decode(key: Tensor, conditions: dict[str, Tensor], taken: Tensor, slots: Tensor) -> Tensor:
            f = self._decoded(latents(key, taken, slots), conditions)
            return original(self.units, self.likelihood.draw(f, key) if noise else self.likelihood.mean(f))

        with evaluating(self):
            return in_chunks(decode, index, conditions, seed=seed, chunk=chunk, device=device, shape=self.shape)

    @torch.no_grad()
    def elbo(self, x: Tensor, key: Tensor, label: Label = None, condition: Tensor | None = None) -> Tensor:
        """ELBO of one draw of z a row, the KL in closed form: (N,) nats. Beta, warm-up and free bits have no part."""
        with evaluating(self):
            x, key = self._standardized(x, key)
            self.likelihood.check(x)
            conditions = self._conditions(x, label, condition)
            z, kl = ops.reparameterize(*self._posterior(x, conditions), key)
            return density(self.units, defined("elbo", self._log_prob(x, z, conditions) - kl), x.shape[1:])

    @torch.no_grad()
    def log_weights(
        self, x: Tensor, key: Tensor, samples: int, first: int = 0, label: Label = None,
        condition: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """log p(x_i, z_ij) - log q(z_ij | x_i) of `samples` draws a row: (samples, N) nats.

        Number first + j of row i is a function of the weights, x_i and (key_i, first + j) alone.
        """
        first = require_count("first", first, 0, MAX_STEP)
        samples = require_count("samples", samples, 1, MAX_STEP + 1 - first)
        with evaluating(self):
            x, key = self._standardized(x, key)
            parts = self._weights(x, key, range(first, first + samples), self._conditions(x, label, condition))
            return defined("log_weights", torch.cat(list(parts)))

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, *, k: int = 512, seed: int = 0, label: Label = None, condition: Tensor | None = None,
        chunk: int = 64, progress: bool = False,
    ) -> LogLikelihood:  # fmt: skip
        """log p(x_i) in nats by importance weighting with k draws, (N,) float64, and its standard error, (N,): a
        density, unless `probability_levels` says otherwise; `evaluate` dequantizes data of levels.

            IWAE_k = log 1/k sum_j p(x, z_j) / q(z_j | x),  z_j ~ q(z | x):  ELBO = E IWAE_1 <= E IWAE_k <= log p(x)

        Burda et al. 2016, arXiv:1509.00519. Draws come in parts and are summed up at once, whatever k. chunk: rows of x
        at a time.
        """
        chunk, k = require_chunk(chunk), require_integer("k", k, 1)
        x, progress = self._checked(x, None), require_bool("progress", progress)
        conditions, key = self._conditions(x, label, condition), make_key(seed, len(x), device=x.device)
        found = [(torch.empty(0, dtype=torch.float64, device="cpu"),) * 2]
        rows = torch.arange(len(x), device="cpu").split(chunk) if len(x) else ()
        with evaluating(self):
            for part in tqdm(rows, desc="likelihood", unit="chunk", leave=False, disable=not progress):
                here, keys = self._standardized(x[part], key[part])
                now = {name: value[part].to(here.device) for name, value in conditions.items()}
                weights = ImportanceWeights()
                for nats in self._weights(here, keys, range(k), now):
                    weights.update(defined("log_likelihood", nats, int(part[0])))
                found.append((weights.iwae, weights.se))
        return LogLikelihood(*(torch.cat(column) for column in zip(*found, strict=True)))

    @torch.no_grad()
    def reconstruct(self, x: Tensor, label: Label = None, condition: Tensor | None = None) -> Tensor:
        """E[x | z] at z = mu(x): (N, *shape)."""
        with evaluating(self):
            return finite(self.decode(self.encode(x, label, condition)[0], label, condition))

    @torch.no_grad()
    def interpolate(
        self, a: Tensor, b: Tensor, n: int = 8, *, slerp: bool = False, label: int | str | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """n observations, (n, *shape), from that of a to that of b: (*shape) each, along a line between their mu.

        slerp: along a great circle, the length changing evenly (White 2016, arXiv:1609.04468).  label, condition: of
        all.
        """
        n, slerp = require_integer("n", n, 2), require_bool("slerp", slerp)
        a = require_samples("a", a, self.shape, batch=None)
        b = require_samples("b", b, tuple(a.shape), batch=None)
        with evaluating(self):
            start, end = self.encode(torch.stack([a, b]), label, condition)[0].unbind()
            u = torch.linspace(0, 1, n, dtype=start.dtype, device=start.device).reshape(-1, *[1] * start.ndim)
            z = on_sphere(start, end, u) if slerp else torch.lerp(start, end, u)
            return finite(self.decode(z, label, condition))

    @torch.no_grad()
    def traverse(
        self, x: Tensor, dim: int, range: tuple[float, float] = (-3.0, 3.0), n: int = 7, *,
        label: int | str | None = None, condition: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """n observations, (n, *shape), of mu(x) with element `dim` of z, flattened, through `range`. x: (*shape)."""
        n, dim = require_integer("n", n, 2), require_integer("dim", dim, 0, math.prod(self.latent) - 1)
        range, x = require_pair("range", range, ordered=False), require_samples("x", x, self.shape, batch=None)
        with evaluating(self):
            z = self.encode(x[None], label, condition)[0].flatten(1).repeat(n, 1)
            z[:, dim] = torch.linspace(*range, n, dtype=z.dtype, device=z.device)
            return finite(self.decode(z.reshape(n, *self.latent), label, condition))

    def active_units(self, data: Data | Tensor, threshold: float = 0.01, *, chunk: int = 256) -> ActiveUnits:
        """How many elements u of z have Var_x(E_q[u | x]) > threshold. Burda et al. 2016, section 5.2.

        data: whatever `data.as_data` takes, 2 samples at least, with labels where the model has classes, and
        conditions where it takes any.
        """
        return active_units(self, data, threshold, chunk)

    def _weights(self, x: Tensor, key: Tensor, draws: range, conditions: dict[str, Tensor]) -> Iterator[Tensor]:
        """`log_weights` of these draws, a part of them after the other, with a NaN where there is one. What all parts
        need of x is found once."""
        self.likelihood.check(x)
        size = min(len(draws), max(1, PART // max(1, len(x))))

        def again(t: Tensor) -> Tensor:
            return t.repeat(size, *[1] * (t.ndim - 1))

        mu, logvar = self._posterior(x, conditions)
        shared = [again(t) for t in (x, mu, logvar, (0.5 * logvar).exp())]
        conditions = {name: again(value) for name, value in conditions.items()}
        for part in (draws[at : at + size] for at in range(0, len(draws), size)):
            rows = len(part) * len(x)
            xs, mus, logvars, sds = (t[:rows] for t in shared)
            eps = torch.cat([ops.normal(key, self.latent, Purpose.LATENT, j) for j in part]).to(mu.dtype)
            z = mus + sds * eps
            # log p(z) - log q(z | x): the constants cancel
            against_prior = 0.5 * (eps.square() - z.square() + logvars).flatten(1).sum(1)
            log_prob = self._log_prob(xs, z, {name: value[:rows] for name, value in conditions.items()})
            nats = density(self.units, log_prob + against_prior, x.shape[1:])
            yield nats.unflatten(0, (len(part), len(x)))

    def _log_prob(self, x: Tensor, z: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        f = self._decoded(z, conditions)
        if f.shape != x.shape:
            raise ValueError(f"decoder must answer with the shape of x, {tuple(x.shape)}; got {tuple(f.shape)}")
        dtype = wide(f.dtype)  # a sum of squares in bfloat16 is nats off
        return self.likelihood.log_prob(x.to(dtype), f.to(dtype))

    def _decoded(self, z: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        return self.decoder(in_dtype_of(self.decoder, z), **taken(self.decoder, conditions))

    def _standardized(self, x: Tensor, key: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """`_placed`, x as the networks see it."""
        x, key = self._placed(x, key)
        return standardized(self.units, x), key

    def _placed(self, x: Tensor, key: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Both, checked, on the device of the weights."""
        return self._checked(x, key).to(weights_device(self)), None if key is None else key.to(weights_device(self))

    def _checked(self, x: Tensor, key: Tensor | None) -> Tensor:
        """x; raises for it, or a key, that cannot be."""
        x = require_samples("x", x, self.shape)
        if key is not None:
            require_key(key, len(x))
        return x

    def _conditions(self, rows: Tensor, label: Label, condition: Tensor | None) -> dict[str, Tensor]:
        conditions = as_conditions(len(rows), label=label, condition=condition, **known_to(self))
        return {name: value.to(rows.device) for name, value in conditions.items()}

    def config(self) -> dict:
        """The constructor's arguments, for a checkpoint."""
        return {
            "encoder": self.encoder, "decoder": self.decoder, "latent": list(self.latent),
            "likelihood": describe(self.likelihood), "beta": self.beta, "kl_warmup": self.kl_warmup,
            "free_bits": self.free_bits, "classes": self.classes,
            "shape": None if self.shape is None else list(self.shape), "units": described(self.units),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict) -> "VAE":
        likelihood = config["likelihood"]
        return cls(**{**config, "likelihood": LIKELIHOODS[likelihood["name"]](**likelihood["arguments"])})

    def __repr__(self) -> str:
        lines = [
            f"{type(self.encoder).__name__} -> {self.latent} -> {type(self.decoder).__name__}",
            f"likelihood={describe(self.likelihood)}",
            f"beta={self.beta}, kl_warmup={self.kl_warmup}, free_bits={self.free_bits}",
            f"shape={self.shape}, classes={self.classes}, {sum(p.numel() for p in self.parameters()):,} parameters",
        ]
        return "VAE(\n    " + "\n    ".join(lines) + "\n)"
