"""Where samples are in their plan, and what depends on it: found by the host as views, or on the device by an index."""

from typing import NamedTuple

import torch
from torch import Tensor

from ... import ops
from ..process.denoisers import Coefficients, Denoiser
from ..process.plans import Plan
from .step_table import step_table


class Tables(NamedTuple):
    """Rows of plans as a step reads them.

    step: see `ops.StepTable`.  c_noise: (R,), the times that the network sees.  c_skip, c_out: (R,), of D.
    """

    step: ops.StepTable
    c_noise: Tensor
    c_skip: Tensor
    c_out: Tensor

    @classmethod
    def of(
        cls, plan: Plan, denoiser: Denoiser, scale: Coefficients, device: torch.device,
        dtype: torch.dtype = torch.float32, noise: str = "white", denoised: bool = False,
    ) -> "Tables":  # fmt: skip
        """Of a plan joined with a denoiser, on a device. scale: their `plan_scale`; the rest as in `step_table`."""
        columns = (c.to(device, dtype) for c in (scale.c_noise, scale.c_skip, scale.c_out))
        return cls(step_table(plan, denoiser, dtype, noise, denoised).to(device), *columns)


class Row(NamedTuple):
    """The row of every sample, and what of it the network takes, for both halves of a batch that is doubled.

    index: (B,) int32.  time: (B,) or (2 B,).  c_skip, c_out: () or (B,), or None where there is no need of D.
    prepared: (B, *) or (2 B, *), or None.
    """

    index: Tensor
    time: Tensor
    c_skip: Tensor | None
    c_out: Tensor | None
    prepared: Tensor | None


class HostRows:
    """Of samples that are all in one row, which the host knows: rows[r].

    entries: (E, *), what is prepared; place: (C,), where those of each sample begin in it; both may be None.
    """

    def __init__(self, tables: Tables, batch: int, count: int, entries: Tensor | None, place: Tensor | None):
        rows = len(tables.c_noise)
        index = torch.arange(rows, dtype=torch.int32, device=tables.c_noise.device)
        self.index = index[:, None].expand(-1, batch).contiguous().unbind()
        self.times = tables.c_noise[:, None].expand(-1, count).unbind()
        self.c_skip, self.c_out = tables.c_skip.unbind(), tables.c_out.unbind()
        self.entries, self.place, self.count = entries, place, count
        self.of_all = entries is not None and len(entries) == rows  # one label for all

    def __getitem__(self, r: int) -> Row:
        return Row(self.index[r], self.times[r], self.c_skip[r], self.c_out[r], self._prepared(r))

    def _prepared(self, r: int) -> Tensor | None:
        if self.of_all:
            return self.entries[r].expand(self.count, *self.entries.shape[1:])
        return None if self.entries is None else self.entries.index_select(0, self.place + r)


def rows_on_device(
    tables: Tables, index: Tensor, twice: bool, denoised: bool, entries: Tensor | None, place: Tensor | None
) -> Row:
    """The row of each sample at `index`, (B,), which the host does not look at. twice: for both halves of a batch that
    is doubled; denoised: with what D takes."""
    every = torch.cat([index, index]) if twice else index
    return Row(
        index=index, time=tables.c_noise.index_select(0, every),
        c_skip=tables.c_skip.index_select(0, index) if denoised else None,
        c_out=tables.c_out.index_select(0, index) if denoised else None,
        prepared=None if entries is None else entries.index_select(0, place[: len(every)] + every),
    )  # fmt: skip
