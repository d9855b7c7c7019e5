"""All that a run is at the end of a step, as tensors and numbers, and back."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..common.files import CorruptCheckpoint
from .step import Step


def gather(model: object, step: Step) -> tuple[dict[str, Tensor], dict]:
    """(tensors, numbers) of a model in training. Tensors are those in use, not copies."""
    tensors = {f"model/{name}": value for name, value in _values(model) if value is not None}
    numbers = {"optimizers": {}}
    for i, player in enumerate(step.players.values()):
        own, rest = player.state()
        tensors |= {f"optimizer/{i}/{name}": value for name, value in own.items()}
        numbers["optimizers"][str(i)] = rest
    tensors |= {f"average/{name}": value for name, value in step.averages.tensors().items()}
    tensors |= {f"precision/{name}": value for name, value in step.precision.tensors().items()}
    tensors["tally"] = step.tally.values
    tensors |= {f"random/{name}": value for name, value in random_state(step.device).items()}
    return tensors, numbers


@torch.no_grad()
def restore(model: object, step: Step, tensors: dict[str, Tensor], numbers: dict) -> None:
    """The reverse of `gather`, in all processes from the tensors of the first. Raises CorruptCheckpoint where a tensor
    is missing, left over or of another shape."""
    tensors = step.together.receive(tensors)
    saved = part(tensors, "model/")
    _make_buffers(model, saved, step.device)
    values = dict(_values(model))
    if wrong := {name for name, value in values.items() if value is not None} ^ saved.keys():
        raise CorruptCheckpoint(f"the state of the run has other tensors than the model: {', '.join(sorted(wrong))}")
    for name, value in saved.items():
        if values[name].shape != value.shape:
            here, there = tuple(values[name].shape), tuple(value.shape)
            raise CorruptCheckpoint(f"the state of the run has {name} in shape {there}, the model in {here}")
        values[name].copy_(value)
    for i, player in enumerate(step.players.values()):
        player.load(part(tensors, f"optimizer/{i}/"), numbers["optimizers"][str(i)])
    step.averages.load(part(tensors, "average/"))
    step.precision.load(part(tensors, "precision/"))
    step.tally.values.copy_(tensors["tally"])
    set_random_state(part(tensors, "random/"), step.device)


@torch.no_grad()
def spread(model: object, step: Step) -> None:
    """Makes all that a run is what it is in the first process."""
    tensors, _ = gather(model, step)
    step.together.send(tensors)
    set_random_state(part(tensors, "random/"), step.device)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators, which a network of the user's may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def part(entries: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, without it."""
    return {name[len(prefix) :]: value for name, value in entries.items() if name.startswith(prefix)}


def _make_buffers(model: object, saved: dict[str, Tensor], device: torch.device) -> None:
    """Gives the model the buffers that it only gets, or that only grow, while it trains."""
    parts = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    weights = {name for name, _ in model.named_parameters()} if parts else set()
    for name in saved.keys() - weights:
        path, _, own = name.rpartition(".")
        if (module := parts.get(path)) is None:
            continue
        there = module._buffers.get(own)
        made = torch.empty_like(saved[name], device=device)
        if not hasattr(module, own):
            module.register_buffer(own, made, persistent=False)
        elif own in module._buffers and (there is None or there.shape != made.shape):
            module._buffers[own] = made


def _values(model: object) -> Iterator[tuple[str, Tensor | None]]:
    if not isinstance(model, nn.Module):
        yield from ((str(i), p.detach()) for i, p in enumerate(model.parameters()))
        return
    yield from ((name, p.detach()) for name, p in model.named_parameters())
    yield from model.named_buffers()
