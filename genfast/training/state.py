"""All that a run is at the end of a step, as tensors and numbers, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..common.files import CorruptCheckpoint
from .parallel import Owner
from .step import Step


def gather(step: Step) -> tuple[Mapping[str, Tensor], dict]:
    """(tensors, numbers) of a training, as one process would have them (`Alone.gathered`): those in use, not copies."""
    tensors = _tensors(step)
    numbers = {str(i): player.state()[1] for i, player in enumerate(step.players.values())}
    return step.together.gathered(tensors, _owners(step)), {"optimizers": numbers}


@torch.no_grad()
def restore(step: Step, tensors: Mapping[str, Tensor], numbers: dict) -> None:
    """The reverse of `gather`, in all processes from the tensors of the first. Raises CorruptCheckpoint where a tensor
    is missing, left over or of another shape."""
    tensors = step.together.receive(tensors, _owners(step))
    saved = part(tensors, "model/")
    _make_buffers(step.model, saved, step.device)
    values = _values(step)
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
def spread(step: Step) -> None:
    """Makes all that a training is what it is in the first process."""
    tensors = _tensors(step)
    step.together.send(tensors, _owners(step))
    set_random_state(part(tensors, "random/"), step.device)


def averages(step: Step) -> Mapping[str, Tensor]:
    """Those of a training, by the names of `Averages.tensors`, as one process would have them."""
    named = {f"average/{name}": value for name, value in step.averages.tensors().items()}
    return part(step.together.gathered(named, _owners(step)), "average/")


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


def part(entries: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, without it."""
    return {name[len(prefix) :]: value for name, value in entries.items() if name.startswith(prefix)}


def _tensors(step: Step) -> dict[str, Tensor]:
    """All that this process has of a training."""
    tensors = {f"model/{name}": value for name, value in _values(step).items() if value is not None}
    for i, player in enumerate(step.players.values()):
        tensors |= {f"optimizer/{i}/{name}": value for name, value in player.state()[0].items()}
    tensors |= {f"average/{name}": value for name, value in step.averages.tensors().items()}
    tensors |= {f"precision/{name}": value for name, value in step.precision.tensors().items()}
    tensors |= {f"random/{name}": value for name, value in random_state(step.device).items()}
    return tensors | {"tally": step.tally.values}


def _owners(step: Step) -> Owner:
    """Of which tensors that are trained those of a state are the numbers, or what an optimizer remembers of it."""
    known = {f"model/{name}": p for name, p in zip(step.names(), step.parameters)}
    lengths = range(len(step.averages.lengths))
    known |= {f"average/{k}.{i}": p for k in lengths for i, p in enumerate(step.parameters)}
    for i, player in enumerate(step.players.values()):
        known |= {f"optimizer/{i}/{j}": p for j, p in enumerate(player.ordered())}
    return lambda name: known.get(name, known.get(name.rpartition("/")[0]))


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


def _values(step: Step) -> dict[str, Tensor | None]:
    """Weights and buffers: of what is trained what this process has of it, also while the model holds an average."""
    theta = step.parameters if step.theta is None else step.theta
    trained = {id(step.together.of(p)): value for p, value in zip(step.parameters, theta)}
    whole = isinstance(step.model, nn.Module)
    named = step.model.named_parameters() if whole else ((str(i), p) for i, p in enumerate(step.model.parameters()))
    values = {name: trained.get(id(p), p).detach() for name, p in named}
    return values | (dict(step.model.named_buffers()) if whole else {})
