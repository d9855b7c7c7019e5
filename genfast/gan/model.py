"""Generative adversarial networks: a generator and a discriminator, with loss() and sample()."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import ops
from ..checkpoint import register
from ..common.checks import (
    require_bool,
    require_choice,
    require_integer,
    require_names,
    require_number,
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
from ..common.measured import learn
from ..common.units import Units, as_units, described, original
from ..ops import Purpose
from .augment import AUGMENTATIONS, augmented
from .losses import LOSSES, PAIRED, PlayerLosses, interpolated, one_centered_penalty, perturbed, zero_centered_penalty
from .monitor import ROWS, Monitor, health
from .spectral_norm import spectral_norm as normalize_spectrally

BETAS = (0.5, 0.9)  # of Adam: a short memory, for an opponent that changes
SIGMA_DATA = 0.5  # of data that were not measured


@register
class GAN(nn.Module):
    """x = G(z), z ~ N(0, I), taught by a discriminator D that tells x from data. Goodfellow et al. 2014.

        loss of D  = f_D(D(x), D(G(z))) + r1/2 |grad D(x)|^2 + r2/2 |grad D(G(z))|^2
                     + gradient_penalty (|grad D(x')| - 1)^2 + dragan (|grad D(x'')| - 1)^2
        loss of G  = f_G(D(x), D(G(z)))

    with x' between x and G(z), x'' around x, and f by name in `gan.losses.LOSSES`. The defaults are those of R3GAN
    (Huang et al. 2025, arXiv:2501.05441): the relativistic loss of pairs with R1 and R2, locally convergent. With
    lr=1e-2, a batch of 256 and Fourier features in D (`nn.FeedForward`) they gave all modes of a ring of 8 and of a
    grid of 25 narrow Gaussians, in each of five seeds.

    generator         z (B, *latent) -> (B, *shape): `nn.Generator`, or a module of yours
    discriminator     x (B, *shape) -> (B,) or (B, 1), rows apart, which also gets real and generated x in one batch:
                      `nn.Discriminator`, or a module of yours; of vectors, `nn.FeedForward` is either of the two
    latent            shape of z: an integer, or a sequence
    loss              "relativistic", "non_saturating", "hinge", "least_squares" or "wasserstein"
    r1, r2            weights of the zero-centered penalties; data of another scale s want about s^2 as much
    gradient_penalty  weight of WGAN-GP's (10 there);  dragan: of DRAGAN's
    lazy              penalties are in every `lazy`-th step only, as many times as heavy (Karras et al. 2020,
                      arXiv:1912.04958); 1 for all, the stablest
    spectral_norm     whether D's linear and convolutional weights, transposed ones too, are divided by their largest
                      singular value (Miyato et al. 2018, arXiv:1802.05957)
    sigma_data        standard deviation of all numbers of the data: x'' is up to half of it from x. None: measured at
                      the start of the first training, 0.5 before that
    augment           names of what is done to all that D sees, in order: "color", "translation", "cutout"
    classes           number of classes; by default that of the networks (`config["classes"]`), or 0. Both are called
                      with label=, (B,) int64, where there are any; those that take it also with condition=, (B, *),
                      where given
    shape             of one sample; by default that of the data of the first training
    units             mean and sd of the data, where x is standardized in training; by default as those data say.
                      Samples are then in the data's units

    `loss` is a function of the weights, the batch, the key and the step, row by row, and changes nothing. There are two
    exceptions: spectral_norm, for every pass through D in training turns its singular vectors a little further, and
    networks with BatchNorm. A network with dropout is given key=, too, if it says `wants_key = True`.

    `fit` trains the two in turn, and at the end leaves the average of the weights over the steps in the model
    (its ema=), so that samples are those of the averaged generator. Its logs also have the `Health` of the training
    and it warns, once, when a discriminator is too sure or the generator has collapsed.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent: int | Sequence[int],
        loss: str = "relativistic",
        r1: float = 0.05,
        r2: float = 0.05,
        gradient_penalty: float = 0.0,
        dragan: float = 0.0,
        lazy: int = 1,
        spectral_norm: bool = False,
        sigma_data: float | None = None,
        augment: Sequence[str] = (),
        classes: int | None = None,
        shape: Sequence[int] | None = None,
        units: Units | Mapping | None = None,
    ):
        super().__init__()
        for name, net in (("generator", generator), ("discriminator", discriminator)):
            if not isinstance(net, nn.Module):
                raise TypeError(f"{name} must be a torch.nn.Module; got {type(net).__name__}")
        weights = {"r1": r1, "r2": r2, "gradient_penalty": gradient_penalty, "dragan": dragan}
        self.weights = {name: require_number(name, value, least=0) for name, value in weights.items()}
        self.lazy, self.classes = require_integer("lazy", lazy, 1), model_classes(classes, generator, discriminator)
        self.names = None  # of the classes, from the first data with names
        self.loss_name = require_choice("loss", loss, LOSSES)
        self.spectral_norm = require_bool("spectral_norm", spectral_norm)
        self.sigma_data = None if sigma_data is None else require_number("sigma_data", sigma_data, least=0)
        self.augment = tuple(
            require_choice("augment", name, AUGMENTATIONS) for name in require_names("augment", augment)
        )
        self.latent = require_shape("latent", latent)
        self.shape, self.units = None if shape is None else require_shape("shape", shape), as_units(units)
        self.generator, self.discriminator = generator, discriminator
        self.monitor = Monitor()
        if self.spectral_norm:
            normalize_spectrally(discriminator)

    @property
    def condition_width(self) -> int | None:
        """How many numbers a row of `condition` has: 0 for none, None where the networks do not say."""
        return condition_width(self.generator, self.discriminator)

    def players(self) -> dict[str, dict]:
        """Who is trained, in the order of their turns: the arguments of each one's optimizer, for `fit`."""
        return {
            "discriminator": {"params": list(self.discriminator.parameters()), "betas": BETAS},
            "generator": {"params": list(self.generator.parameters()), "betas": BETAS},
        }

    def measure(self, batch: Mapping) -> None:
        """Takes the shape, the names of classes, the units and, for `dragan`, sigma_data from data, x (N, *shape),
        where they are not known yet: `fit` does so once, before the first step."""
        learn(self, batch)
        if self.sigma_data is None and self.weights["dragan"]:
            self.sigma_data = batch["x"].float().std(correction=0).item()

    def loss(
        self, batch: dict[str, Tensor | None], key: Tensor, *, step: int = 0, player: str | None = None
    ) -> PlayerLosses | Tensor:
        """The losses of each sample, (B,): `PlayerLosses` of both, or that of the `player`, "discriminator" or
        "generator".

        The gradient of each is in its own player's weights alone, so that the sum of the two may be taken backward.

        batch: x (B, *shape) floating point, with classes label (B,) integers, and condition (B, *), None or left out.
        key: (B, 2), see `ops.make_key`: z, of each side its own, and all that is random is a function of it.  step:
        how many were done before; penalties are there when it is a multiple of `lazy`.
        """
        x, conditions = self._checked(batch, key)
        due = self.phase(require_integer("step", step, 0))
        if player is not None:
            require_choice("player", player, PlayerLosses._fields)
        sides = {
            "discriminator": lambda: self._discriminator_loss(x, key, conditions, due),
            "generator": lambda: self._generator_loss(x, key, conditions),
        }
        return PlayerLosses(*(side() for side in sides.values())) if player is None else sides[player]()

    def phase(self, step: int) -> bool:
        """Which kind of step number `step` is: whether it has penalties."""
        return step % self.lazy == 0

    def _discriminator_loss(self, x: Tensor, key: Tensor, conditions: dict[str, Tensor], due: bool) -> Tensor:
        if not torch.is_grad_enabled():  # the penalties are gradients all the same
            with torch.enable_grad():
                return self._discriminator_loss(x, key, conditions, due).detach()
        with torch.no_grad():
            fake = self._generated(self._z(key, step=0, like=x), conditions, x.shape[1:])
        real, fake_seen = augmented(x, key, self.augment, 0), augmented(fake, key, self.augment, 1)
        weights = {name: self.lazy * value for name, value in self.weights.items() if value and due}

        # Real and generated in one pass, whose graph serves R1 and R2 too: half the time of four of their own.
        both = torch.cat([real, fake_seen]).requires_grad_("r1" in weights or "r2" in weights)
        logits = self._logits(both, {name: torch.cat([value, value]) for name, value in conditions.items()})
        loss = LOSSES[self.loss_name].discriminator(*logits.chunk(2))
        if both.requires_grad:
            r1, r2 = zero_centered_penalty(logits, both).chunk(2)
            loss = loss + weights.get("r1", 0.0) * r1 + weights.get("r2", 0.0) * r2
        spread = SIGMA_DATA if self.sigma_data is None else self.sigma_data
        points = {
            "gradient_penalty": lambda: interpolated(real, fake_seen, ops.uniform(key, (), Purpose.TIME)),
            "dragan": lambda: perturbed(real, ops.uniform(key, real.shape[1:], Purpose.CHURN), spread),
        }
        for name, chosen in points.items():
            if name in weights:
                at = chosen().requires_grad_()
                loss = loss + weights[name] * one_centered_penalty(self._logits(at, conditions), at)
        return loss

    def _generator_loss(self, x: Tensor, key: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        fake = augmented(self._generated(self._z(key, step=1, like=x), conditions, x.shape[1:]), key, self.augment, 2)
        with _frozen(self.discriminator):
            real = self._logits(augmented(x, key, self.augment, 3), conditions) if self.loss_name in PAIRED else None
            return LOSSES[self.loss_name].generator(real, self._logits(fake, conditions))

    @torch.no_grad()
    def watch(self, batch: dict[str, Tensor | None], key: Tensor) -> dict[str, float]:
        """`Health` on the first 512 rows of a training batch, both networks in eval mode, for the logs of `fit`. Warns,
        once, of what stays wrong from one call to the next: that is all that it remembers."""
        x, conditions = self._checked(batch, key)
        x, conditions = x[:ROWS], {name: value[:ROWS] for name, value in conditions.items()}
        with evaluating(self):
            fake = self._generated(self._z(conditions["key"], step=0, like=x), conditions, x.shape[1:])
            found = health(x, fake, *(self._logits(v, conditions) for v in (x, fake)))
        self.monitor.report(found)
        return found._asdict()

    def watch_state(self) -> dict:
        """What `watch` remembers, for JSON; see `load_watch_state`."""
        return self.monitor.state()

    def load_watch_state(self, state: dict) -> None:
        """Goes on warning where the model whose `watch_state` it is stood. Raises ValueError for another dict."""
        self.monitor.load(state)

    @torch.no_grad()
    def sample(
        self,
        n: int | Sequence[int] | Tensor,
        *,
        seed: int = 0,
        label: Label = None,
        condition: Tensor | None = None,
        truncation: float = 1.0,
        chunk: int | None = None,
    ) -> Tensor:
        """n new samples, (n, *shape): sample i is a function of the weights, the seed, i and the settings.

        n: how many, or the sample indices themselves.  label: a class for all, or (n,) of them, numbers or
        names.  condition: (n, *), or (1, *) for all.  truncation: z is scaled by it, towards the mean latent: fewer
        kinds of samples, and better ones, below 1.  chunk: rows that the generator gets at once, always so many, that
        its rounding does not depend on n; None: at most 64 on a CPU, 256 on a GPU.
        Raises ValueError naming the argument, FloatingPointError if a sample is not finite.
        """
        like = next(self.generator.parameters(), torch.empty(0, dtype=torch.float32, device="cpu"))
        index, chunk = as_index("n", n), as_chunk(chunk, self.shape, like.device)
        truncation = require_number("truncation", truncation, least=0)
        conditions = as_conditions(len(index), label=label, condition=condition, **known_to(self))

        def generate(key: Tensor, conditions: dict[str, Tensor], taken: Tensor, slots: Tensor) -> Tensor:
            return self._generated(truncation * self._z(key, step=0, like=like), conditions, self.shape)

        with evaluating(self):
            x = in_chunks(generate, index, conditions, seed=seed, chunk=chunk, device=like.device, shape=self.shape)
        return original(self.units, x)

    def _z(self, key: Tensor, step: int, like: Tensor) -> Tensor:
        return ops.normal(key, self.latent, Purpose.LATENT, step).to(like.dtype)

    def _generated(self, z: Tensor, conditions: dict[str, Tensor], shape: tuple[int, ...] | None) -> Tensor:
        x = self.generator(z, **taken(self.generator, conditions))
        if len(x) != len(z) or (shape is not None and x.shape[1:] != shape):
            wanted = "*" if shape is None else ", ".join(map(str, shape))
            raise ValueError(f"generator must answer with ({len(z)}, {wanted}); got {tuple(x.shape)}")
        return x

    def _logits(self, x: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        logits = self.discriminator(x, **taken(self.discriminator, conditions))
        if logits.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(f"discriminator must answer with ({len(x)},) or ({len(x)}, 1); got {tuple(logits.shape)}")
        return logits.reshape(len(x))

    def _checked(self, batch: dict[str, Tensor | None], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch_samples(batch, self.shape, least=1)
        require_key(key, len(x))
        like = next(self.discriminator.parameters(), x)
        conditions = batch_conditions(batch, self.classes, self.generator, self.discriminator, null=False)
        return x.to(like.device, like.dtype), conditions | {"key": key}

    def config(self) -> dict:
        """The constructor's arguments, for a checkpoint."""
        return {
            "generator": self.generator, "discriminator": self.discriminator, "latent": list(self.latent),
            "loss": self.loss_name, **self.weights, "lazy": self.lazy, "spectral_norm": self.spectral_norm,
            "sigma_data": self.sigma_data, "augment": list(self.augment), "classes": self.classes,
            "shape": None if self.shape is None else list(self.shape), "units": described(self.units),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict) -> "GAN":
        return cls(**config)

    def __repr__(self) -> str:
        penalties = ", ".join(f"{name}={value}" for name, value in self.weights.items() if value)
        lines = [
            f"{self.latent} -> {type(self.generator).__name__} -> {type(self.discriminator).__name__}",
            f"loss={self.loss_name!r}, {penalties or 'no penalty'}, lazy={self.lazy}",
            f"spectral_norm={self.spectral_norm}, augment={self.augment}",
            f"shape={self.shape}, classes={self.classes}, {sum(p.numel() for p in self.parameters()):,} parameters",
        ]
        return "GAN(\n    " + "\n    ".join(lines) + "\n)"


@contextlib.contextmanager
def _frozen(net: nn.Module) -> Iterator[None]:
    """Inside it the weights are constants; a gradient still goes through to what the network is given."""
    trained = [p for p in net.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
