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
        self.places = [(module._buffers, name) for module in modules for name in module._buffers]
        self.kept = [None if value is None else value.detach().clone() for value in self._now()]
        # Those that are NaN from the start are not spoiled by training.
        self.watched = [i for i, v in enumerate(self.kept) if _is_real(v) and not bool(v.isnan().any())]

    def _now(self) -> list[Tensor | None]:
        return [buffers.get(name) for buffers, name in self.places]

    @torch.no_grad()
    def keep(self) -> None:
        now = self._now()
        if not all(map(_alike, now, self.kept)):
            self._look()
        elif pairs := [(kept, value) for kept, value in zip(self.kept, now) if value is not None]:
            torch._foreach_copy_(*map(list, zip(*pairs)))

    @torch.no_grad()
    def restore(self) -> None:
        for (buffers, name), kept in zip(self.places, self.kept):
            if kept is None or not _alike(buffers.get(name), kept):
                buffers[name] = None if kept is None else kept.clone()
            else:
                buffers[name].copy_(kept)

    def length(self, device: torch.device) -> Tensor:
        """`length` of those that were not NaN from the start: NaN if one has become that."""
        now = self._now()
        return length([now[i] for i in self.watched if _is_real(now[i])], device)


def _is_real(value: Tensor | None) -> bool:
    return value is not None and value.is_floating_point()


def _alike(value: Tensor | None, kept: Tensor | None) -> bool:
    if value is None or kept is None:
        return value is kept
    return (value.shape, value.dtype, value.device) == (kept.shape, kept.dtype, kept.device)


def length(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """The norm of all numbers of the tensors, () on `device`: NaN if one of them is; infinite if one of them is, or if
    it overflows; 0 of none."""
    tensors = [t.detach() for t in tensors if t.numel()]
    return torch.nn.utils.get_total_norm(tensors).to(device) if tensors else torch.zeros((), device=device)


def can_be_averaged(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite, and so far from overflow that differences of two of them are."""
    return all(bool((t.abs() <= torch.finfo(t.dtype).max / 4).all()) for t in tensors)
