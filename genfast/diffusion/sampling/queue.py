"""Continuous batching: requests of any step count, solver, guidance and class share the network's batch, each sample at
its own row of its own plan."""

import collections
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ... import ops
from ...common.checks import require_integer, require_number, require_shape
from ...common.keys import MAX_SEED
from ..process.denoisers import Coefficients, Denoiser
from ..process.plans import Plan
from .prepared import Prepared
from .settings import require_clamp
from .step_table import plan_scale, step_table


class Request(NamedTuple):
    """One sample to draw: the (seed, index) that its noise comes from, how, and the network's arguments, each (*)."""

    index: int
    seed: int
    plan: Plan
    guidance: float
    noise: str
    condition: dict[str, Tensor]
    unconditional: dict[str, Tensor]


def _shapes(arguments: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each argument, by its name."""
    return {name: tuple(arguments[name].shape) for name in sorted(arguments)}


class SampleQueue:
    """Draws samples as they are asked for, at most `capacity` at once, each one row of its plan at every step.

        queue = SampleQueue(denoiser, (3, 32, 32), capacity=64)
        queue.add(index=7, seed=0, plan=plan, condition={"label": label}, guidance=2.0)
        for index, x_0 in queue:    # finished samples, in the order in which they finish; add() more at any time
            ...

    The network always runs on `capacity` rows (twice that with guidance); a free row repeats a sample of others. On a
    network whose rows have the same bits in every batch, the result equals that of `sampling.sample`, bit for bit. The
    arguments of the network have the same names and shapes in all requests.  A Langevin row is refused.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        shape: tuple[int, ...],
        *,
        capacity: int = 64,
        clamp: tuple[float, float] | None = None,
        device: torch.device | str = "cpu",
    ):
        capacity = require_integer("capacity", capacity, 1)
        self.denoiser, self.shape, self.capacity = denoiser, require_shape("shape", shape), capacity
        self.clamp, self.device = require_clamp(clamp), torch.device(device)
        self.waiting, self.failed = collections.deque(), []
        self.running: list[Request | None] = [None] * capacity
        self.x = torch.zeros(capacity, *self.shape, device=self.device)
        self.y = torch.zeros_like(self.x)
        self.history = torch.zeros(ops.SLOTS, *self.x.shape, device=self.device)
        self.key = torch.zeros(capacity, 2, dtype=torch.int64, device=self.device)
        self.w = torch.ones(capacity, device=self.device)
        self.row = torch.zeros(capacity, dtype=torch.int32, device=self.device)
        self.left = [0] * capacity
        self.first: dict[tuple[Plan, str], int] = {}
        self.prepared: dict[Plan, Prepared] = {}
        self.table = self.c_noise = None

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
    ) -> None:
        """Asks for sample `index`, as `sampling.sample` takes these arguments; condition: tensors without the batch
        dimension. Raises ValueError naming the argument."""
        if (guidance is None) != (unconditional is None):
            raise ValueError("guidance and unconditional go together")
        w = 1.0 if guidance is None else require_number("guidance", guidance)
        plan.require_prior()
        if plan.snr.any():
            raise ValueError(f"plan {plan.name} has Langevin rows, which a queue does not take")
        index, seed = require_integer("index", index, 0, MAX_SEED), require_integer("seed", seed, 0, MAX_SEED)
        condition = {name: torch.as_tensor(value) for name, value in (condition or {}).items()}
        unconditional = {
            name: torch.as_tensor(value)
            for name, value in (condition if unconditional is None else unconditional).items()
        }
        for request in (self.waiting[0] if self.waiting else None, *self.running):
            if request is not None and _shapes(request.condition) != _shapes(condition):
                names = f"{_shapes(request.condition)}; got {_shapes(condition)}"
                raise ValueError(f"condition must have the names and shapes of the other requests, {names}")
        if _shapes(condition) != _shapes(unconditional):
            names = f"{_shapes(condition)}; got {_shapes(unconditional)}"
            raise ValueError(f"unconditional must have the names and shapes of condition, {names}")
        self._register(plan, noise)
        if plan in self.prepared and set(condition) <= {"label"}:
            with torch.no_grad():  # a label that the network does not have is refused here
                for conditions in (condition, unconditional):
                    self.prepared[plan].table(int(conditions["label"]) if conditions else None)
        request = Request(
            index=index, seed=seed, plan=plan, guidance=w, noise=noise, condition=condition, unconditional=unconditional
        )
        self.waiting.append(request)

    def __len__(self) -> int:
        """Requests that wait or run, or have failed and not been reported yet."""
        return len(self.failed) + len(self.waiting) + sum(request is not None for request in self.running)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        while len(self):
            yield from self.step()

    def _register(self, plan: Plan, noise: str) -> None:
        """Appends the rows of a new plan to the table that the kernel reads."""
        if (plan, noise) in self.first:
            return
        new = step_table(plan, self.denoiser, noise=noise).to(self.device)
        c_noise = self._scale(plan).c_noise.to(self.device, torch.float32)
        self.first[plan, noise] = 0 if self.table is None else len(self.table.codes)
        if Prepared.fits(self.denoiser.net, {"label"}) and plan not in self.prepared:
            self.prepared[plan] = Prepared(self.denoiser.net, c_noise)
        if self.table is None:
            self.table, self.c_noise = new, c_noise
            return
        self.table = self.table.followed_by(new)
        self.c_noise = torch.cat([self.c_noise, c_noise])

    def _scale(self, plan: Plan) -> Coefficients:
        return plan_scale(plan, self.denoiser.schedule, self.denoiser.parameterization)

    def _admit(self) -> None:
        """Gives every free slot to a request that waits."""
        for slot, request in enumerate(self.running):
            if request is None and self.waiting:
                request = self.running[slot] = self.waiting.popleft()
                key = ops.make_key(request.seed, [request.index], self.device)
                scale = self._scale(request.plan)
                x = request.plan.prior_std * ops.normal(key, self.shape, ops.Purpose.PRIOR)
                self.x[slot], self.y[slot] = x[0], float(scale.c_in[0]) * x[0]
                self.history[:, slot] = 0
                self.key[slot], self.w[slot] = key[0], request.guidance
                self.row[slot] = self.first[request.plan, request.noise]
                self.left[slot] = len(request.plan)

    @torch.no_grad()
    def step(self) -> list[tuple[int, Tensor]]:
        """One row for every running sample; the (index, x_0) of those that it finishes.

        Raises FloatingPointError at the step after one that ended with a sample that is not finite, which is lost.
        """
        if self.failed:
            failed, self.failed = self.failed, []
            raise FloatingPointError(f"samples {failed} are not finite")
        if not any(self.running):
            for prepared in self.prepared.values():  # the weights may have changed since
                prepared.tables.clear()
        self._admit()
        active = [slot for slot, request in enumerate(self.running) if request is not None]
        if not active:
            return []
        guided = any(self.running[slot].guidance != 1.0 for slot in active)
        sources = [slot if request is not None else active[0] for slot, request in enumerate(self.running)]
        y = self.y[torch.tensor(sources, device=self.device)]
        t = self.c_noise[self.row.long()[torch.tensor(sources, device=self.device)]]
        if guided:
            y, t = torch.cat([y, y]), torch.cat([t, t])
        F = self.denoiser.network(y, t, **self._arguments(sources, guided)).contiguous()
        more = {"unconditional": F[self.capacity :], "guidance": self.w} if guided else {}
        y = torch.empty_like(self.x, dtype=F.dtype)
        ops.step(
            self.x, F[: self.capacity], self.key, self.row, self.table,
            y=y, history=self.history, clamp=self.clamp, **more,
        )  # fmt: skip
        self.y = y
        return self._advance(active)

    def _arguments(self, sources: list[int], guided: bool) -> dict[str, Tensor]:
        """What the network takes beside y and t, for every row of its batch."""
        requests = [self.running[slot] for slot in sources]
        conditions = [request.condition for request in requests]
        conditions += [request.unconditional for request in requests] if guided else []
        if self.prepared and set(conditions[0]) <= {"label"}:
            rows = [int(len(request.plan) - self.left[slot]) for slot, request in zip(sources, requests, strict=True)]
            rows, requests = rows * (1 + guided), requests * (1 + guided)
            labels = [int(arguments["label"]) if arguments else None for arguments in conditions]
            tables = [self.prepared[request.plan].table(label) for request, label in zip(requests, labels, strict=True)]
            return {"prepared": torch.stack([table[row] for table, row in zip(tables, rows, strict=True)])}
        return {name: torch.stack([own[name] for own in conditions]).to(self.device) for name in conditions[0]}

    def _advance(self, active: list[int]) -> list[tuple[int, Tensor]]:
        finished = []
        for slot in active:
            self.left[slot] -= 1
            if self.left[slot] == 0:
                finished.append((self.running[slot].index, self.x[slot].clone()))
                self.running[slot] = None
        running = torch.tensor([request is not None for request in self.running], device=self.device)
        self.row += running.int()
        whole = [bool(x.isfinite().all()) for _, x in finished]
        self.failed += [index for (index, _), good in zip(finished, whole, strict=True) if not good]
        return [sample for sample, good in zip(finished, whole, strict=True) if good]
