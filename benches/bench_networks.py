"""Whole networks, as they are called in sampling, against the same networks of diffusers and of plain torch.

All providers of a case do the same work, but where a name says otherwise: with the same weights, in inference mode,
bfloat16 by autocast. Ours has its modulations prepared, which sampling does once for all steps; `unprepared` has not.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import peers
import torch
from timing import Bench
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from genfast import nn as networks

DTYPES = (torch.float32, torch.bfloat16)
STEPS = 4


class Sized(NamedTuple):
    """A preset and what is changed of it; batch sizes on a CPU, and on a GPU, a small one and one that fills it; what
    else is changed in a quick run, and the shape of its input."""

    preset: str
    changes: dict
    batches: tuple[int, ...]
    gpu_batches: tuple[int, ...]
    small: dict
    small_shape: tuple[int, ...]


DDPM = Sized("ddpm_cifar10", {"timesteps": {"shift": 1.0}}, (4,), (16, 256), {"width": 32}, (2, 3, 16, 16))
DIT_S = Sized("dit_s_2", {}, (8,), (16, 256), {"width": 48, "depth": 2}, (2, 4, 8, 8))
UNET, DDIM, DIT = "unet_ddpm_cifar10", "unet_ddpm_cifar10_ddim", "dit_s_2"


def names() -> list[str]:
    return ["copy", UNET, DDIM, DIT]


def benches(wanted: list[str], device: torch.device, quick: bool, compiled: bool) -> Iterator[Callable[[], Bench]]:
    """The benches of the cases in `wanted`, each to be made when its turn comes."""
    peers.tensor_cores(device)
    for name in wanted:
        if name == "copy":
            yield lambda: peers.large_copy(device, quick)
            continue
        if name == DDIM and peers.diffusers is None:  # whose scheduler it is
            continue
        make, sized = {UNET: (_unet, DDPM), DDIM: (_ddim, DDPM), DIT: (_dit, DIT_S)}[name]
        for batch in sized.gpu_batches if device.type == "cuda" else sized.batches:
            for dtype in DTYPES:
                yield functools.partial(make, name, batch, dtype, device, quick, compiled)


def _unet(name: str, batch: int, dtype, device, quick: bool, compiled: bool) -> Bench:
    net, x = network(DDPM, batch, device, quick)
    args = {"x": x, "t": torch.linspace(10.0, 990.0, len(x), device=device)}
    providers = _ours(net, **args)
    if peers.diffusers:
        providers |= peers.diffusers_unet(net)
    return _bench(name, dtype, args, net, providers)


def _ddim(name: str, batch: int, dtype, device, quick: bool, compiled: bool) -> Bench:
    """A few steps from given noise: the loop, the steps and the network."""
    net, x = network(DDPM, batch, device, quick)
    scheduler = peers.diffusers.DDIMScheduler(clip_sample=False)
    providers = {"genfast": peers.genfast_loop(scheduler, net, STEPS)}
    for provider, model in peers.diffusers_unet(net).items():
        providers[provider] = peers.diffusers_network_loop(scheduler, model, STEPS)
    return _bench(name, dtype, {"x": x}, net, providers, calls=STEPS)


def _dit(name: str, batch: int, dtype, device, quick: bool, compiled: bool) -> Bench:
    net, x = network(DIT_S, batch, device, quick)
    rows = torch.arange(len(x), device=device)
    args = {"x": x, "t": (rows + 1) / len(x), "label": rows}
    providers = _ours(net, **args)
    providers["eager"] = functools.partial(peers.eager_dit, net)
    if compiled:
        providers["compile"] = peers.compiled(providers["eager"])
    if peers.diffusers:
        providers["diffusers_other"] = peers.diffusers_dit(net, x)
    return _bench(name, dtype, args, net, providers)


def network(sized: Sized, batch: int, device, quick: bool) -> tuple[nn.Module, Tensor]:
    """A network whose parameters are all random, those that start at zero too, and its input."""
    torch.manual_seed(0)
    net = networks.presets.build(sized.preset, **sized.changes | (sized.small if quick else {}))
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    net = net.eval().to(device, memory_format=torch.channels_last)
    shape = sized.small_shape if quick else (batch, *networks.presets.PRESETS[sized.preset].shape)
    return net, torch.randn(shape, device=device)


def _ours(net: nn.Module, t: Tensor, x: Tensor, label: Tensor | None = None) -> dict[str, Callable[..., Tensor]]:
    with torch.inference_mode():
        prepared = net.prepare(t, label)
    last = torch.channels_last
    return {
        "genfast": lambda x, **args: net(x.contiguous(memory_format=last), **args, prepared=prepared),
        "unprepared": lambda x, **args: net(x.contiguous(memory_format=last), **args),
    }


def _bench(name: str, dtype: torch.dtype, args: dict, net: nn.Module, providers, calls: int = 1) -> Bench:
    """The least traffic of a call: the weights, x in and out."""
    x = args["x"]
    moved = calls * (sum(p.nbytes for p in net.parameters()) + 2 * x.nbytes)
    providers = {provider: _inference(function, x.device.type, dtype) for provider, function in providers.items()}
    return Bench(name, tuple(x.shape), dtype, moved, args, providers, (1e-9 * calls * flops(net, x), "GFLOP"))


def _inference(function, device: str, dtype: torch.dtype):
    def run(**args):
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return function(**args)

    return run


def flops(net: nn.Module, x: Tensor) -> int:
    """Twice the products of the convolutions, linear layers and attention of net(x, t), by their shapes alone."""
    net, x = copy.deepcopy(net).to("meta"), x.to("meta")
    with FlopCounterMode(display=False) as counter:
        net(x, x.new_ones(len(x)))
    return counter.get_total_flops()
