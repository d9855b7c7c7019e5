"""Diffusion models: a network, a schedule and a parameterization, with loss() and sample()."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .. import ops
from ..checkpoint import register
from ..common.checks import require_callable, require_choice, require_number, require_shape, require_tensor
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
from . import sampling
from .elbo import elbo
from .guidance.classifier_free import Guidance, as_guidance, guided_conditions
from .likelihood import BitsPerDim, bits_per_dim, log_likelihood
from .process.denoisers import (
    EDM,
    PARAMETERIZATIONS,
    Denoiser,
    Network,
    Parameterization,
    as_parameterization,
    require_noised,
)
from .process.plans import Plan, as_times
from .process.schedules import SCHEDULES, Schedule, VarianceExploding, as_schedule
from .process.schedules import Flow as FlowSchedule
from .sampling.brownian import aligned
from .sampling.graph import Graphs
from .sampling.queue import SampleQueue
from .sampling.sample import require_strength, sample_with
from .sampling.settings import SampleSettings
from .sampling.step_table import NOISES
from .solvers import plan as make_plan
from .solvers import time_grid
from .times import TIMES, LogNormal, Uniform


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
                      log-normal with EDM's parameterization, uniform otherwise
    label_dropout     share of samples whose label and condition are replaced by null in training, for guidance
    classes           number of classes; by default that of the network (`net.config["classes"]`), or 0
    shape             of one sample; by default that of the first training batch

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
        self._graphs = Graphs()

    @property
    def condition_width(self) -> int | None:
        """How many numbers a row of `condition` has: 0 for none, None where the network does not say."""
        return condition_width(self.net)

    @property
    def denoiser(self) -> Denoiser:
        """D(x_t, t) of the network that the model has now."""
        return Denoiser(self.net, self.schedule, self.parameterization)

    def loss(self, batch: dict[str, Tensor | None], key: Tensor) -> Tensor:
        """The loss of each sample, (B,) float32.

        batch: x (B, *) float32, label, (B,) integers or None, -1 where it is unknown, and condition, (B, *) float, None
        or left out.  key:
        (B, 2), see `ops.make_key`: the times, the noise and which conditions are dropped are functions of it.
        """
        x0 = batch_samples(batch, self.shape)
        require_key(key, len(x0))
        self.shape = self.shape or tuple(x0.shape[1:])
        t = self.times(self.schedule, ops.uniform(key, (), ops.Purpose.TIME, dtype=torch.float64))
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
        source, strength: as in `sampling.sample`; a solver that goes by its name is made for the times from there on.
        The rest as there.  Raises ValueError naming the argument.
        """
        strength = require_strength(source, start, strength)
        plan = self._plan(solver, steps, grid, noise, options, strength)
        shape = self._shape(shape)
        index, guidance = as_index("n", n), as_guidance(guidance) or Guidance()
        conditions, unconditional = guided_conditions(
            len(index), guidance, label, condition, negative_label, **known_to(self)
        )
        if unconditional is None and guidance.network is None:
            guidance = None
        settings = SampleSettings(
            seed=seed, guidance=guidance, clamp=clamp, threshold=threshold, noise=noise, chunk=chunk, dtype=dtype,
            device=self._device(), graph=graph, progress=progress, callback=callback,
        )  # fmt: skip
        return sample_with(
            settings, self.denoiser, shape, plan, index, start=start, source=source, strength=strength,
            condition=conditions, unconditional=unconditional, known=known, mask=mask, graphs=self._graphs,
        )  # fmt: skip

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
        shape: Sequence[int] | None = None,
        **settings,
    ) -> tuple[Tensor, Tensor]:
        """n new samples by adaptive Dormand-Prince, each with its own step size, and the network evaluations of each.

        n, label, condition, shape: as in `sample`; settings: seed, rtol, atol and the rest of
        `sampling.sample_adaptively`.
        """
        index = as_index("n", n)
        conditions = as_conditions(len(index), label=label, condition=condition, **known_to(self))
        return sampling.sample_adaptively(
            self.denoiser, self._shape(shape), index, condition=conditions, device=self._device(), **settings
        )

    def queue(
        self, *, capacity: int = 64, clamp: tuple[float, float] | None = None, graph: bool | str = "auto"
    ) -> "DiffusionQueue":
        """A `sampling.SampleQueue` of this model, whose `add` takes what `sample` takes."""
        return DiffusionQueue(self, capacity, clamp, graph)

    def _plan(self, solver, steps, grid, noise, options, strength=None) -> Plan:
        require_choice("noise", noise, NOISES)
        if isinstance(solver, Plan):
            if options or grid is not None:
                names = ", ".join([*options, *["grid"] * (grid is not None)])
                raise TypeError(f"{names} cannot go with a Plan, which has all its settings in it")
            return solver
        grid = time_grid(solver, self.schedule, grid)
        if noise == "brownian":
            plain, grid = grid, lambda schedule, steps: aligned(schedule, plain(schedule, steps))
        if strength is not None:
            grid = times_below(strength, grid)
        return make_plan(solver, self.schedule, steps, grid, **options)

    @torch.no_grad()
    def denoise(self, x_t: Tensor, t: float | Tensor, label: Label = None, condition: Tensor | None = None) -> Tensor:
        """D(x_t, t) = E[x_0 | x_t]: (B, *). t: a number or (B,)."""
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
        x = x.to(self._device())
        return {"x": x, "condition": self._conditions(x, label, condition)}

    def _shape(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        if shape is not None:
            return require_shape("shape", shape)
        if self.shape is None:
            raise ValueError("shape of a sample is not known yet: train first, or pass shape=")
        return self.shape

    def _conditions(self, x: Tensor, label: Label, condition: Tensor | None) -> dict[str, Tensor]:
        conditions = as_conditions(len(x), label=label, condition=condition, **known_to(self))
        return {name: value.to(x.device) for name, value in conditions.items()}

    def _device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

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
            f"shape={self.shape}, classes={self.classes}, label_dropout={self.label_dropout}",
        ]
        return "Diffusion(\n    " + "\n    ".join(lines) + "\n)"


class DiffusionQueue(SampleQueue):
    """Continuous batching for a Diffusion model; see `SampleQueue`."""

    def __init__(
        self, model: Diffusion, capacity: int = 64, clamp: tuple[float, float] | None = None,
        graph: bool | str = "auto",
    ):  # fmt: skip
        shape, device = model._shape(None), model._device()
        super().__init__(model.denoiser, shape, capacity=capacity, clamp=clamp, device=device, graph=graph)
        self.model = model

    def add(
        self, index: int, *, seed: int = 0, label: int | str | None = None, condition: Tensor | None = None,
        solver: str | Plan = "dpmpp_2m", steps: int = 20, grid: str | Callable | None = None, guidance: float = 1.0,
        negative_label: int | str | None = None, noise: str = "white", **options,
    ) -> int:  # fmt: skip
        """Asks for sample `index`, with the arguments of `Diffusion.sample`; returns its ticket."""
        plan = self.model._plan(solver, steps, grid, noise, options)
        conditions, unconditional = guided_conditions(
            1, Guidance(require_number("guidance", guidance)), label, condition, negative_label, **known_to(self.model)
        )
        width = self.model.condition_width
        for side in (conditions, unconditional):  # all requests share one batch, so that null is written out
            if width and side is not None:
                side["condition"] = side.get("condition", torch.full((1, width), torch.nan, device="cpu")).float()
        return super().add(
            index, plan=plan, seed=seed, noise=noise, guidance=None if unconditional is None else guidance,
            condition={name: value[0] for name, value in conditions.items()},
            unconditional=unconditional and {name: value[0] for name, value in unconditional.items()},
        )  # fmt: skip


def times_below(strength: float, grid: Callable) -> Callable:
    """The time grid from its first time <= strength on: what a solver with a history can begin with."""

    def below(schedule: Schedule, steps: int) -> Tensor:
        times = as_times(grid(schedule, steps))
        late = times[times <= strength]
        if len(late) < 2:
            raise ValueError(f"strength must be at least {times[-2]:g}, the last time of {steps} steps; got {strength}")
        return late

    return below


def _describe(value: object, known: dict[str, type], what: str) -> dict:
    """{"name", "arguments"} of one of our own dataclasses."""
    for name, kind in known.items():
        if type(value) is kind:
            return {"name": name, "arguments": dataclasses.asdict(value)}
    own = f"one of genfast's own ({', '.join(known)})"
    raise ValueError(f"{what} must be {own} to be saved; got {type(value).__name__}")
