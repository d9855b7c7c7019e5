"""fit(): one plain loop for every model. What a model has to offer: `parameters()` and `loss(batch, key) -> (B,)`.

Everything random in a step is a function of (seed, sample counter): the order of the data (data.py) and, through the
noise key, times, noise and label dropout (ops). So a run is repeated by its seed, up to the network's own rounding.
"""

import contextlib
import json
import math
import time
from pathlib import Path

import torch
from tqdm import tqdm

from .checkpoint import describe, save
from .data import as_data
from .ops import make_key

DECAYS = {  # factor on the learning rate after the share u in [0, 1) of the steps that follow the warm-up
    "cosine": lambda u: 0.5 + 0.5 * math.cos(math.pi * u),
    "linear": lambda u: 1 - u,
    "constant": lambda u: 1.0,
}
PATIENCE = 20  # steps in a row without a finite gradient: fewer are accidents, so many a broken run


def fit(model, data, *, steps, **settings):
    """Train the model: returns a `Fit`, to be iterated for its logs, or `run()` with a progress bar. Settings: see `Fit`."""
    return Fit(model, data, steps=steps, **settings)


class Fit:
    """A training run of `steps` steps, each on `batch` samples:

        theta = AdamW(theta, g, lr_k),  g = d mean(loss) / d theta, shortened to length `clip`     (arXiv:1711.05101)
        lr_k  = lr min(1, (k + 1) / warmup) decay(u)
        mean_theta = d mean_theta + (1 - d) theta,  d = min(ema, k / (k + 9)) at the k-th: an average over the last steps,
                                                    which soon forgets the start

    Iterating it trains, once, and yields a dict every `log_every` steps and at the end: step, loss and grad_norm (means
    since the last log; norm before clipping), lr, skipped (steps so far without a finite gradient), seconds (spent
    training, not by the caller), samples_per_second. Meanwhile the model holds theta; `with fit.ema():` it holds the
    average. So does every checkpoint, and so does the model when the loop has ended or was left by break or Ctrl-C.

    model      has `parameters()` and `loss(batch, key) -> (B,)`, with batch a dict of x (B, *) and label (B,) or None, and
               key (B, 2) = (seed, sample counter), int64; to be saved, also the methods named in checkpoint.py
    data       whatever `as_data` takes
    warmup     steps until the full learning rate;  decay: then "cosine", "linear" or "constant"
    clip       largest gradient norm; None for any
    ema        decay of the average, in [0, 1); 0 for none
    seed       of order, times and noise, in [0, 2**63)
    out        folder for log.jsonl and a checkpoint: at the end, every `save_every` steps, and on break and Ctrl-C
    device     where to train; None for where the model is
    progress   whether `run` shows a bar
    Raises FloatingPointError at the 20th step in a row without a finite gradient; up to then such steps are skipped.
    """

    def __init__(
        self, model, data, *, steps, batch=128, lr=1e-3, warmup=100, decay="cosine", weight_decay=0.0, clip=1.0,
        ema=0.999, seed=0, out=None, log_every=50, save_every=None, device=None, progress=True,
    ):  # fmt: skip
        integers = {"steps": (steps, 1), "batch": (batch, 1), "warmup": (warmup, 0), "seed": (seed, 0)}
        integers |= {"log_every": (log_every, 1), "save_every": (1 if save_every is None else save_every, 1)}
        for name, (value, least) in integers.items():
            if not isinstance(value, int) or not least <= value < 2**63:
                raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")
        for name, value in {"lr": lr, "clip": 1.0 if clip is None else clip}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {value!r}")
        if not 0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay: expected a number of at least 0, got {weight_decay!r}")
        if not 0 <= ema < 1:
            raise ValueError(f"ema: expected a number in [0, 1), got {ema!r}")
        if decay not in DECAYS:
            raise ValueError(f"decay: expected one of {sorted(DECAYS)}, got {decay!r}")
        if save_every is not None and out is None:
            raise ValueError("save_every: expected a folder `out` to save to, got out=None")
        self.model = model if device is None else model.to(device)
        self.data = as_data(data)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"model: expected parameters that require a gradient, {type(model).__name__} has none")
        self.out = None if out is None else Path(out)
        if out is not None:
            describe(model)  # whether it can be saved is better known now than at the end

        self.steps, self.batch, self.seed = steps, batch, seed
        self.lr, self.warmup, self.decay, self.clip = lr, warmup, DECAYS[decay], clip
        self.log_every, self.save_every, self.progress = log_every, save_every, progress
        self.device = self.parameters[0].device
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr, weight_decay=weight_decay, fused=True)
        self.ema_decay, self.average = ema, [p.detach().clone() for p in self.parameters]
        self.step = self.skipped = 0
        self.seconds = 0.0
        self.started = False

    def __iter__(self):
        if self.started:
            raise RuntimeError("this run has been iterated before; a new one starts with fit(...)")
        self.started = True
        try:
            yield from self._train()
        except (KeyboardInterrupt, GeneratorExit):  # Ctrl-C in here, or the caller's loop was left
            self._finish()
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
        theta = [p.detach().clone() for p in self.parameters]
        _copy(self.parameters, self.average)
        try:
            yield self.model
        finally:
            _copy(self.parameters, theta)

    def learning_rate(self, step):
        """The learning rate of step number `step`, counted from 0."""
        share = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup)) * self.decay(share)

    def _train(self):
        recent, in_a_row = [], 0  # (loss, norm, seconds, finite) of the steps since the last log
        with self._log_file() as file:
            while self.step < self.steps:
                start = time.perf_counter()
                lr = self.learning_rate(self.step)
                loss, norm = self._update(lr)
                recent.append((loss, norm, time.perf_counter() - start))
                in_a_row = 0 if math.isfinite(norm) else in_a_row + 1
                if in_a_row == PATIENCE:
                    raise FloatingPointError(
                        f"no finite gradient in {PATIENCE} steps in a row, up to step {self.step}, with a loss of {loss}: "
                        "lower lr, or look for a loss that is infinite or NaN for some samples"
                    )
                if self.save_every and self.step % self.save_every == 0:
                    self.save()
                if self.step % self.log_every == 0 or self.step == self.steps:
                    log = self._log(recent, lr)
                    recent = []
                    if file:
                        print(json.dumps(log), file=file, flush=True)
                    yield log

    def _update(self, lr):
        """One step: the mean loss and the gradient's norm before clipping."""
        first = self.step * self.batch
        batch = {k: v if v is None else v.to(self.device) for k, v in self.data.batch(self.seed, first, self.batch).items()}
        loss = self.model.loss(batch, make_key(self.seed, range(first, first + self.batch), device=self.device))
        if loss.shape != (self.batch,):
            raise ValueError(f"model: expected loss() to give shape ({self.batch},), one each, got {tuple(loss.shape)}")
        self.optimizer.zero_grad()
        loss.mean().backward()
        total = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        norm = total.item()
        self.step += 1
        if math.isfinite(norm):
            if self.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip, total)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
            updates = self.step - self.skipped
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.parameters, 1 - min(self.ema_decay, updates / (updates + 9)))
        else:
            self.skipped += 1
        return loss.mean().item(), norm
