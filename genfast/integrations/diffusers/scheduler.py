"""A scheduler for diffusers pipelines whose every step is one call of our kernel."""

import copy
import functools
import math

import diffusers
import torch
from diffusers import ConfigMixin, SchedulerMixin

from ...common.checks import require_integer
from ...common.keys import MAX_SEED
from .run import Prepared, Run
from .tables import EXPLODING, KARRAS, VARIABLES, kind_of


class SchedulerOutput:
    """prev_sample: x at the next noise level.  pred_original_sample: D, made when it is asked for."""

    def __init__(self, prev_sample, predict):
        self.prev_sample = prev_sample
        self._predict = predict

    @functools.cached_property
    def pred_original_sample(self):
        return self._predict()


class GenfastScheduler(SchedulerMixin, ConfigMixin):
    """Any of diffusers' schedulers in `tables.VARIABLES`, with the same timesteps, sigmas, config and states, and steps
    that are one fused kernel each: coefficients in float64, state in float32, noise a function of (seed, sample, step).

        pipe.scheduler = GenfastScheduler.from_scheduler(pipe.scheduler)

    Assign it to a pipeline that exists, as here: some pipelines' constructors make the scheduler they are given anew.

    seed: of the noise of stochastic schedulers. By default it is drawn from the `generator` of a trajectory's first
    step, or torch's own; a list of generators, one a sample, gives each sample a seed of its own, so that it is the
    same in every batch. The samples of one seed have different noise.
    A bfloat16 or float16 sample that comes back as it was returned goes on from its float32 state.
    """

    def __init__(self, scheduler, seed=None):
        if isinstance(scheduler, GenfastScheduler):
            scheduler = scheduler._peer
        kind_of(scheduler)
        if seed is not None:
            seed = require_integer("seed", seed, 0, MAX_SEED)
        self._peer, self._seed = copy.deepcopy(scheduler), seed
        self.order = scheduler.order
        own = {"_class_name": type(self).__name__, "_scheduler": type(scheduler).__name__, "_seed": seed}
        self.register_to_config(**{**scheduler.config, **own})
        self._signature = None
        self._restart()

    @classmethod
    def from_scheduler(cls, scheduler, seed=None):
        """One that does what `scheduler` does."""
        return cls(scheduler, seed)

    @classmethod
    def from_config(cls, config, return_unused_kwargs=False, *, scheduler=None, **kwargs):
        """From the config of one of these, or of a diffusers scheduler; kwargs change settings, `seed` among them.

        scheduler: the name of the diffusers scheduler, which only a config that was loaded from a file knows itself.
        """
        name = scheduler or config.get("_scheduler") or config.get("_class_name")
        if name not in VARIABLES:
            raise ValueError(f"scheduler must be one of {', '.join(VARIABLES)}; got {name!r}, in config or argument")
        seed = kwargs.pop("seed", config.get("_seed"))
        peer = getattr(diffusers, name).from_config({**config, "_class_name": name}, **kwargs)
        return (cls(peer, seed), {}) if return_unused_kwargs else cls(peer, seed)

    def __getattr__(self, name):
        """timesteps, sigmas, alphas_cumprod, init_noise_sigma: those of the diffusers scheduler, if it has them."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._peer, name)

    def __len__(self):
        return len(self._peer)

    def _restart(self):
        self._index, self._begin, self._run = None, None, None
        self._host = self._peer.timesteps.tolist()
        # What has been prepared holds as long as nothing that it was made from changes.
        sigmas = self._peer.sigmas.tolist() if hasattr(self._peer, "sigmas") else None
        signature = self._host, sigmas, str(self._peer.config)  # a str: there may be arrays in it
        if signature != self._signature:
            self._signature, self._prepared = signature, {}

    def set_timesteps(self, num_inference_steps=None, device=None, *, timesteps=None, sigmas=None, mu=None):
        """As the diffusers scheduler; what it does not take raises its TypeError."""
        arguments = {"timesteps": timesteps, "sigmas": sigmas, "mu": mu}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        self._peer.set_timesteps(num_inference_steps, device=device, **arguments)
        self._restart()

    @property
    def step_index(self):
        """Which network call comes next; None before the first."""
        return self._index

    @property
    def begin_index(self):
        return self._begin

    def set_begin_index(self, begin_index=0):
        """The network call at which a trajectory begins, instead of the one whose timestep is given first."""
        self._begin = begin_index
        if hasattr(self._peer, "set_begin_index"):
            self._peer.set_begin_index(begin_index)

    def _seek(self, timestep):
        """The index of the network call at a timestep. The next one needs no look at the timestep of an accelerator."""
        on_host = not isinstance(timestep, torch.Tensor) or timestep.device.type == "cpu"
        if self._index is not None and self._index < len(self._host):
            if not on_host or float(timestep) == self._host[self._index]:
                return self._index
        elif self._index is None and self._begin is not None:
            self._index, self._run = self._begin, None
            return self._index
        found = [i for i, t in enumerate(self._host) if t == float(timestep) and i % self.order == 0]
        if not found:
            raise ValueError(f"timestep must be one of the scheduler's timesteps; got {float(timestep):g}")
        self._index, self._run = found[0], None
        return self._index

    def scale_model_input(self, sample, timestep=None):
        """c_in x, the network's input; the step before has made it already where `sample` is what it returned."""
        variables = VARIABLES[kind_of(self._peer)]
        if variables not in (EXPLODING, KARRAS):
            return sample
        index = self._seek(timestep)
        ready = self._run and self._run.scaled(sample)
        if ready is not None:
            return ready
        size = self._peer.config.sigma_data if variables == KARRAS else 1.0
        return sample * (1 / math.hypot(float(self._peer.sigmas[index]), size))

    def step(
        self, model_output, timestep, sample, *, eta=0.0, use_clipped_model_output=False, order=4, s_churn=0.0,
        s_tmin=0.0, s_tmax=math.inf, s_noise=1.0, generator=None, variance_noise=None, return_dict=True,
    ):  # fmt: skip
        """The sample at the next noise level, from the network's output at this one. Neither tensor is changed.

        model_output, sample: (B, *).  timestep: one of `timesteps`.  variance_noise: (B, *) in place of the noise made
        here.  eta, use_clipped_model_output: of DDIM, order: of LMS; other schedulers ignore them.  s_churn: must be 0,
        since the network has been called before the churn's noise could be added.
        Returns a SchedulerOutput, or without return_dict what the diffusers scheduler returns, a tuple.
        Raises ValueError naming the argument.
        """
        kind = kind_of(self._peer)
        if self._peer.num_inference_steps is None:
            raise ValueError("set_timesteps must be called before step")
        if s_churn:
            raise ValueError(f"s_churn must be 0: noise is added before the network call, not after; got {s_churn}")
        if model_output.shape != sample.shape:
            shapes = f"{tuple(sample.shape)}, that of sample; got {tuple(model_output.shape)}"
            raise ValueError(f"model_output must have shape {shapes}")
        index = self._seek(timestep)
        options = {"DDIMScheduler": {"eta": float(eta)}, "LMSDiscreteScheduler": {"order": order}}.get(kind, {})
        run = self._run
        if run is None or not run.goes_on(sample, options):
            run = self._start(index, options, sample, generator)
        raw = kind == "DDIMScheduler" and not use_clipped_model_output
        out, predict = run.step(index, model_output, sample, variance_noise, raw)
        self._index = index + 1
        if return_dict:
            return SchedulerOutput(out, predict)
        return (out, predict()) if kind in _PREDICTING else (out,)

    def _start(self, index, options, sample, generator):
        key = (index, *options.items())
        if key not in self._prepared:
            self._prepared[key] = Prepared(self._peer, index, options)
        self._run = Run(self._prepared[key], sample, generator, self._seed)
        return self._run

    def add_noise(self, original_samples, noise, timesteps):
        """x_t = alpha x_0 + sigma z at the given timesteps, computed in float32, in the dtype of original_samples."""
        if hasattr(self._peer, "_step_index"):
            self._peer._step_index = self._index
        wide = torch.promote_types(original_samples.dtype, torch.float32)
        return self._peer.add_noise(original_samples.to(wide), noise.to(wide), timesteps).to(original_samples.dtype)


# The diffusers schedulers whose step also answers with the estimate of x_0.
_PREDICTING = (
    "DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler", "LMSDiscreteScheduler", "EDMEulerScheduler",
)  # fmt: skip
