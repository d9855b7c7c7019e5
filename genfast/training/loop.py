"""fit and Fit: one plain loop for every model, which offers `parameters()` and `loss(batch, key) -> (B,)`.

A model of several players, such as a GAN, has `players()` -> {name: arguments of AdamW, "params" among them} and
`loss(batch, key, player) -> (B,)`: in each step they are updated in that order, each by an optimizer of its own.

Everything random in a step is a function of (seed, sample counter): the order of the data (data/dataset.py) and,
through the noise key, times, noise and label dropout (ops). So a run is repeated by its seed, up to the network's own
rounding.
"""

import contextlib
import math
import os
import time

import torch
from torch import nn
from tqdm import tqdm

from ..checkpoint import describe, save
from ..common.checks import require_bool, require_choice, require_device, require_integer, require_number
from ..common.files import append_line, folder_path, to_json, writable_folder
from ..common.keys import MAX_SEED, make_key
from ..common.locks import run_in
from ..common.state import not_finite
from ..data.dataset import as_data
from ..data.matching import for_training, learn_names, require_shape_of, warn_user
from .buffers import Buffers, can_be_averaged, length

DECAYS = {  # factor on the learning rate after the share u in [0, 1) of the steps that follow the warm-up
    "cosine": lambda u: 0.5 + 0.5 * math.cos(math.pi * u),
    "linear": lambda u: 1 - u,
    "constant": lambda u: 1.0,
}
MEASURED = 4096  # samples that `model.measure` is given, at most
WATCHES = 40  # looks of `model.watch` at a run, at least
LOG = "log.jsonl"
PATIENCE = 20  # steps in a row without a finite gradient: fewer are accidents, so many a broken run
ENDING = 2  # so many at the end of a run are one too: nobody sees whether it would have recovered
WARMUP = 100  # steps, by default, but not more than half of all
SAFE = torch.finfo(torch.float32).max / 4  # a length of weights below which none of them has to be looked at
DTYPES = (torch.float32, torch.float64)  # of what is trained: the average of others stands still


def fit(model, data, *, steps: int, **settings) -> list[dict]:
    """Trains the model, with a progress bar, and returns the logs. Settings, logs and errors: see `Fit`, which is the
    same as a loop: `for log in Fit(model, data, steps=..., ...)`."""
    return Fit(model, data, steps=steps, **settings).run()


class Fit:
    """A training run of `steps` steps, each on `batch` samples:

        g       = d mean(loss) / d theta, shortened to length `clip` if it is longer
        theta   = AdamW(theta, g, lr_k),      lr_k = lr min(1, k / warmup) decay(u)
        average = d average + (1 - d) theta,  d = min(ema, k / (k + 9)), so that the start is soon forgotten

    at step k = 1, 2, ... with u the share done of the steps after the warm-up, for each player in turn. AdamW:
    Loshchilov & Hutter 2017, arXiv:1711.05101, with betas 0.9 and 0.999, unless a player has others.

    Iterating it trains, once, and yields a dict every `log_every` steps and at the end: step, loss and grad_norm (means
    since the last log; norm before clipping), lr, skipped (steps so far without a finite gradient), seconds (spent
    training, not by the caller), samples_per_second; with players, loss is the sum of theirs, which are there too as
    `<player>_loss`, and grad_norm is that of all. Meanwhile the model holds theta, in training mode; `with run.ema():`
    (run = Fit(...)) it holds the average. So does every checkpoint, and so does the model when the loop has ended or
    was left: by break, by Ctrl-C, by any error in here or in the caller's loop. Then each part of it is in the mode
    again in which it was before.

    model      has `parameters()` and `loss(batch, key) -> (B,)`, where batch is a dict of x (B, *), label, (B,) or
               None, and condition, (B, *) or None, and key is int64 (B, 2) = (seed, sample counter); to be saved, also
               the methods of checkpoint.py; may have `players()`, see above, `watch()` -> dict, for the logs, called at
               each of them and 40 times a run or more, and `measure(batch)`, called once before the first step, with
               4,096 samples from all over the data, or all of them
    data       whatever `as_data` takes, with the labels and conditions that the model wants: see `data.matching`. Names
               of classes become those of the model, or are matched with them
    warmup     steps until the full learning rate; by default 100, but at most half of all.  decay: then "cosine",
               "linear" or "constant"
    clip       largest gradient norm; None for any
    ema        decay of the average, in [0, 1); 0 for none
    seed       of order, times and noise, in [0, 2**63)
    out        folder for log.jsonl and a checkpoint, without a run in it: saved at the end, every `save_every` steps,
               and when the loop is left after its first step. No other run writes there meanwhile (common/locks.py)
    device     where to train; None for where the model is
    progress   whether `run` shows a bar
    A step without a finite gradient, or that makes a buffer NaN, is skipped: weights, optimizers and buffers are those
    of before (with players, from the first whose gradient is not finite). Raises FloatingPointError at the 20th in a
    row, at the end of a run if its last two, or all, were skipped, and where weights are no longer finite, which the
    average never takes. Before any training, TypeError for a model without a loss; ValueError if what is trained is not
    float32 or float64, or `out` is the name of a file; FileExistsError if it holds a run, and BlockingIOError, with
    process and host, if it is being written to. If the log cannot be written, OSError with its name, after the
    checkpoint. If that cannot be written either, the error names it as its cause.
    """

    def __init__(
        self, model, data, *, steps, batch=128, lr=1e-3, warmup=None, decay="cosine", weight_decay=0.0, clip=1.0,
        ema=0.999, seed=0, out=None, log_every=50, save_every=None, device=None, progress=True,
    ):  # fmt: skip
        self.steps, self.batch = require_integer("steps", steps, 1), require_integer("batch", batch, 1)
        warmup = min(WARMUP, self.steps // 2) if warmup is None else warmup
        self.warmup, self.seed = require_integer("warmup", warmup, 0), require_integer("seed", seed, 0, MAX_SEED)
        self.log_every = require_integer("log_every", log_every, 1)
        self.save_every = None if save_every is None else require_integer("save_every", save_every, 1)
        if save_every is not None and out is None:
            raise ValueError(f"save_every must go with a folder `out` to save to; got {save_every} and out=None")
        self.lr, self.ema_decay = require_number("lr", lr, above=0), require_number("ema", ema, least=0, below=1)
        self.clip = None if clip is None else require_number("clip", clip, above=0)
        weight_decay = require_number("weight_decay", weight_decay, least=0)
        self.decay = DECAYS[require_choice("decay", decay, DECAYS)]
        if isinstance(model, type) or not callable(getattr(model, "loss", None)):
            got = model.__name__ if isinstance(model, type) else type(model).__name__
            raise TypeError(f"model must be one to train, with a method loss(batch, key), as a Diffusion is; got {got}")
        self.model = model if device is None else model.to(require_device("device", device))
        require_shape_of(self.model, data := as_data(data))
        self.data = for_training(data, self.model)
        players = model.players() if hasattr(model, "players") else {None: {"params": list(model.parameters())}}
        for group in players.values():
            group["params"] = [p for p in group["params"] if p.requires_grad]
        self.parameters = [p for group in players.values() for p in group["params"]]
        if not self.parameters:
            raise ValueError(f"model must have parameters that require a gradient; {type(model).__name__} has none")
        if wrong := {p.dtype for p in self.parameters} - {*DTYPES}:
            names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in wrong))
            raise ValueError(f"model must have float32 or float64 weights to be trained; got {names}: model.float()")
        self.out = None if out is None else folder_path("out", out)
        if out is not None:
            describe(model)  # whether it can be saved is better known now than at the end
            if problem := not_finite(model.state_dict(), ()):
                warn_user(f"model {problem}: unless training replaces that, it cannot be saved to `out`")
            if self.out.exists():
                self._claimed().close()

        self.progress = require_bool("progress", progress)
        self.watch_every = max(1, min(self.log_every, self.steps // WATCHES))
        self.device = self.parameters[0].device
        common = {"lr": self.lr, "weight_decay": weight_decay, "fused": True}
        self.optimizers = {name: torch.optim.AdamW(**common | group) for name, group in players.items()}
        self.average = [p.detach().clone() for p in self.parameters]
        self.buffers = None  # a Buffers, once it runs
        self.pending = None  # the share of theta in the average, while it is not known whether theta is finite
        self.length = length((), self.device)  # of theta
        self.step = self.skipped = 0
        self.seconds = 0.0
        self.started = False

    def __iter__(self):
        if self.started:
            raise RuntimeError("this run has been iterated before; a new one starts with Fit(...)")
        self.started = True
        with self._claimed():
            learn_names(self.model, self.data)
            if self.out is not None:
                (self.out / LOG).touch(exist_ok=False)
            with _training(self.model):
                try:
                    yield from self._train()
                except BaseException as error:  # Ctrl-C and worse in here, or the caller's loop was left
                    self._rescue(error)
                    raise
                self._finish()

    def run(self):
        """Train to the end with a progress bar; returns the list of logs."""
        logs = []
        with tqdm(total=self.steps, unit="step", disable=not self.progress) as bar:
            for log in self:
                logs.append(log)
                bar.update(log["step"] - bar.n)
                bar.set_postfix(loss=f"{log['loss']:.4f}")
        return logs

    @contextlib.contextmanager
    def ema(self):
        """Inside it the model holds the averaged weights."""
        self._settle()
        theta = [p.detach().clone() for p in self.parameters]
        _copy(self.parameters, self.average)
        try:
            yield self.model
        finally:
            _copy(self.parameters, theta)

    def learning_rate(self, step):
        """The learning rate of step number `step`, counted from 0."""
        step = require_integer("step", step, 0)
        share = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup)) * self.decay(share)

    def save(self):
        """Write a checkpoint of the averaged weights to `out`. Raises ValueError without one."""
        if self.out is None:
            raise ValueError("out must be the folder to save to; got None")
        with self.ema():
            self._write()

    def _write(self):
        save(self.model, self.out, extra={"step": self.step, "batch": self.batch, "seed": self.seed})

    def _train(self):
        self.buffers = Buffers(self.model)
        recent, failures = [], 0  # (losses, norm) of the steps since the last log; steps in a row without a gradient
        logged, watched = (0, 0.0), {}  # step and seconds of the last log; what the model last said of itself
        if hasattr(self.model, "measure"):
            self.model.measure(self._moved(self._spread()))
        while self.step < self.steps:
            start = time.perf_counter()
            lr = self.learning_rate(self.step)
            losses, norm = self._update(lr)
            self.seconds += time.perf_counter() - start

            if math.isfinite(norm):
                recent.append((losses, norm))
                failures = 0
            elif (failures := failures + 1) == PATIENCE:
                raise self._stuck(failures, losses)
            if self.save_every and self.step % self.save_every == 0:
                self.save()
            due = self.step % self.log_every == 0 or self.step == self.steps
            if hasattr(self.model, "watch") and (due or self.step % self.watch_every == 0):
                watched = self.model.watch()
            if due:
                self._settle()
                rate = (self.step - logged[0]) * self.batch / (self.seconds - logged[1])
                logged = self.step, self.seconds
                turns, norms = zip(*recent) if recent else ([[math.nan] * len(self.optimizers)], [math.nan])
                means = [sum(column) / len(column) for column in zip(*turns)]
                recent = []
                log = {
                    "step": self.step,
                    "loss": sum(means),
                    "lr": lr,
                    "grad_norm": sum(norms) / len(norms),
                    "skipped": self.skipped,
                    "seconds": self.seconds,
                    "samples_per_second": rate,
                }
                log |= {f"{name}_loss": mean for name, mean in zip(self.optimizers, means) if name is not None}
                log |= watched
                if self.out is not None:
                    append_line(self.out / LOG, to_json(log))
                yield log
                _train_mode(self.model)  # the caller may have looked at it in another one
        if failures >= min(ENDING, self.steps):
            raise self._stuck(failures, losses)

    def _stuck(self, failures, losses):
        null = "" if self.data.condition is None else "; a network must take a condition of NaN, which is null"
        return FloatingPointError(
            f"no finite gradient in {failures} steps on end, until step {self.step}, at a loss of {sum(losses)}; lower "
            f"lr, or look for samples whose loss is not finite, or makes a buffer NaN{null}"
        )

    def _update(self, lr):
        """One step, each player in turn; returns their mean losses and the norm of all gradients before clipping."""
        first = self.step * self.batch
        batch = self._moved(self.data.batch(self.seed, first, self.batch))
        key = make_key(self.seed, torch.arange(first, first + self.batch, device="cpu"), device=self.device)
        losses, norms = [], []
        for name, optimizer in self.optimizers.items():
            loss, norm = self._turn(optimizer, batch, key, lr, {} if name is None else {"player": name})
            losses.append(loss)
            norms.append(norm)
            if not math.isfinite(norm):
                break
        self.step += 1
        if not math.isfinite(norm):
            self.skipped += 1
            return losses, norm
        updates = self.step - self.skipped
        self.pending = 1 - min(self.ema_decay, updates / (updates + 9))
        self.length = length(self.parameters, self.device)
        return losses, math.hypot(*norms)

    def _spread(self):
        """At most `MEASURED` samples in the order of the data, evenly spaced, for data are often sorted by class."""
        size = min(len(self.data), MEASURED)
        return self.data.rows(torch.arange(size, device="cpu") * len(self.data) // size)

    def _moved(self, batch):
        return {name: None if value is None else value.to(self.device) for name, value in batch.items()}

    def _turn(self, optimizer, batch, key, lr, player):
        """The update of one player, unless its gradient is not finite; returns its mean loss and its norm."""
        self.buffers.keep()
        try:
            loss, norm, total = self._gradient(optimizer, batch, key, player)
        except BaseException:
            self.buffers.restore()
            raise
        if not math.isfinite(norm):
            self.buffers.restore()
            return loss, norm
        parameters = optimizer.param_groups[0]["params"]
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, total)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        return loss, norm

    def _gradient(self, optimizer, batch, key, player):
        """One player's mean loss, the norm of its gradient, NaN if a buffer became that, and this as a tensor.

        Here, where the device is waited for anyway, the step before goes into the average.
        """
        losses = self.model.loss(batch, key, **player)
        if losses.shape != (self.batch,):
            raise ValueError(f"the model's loss must have shape ({self.batch},), one each; got {tuple(losses.shape)}")
        loss = losses.mean()
        optimizer.zero_grad()
        loss.backward()
        gradients = [p.grad for p in optimizer.param_groups[0]["params"] if p.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        found = (loss, total, self.buffers.length(self.device), self.length)
        loss, norm, buffers, size = torch.stack([v.detach().to(self.device) for v in found]).tolist()
        self._settle(size)
        return loss, math.nan if math.isnan(buffers) else norm, total

    def _settle(self, size=None):
        """Takes theta into the average, which has not been done yet since the last step. size: the length of theta, if
        it has been read. Raises FloatingPointError if theta is not finite."""
        if self.pending is None:
            return
        size = self.length.item() if size is None else size
        weight, self.pending = self.pending, None
        if not size <= SAFE and not can_be_averaged(self.parameters):
            raise FloatingPointError(
                f"weights are not finite after step {self.step}, at lr {self.learning_rate(self.step - 1):g}; lower lr "
                "or weight_decay: what is kept is the average of the steps before"
            )
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, weight)

    def _finish(self):
        """The average into the model, and a checkpoint of it; no second copy on a device that may be full."""
        with contextlib.suppress(FloatingPointError):  # the average is as it was
            self._settle()
        _copy(self.parameters, self.average)
        if self.out is not None:
            self._write()

    def _rescue(self, error):
        """What can be kept of a run that an error ends. One without a step leaves no files: it can be repeated."""
        if self.step == 0:
            _copy(self.parameters, self.average)  # one of several players may have moved
            if self.out is not None:
                (self.out / LOG).unlink(missing_ok=True)
            return
        try:
            self._finish()
        except BaseException as second:
            if isinstance(error, GeneratorExit):  # which nobody would see
                raise
            second.__context__ = error.__cause__ or error.__context__
            raise error from second

    def _claimed(self):
        """A context in which `out` is this run's alone; entered already."""
        stack = contextlib.ExitStack()
        if self.out is not None:
            with stack:
                stack.enter_context(run_in(writable_folder("out", self.out)))
                if found := [name for name in (LOG, "model.json") if os.path.lexists(self.out / name)]:
                    raise FileExistsError(
                        f"out holds a run: there is {' and '.join(found)} in {self.out}, which training would replace; "
                        "pass another folder, or move that one away or delete it"
                    )
                return stack.pop_all()
        return stack


@contextlib.contextmanager
def _training(model):
    """Inside it the model is in training mode, as it understands that; afterwards each part is in its own again."""
    modes = [(module, module.training) for module in (model.modules() if isinstance(model, nn.Module) else ())]
    _train_mode(model)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _train_mode(model):
    if isinstance(model, nn.Module):
        model.train()


@torch.no_grad()
def _copy(into, values):
    torch._foreach_copy_(into, values)
