"""The buffers of a model, which a skipped step puts back without the host knowing whether it was skipped."""

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

    @torch.no_grad()
    def settle(self, good: Tensor) -> None:
        """`restore` unless good, () bool on any device, without a look at it. Only for a buffer that has become one of
        another shape the host has to know."""
        for (buffers, name), kept in zip(self.places, self.kept):
            value = buffers.get(name)
            if not _alike(value, kept):
                if not bool(good):
                    buffers[name] = None if kept is None else kept.clone()
            elif kept is not None:
                value.copy_(torch.where(good.to(kept.device), value, kept))

    def floating(self) -> list[Tensor]:
        """Those of real numbers that are still of the shape, dtype and device that they had."""
        pairs = zip(self._now(), self.kept)
        return [value for value, kept in pairs if _is_real(value) and _alike(value, kept) and value.numel()]

    @torch.no_grad()
    def fine(self, device: torch.device) -> Tensor:
        """() bool on `device`: False if one that was not NaN from the start has become that."""
        now = self._now()
        values = [now[i] for i in self.watched if _is_real(now[i]) and now[i].numel()]
        sums = [value.isnan().any().to(device) for value in values]
        return ~torch.stack(sums).any() if sums else torch.ones((), dtype=torch.bool, device=device)


def _is_real(value: Tensor | None) -> bool:
    return value is not None and value.is_floating_point()


def _alike(value: Tensor | None, kept: Tensor | None) -> bool:
    if value is None or kept is None:
        return value is kept
    return (value.shape, value.dtype, value.device) == (kept.shape, kept.dtype, kept.device)
