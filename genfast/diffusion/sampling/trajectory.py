"""One chunk's way along a Plan, row by row; nothing reads the device."""

from collections.abc import Callable

import torch
from torch import Tensor

from ... import ops
from ..process.denoisers import Denoiser, Network
from ..process.plans import Plan
from .prepared import Prepared
from .rows import HostRows, Tables
from .settings import SampleSettings
from .step import Chunk, Step, Way
from .step_table import plan_scale


class Trajectory:
    """A plan joined with a denoiser, on a device: all that the samples have in common."""

    def __init__(self, denoiser: Denoiser, plan: Plan, settings: SampleSettings):
        dtype, guidance, device = settings.dtype, settings.guidance, settings.device
        self.plan, self.guidance = plan, guidance
        scale = plan_scale(plan, denoiser.schedule, denoiser.parameterization)
        net = Network(denoiser.net)
        other = None if guidance is None or guidance.network is None else Network(guidance.network)
        net_dtype = net.dtype or dtype
        if other is not None:  # of the wider of the two
            net_dtype = torch.promote_types(net_dtype, other.dtype or dtype)
        rescale = 0.0 if guidance is None else guidance.rescale
        # A Langevin row takes D as it is to be.
        clamps_langevin = settings.clamp is not None and bool(plan.snr.any())
        self.way = Way(
            net=net, other=other, net_dtype=net_dtype, dtype=dtype, clamp=settings.clamp, threshold=settings.threshold,
            rescale=rescale, denoised=settings.threshold is not None or rescale > 0 or clamps_langevin,
            shared=net_dtype == dtype and bool((scale.c_in.to(dtype) == 1).all()),
        )  # fmt: skip
        self.c_in, self.c_skip, self.c_out = (c.tolist() for c in (scale.c_in, scale.c_skip, scale.c_out))
        self.tables = Tables.of(plan, denoiser, scale, device, dtype, settings.noise, self.way.denoised)
        self.prepared = Prepared(denoiser.net, self.tables.c_noise)

    def guided(self, r: int) -> bool:
        """Whether row r is guided."""
        return self.guidance is not None and self.guidance.acts(float(self.plan.t[r]))

    def first_input(self, x: Tensor) -> Tensor:
        """The network's input in the first row."""
        return (self.c_in[0] * x).to(self.way.net_dtype)

    def chunk(
        self, key: Tensor, shape: tuple[int, ...], condition: dict[str, Tensor], unconditional: dict[str, Tensor],
        more: dict[str, Tensor],
    ) -> Chunk:  # fmt: skip
        """The samples of these keys, (B, 2), at the beginning of the plan. condition, unconditional: the arguments of
        the network, (B, *); more: start, source, w, known, mask of those there are."""
        device, count = key.device, len(key)
        more = {name: value.to(device) for name, value in more.items()}
        if "start" not in more:
            z = ops.normal(key, shape, ops.Purpose.PRIOR, dtype=self.way.dtype)
            more["start"] = self.plan.start(z, more.get("source"))
        entries = place = None
        if Prepared.fits(self.way.net.net, set(condition)):
            sides = [condition, *([unconditional] if "w" in more and self.way.other is None else [])]
            labels = [side["label"].cpu() for side in sides if side]
            entries, place = self.prepared.of(torch.cat(labels) if labels else None, count * len(sides))
        condition, unconditional = (
            {name: value.to(device) for name, value in side.items()} for side in (condition, unconditional)
        )
        return Chunk(
            key=key, x=more["start"], condition=condition, unconditional=unconditional, w=more.get("w"),
            known=more.get("known"), mask=more.get("mask"), entries=entries, place=place,
        )  # fmt: skip

    def run(
        self, chunk: Chunk, watch: Callable[[int, Tensor, Tensor], None] | None = None, done=lambda: None
    ) -> Tensor:
        """x at the end of the plan; chunk.x is used up.

        watch: called with (row, x, D) after each row; done: called after each row.
        """
        step = Step(self.way, chunk, self.first_input(chunk.x), self.plan.slots)
        count = len(chunk.x) * (1 + step.network.doubled)
        rows = HostRows(self.tables, len(chunk.x), count, chunk.entries, chunk.place)
        for r in range(len(self.plan)):
            row, last = rows[r], r + 1 == len(self.plan)
            F_c, F_u = step.predict(row, self.guided(r))
            D = F_c if self.way.denoised else step.denoised(row, F_c, F_u) if watch else None
            if self.plan.snr[r]:
                self._langevin(r, step, F_c, F_u)
            else:
                step.advance(row, self.tables.step, F_c, F_u, last)
            if chunk.known is not None:
                self._replace(r, step, chunk)
            if watch:
                watch(r, step.x, D)
            done()
        return step.x

    def _langevin(self, r: int, step: Step, F_c: Tensor, F_u: Tensor | None) -> None:
        x = step.x

        def every(value: float) -> Tensor:
            return torch.full((len(x),), float(value), dtype=x.dtype, device=x.device)

        y = step.next_input(F_c, r + 1 == len(self.plan))
        c_skip, c_out = (0.0, 1.0) if self.way.denoised else (self.c_skip[r], self.c_out[r])
        ops.langevin(
            x, F_c, step.key,
            alpha=every(self.plan.alpha[r]), sigma=every(self.plan.sigma[r]), snr=every(self.plan.snr[r]),
            c_skip=every(c_skip), c_out=every(c_out), step=r, y=y, c_in=every(self._c_in_after(r)),
            **step.mixing(F_u),
        )  # fmt: skip
        step.take_input(y)

    def _replace(self, r: int, step: Step, chunk: Chunk) -> None:
        """x = mask (alpha known + sigma z) + (1 - mask) x, at the time to which row r leads."""
        x, last = step.x, r + 1 == len(self.plan)  # a plan that replaces ends at t = 0
        path = (1.0, 0.0) if last else (self.plan.alpha[r + 1], self.plan.sigma[r + 1])
        alpha, sigma = (torch.full((len(x),), value, dtype=x.dtype, device=x.device) for value in path)
        noised = ops.diffuse(chunk.known, chunk.key, alpha, sigma, step=r, purpose=ops.Purpose.KNOWN)
        x.copy_(torch.lerp(x, ops.in_layout_of(noised, x), chunk.mask))
        if step.y is not None:
            step.y.copy_(self._c_in_after(r) * x)

    def _c_in_after(self, r: int) -> float:
        """c_in of the row after r."""
        return self.c_in[r + 1] if r + 1 < len(self.plan) else 1.0
