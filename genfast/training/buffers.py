"""The buffers of a model, which a skipped step puts back, and whether numbers are finite, without waiting for them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Buffers:
    """The buffers of a model as they were at the last `keep`. One that is replaced by another tensor is seen, too."""

    def __init__(self, model: object):
        self.model = model
        self._look()

    def _look(self) -> None:
        modules = self.model.modules() if isinstance(self.model, nn.Module) else ()
        self.places = [(m._buffers, name) for m in modules for name, value in m._buffers.items() if value is not None]
        self.kept = [value.detach().clone() for value in self._now()]
        # Those that are NaN from the start are not spoiled by training.
        self.watched = [i for i, v in enumerate(self.kept) if v.is_floating_point() and not bool(v.isnan().any())]

    def _now(self) -> list[Tensor | None]:
        return [buffers.get(name) for buffers, name in self.places]

    @torch.no_grad()
    def keep(self) -> None:
        now = self._now()
        if not all(map(_alike, now, self.kept)):
            self._look()
        elif now:
            torch._foreach_copy_(self.kept, now)

    @torch.no_grad()
    def restore(self) -> None:
        for (buffers, name), value in zip(self.places, self.kept):
            if _alike(buffers.get(name), value):
                buffers[name].copy_(value)
            else:
                buffers[name] = value.clone()

    def spoiled(self, device: torch.device) -> Tensor:
        """Whether one has become NaN, () bool."""
        now = self._now()
        return length([now[i] for i in self.watched if now[i] is not None], device).isnan()


def _alike(value: Tensor | None, kept: Tensor) -> bool:
    return value is not None and (value.shape, value.dtype, value.device) == (kept.shape, kept.dtype, kept.device)


def length(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """The norm of all numbers of the tensors, () on `device`: NaN if one of them is; infinite if one of them is, or if
    their squares overflow; 0 of none."""
    tensors = [t.detach() for t in tensors if t.numel()]
    return torch.nn.utils.get_total_norm(tensors).to(device) if tensors else torch.zeros((), device=device)


def can_be_averaged(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite, and so far from overflow that differences of two of them are."""
    return all(bool((t.abs() <= torch.finfo(t.dtype).max / 4).all()) for t in tensors)
