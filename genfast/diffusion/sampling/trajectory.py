"""One chunk's way along a Plan: the network, then one fused step, row by row; nothing reads the device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ... import ops
from ...ops.dispatch import overlap
from ..guidance.classifier_free import mixed
from ..process.denoisers import Denoiser, Network
from ..process.plans import Plan
from .prepared import Prepared
from .settings import SampleSettings
from .step_table import plan_scale, step_table


class Chunk(NamedTuple):
    """The samples of one run of a Trajectory; every tensor has one row a sample."""

    key: Tensor  # (B, 2)
    x: Tensor  # (B, *), at the first row's time
    condition: dict[str, Tensor]
    unconditional: dict[str, Tensor]  # with w: the arguments of the network that gives F_u
    w: Tensor | None  # (B,)
    known: Tensor | None  # (B, *), with mask (B, *): what the sample is to be where the mask is 1
    mask: Tensor | None
    prepared: Tensor | None = None  # (R, B, *), twice B if guided: what is prepared, where it is laid out beforehand


class Trajectory:
    """A plan joined with a denoiser, on a device: all that the samples have in common."""

    def __init__(self, denoiser: Denoiser, plan: Plan, settings: SampleSettings):
        dtype, guidance, device = settings.dtype, settings.guidance, settings.device
        self.denoiser, self.plan, self.settings = denoiser, plan, settings
        self.net = Network(denoiser.net)
        self.other = None if guidance is None or guidance.network is None else Network(guidance.network)
        self.net_dtype = self.net.dtype or dtype
        if self.other is not None:  # of the wider of the two
            self.net_dtype = torch.promote_types(self.net_dtype, self.other.dtype or dtype)
        self.takes_denoised = settings.threshold is not None or (guidance is not None and guidance.rescale > 0)
        # A Langevin row takes D as it is to be.
        self.takes_denoised |= settings.clamp is not None and bool(plan.snr.any())
        self.scale = plan_scale(plan, denoiser.schedule, denoiser.parameterization)
        self.table = step_table(plan, denoiser, dtype, settings.noise, self.takes_denoised).to(device)
        # Where nothing scales or rounds it, the state itself is the network's input.
        self.unscaled = self.net_dtype == dtype and bool((self.scale.c_in.to(dtype) == 1).all())
        self.c_noise = self.scale.c_noise.to(device, dtype)
        self.prepared = Prepared(denoiser.net, self.c_noise)

    def mixes(self, r: int) -> bool:
        """Whether row r is guided."""
        guidance = self.settings.guidance
        return guidance is not None and guidance.acts(float(self.plan.t[r]))

    def run(
        self, chunk: Chunk, watch: Callable[[int, Tensor, Tensor], None] | None = None, done=lambda: None
    ) -> Tensor:
        """x at the end of the plan; chunk.x is used up.

        watch: called with (row, x, D) after each row; done: called after each row.
        """
        plan, scale, key, w = self.plan, self.scale, chunk.key, chunk.w
        x, history = chunk.x, None
        y = (float(scale.c_in[0]) * x).to(self.net_dtype)
        shares_x = self.unscaled and not x.is_inference()  # which do not tell whether a network changed them
        rows = torch.arange(len(plan), dtype=torch.int32, device=x.device)[:, None].expand(-1, len(x))
        rows = rows.contiguous().unbind()
        network = _Network(self, chunk)
        for r in range(len(plan)):
            y = x if shares_x and r else y.to(self.net_dtype)
            version = _version(y)
            F_c, F_u = network(r, y)
            if shares_x and _version(y) != version:
                if r:
                    raise ValueError("the network must leave its input as it is; it changed it in place")
                shares_x = False
            if r == 0:  # state, history and network input take the memory format in which the network answers
                x = ops.in_layout_of(x, ops.dense(F_c))
                if plan.slots:
                    history = x.new_empty_strided((plan.slots, *x.shape), (x.numel(), *x.stride())).zero_()
            F_c, F_u = (F if F is None else _apart(ops.in_layout_of(F, x), x, y) for F in (F_c, F_u))
            D = self.denoised(r, x, F_c, F_u, w) if self.takes_denoised or watch else None
            if self.takes_denoised:
                F_c, F_u = D, None
            if shares_x or r + 1 == len(plan):
                y = None
            elif y.dtype != F_c.dtype or y.stride() != x.stride():
                y = torch.empty_like(x, dtype=F_c.dtype)
            guided = {} if F_u is None else {"unconditional": F_u, "guidance": w}
            if plan.snr[r]:
                self._langevin(r, x, F_c, key, y, guided)
            else:
                clamp = self.settings.clamp
                ops.step(x, F_c, key, rows[r], self.table, y=y, history=history, clamp=clamp, **guided)
            if chunk.known is not None:
                self._replace(r, x, chunk)
                y = None if y is None else (self._c_in_after(r) * x).to(y.dtype)
            if watch:
                watch(r, x, D)
            done()
        return x

    def denoised(self, r: int, x: Tensor, F_c: Tensor, F_u: Tensor | None, w: Tensor | None) -> Tensor:
        """D of row r, in the dtype of the state."""
        settings = self.settings
        F = F_c.to(x.dtype) if F_u is None else mixed(F_c, F_u, w, settings.guidance.rescale)
        D = float(self.scale.c_skip[r]) * x + float(self.scale.c_out[r]) * F
        if settings.clamp is not None:
            D = D.clamp(*settings.clamp)
        return D if settings.threshold is None else ops.dynamic_threshold(D, settings.threshold)

    def _langevin(
        self, r: int, x: Tensor, F_c: Tensor, key: Tensor, y: Tensor | None, guided: dict[str, Tensor]
    ) -> None:
        def every(value: float) -> Tensor:
            return torch.full((len(x),), float(value), dtype=x.dtype, device=x.device)

        scale = self.scale
        c_skip, c_out = (0.0, 1.0) if self.takes_denoised else (scale.c_skip[r], scale.c_out[r])
        ops.langevin(
            x, F_c, key, alpha=every(self.plan.alpha[r]), sigma=every(self.plan.sigma[r]), snr=every(self.plan.snr[r]),
            c_skip=every(c_skip), c_out=every(c_out), step=r, y=y, c_in=every(self._c_in_after(r)), **guided,
        )  # fmt: skip

    def _replace(self, r: int, x: Tensor, chunk: Chunk) -> None:
        """x = mask (alpha known + sigma z) + (1 - mask) x, at the time to which row r leads."""
        last = r + 1 == len(self.plan)  # a plan that replaces ends at t = 0
        path = (1.0, 0.0) if last else (self.plan.alpha[r + 1], self.plan.sigma[r + 1])
        alpha, sigma = (torch.full((len(x),), value, dtype=x.dtype, device=x.device) for value in path)
        noised = ops.diffuse(chunk.known, chunk.key, alpha, sigma, step=r, purpose=ops.Purpose.KNOWN)
        x.copy_(torch.lerp(x, ops.in_layout_of(noised, x), chunk.mask))

    def _c_in_after(self, r: int) -> float:
        """c_in of the row after r."""
        return float(self.scale.c_in[r + 1]) if r + 1 < len(self.plan) else 1.0


def _apart(F: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The network's answer; a copy where it is its own input, which the step writes to."""
    return F.clone() if overlap(F, x) or overlap(F, y) else F


def _version(x: Tensor) -> int:
    """How often x was changed in place; 0 where torch does not count."""
    return 0 if x.is_inference() else x._version


class _Network:
    """The network on a chunk: F_c and, in the rows that are guided, F_u, both in one call where it is one network."""

    def __init__(self, trajectory: Trajectory, chunk: Chunk):
        self.trajectory, self.condition, self.unconditional = trajectory, chunk.condition, chunk.unconditional
        self.net, self.other = trajectory.net, trajectory.other
        self.both, self.prepared, self.count = {}, None, len(chunk.x)
        self.times = trajectory.c_noise[:, None].expand(-1, len(chunk.x)).unbind()
        if chunk.w is not None and not self.other:
            both = (chunk.condition, chunk.unconditional)
            self.both = {name: torch.cat([conditions[name] for conditions in both]) for name in chunk.condition}
            self.count *= 2
        if chunk.prepared is not None:
            self.prepared = chunk.prepared.__getitem__
        elif Prepared.fits(self.net.net, set(chunk.condition)):
            self.prepared = trajectory.prepared.of((self.both or chunk.condition).get("label"), self.count)

    def __call__(self, r: int, y: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.trajectory.mixes(r):
            return self._call(self.net, r, y, self.condition), None
        if self.other:
            F_c, F_u = self._call(self.net, r, y, self.condition), self._call(self.other, r, y, self.unconditional)
            dtype = torch.promote_types(F_c.dtype, F_u.dtype)
            return F_c.to(dtype), F_u.to(dtype)
        return self._call(self.net, r, torch.cat([y, y]), self.both).chunk(2)

    def _call(self, net: Network, r: int, y: Tensor, conditions: dict[str, Tensor]) -> Tensor:
        time = self.times[r] if len(y) == len(self.times[r]) else torch.cat([self.times[r]] * 2)
        answer = net(y, time, self._known_of(net, r, len(y), conditions))
        if answer.dtype != y.dtype:  # the wider of the two, so that neither input nor answer is rounded again
            answer = answer.to(torch.promote_types(answer.dtype, y.dtype))
        # The kernels take no float64 beside a float32 state.
        return answer.to(self.trajectory.settings.dtype) if answer.dtype == torch.float64 else answer

    def _known_of(self, net: Network, r: int, count: int, conditions: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.prepared is None or net is not self.net:
            return conditions
        return {"prepared": self.prepared(r)[:count]}
