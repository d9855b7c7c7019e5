"""A scheduler for diffusers pipelines whose every step is one call of our kernel."""

import copy
import functools
import inspect
import sys
import warnings

import diffusers
import torch
from diffusers import ConfigMixin, SchedulerMixin

from ...common.checks import require_integer
from ...common.keys import MAX_SEED
from .memory import REMEMBERING, forget, remember, remembers
from .run import Prepared, Run
from .tables import STRAIGHT, VARIABLES, class_of, setting
from .watch import Watch

REQUIRED = {"model_output", "timestep", "sample"}
# Those whose step asks for set_timesteps.
SET_FIRST = (
    "DDIMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler", "EDMDPMSolverMultistepScheduler",
)  # fmt: skip
# Those that refuse an integer for a timestep, which may be an index, and answer in the dtype of the network's output.
EULER = (
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
)  # fmt: skip


class _Standing(type):
    """The metaclass of GenfastScheduler, which itself is called with the scheduler to stand for."""

    def __call__(cls, *args, **kwargs):
        if cls.peer is None:
            return cls.from_scheduler(*args, **kwargs)
        own = super().__call__(*args, **kwargs)
        return own._anew(setting(own, "_seed"))


class GenfastScheduler(SchedulerMixin, ConfigMixin, metaclass=_Standing):
    """Any of diffusers' schedulers in `tables.VARIABLES`, with the same timesteps, sigmas, config and states, and steps
    that are one fused kernel each: coefficients in float64, state in float32, noise a function of (seed, sample, step).

        pipe.scheduler = GenfastScheduler.from_scheduler(pipe.scheduler)

    Assign it to a pipeline that exists, as here: some pipelines' constructors make the scheduler they are given anew.

    It is an instance of a class made for the scheduler's class, GenfastDDIMScheduler of (GenfastScheduler,
    DDIMScheduler), and so is that scheduler in all but its step: whatever is assigned, registered to the config or
    changed in place is in the next step. It is saved under the name of that class. A step that the kernel cannot do is
    diffusers' own, with diffusers' noise; a warning names the setting where it is one that makes all steps so.

    seed: of the noise of stochastic schedulers. By default it is drawn from the `generator` of a trajectory's first
    step, or torch's own; a list of generators, one a sample, gives each sample a seed of its own, so that it is the
    same in every batch. The samples of one seed have different noise.
    A bfloat16 or float16 sample that comes back as it was returned goes on from its float32 state.
    """

    peer = None  # the class that it stands for

    @classmethod
    def from_scheduler(cls, scheduler, seed=None):
        """One that does what `scheduler` does, from the beginning of a trajectory on. Raises TypeError for another
        scheduler, or one whose class has a step of its own."""
        base = class_of(scheduler)
        peer = scheduler.peer if isinstance(scheduler, GenfastScheduler) else type(scheduler)
        if peer.step is not base.step:
            raise TypeError(f"scheduler must step as {base.__name__}; {peer.__name__} has a step of its own")
        own = _blank(_general(cls), peer)
        vars(own).update(vars(copy.deepcopy(scheduler)))
        if "_step_index" in vars(own):
            own._step_index = own._begin_index = None
        forget(own)
        return own._anew(seed)

    @classmethod
    def from_config(cls, config=None, return_unused_kwargs=False, *, scheduler=None, **kwargs):
        """From the config of one of these, or of a diffusers scheduler; kwargs change settings, `seed` among them.

        scheduler: the name of the diffusers scheduler, which only a config that was loaded from a file knows itself.
        """
        known = config if isinstance(config, dict) else {}
        if cls.peer is None:
            names = scheduler, known.get("_class_name"), known.get("_scheduler")
            name = next((name for name in names if name in VARIABLES), None)
            if name is None or scheduler not in (None, name):
                got = next((name for name in names if name is not None), None)
                raise ValueError(f"scheduler must be one of {', '.join(VARIABLES)}; got {got!r}, in config or argument")
            return standing_for(cls, getattr(diffusers, name)).from_config(config, return_unused_kwargs, **kwargs)
        seed = kwargs.pop("seed", known.get("_seed"))
        own, unused = super().from_config(config, True, **kwargs)
        own._anew(seed)
        unused = {**unused, "_class_name": cls.peer.__name__} if "_class_name" in unused else unused
        return (own, unused) if return_unused_kwargs else own

    def _anew(self, seed):
        if seed is not None:
            seed = require_integer("seed", seed, 0, MAX_SEED)
        vars(self).update(_run=None, _prepared={}, _watch=Watch(self.kind))
        self.register_to_config(_class_name=self.peer.__name__, _scheduler=self.kind, _seed=seed)
        return self

    def to_json_string(self):
        """The config under the name of the class that it stands for, which loads it without us."""
        text = super().to_json_string().replace(f'"{type(self).__name__}"', f'"{self.peer.__name__}"')
        self.register_to_config(_class_name=self.peer.__name__)
        return text

    @classmethod
    def _get_compatibles(cls):
        return super()._get_compatibles() if cls.peer is None else cls.peer._get_compatibles()

    def __reduce_ex__(self, protocol):
        return _blank, (_general(type(self)), self.peer), vars(self)

    def __copy__(self):
        return copy.deepcopy(self)  # two that share a history would change each other's

    def set_timesteps(self, num_inference_steps=None, device=None, *args, **kwargs):
        """As the diffusers scheduler: on the host, then on `device`, which is not read."""
        host = device if device is None else "cpu"
        super().set_timesteps(num_inference_steps, host, *args, **kwargs)
        if "_watch" not in vars(self):
            return  # in __init__ of a scheduler that sets them there
        self._run = None
        for name in ("timesteps", "sigmas") if VARIABLES[self.kind] == STRAIGHT else ("timesteps",):
            table = getattr(self, name)
            setattr(self, name, table.to(device))
            self._watch.moves(name, table, getattr(self, name))
        self._look()

    def _init_step_index(self, timestep):
        """The network call of a timestep where a trajectory begins; diffusers takes the second of two equal ones, which
        from the first timestep on runs off the end."""
        self._run = None
        place = self._watch.position(timestep) if self._begin_index is None and self._look() else None
        if place == 0:
            self._step_index = 0
        elif place is not None:
            timesteps = self._watch.host["timesteps"]
            self._step_index = self.index_for_timestep(timesteps[place], timesteps)
        else:
            try:
                super()._init_step_index(timestep)
            except IndexError:
                raise ValueError(f"timestep must be one of the scheduler's timesteps; got {timestep}") from None

    def _look(self):
        """See what has changed; False if the tables are none that a plan could be made from."""
        try:
            if self._watch.look(self):
                self._prepared = {}
        except ValueError as error:
            return self._is_not_fused(error)
        return True

    def _is_not_fused(self, reason):
        warnings.warn(f"the steps are those of {self.peer.__name__} itself: {reason}", stacklevel=7)
        return False

    def _begin_again_at_the_end(self):
        index = vars(self).get("_step_index")
        if index is not None and index >= len(self.timesteps):
            self._step_index = self._run = None
            forget(self)

    def scale_model_input(self, sample, *args, **kwargs):
        """c_in x, the network's input; the step before has made it already where `sample` is what it returned."""
        if not hasattr(self.peer, "scale_model_input"):
            return sample
        self._begin_again_at_the_end()
        run = self._run
        ready = None if run is None else run.scaled(sample)
        current = ready is not None and run.next == self._step_index and self._look()
        current = current and self._plan(run.prepared.begin, run.prepared.options) is run.prepared
        return ready if current else super().scale_model_input(sample, *args, **kwargs)

    def step(self, *args, **kwargs):
        """The sample at the next noise level, from the network's output at this one. Neither tensor is changed.

        Arguments and answer are those of the diffusers scheduler's step. Noise that is given in `variance_noise` takes
        the place of that made here. Raises ValueError naming the argument.
        """
        given = dict(zip(self.arguments, args, strict=False)) | kwargs
        fit = len(args) + len(kwargs) == len(given) and REQUIRED <= given.keys() <= self.accepted
        return_dict = given.pop("return_dict", True)
        fused = self._fused(**given) if fit else None
        if fused is None:
            return super().step(*args, **kwargs)
        return self.output(*fused) if return_dict else fused

    def _fused(self, model_output, timestep, sample, generator=None, variance_noise=None, **more):
        """What a step answers with, a tuple; None if it must be diffusers' own."""
        if not self._can_be_fused(model_output, timestep, sample, generator, variance_noise, more) or not self._look():
            return None
        options = {}
        if self.kind == "DDIMScheduler":
            options = {"eta": float(more.get("eta", 0.0))}
        elif self.kind == "LMSDiscreteScheduler":
            options = {"order": more.get("order", 4)}
        run, index = self._trajectory(model_output, timestep, sample, generator, options)
        if run is None:
            return None
        raw = self.kind == "DDIMScheduler" and not more.get("use_clipped_model_output", False)
        dtype = torch.promote_types(sample.dtype, model_output.dtype)
        of_data = dtype
        if self.kind in EULER:
            dtype, of_data = model_output.dtype, run.dtype
        elif self.kind == "UniPCMultistepScheduler":
            dtype = sample.dtype
        out, predict = run.step(model_output, sample, variance_noise, raw, dtype)
        if "_step_index" in vars(self):
            self._step_index = index + 1
        if self.kind in REMEMBERING:
            remember(self, run)
        return (out, predict().to(of_data)) if self.predicts else (out,)

    def _can_be_fused(self, model_output, timestep, sample, generator, variance_noise, more):
        """Whether the kernel has this call at all."""
        own = vars(self)
        churns = more.get("s_churn") and self.kind != "FlowMatchEulerDiscreteScheduler"  # which ignores it
        if churns or any(more.get(name) is not None for name in ("per_token_timesteps", "pred_original_sample")):
            return False
        if own.get("num_inference_steps") is None and (self.kind in SET_FIRST or self.peer.order == 2):
            return False
        if self.kind in EULER and isinstance(timestep, (int, torch.IntTensor, torch.LongTensor)):
            return False
        if self.kind == "DDIMScheduler" and generator is not None and variance_noise is not None:
            return not more.get("eta")  # else diffusers refuses both
        tensors = isinstance(model_output, torch.Tensor) and isinstance(sample, torch.Tensor)
        return tensors and model_output.is_floating_point() and sample.is_floating_point() and sample.ndim > 0

    def _trajectory(self, model_output, timestep, sample, generator, options):
        """(Run, the network call that it is at), begun anew if need be; Run is None where the step is diffusers'."""
        if "_step_index" in vars(self):
            self._begin_again_at_the_end()
            if self._step_index is None:
                self._init_step_index(timestep)
            index = self._step_index
        else:  # DDIM and DDPM step from the timestep that they are given
            index = self._watch.place(timestep)
        run, self._run = self._run, None
        if index is None or index >= len(self._watch.host["timesteps"]):
            return None, index
        goes_on = run is not None and run.goes_on(model_output, sample, options)
        if self.kind in REMEMBERING:
            if run is None and remembers(self):
                return None, index
            if run is not None:
                self._require_the_same(run, index, options)
                if not goes_on:
                    return None, index
        begin = run.prepared.begin if goes_on and run.prepared.begin <= index else index
        prepared = self._plan(begin, options)
        if prepared is None or index - begin >= len(prepared.plan):
            return None, index
        if model_output.shape != sample.shape:
            shapes = f"{tuple(sample.shape)}, that of sample; got {tuple(model_output.shape)}"
            raise ValueError(f"model_output must have shape {shapes}")
        if self.kind in REMEMBERING and run is not None and prepared is not run.prepared:
            return None, index
        # A step that is not the next one has new noise.
        if not goes_on or prepared.begin != run.prepared.begin or (run.next != index and prepared.noisy):
            run = Run(prepared, index, model_output, sample, generator, setting(self, "_seed"))
        elif prepared is not run.prepared or run.next != index:
            run.change(prepared, index)
        self._run = run
        return run, index

    def _require_the_same(self, run, index, options):
        """What cannot change inside a trajectory of a scheduler that remembers its calls."""
        before, now = run.prepared.options.get("order"), options.get("order")
        if before != now:
            raise ValueError(f"order must stay the same in a trajectory; got {now} after {before}")
        if run.next != index:
            raise ValueError(f"step_index must go up by one a call of {self.kind}; got {index} after {run.next - 1}")

    def _plan(self, begin, options):
        """The Prepared of these steps, or None if there is none."""
        key = (begin, *options.items())
        if key not in self._prepared:
            host = object.__new__(self.peer)
            vars(host).update({**vars(self), **self._watch.host})
            try:
                self._prepared[key] = Prepared(host, begin, options)
            except ValueError as error:
                self._prepared[key] = None
                self._is_not_fused(error)
        return self._prepared[key]


def _general(cls):
    """GenfastScheduler, or its subclass, of which a made class was made."""
    return cls if cls.peer is None else cls.__bases__[0]


def _blank(general, peer):
    made = standing_for(general, peer)
    return made.__new__(made)


def _signed(function, like):
    """`function` with the signature of `like`: pipelines look at what a scheduler's methods take."""

    @functools.wraps(like)
    def call(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    return call


def _add_noise(self, original_samples, noise, timesteps):
    """x_t = alpha x_0 + sigma z at the given timesteps, computed in float32, in the dtype of original_samples."""
    wide = torch.promote_types(original_samples.dtype, torch.float32)
    noisy = self.peer.add_noise(self, original_samples.to(wide), noise.to(wide), timesteps)
    return noisy.to(original_samples.dtype)


@functools.cache
def standing_for(general, peer):
    """The class of `general` that stands for a class of diffusers."""
    base = class_of(object.__new__(peer))
    module = vars(sys.modules[base.__module__])
    output = module.get(f"{base.__name__}Output") or module["SchedulerOutput"]
    arguments = tuple(inspect.signature(peer.step).parameters)[1:]
    own = {
        "__module__": __name__,
        "__doc__": f"{peer.__name__} with steps of genfast's kernel, see GenfastScheduler.",
        "peer": peer,
        "kind": base.__name__,
        "output": output,
        "predicts": "pred_original_sample" in output.__dataclass_fields__,
        "arguments": arguments,
        "accepted": frozenset(arguments),
        "step": _signed(general.step, peer.step),
        "set_timesteps": _signed(general.set_timesteps, peer.set_timesteps),
    }
    if hasattr(peer, "add_noise"):
        own["add_noise"] = _signed(_add_noise, peer.add_noise)
    return type(general)(f"Genfast{peer.__name__}", (general, peer), own)


def __getattr__(name):
    """The made classes by name, as files of pipelines have them: GenfastDDIMScheduler."""
    if name.removeprefix("Genfast") in VARIABLES and name.startswith("Genfast"):
        return standing_for(GenfastScheduler, getattr(diffusers, name.removeprefix("Genfast")))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
