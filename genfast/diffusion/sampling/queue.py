"""Continuous batching: requests of any step count, solver, guidance and class share the network's batch, each sample at
its own row of its own plan."""

import collections
from collections.abc import Iterator

import torch
from torch import Tensor

from ...common.checks import (
    ROWS,
    as_tensor,
    holds_integers,
    require_choice,
    require_count,
    require_device,
    require_integer,
    require_number,
    require_shape,
)
from ...common.keys import MAX_SEED
from ...common.units import original
from ..process.denoisers import Denoiser, require_denoiser
from ..process.plans import Plan
from .lanes import Lanes, Part, Request
from .prepared import Prepared
from .rows import Tables
from .sample import require_no_bounds
from .settings import require_arguments, require_clamp, require_graph
from .step_table import NOISES, plan_scale

Signature = dict[str, tuple[str, tuple[int, ...]]]


class SampleQueue:
    """Draws samples as they are asked for, at most `capacity` at once, each one row of its plan at every step.

        queue = SampleQueue(denoiser, (3, 32, 32), capacity=64)
        ticket = queue.add(index=7, seed=0, plan=plan, condition={"label": label}, guidance=2.0)
        for ticket, x_0 in queue:    # finished samples, in the order in which they finish; add() more at any time
            ...

    The network always runs on `capacity` rows (twice that with guidance); a free row repeats a sample of others. On a
    network whose rows have the same bits in every batch, the result equals that of `sampling.sample`, bit for bit. The
    arguments of the network have the same names, dtypes and shapes in all requests.  A Langevin row is refused.  On a
    GPU the step is captured as in `sampling.sample`, whose `graph` this is.

    A request that cannot be served does not hold up the others: `add` calls the network once for each new kind of
    arguments, and refuses what it does not take; a request with which the network fails later is taken out. Plans are
    held as long as a request needs them.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        shape: tuple[int, ...],
        *,
        capacity: int = 64,
        clamp: tuple[float, float] | None = None,
        device: torch.device | str = "cpu",
        graph: bool | str = "auto",
    ):
        capacity = require_count("capacity", capacity, 1, ROWS)
        require_denoiser(denoiser)
        self.denoiser, self.shape, self.capacity = denoiser, require_shape("shape", shape), capacity
        self.clamp, self.device = require_clamp(clamp), require_device("device", device)
        require_no_bounds(denoiser.units, clamp=self.clamp)
        self.tickets = 0  # given out so far
        self.waiting, self.failed = collections.deque(), []
        self.running: list[Request | None] = [None] * capacity
        self.lanes = Lanes(denoiser, self.shape, capacity, self.clamp, self.device, require_graph(graph))
        self.signature: Signature | None = None  # of the arguments that the lanes have room for
        self.laid_out = False  # whether they hold what runs
        self.left = [0] * capacity
        self.parts: dict[tuple[Plan, str], Part] = {}
        self.answered = set()  # the kinds of arguments that the network has been tried with

    def add(
        self,
        index: int,
        *,
        plan: Plan,
        seed: int = 0,
        guidance: float | None = None,
        condition: dict[str, Tensor] | None = None,
        unconditional: dict[str, Tensor] | None = None,
        noise: str = "white",
    ) -> int:
        """Asks for sample `index`, as `sampling.sample` takes these arguments; condition: tensors without the batch
        dimension. Returns the request's ticket, an integer of its own.

        Raises ValueError naming the argument, also for a condition that the network fails with.
        """
        if not isinstance(plan, Plan):
            raise TypeError(f"plan must be a Plan; got {type(plan).__name__}")
        require_arguments(condition=condition, unconditional=unconditional)
        if (guidance is None) != (unconditional is None):
            raise ValueError("guidance and unconditional go together")
        w = 1.0 if guidance is None else require_number("guidance", guidance)
        plan.require_prior()
        if plan.snr.any():
            raise ValueError(f"plan {plan.name} has Langevin rows, which a queue does not take")
        noise = require_choice("noise", noise, NOISES)
        index, seed = require_integer("index", index, 0, MAX_SEED), require_integer("seed", seed, 0, MAX_SEED)
        condition = self._placed("condition", condition or {})
        unconditional = condition if unconditional is None else self._placed("unconditional", unconditional)
        for request in (self.waiting[0] if self.waiting else None, *self.running):
            if request is not None and _signature(request.condition) != _signature(condition):
                names = f"{_signature(request.condition)}; got {_signature(condition)}"
                raise ValueError(f"condition must have the names, dtypes and shapes of the other requests, {names}")
        if _signature(condition) != _signature(unconditional):
            names = f"{_signature(condition)}; got {_signature(unconditional)}"
            raise ValueError(f"unconditional must have the names, dtypes and shapes of condition, {names}")
        part = self.parts.get((plan, noise)) or self._part(plan, noise)
        self._try("condition", part, condition)
        self._try("unconditional", part, unconditional)
        self.parts[plan, noise] = part
        part.users += 1
        self.tickets += 1
        request = Request(
            ticket=self.tickets, index=index, seed=seed, part=part, guidance=w, condition=condition,
            unconditional=unconditional,
        )  # fmt: skip
        self.waiting.append(request)
        return request.ticket

    def cancel(self, ticket: int) -> bool:
        """Takes a request out, and says whether it was there, waiting or running."""
        ticket = require_integer("ticket", ticket)
        for request in self.waiting:
            if request.ticket == ticket:
                self.waiting.remove(request)
                self._leave(request)
                return True
        return self._take_out([ticket])

    def __len__(self) -> int:
        """Requests that wait or run, or have failed and not been reported yet."""
        return len(self.failed) + len(self.waiting) + len(self._active())

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        while len(self):
            yield from self.step()

    @torch.no_grad()
    def step(self) -> list[tuple[int, Tensor]]:
        """One row for every running sample; the (ticket, x_0) of those that it finishes.

        Raises FloatingPointError at the step after one that ended with a sample that is not finite, which is lost, and
        RuntimeError where the network fails with some of the requests, which are taken out; both name their tickets,
        and cost the others nothing.
        """
        if self.failed:
            failed, self.failed = self.failed, []
            raise FloatingPointError(f"samples of tickets {failed} are not finite")
        self._admit()
        active = self._active()
        if not active:
            return []
        try:
            self.lanes.advance(any(self.running[slot].guidance != 1.0 for slot in active))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._isolate(active, error)
            raise
        return self._advance(active)

    def _active(self) -> list[int]:
        """The slots that a request has."""
        return [slot for slot, request in enumerate(self.running) if request is not None]

    def _placed(self, name: str, arguments: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the queue's own, on the CPU."""
        placed = {}
        for key, value in arguments.items():
            placed[key] = as_tensor(f"{name} {key!r}", value).detach().to("cpu", copy=True)
        return placed

    @torch.no_grad()
    def _try(self, name: str, part: Part, arguments: dict[str, Tensor]) -> None:
        """Calls the network with arguments of a new kind, on as many rows as ever; labels are each a kind."""
        classes = [(key, int(value)) for key, value in arguments.items() if value.ndim == 0 and holds_integers(value)]
        kind = (*_signature(arguments).items(), *classes)
        if kind in self.answered:
            return
        t = part.tables.c_noise[:1].repeat(self.capacity)
        rows = {key: torch.stack([value] * self.capacity).to(self.device) for key, value in arguments.items()}
        y = torch.zeros(self.capacity, *self.shape, dtype=torch.float32, device=self.device)
        try:
            self.denoiser.network(y, t, **rows)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ValueError(f"{name} must be what the network takes; with {_signature(arguments)}: {error}") from error
        self.answered.add(kind)

    def _part(self, plan: Plan, noise: str) -> Part:
        scale = plan_scale(plan, self.denoiser.schedule, self.denoiser.parameterization)
        tables = Tables.of(plan, self.denoiser, scale, self.device, noise=noise)
        prepares = Prepared.fits(self.denoiser.net, {"label"})
        return Part(
            plan=plan, noise=noise, tables=tables, c_in=float(scale.c_in[0]),
            prepared=Prepared(self.denoiser.net, tables.c_noise) if prepares else None,
        )  # fmt: skip

    def _admit(self) -> None:
        """Gives every free slot to a request that waits, and lays out the plans that run."""
        for slot, request in enumerate(self.running):
            if request is None and self.waiting:
                request = self.running[slot] = self.waiting.popleft()
                signature = _signature(request.condition)
                idle = self._active() == [slot]  # this is the first request, or the first after all others
                if idle and (self.signature != signature or self.lanes.outdated):
                    self.lanes.begin(request.condition)
                    self.signature = signature
                self.lanes.place(slot, request)
                self.left[slot] = len(request.part.plan)
                self.laid_out = False
        if not self.laid_out and any(self.running):
            rows = [request and len(request.part.plan) - left for request, left in zip(self.running, self.left)]
            self.lanes.lay_out(self.running, rows)
            self.laid_out = True

    def _isolate(self, active: list[int], error: Exception) -> None:
        """Takes out the requests with which the network fails in a batch of their own, and says which; each is known by
        an error of its own."""
        bad = []
        for slot in active:
            try:
                self.lanes.alone(slot, self.running[slot].guidance != 1.0)
            except Exception as alone:
                bad += [] if isinstance(alone, torch.OutOfMemoryError) else [self.running[slot].ticket]
        if bad:
            self._take_out(bad)
            raise RuntimeError(f"the network fails with tickets {bad}, which are taken out: {error}") from error

    def _take_out(self, tickets: list[int]) -> bool:
        """Frees the slots of these requests; whether there were any."""
        slots = [slot for slot in self._active() if self.running[slot].ticket in tickets]
        for slot in slots:
            self._free(slot)
        return bool(slots)

    def _free(self, slot: int) -> None:
        """Ends the request in the slot. After the last of them what is prepared goes too: the weights may change."""
        self._leave(self.running[slot])
        self.running[slot], self.laid_out = None, False
        if not any(self.running):
            self.lanes.clear()

    def _leave(self, request: Request) -> None:
        """Drops the request's plan, if no other has it."""
        request.part.users -= 1
        if not request.part.users:
            del self.parts[request.part.plan, request.part.noise]

    def _advance(self, active: list[int]) -> list[tuple[int, Tensor]]:
        finished = []
        for slot in active:
            self.left[slot] -= 1
            if self.left[slot] == 0:
                finished.append((self.running[slot].ticket, self.lanes.step.x[slot].clone()))
                self._free(slot)
            elif (len(self.running[slot].part.plan) - self.left[slot]) % Prepared.ROWS == 0:
                self.laid_out = False  # what is prepared of the next rows is in another block
        if not finished:
            return []
        whole = torch.stack([x.isfinite().all() for _, x in finished]).tolist()
        self.failed += [ticket for (ticket, _), good in zip(finished, whole, strict=True) if not good]
        units = self.denoiser.units
        return [(t, original(units, x[None])[0]) for (t, x), good in zip(finished, whole, strict=True) if good]


def _signature(arguments: dict[str, Tensor]) -> Signature:
    """The dtype and shape of each argument, by its name."""
    return {
        name: (str(arguments[name].dtype).removeprefix("torch."), tuple(arguments[name].shape))
        for name in sorted(arguments)
    }
