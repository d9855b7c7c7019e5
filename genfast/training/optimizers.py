"""Optimizers whose learning rate and whose steps that do not count are on the device."""

from collections.abc import Callable

import torch
from torch import Tensor


class Player:
    """Those who are trained together: their parameters and their optimizer.

    make: what makes an optimizer of a list of parameters; None for AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101),
    fused, with the learning rate on the device. One of torch's fused ones leaves a step out without a word to the host;
    any other makes the host wait, at each step, for whether there is one.
    """

    def __init__(self, group: dict, lr: Tensor, weight_decay: float, make: Callable | None):
        self.parameters = group["params"]
        if make is None:
            common = {"lr": lr, "weight_decay": weight_decay, "fused": True, "capturable": True}
            self.optimizer = torch.optim.AdamW(**common | group)
        else:
            self.optimizer = make(self.parameters)
            if not isinstance(self.optimizer, torch.optim.Optimizer):
                got = type(self.optimizer).__name__
                raise TypeError(f"optimizer must make a torch.optim.Optimizer of a list of parameters; got {got}")
        self.own = make is None
        self.skips = getattr(self.optimizer, "_step_supports_amp_scaling", False)

    def step(self, good: Tensor, lr: float) -> None:
        """A step, if `good`, () bool; else everything stays as it is."""
        if not self.own:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
        if self.skips:
            self.optimizer.found_inf, self.optimizer.grad_scale = 1 - good.float(), None
            try:
                self.optimizer.step()
            finally:
                del self.optimizer.found_inf, self.optimizer.grad_scale
        elif bool(good):
            self.optimizer.step()

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """What the optimizer remembers of each parameter, and of a foreign one the numbers of its groups, some of which
        count there: tensors, and all else, by "<number>/<name>" and "group <number>/<name>"."""
        entries = {
            f"{i}/{name}": value
            for i, parameter in enumerate(self.ordered())
            for name, value in self.optimizer.state.get(parameter, {}).items()
        }
        entries |= {f"{place}/{name}": group[name] for place, group in self._groups() for name in _numbers(group)}
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        return tensors, {name: value for name, value in entries.items() if name not in tensors}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], rest: dict[str, object]) -> None:
        self.optimizer.state.clear()
        ordered, groups = self.ordered(), dict(self._groups())
        for key, value in (tensors | rest).items():
            place, _, name = key.partition("/")
            if place in groups:
                there = groups[place].get(name)
                groups[place][name] = value.to(there.device) if isinstance(there, Tensor) else value
                continue
            parameter = ordered[int(place)]
            if isinstance(value, Tensor):
                value = _like(value, parameter, counts=name == "step" and not (self.own or self.skips))
            self.optimizer.state[parameter][name] = value

    def ordered(self) -> list[Tensor]:
        """The parameters in the order of the optimizer, which may have put them into groups."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _groups(self) -> list[tuple[str, dict]]:
        """Those of a foreign optimizer, by name."""
        return [] if self.own else [(f"group {i}", group) for i, group in enumerate(self.optimizer.param_groups)]


def _numbers(group: dict) -> list[str]:
    """The names of what may have changed in training; lr is set by others."""
    kinds = Tensor | int | float
    return [n for n, value in group.items() if n != "lr" and isinstance(value, kinds) and not isinstance(value, bool)]


def _like(value: Tensor, parameter: Tensor, counts: bool) -> Tensor:
    """A copy on the device of the parameter, laid out as that is; of what counts steps, on the CPU."""
    if value.shape == parameter.shape and value.ndim:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value.clone().to("cpu" if counts else parameter.device)
