"""The settings of a training run, checked."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch

from ..common.checks import (
    require_bool,
    require_callable,
    require_choice,
    require_count,
    require_device,
    require_integer,
    require_number,
)
from ..common.keys import MAX_SEED
from .ema import require_lengths

WORKERS = 1024  # processes that read data, at most
WARMUP = 100  # steps, by default, but not more than half of all
OFTEN = {"save_every": 10, "grid_every": 5}  # how often in a run, by default
MODES = ("ddp", "fsdp")  # of training on several processes
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
DECAYS = {  # factor on the learning rate after the share u in [0, 1) of the steps that follow the warm-up
    "cosine": lambda u: 0.5 + 0.5 * math.cos(math.pi * u),
    "linear": lambda u: 1 - u,
    "constant": lambda u: 1.0,
}


@dataclasses.dataclass
class Settings:
    """What `Fit` takes but model, data and callbacks, each checked; what may be left out is filled in."""

    steps: int
    batch: int
    lr: float
    warmup: int | None
    decay: str | Callable[[int], float]
    weight_decay: float
    clip: float | None
    optimizer: Callable | None
    ema: float | Sequence[float] | None
    seed: int
    test_every: int | None
    save_every: int | None
    grid_every: int | None
    keep: int
    keep_every: int | None
    resume: bool
    precision: str
    workers: int
    micro_batch: int | None
    device: torch.device | str | None
    graph: bool | str
    compile: bool
    critic_steps: int
    parallel: str | None
    log_every: int
    progress: bool

    def __post_init__(self) -> None:
        self.left_out = [name for name in ("warmup", "test_every", *OFTEN) if getattr(self, name) is None]
        for name in ("steps", "batch", "log_every", "critic_steps", "keep"):
            setattr(self, name, require_integer(name, getattr(self, name), 1))
        for name, times in OFTEN.items():
            value = getattr(self, name)
            setattr(self, name, max(1, self.steps // times) if value is None else require_integer(name, value, 1))
        self.workers = require_count("workers", self.workers, 0, WORKERS)
        for name in ("test_every", "keep_every", "micro_batch"):
            if getattr(self, name) is not None:
                setattr(self, name, require_integer(name, getattr(self, name), 1))
        for name in ("resume", "compile", "progress"):
            setattr(self, name, require_bool(name, getattr(self, name)))
        warmup = min(WARMUP, self.steps // 2) if self.warmup is None else self.warmup
        self.warmup = require_integer("warmup", warmup, 0)
        self.seed = require_integer("seed", self.seed, 0, MAX_SEED)
        self.lr = require_number("lr", self.lr, above=0)
        self.weight_decay = require_number("weight_decay", self.weight_decay, least=0)
        self.clip = None if self.clip is None else require_number("clip", self.clip, above=0)
        self.ema = require_lengths(self.ema)
        if not callable(self.decay):
            require_choice("decay", self.decay, DECAYS)
        if self.optimizer is not None:
            require_callable("optimizer", self.optimizer)
        require_choice("precision", self.precision, PRECISIONS)
        if self.parallel is not None:
            require_choice("parallel", self.parallel, MODES)
        if self.graph != "auto":
            self.graph = require_bool("graph", self.graph)
        if self.device is not None:
            self.device = require_device("device", self.device)
        end = self.steps * self.samples_a_step
        if end > MAX_SEED:
            raise ValueError(f"steps must be such that samples can be counted, up to 2^63; got {end} of them")

    @property
    def samples_a_step(self) -> int:
        return self.batch * self.critic_steps

    def learning_rate(self, step: int) -> float:
        """lr min(1, k / warmup) decay: that of step number k = `step` + 1."""
        step = require_integer("step", step, 0)
        if callable(self.decay):
            factor = require_number("decay", self.decay(step), least=0)
        else:
            share = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
            factor = DECAYS[self.decay](share)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup)) * factor

    def described(self) -> dict:
        """All of them, as they were given; None for what follows from `steps`."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return given | dict.fromkeys(self.left_out)
