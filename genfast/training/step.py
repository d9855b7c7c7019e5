"""A step of training that the host only starts: whether its gradient was finite is known to the device alone."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from .buffers import Buffers
from .ema import Averages
from .optimizers import Player
from .parallel import Alone
from .precision import Precision
from .tally import Tally

Batch = dict[str, Tensor | None]
LONGEST = torch.finfo(torch.float32).max / 4  # differences of longer weights overflow


class Step:
    """Everybody's turn on a batch: for each player

        g       = d mean(loss) / d theta, shortened to length `clip` if it is longer
        theta   = optimizer(theta, g, lr)
        average = each of `averages`, after the last turn

    A turn whose gradient is not finite, or that makes a buffer NaN, changes nothing, and nobody moves after it.
    micro_batch: rows of which the loss is computed at once; the gradients of all parts are summed.
    together: the processes that train, each with its rows; None for one.
    """

    def __init__(
        self, players: dict[str | None, Player], averages: Averages, *, model, clip: float | None,
        micro_batch: int | None, precision: Precision, together: Alone | None = None,
    ):  # fmt: skip
        self.model, self.players, self.averages = model, players, averages
        self.together = Alone() if together is None else together
        self.clip, self.micro_batch, self.precision = clip, micro_batch, precision
        self.parameters = [p for player in players.values() for p in player.parameters]
        self.numbers = {id(p): i for i, p in enumerate(self.parameters)}
        self.device = precision.device
        self.tally = Tally(len(players), self.device)
        self.buffers = Buffers(model)
        self.places = {}  # numbers of the parameters that have gradients, on the device, by these numbers
        # Squares of weights beyond 1e19 overflow: where they begin so, their length is found in float64.
        self.wide = None if bool(self._length(None).isfinite()) else torch.float64
        self.torn = False  # whether something has moved since the caller last counted a step
        self.theta: list[Tensor] | None = None  # what is trained, while the model holds an average instead

    def __call__(self, batches: Sequence[tuple[Batch, Tensor]], step: int, lr: float) -> None:
        """Step number `step`, counted from 0. batches: of the first player a turn each, then of the others the last."""
        yes = torch.ones((), dtype=torch.bool, device=self.device)
        good, losses, norms, worst = yes, [], [], self.tally.unknown
        for place, (name, player) in enumerate(self.players.items()):
            turns = batches if place == 0 else batches[-1:]
            loss = norm = torch.zeros((), device=self.device)
            for batch, key in turns:
                told = {} if name is None else {"player": name}
                one, total, fine, parameter = self._turn(player, batch, key, step, lr, good, told)
                loss, norm = loss + one / len(turns), torch.hypot(norm, total)
                worst = torch.where(good & ~fine, parameter, worst)
                good = good & fine
            losses.append(loss)
            norms.append(norm)
        self.precision.follow(good)
        finite = self._length(self.wide) <= LONGEST
        norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
        self.tally.add(torch.stack(losses), norm, good, worst, finite)
        self.averages.update(self.tally.updates, good & (self.tally.at["broken"] == 0))

    @contextlib.contextmanager
    def averaged(self, length: float | None = None) -> Iterator[None]:
        """Inside it the model holds averaged weights: those of this length, by default the first; theta without any."""
        lengths = self.averages.lengths
        if length is not None and length not in lengths:
            raise ValueError(f"length must be one of ema, {list(lengths)}; got {length}")
        if not lengths:
            with self.trained():
                yield
            return
        values, outermost = self.averages.values[0 if length is None else lengths.index(length)], self.theta is None
        with self.together.shown(self.parameters, values) as before:
            self.theta = before if outermost else self.theta
            try:
                yield
            finally:
                self.theta = None if outermost else self.theta

    @contextlib.contextmanager
    def trained(self) -> Iterator[None]:
        """Inside it the model holds theta. Not inside `averaged`."""
        if not self.together.apart:
            yield
            return
        with self.together.shown(self.parameters, self.parameters):
            yield

    def keep_average(self) -> None:
        """The model holds averaged weights in the place of theta; theta without any."""
        self.together.keep(self.parameters, self.averages.values[0] if self.averages.lengths else self.parameters)

    def names(self) -> list[str]:
        """Of what is trained; of a model that is no Module, numbers."""
        named = self.model.named_parameters() if isinstance(self.model, nn.Module) else ()
        known = {id(p): name for name, p in named}
        return [known.get(id(self.together.of(p)), str(i)) for i, p in enumerate(self.parameters)]

    def _turn(
        self, player: Player, batch: Batch, key: Tensor, step: int, lr: float, good: Tensor, told: dict
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of one player's update: its mean loss, the norm of its gradient before clipping, whether that and all buffers
        are fine, and the number of the first parameter of which it is not."""
        self.buffers.keep()
        player.optimizer.zero_grad()
        try:
            loss = self._gradient(batch, key, step, told)
            here = self.buffers.fine(self.device)
            loss, everywhere = self.together.add_up(player.parameters, loss, here, self.buffers)
            moved = [p for p in player.parameters if p.grad is not None]
            gradients = [p.grad for p in moved]
            self.precision.down(gradients)
            norms = self.together.norms(moved, _norms(gradients, self.device))
        except BaseException:
            self.buffers.restore()
            raise
        total = torch.linalg.vector_norm(norms)
        fine = good & total.isfinite() & everywhere
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(player.parameters, self.clip, total)
        self.torn = True
        player.step(fine, lr)
        self.buffers.settle(fine)
        return loss, total, fine, self._first_bad(player, norms)

    @torch.enable_grad()
    def _gradient(self, batch: Batch, key: Tensor, step: int, told: dict) -> Tensor:
        """Adds the gradient of these rows' part of the mean loss to that of the parameters; that part."""
        size, rows_of_all = len(key), self.together.rows(len(key))
        loss = torch.zeros((), device=self.device)
        for first in range(0, size, part := self.micro_batch or size):
            rows = slice(first, first + part)
            piece = batch if part >= size else {k: None if v is None else v[rows] for k, v in batch.items()}
            with self.together.computing(last=first + part >= size):
                with self.precision.autocast():
                    losses = self.model.loss(piece, key[rows], step=step, **told)
                if losses.shape != (len(key[rows]),):
                    wanted = f"({len(key[rows])},), one each"
                    raise ValueError(f"the model's loss must have shape {wanted}; got {tuple(losses.shape)}")
                share = losses.sum() / rows_of_all
                self.precision.up(share).backward()
            loss = loss + share.detach().to(self.device)
        return loss

    def _length(self, dtype: torch.dtype | None) -> Tensor:
        """The norm of all that is trained, (), found in its own or another dtype: not finite where a number is not, or
        where it overflows."""
        norms = _norms(self.parameters, self.device, dtype)
        return torch.linalg.vector_norm(self.together.norms(self.parameters, norms))

    def _first_bad(self, player: Player, norms: Tensor) -> Tensor:
        """The number, () float64, of the first parameter whose norm is not finite; -1 where all are."""
        there = tuple(self.numbers[id(p)] for p in player.parameters if p.grad is not None)
        if not there:
            return self.tally.unknown
        if there not in self.places:
            self.places[there] = torch.tensor(there, dtype=torch.float64, device=self.device)
        bad = ~norms.isfinite()
        first = self.places[there].index_select(0, bad.to(torch.uint8).argmax()[None])[0]
        return torch.where(bad.any(), first, self.tally.unknown)


def _norms(tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """(len(tensors),): of each, found in its own or another dtype; infinite where it overflows."""
    found = torch._foreach_norm([t.detach() for t in tensors], 2, dtype=dtype) if tensors else []
    return torch.stack([norm.to(device) for norm in found]) if found else torch.zeros(0, device=device)
