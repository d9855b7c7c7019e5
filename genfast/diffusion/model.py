"""Diffusion models: a network, a schedule and a parameterization, with loss() and sample()."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import ops
from ..checkpoint import register
from ..common.checks import (
    require_callable,
    require_choice,
    require_integer,
    require_number,
    require_shape,
    require_tensor,
)
from ..common.clip import as_clip, clipped
from ..common.conditions import (
    Label,
    as_conditions,
    batch_conditions,
    batch_samples,
    condition_width,
    known_to,
    model_classes,
    with_null,
)
from ..common.indices import as_index
from ..common.keys import require_key
from ..common.log_likelihood import LogLikelihood
from ..common.measured import learn
from ..common.precision import weights_device
from ..common.units import Units, as_units, described
from . import sampling
from .elbo import elbo
from .guidance.classifier_free import Guidance, as_guidance, guided_conditions
from .likelihood import BitsPerDim, bits_per_dim, log_likelihood
from .planned import planned
from .process.denoisers import (
    EDM,
    PARAMETERIZATIONS,
    Denoiser,
    Network,
    Parameterization,
    as_parameterization,
    require_noised,
)
from .process.plans import Plan
from .process.schedules import SCHEDULES, Schedule, VarianceExploding, as_schedule
from .process.schedules import Flow as FlowSchedule
from .queue import DiffusionQueue
from .sampling.graph import Graphs
from .sampling.sample import require_strength, sample_with
from .sampling.settings import SampleSettings
from .scale import log_half_lost, root_mean_square
from .times import TIMES, LogNormal, Uniform, require_within, stratified


@register
class Diffusion(nn.Module):
    """A diffusion model of x_0: (*shape), trained by denoising.

        x_t = alpha(t) x_0 + sigma(t) z,   loss = w(t) mean (F(c_in x_t, c_noise) - (p x_0 + q z))^2

    net               called as net(y, c_noise, label=..., condition=...), of which label is there with classes, and
                      condition where there is one; y (B, *), c_noise (B,), null as in common/conditions.py
    schedule          a Schedule or its name
    parameterization  what the network predicts: a Parameterization or its name; by default "edm" on VE and EDM
                      schedules, "flow" on Flow, "v" otherwise. A ValueError where it is singular at t = 1, where
                      sampling begins: eps, score and edm where alpha(1) = 0; and for edm, which tells the network
                      log(sigma / alpha) / 4 in place of t, with a network that counts steps
    times             distribution of the training times: `Uniform()`, `LogNormal(mean, std)` or their names; by default
                      log-normal with EDM's parameterization, uniform otherwise. Its mean, and EDM's sigma_data, are
                      those of the data where they are None, as by default: see `measure`
    label_dropout     share of samples whose label and condition are replaced by null in training, for guidance
    classes           number of classes; by default that of the network (`net.config["classes"]`), or 0
    shape             of one sample; by default that of the data
    levels            how many values an element of x has, -1 to 1 at equal distances, to which samples are clipped; by
                      default as the data say
    units             mean and sd of the data, where x is standardized in training; by default as the data say. Samples
                      and likelihoods are then in the data's units; x_t, start and noise are standardized

    names: of the classes, those of the first data with names that it is trained on; a label is a number or a name.
    """

    unknown_labels = True  # -1 among them: null
    likelihood_options = frozenset(inspect.signature(log_likelihood).parameters) - {"denoiser", "x", "condition"}

    def __init__(
        self,
        net: nn.Module,
        schedule: Schedule | str = "edm",
        parameterization: Parameterization | str | None = None,
        *,
        times: Callable[[Schedule, Tensor], Tensor] | str | None = None,
        label_dropout: float = 0.1,
        classes: int | None = None,
        shape: Sequence[int] | None = None,
        levels: int | None = None,
        units: Units | Mapping | None = None,
    ):
        super().__init__()
        require_callable("net", net)
        schedule = as_schedule(schedule)
        if parameterization is None:
            exploding = isinstance(schedule, VarianceExploding)
            parameterization = "edm" if exploding else "flow" if isinstance(schedule, FlowSchedule) else "v"
        parameterization = as_parameterization(parameterization)
        parameterization.coefficients(schedule, 1.0)  # raises where sampling could not begin
        if Network(net).counts_steps and not parameterization.tells_time:
            raise ValueError(
                f"parameterization must tell t to a network that counts steps, which {type(parameterization).__name__} "
                "does not; pass another, such as eps or v, and the schedule that the steps are of"
            )
        if times is None:
            times = LogNormal() if isinstance(parameterization, EDM) else Uniform()
        if isinstance(times, str):
            times = TIMES[require_choice("times", times, TIMES)]()
        require_callable("times", times)
        self.net = net
        self.schedule, self.parameterization = schedule, parameterization
        self.times, self.label_dropout = times, require_number("label_dropout", label_dropout, least=0, below=1)
        self.classes, self.names = model_classes(classes, net), None
        self.shape = None if shape is None else require_shape("shape", shape)
        self.levels = None if levels is None else require_integer("levels", levels, 2)
        self.units = as_units(units)
        self._graphs = Graphs()

    @property
    def condition_width(self) -> int | None:
        """How many numbers a row of `condition` has: 0 for none, None where the network does not say."""
        return condition_width(self.net)

    @property
    def denoiser(self) -> Denoiser:
        """D(x_t, t) of the network that the model has now."""
        return Denoiser(self.net, self.schedule, self.parameterization, self.units)

    def measure(self, batch: dict) -> "Diffusion":
        """Takes from a batch what is not known yet, and what is None of sigma_data and the mean of the times; itself.

            sigma_data = sqrt(mean x^2),    mean of log(sigma / alpha) = m - 0.2,  m of `scale.log_half_lost`

        So only the first call counts. `fit` makes it, with 4,096 samples, or all of them. Before it, sigma_data counts
        as 0.5 and the mean as -1.2.
        batch: as in `loss`, and names of the classes, levels and units, where the data have them.
        Raises ValueError where x is 0 everywhere, or of a scale that the schedule's noise does not reach.
        """
        x = batch_samples(batch, self.shape, least=1)
        parameterization, times = self.parameterization, self.times
        if parameterization.sigma_data is None:
            parameterization = dataclasses.replace(parameterization, sigma_data=root_mean_square(x))
        if isinstance(times, LogNormal) and times.mean is None:
            times = dataclasses.replace(times, mean=log_half_lost(x) - 0.2)
            require_within(self.schedule, times.mean)
        self.parameterization, self.times = parameterization, times
        learn(self, batch)
        return self

    def loss(self, batch: dict[str, Tensor | None], key: Tensor, *, step: int = 0) -> Tensor:
        """The loss of each sample, (B,) float32: a function of the weights and the arguments, which changes nothing.

        batch: x (B, *) float32, standardized by the model's units if it has any, label, (B,) integers or None, -1 where
        it is unknown, and condition, (B, *) float, None or left out.
        key: (B, 2), see `ops.make_key`: the times, `times.stratified`, the noise and which conditions are dropped are
        functions of it.  step: how many there were before, which changes nothing here.
        """
        x0 = batch_samples(batch, self.shape)
        require_key(key, len(x0))
        t = self._times(key)
        c = self.parameterization.coefficients(self.schedule, t)
        alpha, sigma = self.schedule.alpha(t).float(), self.schedule.sigma(t).float()
        conditions = batch_conditions(batch, self.classes, self.net, null=True)
        if conditions:
            drop = ops.uniform(key, (), ops.Purpose.LABEL) < self.label_dropout
            conditions = with_null(conditions, self.classes, drop)
        y = ops.diffuse(x0, key, alpha, sigma, c.c_in.float())
        F = ops.dense(Network(self.net).told(y, c.c_noise.float(), conditions, key))
        x0 = ops.in_layout_of(x0, F)
        return ops.denoising_loss(F, x0, key, c.p.float(), c.q.float(), c.weight.float())

    def log_snr(self, key: Tensor) -> Tensor:
        """The log-SNR at which `loss` looks at each sample, (B,) float64. key: as there."""
        require_key(key)
        return self.schedule.log_snr(self._times(key))

    def phase(self, step: int) -> int:
        """Which of the captured graphs of `loss` serves a step: there is one."""
        return 0

    def _times(self, key: Tensor) -> Tensor:
        return self.times(self.schedule, stratified(key))

    @torch.no_grad()
    def sample(
        self,
        n: int | Sequence[int] | Tensor,
        *,
        seed: int = 0,
        label: Label = None,
        condition: Tensor | None = None,
        solver: str | Plan = "dpmpp_2m",
        steps: int = 20,
        grid: str | Callable | None = None,
        guidance: float | Tensor | Guidance = 1.0,
        negative_label: Label = None,
        clamp: tuple[float, float] | None = None,
        clip: tuple[float, float] | str | None = "auto",
        threshold: float | None = None,
        start: Tensor | None = None,
        source: Tensor | None = None,
        strength: float | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        noise: str = "white",
        chunk: int | None = None,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        graph: bool | str = "auto",
        progress: bool = True,
        callback: Callable[[sampling.State], None] | None = None,
        **options,
    ) -> Tensor:
        """n new samples, (n, *shape): sample i is a function of the weights, the seed, i and the settings.

        n: how many, or the sample indices themselves.  label: a class for all, or (n,) of them, numbers or names; None
        is unconditional, and so is -1.
        condition: (n, *), or (1, *) for all, as the network takes it; None is unconditional, and so is a NaN.
        solver: a name in `solvers.SOLVERS`, with `steps`, `grid` and the solver's own options, or a Plan.
        guidance: a `Guidance`, or its scale w, a number or (n,); 1 is the plain conditional model. It pushes away from
        negative_label, by default from no label, and from no condition.  noise: "brownian" is one path for each
        (seed, i), whatever the number of steps; the times of a solver that goes by its name are then
        `brownian.aligned`.
        clip: (low, high) of x_0 at the end; "auto" is (-1, 1) where the model knows `levels`, of data that are such
        images, and None otherwise.  clamp: of D, at every row; not of a model with units, nor threshold.
        source, strength: as in `sampling.sample`; a solver that goes by its name is made for the times from there on.
        The rest as there.  Raises ValueError naming the argument.
        """
        strength, clip = require_strength(source, start, strength), as_clip(clip, self.levels)
        plan = planned(self.schedule, solver, steps, grid, noise, options, strength)
        shape = self._shape(shape)
        index, guidance = as_index("n", n), as_guidance(guidance) or Guidance()
        conditions, unconditional = guided_conditions(
            len(index), guidance, label, condition, negative_label, **known_to(self)
        )
        if unconditional is None and guidance.network is None:
            guidance = None
        settings = SampleSettings(
            seed=seed, guidance=guidance, clamp=clamp, threshold=threshold, noise=noise, chunk=chunk, dtype=dtype,
            device=weights_device(self), graph=graph, progress=progress, callback=callback,
        )  # fmt: skip
        x = sample_with(
            settings, self.denoiser, shape, plan, index, start=start, source=source, strength=strength,
            condition=conditions, unconditional=unconditional, known=known, mask=mask, graphs=self._graphs,
        )  # fmt: skip
        return clipped(x, clip)

    def release(self) -> None:
        """Frees the steps that `sample` has captured on a GPU, the two used last, with the memory they hold; copies,
        pickles and checkpoints have none."""
        self._graphs.release()

    def sample_adaptively(
        self,
        n: int | Sequence[int] | Tensor,
        *,
        label: Label = None,
        condition: Tensor | None = None,
        clip: tuple[float, float] | str | None = "auto",
        shape: Sequence[int] | None = None,
        **settings,
    ) -> tuple[Tensor, Tensor]:
        """n new samples by adaptive Dormand-Prince, each with its own step size, and the network evaluations of each.

        n, label, condition, clip, shape: as in `sample`; settings: seed, rtol, atol and the rest of
        `sampling.sample_adaptively`.
        """
        index = as_index("n", n)
        conditions = as_conditions(len(index), label=label, condition=condition, **known_to(self))
        bounds, shape = as_clip(clip, self.levels), self._shape(shape)
        x, evaluations = sampling.sample_adaptively(
            self.denoiser, shape, index, condition=conditions, device=weights_device(self), **settings
        )
        return clipped(x, bounds), evaluations

    def queue(
        self, *, capacity: int = 64, clamp: tuple[float, float] | None = None,
        clip: tuple[float, float] | str | None = "auto", graph: bool | str = "auto",
    ) -> DiffusionQueue:  # fmt: skip
        """A `sampling.SampleQueue` of this model, whose `add` takes what `sample` takes. clip: as there."""
        return DiffusionQueue(self, capacity, clamp, clip, graph)

    @torch.no_grad()
    def denoise(self, x_t: Tensor, t: float | Tensor, label: Label = None, condition: Tensor | None = None) -> Tensor:
        """D(x_t, t) = E[x_0 | x_t]: (B, *), both as the network sees them. t: a number or (B,)."""
        require_noised(x_t, self.shape)
        return self.denoiser(x_t, t, **self._conditions(x_t, label, condition))

    @torch.no_grad()
    def score(self, x_t: Tensor, t: float | Tensor, label: Label = None, condition: Tensor | None = None) -> Tensor:
        """grad log p_t(x_t) = (alpha D - x_t) / sigma^2: (B, *). t: a number or (B,), above 0."""
        require_noised(x_t, self.shape)
        return self.denoiser.score(x_t, t, **self._conditions(x_t, label, condition))

    def log_likelihood(
        self, x: Tensor, *, label: Label = None, condition: Tensor | None = None, **options
    ) -> LogLikelihood:
        """log p_0(x_i), or log p_0(x_i | label_i), in nats: (N,) of them and their standard errors (N,).

        A density in the units of x, whatever levels the data have: `bits_per_dim` and `evaluate` dequantize.
        x: (N, *shape) floating point.  options: divergence="exact" (a backward pass for every number of a sample),
        "rademacher" or "gaussian" with probes=, steps=, seed=, chunk= and the rest of `likelihood.log_likelihood`.
        Raises ValueError or TypeError naming the argument.
        """
        return log_likelihood(self.denoiser, **self._likelihood_arguments(x, label, condition), **options)

    def elbo(self, x: Tensor, key: Tensor, label: Label = None, condition: Tensor | None = None, **options) -> Tensor:
        """The variational bound of log p(x_i), or of log p(x_i | label_i), in nats: (N,) float64, estimated without
        bias from samples + 1 network evaluations; for its standard error, keys of several seeds.

        x: (N, *shape) floating point.  key: (N, 2), of `ops.make_key`: times and noise are functions of it alone, the
        same for every label.  options: samples=, chunk= of `diffusion.elbo`.  Raises ValueError or TypeError naming the
        argument.
        """
        return elbo(self.denoiser, key=key, **self._likelihood_arguments(x, label, condition), **options)

    def bits_per_dim(self, x: Tensor, *, label: Label = None, condition: Tensor | None = None, **options) -> BitsPerDim:
        """Bits per dimension of x_i under uniform dequantization, (N,), and their standard errors (N,).

        x: (N, *shape), integers 0 to levels - 1, or floating point in [-1, 1] at `levels` equal distances.  options:
        levels=, draws= and the rest of `likelihood.bits_per_dim`.  Raises ValueError or TypeError naming the argument.
        """
        return bits_per_dim(self.denoiser, **self._likelihood_arguments(x, label, condition), **options)

    def _likelihood_arguments(self, x: Tensor, label: Label, condition: Tensor | None) -> dict:
        """Arguments of a likelihood of x: (N, *shape), on the model's device."""
        x = require_tensor("x", x)
        if x.ndim < 2 or (self.shape is not None and tuple(x.shape[1:]) != self.shape):
            wanted = "*" if self.shape is None else ", ".join(map(str, self.shape))
            raise ValueError(f"x must have shape (N, {wanted}); got {tuple(x.shape)}")
        x = x.to(weights_device(self))
        return {"x": x, "condition": self._conditions(x, label, condition)}

    def _shape(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        if shape is not None:
            return require_shape("shape", shape)
        if self.shape is None:
            raise ValueError("shape of a sample is not known yet: train first, with fit, or pass shape=")
        return self.shape

    def _conditions(self, x: Tensor, label: Label, condition: Tensor | None) -> dict[str, Tensor]:
        conditions = as_conditions(len(x), label=label, condition=condition, **known_to(self))
        return {name: value.to(x.device) for name, value in conditions.items()}

    def config(self) -> dict:
        """The constructor's arguments, for a checkpoint."""
        return {
            "net": self.net,
            "schedule": _describe(self.schedule, SCHEDULES, "schedule"),
            "parameterization": _describe(self.parameterization, PARAMETERIZATIONS, "parameterization"),
            "times": _describe(self.times, TIMES, "times"),
            "label_dropout": self.label_dropout,
            "classes": self.classes,
            "shape": None if self.shape is None else list(self.shape),
            "levels": self.levels,
            "units": described(self.units),
        }

    @classmethod
    def from_config(cls, config: dict) -> "Diffusion":
        kinds = {"schedule": SCHEDULES, "parameterization": PARAMETERIZATIONS, "times": TIMES}
        built = {name: kinds[name][config[name]["name"]](**config[name]["arguments"]) for name in kinds}
        return cls(**{**config, **built})

    def __repr__(self) -> str:
        weights = sum(math.prod(p.shape) for p in self.parameters())
        lines = [
            f"net={type(self.net).__name__}, {weights:,} parameters",
            f"schedule={self.schedule!r}",
            f"parameterization={self.parameterization!r}, times={self.times!r}",
            f"shape={self.shape}, levels={self.levels}, classes={self.classes}, label_dropout={self.label_dropout}",
        ]
        return "Diffusion(\n    " + "\n    ".join(lines) + "\n)"


def _describe(value: object, known: dict[str, type], what: str) -> dict:
    """{"name", "arguments"} of one of our own dataclasses."""
    for name, kind in known.items():
        if type(value) is kind:
            return {"name": name, "arguments": dataclasses.asdict(value)}
    own = f"one of genfast's own ({', '.join(known)})"
    raise ValueError(f"{what} must be {own} to be saved; got {type(value).__name__}")
