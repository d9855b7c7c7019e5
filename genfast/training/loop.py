"""fit and Fit: one plain loop for every model, which offers `parameters()` and `loss(batch, key, *, step=0) -> (B,)`.

A model of several players, such as a GAN, has `players()` -> {name: arguments of AdamW, "params" among them} and
`loss(batch, key, *, step=0, player=name)`: in each step they are updated in that order, each by its own optimizer.

Everything random in a step is a function of (seed, sample counter): the order of the data (data/dataset.py) and,
through the noise key, times, noise, dropout and label dropout (ops). So a run is repeated by its seed, up to the
network's own rounding. The host starts a step (step.py) and reads nothing of it until something is due.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..common import processes
from ..common.measured import learn
from ..common.state import not_finite
from ..common.warn import warn_user
from ..data.dataset import as_data
from ..data.matching import for_training, in_units, matched, require_shape_of
from . import state
from .captured import CapturedStep, wanted
from .compiled import compiled
from .description import describe_run
from .ema import Averages
from .feed import Feed
from .held_out import HeldOut
from .interrupts import Interrupts
from .logs import Bar, say
from .looks import Looks
from .modes import train_mode, training
from .optimizers import Player
from .parallel import together
from .precision import Precision
from .run_folder import RunFolder
from .settings import Settings
from .step import Batch, Step

MEASURED = 4096  # samples that `model.measure` is given, at most
ENDING = 2  # so many at the end of a run are one too: nobody sees whether it would have recovered
SAVED_AFTER = 600.0  # seconds, however long a step takes
DTYPES = (torch.float32, torch.float64)  # of what is trained: the average of others stands still


def fit(model, data, *, steps: int, **settings) -> list[dict]:
    """Trains the model, with a progress bar, and returns the logs of the whole run. Settings, logs and errors: see
    `Fit`, which is the same as a loop: `for log in Fit(model, data, steps=..., ...)`."""
    return Fit(model, data, steps=steps, **settings).run()


class Fit:
    """A training run of `steps` steps, each on `batch` samples: for step k = 1, 2, ... and each player in turn

        g       = d mean(loss) / d theta, shortened to length `clip` if it is longer
        theta   = AdamW(theta, g, lr_k),      lr_k = lr min(1, k / warmup) decay(u)
        average = beta_k average + (1 - beta_k) theta,      beta_k = (1 - 1/k)^(gamma + 1)

    with u the share done of the steps after the warm-up. AdamW: Loshchilov & Hutter 2017, arXiv:1711.05101, with betas
    0.9 and 0.999, unless a player has others. Averages: Karras et al. 2023, arXiv:2312.02696 (ema.py).

    Iterating it trains, once, and yields a dict every `log_every` steps, where held-out data are looked at, and at the
    end: step; samples (so far); loss and grad_norm (means since the last log; norm before clipping); lr; skipped (steps
    so far without a finite gradient); seconds (spent training, not by the caller); samples_per_second; data_wait
    (the share of that time spent waiting for data); memory (bytes); with players `<player>_loss`, of which loss is
    the sum; what `model.watch` says; and with `test` test_loss and test_loss_by_snr (held_out.py). Meanwhile the model
    holds theta, in training mode; inside `with run.averaged():` the average. So does every checkpoint, and so does the
    model when the loop has ended or was left: by break, by Ctrl-C, by any error in here or in the caller's loop. Then
    each part of it is in the mode again in which it was before.

    model       has `parameters()` and `loss(batch, key, *, step=0) -> (B,)`, a pure function: batch is a dict of x
                (B, *), label, (B,) or None, and condition, (B, *) or None, key int64 (B, 2) = (seed, sample counter),
                and step the number of steps before. To be saved, also the methods of checkpoint.py. It may have
                `encoded(batch)`, which is asked for what it finds of each sample once (encoded.py);
                `players()`, see above; `measure(batch)`, called once before the first step with the first 4,096 samples
                of the run, or all, and names, levels and units of the data; `watch(batch, key) -> dict`, for the logs,
                called at each of them and 40 times a run or more; `phase(step)`, which of several graphs a step is
    data        whatever `as_data` takes, with the labels and conditions that the model wants: see `data.matching`.
                Names of classes become those of the model, or are matched with them
    warmup      steps until the full learning rate; by default 100, but at most half of all.  decay: then "cosine",
                "linear", "constant", or a factor as a function of the step, counted from 0
    clip        largest gradient norm; None for any
    optimizer   what makes a torch optimizer of a list of parameters, whose learning rate is set here; by default AdamW
    ema         relative length of the average, below 0.25, or several; the first is the model's. None for none
    seed        of order, times and noise, in [0, 2**63)
    test        held-out data, looked at every `test_every` steps with averaged weights, by default 20 times a run or
                less (held_out.py); the best model is kept in `out`/best
    out         folder of the run (run_folder.py): one that is there already goes on, unless resume=False. Saved every
                `save_every` steps (by default 10 times a run), after ten minutes, at the end, and when the loop is left
    keep        newest states that are kept; keep_every: and those at multiples of so many steps, for ever
    precision   "fp32", or "bf16" and "fp16": the networks run under autocast, over float32 weights
    micro_batch rows of which the loss is computed at once, for large batches in little memory; changes only rounding
    workers     processes that read ahead what of the data is not in memory: with them files are decoded while a step is
                taken. Samples and their order are those without. Data that fit a quarter of the free memory of the
                device stay there once they were read, images of 8 bits in uint8 (feed.py), and need no more reading
    device      where to train; None for where the model is
    graph       whether a step is captured as a CUDA graph; "auto" where it can.  compile: torch.compile, by blocks
    critic_steps  turns of the first player a step, each with samples of its own, before one of the others
    parallel    how the processes that torchrun has started train as one: by default "ddp" where they are several, each
                with all weights (parallel.py), or "fsdp", each with its share of them (fsdp.py; not with players).
                `batch` is that of all, callbacks are the first one's, and there are no graphs
    grid_every  steps between two pictures in `out`/samples, by default 5 a run
    callbacks   called with each log
    progress    whether `run` shows a bar
    A step without a finite gradient, or that makes a buffer NaN, is skipped: weights, optimizers, buffers and averages
    are those of before (with players, from the first whose gradient is not finite). Raises FloatingPointError, when the
    next log is due or after 20 steps at the latest in the beginning, if 20 in a row were skipped; at the end of a run
    if its last two, or all, were; and where weights are no longer finite, which the averages never take. Before any
    training, TypeError for a model without a loss; ValueError if what is trained is not float32 or float64, `out` is
    the name of a file or holds a run with other settings; FileExistsError if it holds anything else, and
    BlockingIOError, with process and host, if it is being written to. OSError, with its name, for a file that cannot
    be written.
    """

    def __init__(
        self, model, data, *, steps: int, batch: int = 128, lr: float = 1e-3, warmup: int | None = None,
        decay: str | Callable[[int], float] = "cosine", weight_decay: float = 0.0, clip: float | None = 1.0,
        optimizer: Callable | None = None, ema: float | Sequence[float] | None = 0.05, seed: int = 0, test=None,
        test_every: int | None = None, out: str | Path | None = None, resume: bool = True,
        save_every: int | None = None, keep: int = 2, keep_every: int | None = None, precision: str = "fp32",
        workers: int = 0,
        micro_batch: int | None = None, device=None, graph: bool | str = "auto", compile: bool = False,
        critic_steps: int = 1, parallel: str | None = None, log_every: int = 50, grid_every: int | None = None,
        callbacks: Sequence[Callable[[dict], None]] = (), progress: bool = True,
    ):  # fmt: skip
        given = locals()
        needed = {"save_every": "out", "keep_every": "out", "grid_every": "out", "test_every": "test"}
        for name, needs in needed.items():
            if given[name] is not None and given[needs] is None:
                raise ValueError(f"{name} must go with {needs}=; got {given[name]} and {needs}=None")
        own = ("self", "model", "data", "test", "out", "callbacks")
        self.settings = Settings(**{name: value for name, value in given.items() if name not in own})
        self.callbacks = _callables(callbacks)
        self._together, self._parting = together(self.settings), processes.Parting()
        self.settings.progress &= self._together.rank == 0
        if isinstance(model, type) or not callable(getattr(model, "loss", None)):
            got = model.__name__ if isinstance(model, type) else type(model).__name__
            raise TypeError(f"model must be one to train, with a method loss(batch, key), as a Diffusion is; got {got}")
        self.model = model if device is None else model.to(self.settings.device)
        require_shape_of(self.model, data := as_data(data))
        self.data = for_training(data, self.model)
        self.test = None if test is None else self._held_out_data(test)
        groups = model.players() if hasattr(model, "players") else {None: {"params": list(model.parameters())}}
        for group in groups.values():
            group["params"] = [p for p in group["params"] if p.requires_grad]
        if critic_steps != 1 and len(groups) < 2:
            raise ValueError(f"critic_steps must be 1 for a model without players; got {critic_steps}")
        self.parameters = [p for group in groups.values() for p in group["params"]]
        self._check_parameters()
        self.device = self.parameters[0].device
        self.folder = None if out is None else self._folder(out, resume, keep, keep_every)

        settings = self.settings
        trained, groups = self._together.split(self.model, groups)
        self.lr = torch.zeros((), dtype=torch.float32, device=self.device)
        players = {
            name: Player(group, self.lr, settings.weight_decay, settings.optimizer) for name, group in groups.items()
        }
        averages = Averages([p for player in players.values() for p in player.parameters], settings.ema)
        self._step = Step(
            players, averages, model=trained, clip=settings.clip, micro_batch=settings.micro_batch,
            precision=Precision(settings.precision, self.device), together=self._together,
        )  # fmt: skip
        simple = all(player.own for player in players.values())
        captured = wanted(settings.graph, self.model, self.device, simple, self._together.ranks)
        self._take = CapturedStep(self._step, settings.graph is True) if captured else self._step
        held = None if self.test is None else HeldOut(self.model, self.test, self.device)
        self._feed = Feed(self.data, settings, self.device, self._together.rank, self._together.ranks)
        self._looks = Looks(self.model, settings, self._step, self.data, held, self.folder)
        self.step, self.started, self.shown = 0, False, False  # shown: whether there is a bar
        self.before = []  # logs of the run until it was left
        self.saved = (0, 0.0)  # step, and when
        self.random = None  # torch's generators at the beginning of a step, until that is done
        self._word = processes.Word()

    def __iter__(self) -> Iterator[dict]:
        if self.started:
            raise RuntimeError("this run has been iterated before; a new one starts with Fit(...)")
        self.started = True
        with contextlib.ExitStack() as stack:
            if self.folder is not None:
                stack.enter_context(self.folder.claimed())
            stack.callback(lambda: self._feed.close())  # which may be another one by then
            stack.enter_context(training(self.model))
            if self.settings.compile:
                stack.enter_context(compiled(self._step.model))
            try:
                if self._start():
                    self._step.keep_average()
                    return
                self._feed = self._feed.encoded(self.model, self.folder and self.folder.path)
                bar = stack.enter_context(Bar(self.settings.steps, self.step, shown=self.shown))
                yield from self._train(bar)
                if self.folder is not None:
                    self._save()
            except BaseException as error:  # Ctrl-C and worse in here, or the caller's loop was left
                self._rescue(error)
                raise
            self._step.keep_average()
            if self.folder is not None:
                self.folder.finish()

    def run(self) -> list[dict]:
        """Train to the end with a progress bar; returns the list of logs, those of a run that goes on included."""
        self.shown = self.settings.progress
        logs = list(self)
        return self.before + logs

    @contextlib.contextmanager
    def averaged(self, length: float | None = None) -> Iterator[object]:
        """Inside it the model holds averaged weights, of this length out of `ema`, by default the first. A run goes on
        outside of it: RuntimeError."""
        with self._step.averaged(length):
            yield self.model

    def learning_rate(self, step: int) -> float:
        """The learning rate of step number `step`, counted from 0."""
        return self.settings.learning_rate(step)

    def save(self) -> None:
        """Write a state, and a checkpoint of the averaged weights, to `out`, while the run is iterated; before and
        after there is nothing to write. Raises ValueError without `out`."""
        if self.folder is None:
            raise ValueError("out must be the folder to save to; got None")
        self._save()

    # What a run begins with

    def _held_out_data(self, test):
        test = as_data(test, "test")
        require_shape_of(self.model, test)
        test = matched(test, self.data, "test")  # the model may know no names of classes yet
        return in_units(for_training(test, self.model), self.data.units)

    def _check_parameters(self) -> None:
        if not self.parameters:
            got = type(self.model).__name__
            raise ValueError(f"model must have parameters that require a gradient; {got} has none")
        if any(p.is_meta for p in self.parameters):
            raise ValueError("model must be on a device that holds numbers to be trained; got meta: model.to_empty")
        if wrong := {p.dtype for p in self.parameters} - {*DTYPES}:
            names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in wrong))
            raise ValueError(f"model must have float32 or float64 weights to be trained; got {names}: model.float()")

    def _folder(self, out, resume: bool, keep: int, keep_every: int | None) -> RunFolder:
        folder = RunFolder(out, resume=resume, keep=keep, keep_every=keep_every)
        # Raises for a model that cannot be saved: better known now than at the end.
        settings = self.settings.described()
        self.description = processes.first(lambda: describe_run(self.model, self.data, settings, test=self.test))
        if problem := not_finite(self.model.state_dict(), ()):
            warn_user(f"model {problem}: unless training replaces that, it cannot be saved to `out`")
        folder.look(self.description)
        return folder

    def _start(self) -> bool:
        """Measures the data, and goes on where the run was left; whether that is its end."""
        start = None if self.folder is None else self.folder.open(self.description)
        batch = self._feed.measured(MEASURED)
        for model in {id(model): model for model in (self.model, self._step.model)}.values():
            (getattr(model, "measure", None) or functools.partial(learn, model))(batch)
        if self.folder is not None:
            self.folder.measured(self.model)
        state.spread(self._step)
        if start is None or start.tensors is None:
            return False
        state.restore(self._step, start.tensors, start.numbers)
        numbers, self.before = start.numbers["run"], self.folder.history()
        self.step = start.step
        self._looks.load(numbers)
        self.saved = self.step, self._looks.seconds
        if not start.finished:  # one that was killed may have saved its last state, and no checkpoint of it
            with self._step.averaged():
                self.folder.save_model(self.model, self.step)
        if start.words and self.settings.progress:
            say(start.words)
        return start.finished

    # The loop

    def _train(self, bar: Bar) -> Iterator[dict]:
        settings, looks, several = self.settings, self._looks, self._together.ranks > 1
        interrupts, word = Interrupts(self.folder is not None or several, once=several), self._word
        while self.step < settings.steps or looks.undone is not None:
            if self._step.theta is not None:
                raise RuntimeError("a run must go on outside of averaged(), where the model holds what is trained")
            with interrupts.held():
                looks.begin()
                number = self.step if looks.undone is None else self.step - 1
                lr = settings.learning_rate(number)
                batches = self._feed(number)
                looks.fed()
                if number == self.step:
                    self.lr.fill_(lr)
                    self._remember()
                    self._take(batches, number, lr)
                    self.step += 1
                self._remember()  # a look may draw, too
                looks.keep()
                self._step.torn = False
                log = looks.due(self.step, lr, functools.partial(self._whole, number, batches))
                self.random = None
                bar.advance(self.step)
                if log is not None:
                    bar.show(log)
                if log is not None and self.callbacks:
                    processes.first(functools.partial(self._call_back, log))
                stop, late = word.of_all(interrupts.news(), self._is_long_ago())
                late = late and self.step - self.saved[0] > 1  # that it is was said before it was saved
                if self.folder is not None and (stop or late or self.step % settings.save_every == 0):
                    self._save()
            interrupts.act(stop)
            if log is not None:
                yield log
                train_mode(self.model)  # the caller may have looked at it in another one
        interrupts.act(word.at_last(interrupts.news())[0])
        looks.require_progress(self.step, min(ENDING, settings.steps))

    def _whole(self, number: int, batches: list) -> tuple[Batch, Tensor]:
        """The last batch of step `number`, with the rows of all processes."""
        return batches[-1] if self._together.ranks == 1 else self._feed.whole(number)

    # What a run leaves

    def _remember(self) -> None:
        if self.folder is not None:
            self.random = state.random_state(self.device)

    def _call_back(self, log: dict) -> None:
        for callback in self.callbacks:
            callback(log)

    def _is_long_ago(self) -> bool:
        """That something was saved."""
        return self._looks.seconds - self.saved[1] > SAVED_AFTER

    def _save(self) -> None:
        """A state of this step and a checkpoint, unless they are there already."""
        if self.saved[0] == self.step:
            return
        self._looks.read()
        tensors, numbers = state.gather(self._step)
        numbers["run"] = self._looks.state()
        self.folder.save(self.step, tensors, numbers)
        with self._step.averaged():
            self.folder.save_model(self.model, self.step)
        self.saved = self.step, self._looks.seconds

    def _rescue(self, error: BaseException) -> None:
        """What can be kept of a run that an error ends: a state of this step if it is whole, and the average. Where not
        all processes have come here, the first does what it can, and the error is that of the one that failed."""
        with Interrupts(self._together.ranks > 1, once=True).held():  # torchrun ends all when one has ended
            self._word.said = None  # as long as that is waited for the group stays
            everybody = self._parting.together((self.step, self._step.torn), error)
            whole = not self._together.apart  # what one has is all
            try:
                if everybody:
                    self._keep()
                elif self._together.rank == 0 and whole:
                    self._step.torn |= self._looks.undone is not None  # it may be in the log, which others cannot know
                    with processes.alone():
                        self._keep()
            except BaseException as second:
                if isinstance(error, GeneratorExit):  # which nobody would see
                    raise
                second.__context__ = error.__cause__ or error.__context__
                raise error from second
            finally:
                if everybody or whole:
                    self._step.keep_average()
            if not everybody:
                if whole:
                    self._parting.rescued()
                if (reason := self._parting.reason(error)) is not error:
                    raise reason from error

    def _keep(self) -> None:
        if self.folder is None:
            return
        if self.step and not self._step.torn:
            if self.random is not None:
                state.set_random_state(self.random, self.device)
            self._save()
        if self.saved[0] and self.settings.progress:
            say(f"{self.folder.path} holds the run until step {self.saved[0]}: the same call goes on there")


def _callables(callbacks: Sequence[Callable[[dict], None]]) -> tuple[Callable[[dict], None], ...]:
    if isinstance(callbacks, Sequence) and all(map(callable, callbacks)):
        return tuple(callbacks)
    raise TypeError(f"callbacks must be a sequence of functions of a log; got {callbacks!r}")


fit.__signature__ = inspect.signature(Fit)
