"""A diffusion model of the latents of a VAE."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .checkpoint import register
from .common.checks import require_chunk, require_integer, require_samples
from .common.clip import as_clip, clipped
from .common.conditions import (
    Label,
    as_conditions,
    batch_conditions,
    batch_samples,
    condition_width,
    known_to,
    numbered,
    taken,
)
from .common.indices import as_chunk, as_index, in_chunks, spread
from .common.keys import make_key, require_key
from .common.measured import learn
from .common.units import Units
from .diffusion.model import Diffusion
from .diffusion.scale import SPECTRUM
from .vae.latents import drawn
from .vae.model import VAE


@register
class LatentDiffusion(nn.Module):
    """Diffusion in the latent space of a trained VAE. Rombach et al. 2022, arXiv:2112.10752.

        u = (z - shift) / scale,  z ~ q(z | x);   the diffusion model learns p(u);   x = E[x | z = scale u + shift]

    shift and scale are the mean and standard deviation of each channel of z (its first dimension) over 4,096 training
    samples, or all: `fit` calls `measure`, and `measured` says whether they are known. They are kept in the checkpoint.
    The VAE is frozen: its weights require no
    gradient from here on, and it stays in eval mode.

    vae         trained; vae.latent is the shape of what the diffusion model sees
    diffusion   a `Diffusion` of samples of that shape; with classes it is conditional, whether the VAE is or not. Names
                of classes are its; one without takes those of the VAE
    levels      of x, as in `Diffusion`

    units: those of the VAE, which data are standardized by, whatever theirs are.
    """

    learns_units = False

    def __init__(self, vae: VAE, diffusion: Diffusion, *, levels: int | None = None):
        super().__init__()
        for name, value, kind in (("vae", vae, VAE), ("diffusion", diffusion, Diffusion)):
            if not isinstance(value, kind):
                raise TypeError(f"{name} must be a {kind.__name__}; got {type(value).__name__}")
        if diffusion.shape not in (None, vae.latent):
            raise ValueError(f"diffusion must be of the shape of latents, {vae.latent}; got {diffusion.shape}")
        if vae.classes not in (0, diffusion.classes):
            raise ValueError(f"diffusion must have the {vae.classes} classes of the VAE; got {diffusion.classes}")
        if vae.names and diffusion.names not in (None, vae.names):
            raise ValueError(f"diffusion must have the classes of the VAE, {vae.names}; got {diffusion.names}")
        self.vae, self.diffusion = vae.requires_grad_(False), diffusion
        self.names = diffusion.names or vae.names
        self.diffusion.shape = vae.latent
        self.levels = None if levels is None else require_integer("levels", levels, 2)
        self.measured = False
        channels = (vae.latent[0], *[1] * (len(vae.latent) - 1))
        self.register_buffer("shift", torch.zeros(channels))
        self.register_buffer("scale", torch.zeros(channels))  # zero: not known yet
        self.train(self.training)

    @property
    def classes(self) -> int:
        return self.diffusion.classes

    @property
    def names(self) -> tuple[str, ...] | None:
        return self.diffusion.names

    @names.setter
    def names(self, names: tuple[str, ...] | None) -> None:
        self.diffusion.names = names
        if self.vae.classes:
            self.vae.names = names

    @property
    def unknown_labels(self) -> bool:
        """Whether -1 is one of the labels: a VAE with classes knows no null."""
        return not self.vae.classes

    @property
    def condition_width(self) -> int | None:
        return condition_width(self.vae.encoder, self.vae.decoder, self.diffusion.net)

    @property
    def shape(self) -> tuple[int, ...] | None:
        return self.vae.shape

    @shape.setter
    def shape(self, shape: tuple[int, ...] | None) -> None:
        self.vae.shape = shape

    @property
    def units(self) -> Units | None:
        return self.vae.units

    def require_observations(self, x: Tensor) -> None:
        """As the VAE does."""
        self.vae.require_observations(x)

    def train(self, mode: bool = True) -> "LatentDiffusion":
        super().train(mode)
        self.vae.eval()
        return self

    @torch.no_grad()
    def measure(self, batch: dict[str, Tensor | None], *, chunk: int = 64) -> "LatentDiffusion":
        """Takes shift and scale from the samples of a batch, `chunk` at a time, and what `Diffusion.measure` takes from
        u, of at most 1,000 draws with seed 0; itself.

            shift = E[mu],    scale^2 = Var[mu] + E[e^logvar],    for z ~ N(mu(x), e^logvar(x)), without a draw

        Only the first call counts: what was trained afterwards is for that scale. `fit` makes it, with 4,096 samples,
        or all of them.
        batch: as in `Diffusion.measure`; of few samples shift and scale are rough.
        Raises ValueError for a single number a channel, and for latents that are all alike; FloatingPointError for
        latents that are not finite.
        """
        chunk, x = require_chunk(chunk), batch_samples(batch, self.shape)
        if not self.measured:
            self._measure(x, batch, chunk)
        learn(self, batch)
        return self

    def _measure(self, x: Tensor, batch: dict[str, Tensor | None], chunk: int) -> None:
        parts = []  # count, sum of variances, mean and scatter of each chunk: (channels,) each
        draws = []  # of z
        for first in range(0, max(len(x), 1), chunk):
            told = {"x": x, "label": batch.get("label"), "condition": batch.get("condition")}
            rows = {name: None if value is None else value[first : first + chunk] for name, value in told.items()}
            encoded = self._encode(rows)
            if first < SPECTRUM:
                key = make_key(0, torch.arange(first, first + len(rows["x"]), device="cpu"), encoded[0].device)
                draws.append(drawn(*encoded, key))
            mu, logvar = (part.double().transpose(0, 1).flatten(1) for part in encoded)
            mean = mu.mean(1)
            parts.append((mu.shape[1], logvar.exp().sum(1), mean, (mu - mean[:, None]).square().sum(1)))
        counts, variances, means, scatters = zip(*parts)
        total = sum(counts)
        if total < 2:
            raise ValueError(f"batch must have at least 2 samples, for the scale of the latents; got {total}")
        shift = sum(count * mean for count, mean in zip(counts, means)) / total
        scatter = sum(scatters) + sum(count * (mean - shift).square() for count, mean in zip(counts, means))
        scale = (scatter / (total - 1) + sum(variances) / total).sqrt()
        if not bool((shift.isfinite() & scale.isfinite()).all()):
            raise FloatingPointError("the latents of the batch are not finite, so that they have no scale")
        scale = scale.clamp(min=1e-3 * scale.max())  # of a channel that is hardly used
        shift, scale = shift.view_as(self.shift).to(self.shift), scale.view_as(self.scale).to(self.scale)
        if not bool((scale > 0).all()):
            raise ValueError("batch must have latents that differ, for their scale; got latents that are all alike")
        self.diffusion.measure({"x": (torch.cat(draws)[:SPECTRUM] - shift) / scale})
        self.shift.copy_(shift)
        self.scale.copy_(scale)
        self.measured = True

    @property
    def encoder(self) -> nn.Module:
        """What `encoded` is a function of, beside the batch."""
        return self.vae.encoder

    @torch.no_grad()
    def encoded(self, batch: dict[str, Tensor | None]) -> Tensor:
        """Mean and log-variance of q(z | x), (B, 2, *latent): `loss` takes them in the place of x, where their shape is
        not that of x. batch: as in `loss`. `fit` asks for those of all samples, once."""
        return torch.stack(self._encode(batch), 1)

    def loss(self, batch: dict[str, Tensor | None], key: Tensor, *, step: int = 0) -> Tensor:
        """The loss of each sample, (B,), that of the diffusion model on u. batch, key, step: as in `Diffusion.loss`; x
        may be what `encoded` answers, which changes no more than rounding.

        Raises ValueError before `measure`."""
        if not self.measured:
            remedy = "call measure(batch) with 4,096 samples, or all, or train with fit"
            raise ValueError(f"scale of the latents is not known yet: {remedy}")
        x, latents = batch_samples(batch), (2, *self.vae.latent)
        known = x.shape[1:] == latents and self.shape not in (None, latents)
        require_key(key, len(x if known else batch_samples(batch, self.shape)))
        with torch.no_grad():
            found = [part.contiguous() for part in x.to(self.shift.device).unbind(1)] if known else self._encode(batch)
            z = drawn(*found, key.to(self.shift.device))
            u = (z - self.shift) / self.scale
        return self.diffusion.loss(taken(self.diffusion.net, {**batch, "x": u}), key, step=step)

    def log_snr(self, key: Tensor) -> Tensor:
        """As `Diffusion.log_snr`."""
        return self.diffusion.log_snr(key)

    def phase(self, step: int) -> int:
        """As `Diffusion.phase`."""
        return self.diffusion.phase(step)

    def _encode(self, batch: dict[str, Tensor | None]) -> tuple[Tensor, Tensor]:
        """mu and logvar of q(z | x)."""
        networks = self.vae.encoder, self.vae.decoder, self.diffusion.net
        conditions = batch_conditions(batch, self.vae.classes, *networks, null=False)
        return self.vae._posterior(self.vae._placed(batch["x"])[0], conditions)

    @torch.no_grad()
    def sample(
        self, n: int | Sequence[int] | Tensor, *, label: Label = None, condition: Tensor | None = None,
        seed: int = 0, clip: tuple[float, float] | str | None = "auto", chunk: int | None = None,
        source: Tensor | None = None, **settings,
    ) -> Tensor:  # fmt: skip
        """n new samples, (n, *shape): sample i is a function of the weights, the seed, i and the settings, which are
        those of `Diffusion.sample`; the mean of x given its latent. clip: of x, not of latents. source, which goes with
        strength: (n, *shape), observations, of which the encoder's mean is taken; all other tensors are latents."""
        index, chunk = as_index("n", n), as_chunk(chunk, self.shape, self.shift.device)
        if not self.measured:
            raise ValueError("scale of the latents is not known yet: train first, with fit")
        label, vae, bounds = numbered(label, self.names), self.vae, as_clip(clip, self.levels)
        as_conditions(len(index), label=label, condition=condition, **known_to(self))  # raises for what neither knows
        of_net = taken(self.diffusion.net, {"label": label, "condition": condition})
        of_vae = vae._conditions(index, label if vae.classes else None, condition if vae.condition_width != 0 else None)
        if source is not None:
            source = self._encoded(index, source, of_vae, chunk)
        u = self.diffusion.sample(index, **of_net, seed=seed, clip=None, chunk=chunk, source=source, **settings)
        z = self.scale * u + self.shift
        x = vae._decode_in_chunks(
            index, of_vae, lambda key, taken, slots: spread(z[taken], slots, chunk),
            seed=seed, noise=False, chunk=chunk,
        )  # fmt: skip
        return clipped(x, bounds)

    def _encoded(self, index: Tensor, x: Tensor, conditions: dict[str, Tensor], chunk: int) -> Tensor:
        """u, (n, *latent), of the mean of z given x: (n, *shape)."""
        x = require_samples("source", x, self.shape)
        if len(x) != len(index):
            wanted = (len(index), *x.shape[1:])
            raise ValueError(f"source must have shape {wanted}, a row a sample; got {tuple(x.shape)}")
        if not bool(x.isfinite().all()):
            raise ValueError("source must be finite")

        def encode(key: Tensor, conditions: dict[str, Tensor], taken: Tensor, slots: Tensor) -> Tensor:
            rows = spread(x[taken.to(x.device)].to(key.device), slots.to(key.device), chunk)
            return (self.vae._posterior(self.vae._standardized(rows)[0], conditions)[0] - self.shift) / self.scale

        device = self.shift.device
        return in_chunks(encode, index, conditions, seed=0, chunk=chunk, device=device, shape=self.vae.latent)

    def release(self) -> None:
        """Frees what `sample` keeps on a GPU; see `Diffusion.release`."""
        self.diffusion.release()

    def _load_from_state_dict(self, *arguments) -> None:
        super()._load_from_state_dict(*arguments)
        self.measured = not self.scale.is_meta and bool((self.scale.float() > 0).all())

    def config(self) -> dict:
        """What rebuilds it: the networks, and the rest of either model's arguments."""
        vae, diffusion = self.vae.config(), self.diffusion.config()
        return {
            "encoder": vae.pop("encoder"), "decoder": vae.pop("decoder"), "net": diffusion.pop("net"),
            "vae": vae, "diffusion": diffusion, "levels": self.levels,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict) -> "LatentDiffusion":
        vae = VAE.from_config(config["vae"] | {name: config[name] for name in ("encoder", "decoder")})
        diffusion = Diffusion.from_config(config["diffusion"] | {"net": config["net"]})
        return cls(vae, diffusion, levels=config["levels"])
