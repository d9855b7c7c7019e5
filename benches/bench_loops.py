"""Whole sampling loops with a network, images a second, against the loop of a diffusers pipeline.

Of genfast: without graphs, and with them where there are any, the call that captures left out. Networks have bfloat16
weights; `first` is what the first call of `sample` costs, graphs, tables and all, and stands beside the rows.
"""

import functools
import time
from collections.abc import Callable, Iterator

import peers
import torch
from bench_networks import DDPM, network
from timing import Bench

import genfast as gf

UNET, MLP = "loop_unet_ddpm_cifar10", "loop_mlp"
STEPS, QUICK_STEPS = {UNET: 20, MLP: 100}, 2
IMAGES, CHUNKS = 512, (64, 256)  # on a GPU; on a CPU 8 in one chunk
ROWS, FEATURES = {"cpu": 512, "cuda": 16_384}, 16


def names() -> list[str]:
    return ["copy", UNET, MLP]


def benches(wanted: list[str], device: torch.device, quick: bool, compiled: bool) -> Iterator[Callable[[], Bench]]:
    """The benches of the cases in `wanted`, each to be made when its turn comes."""
    peers.tensor_cores(device)
    for name in wanted:
        if name == "copy":
            yield lambda: peers.large_copy(device, quick)
        elif name == MLP:
            yield lambda: _mlp(device, quick)
        else:
            for chunk in CHUNKS if device.type == "cuda" and not quick else (8,):
                last = compiled and chunk == CHUNKS[-1]  # compiling takes a minute
                yield functools.partial(_unet, chunk, device, quick, last)


def _unet(chunk: int, device: torch.device, quick: bool, compiled: bool) -> Bench:
    net, x = network(DDPM, chunk, device, quick)
    images, steps = (IMAGES if device.type == "cuda" and not quick else len(x)), QUICK_STEPS if quick else STEPS[UNET]
    net = net.bfloat16()
    model = gf.Diffusion(net, schedule="vp_linear", parameterization="eps", shape=x.shape[1:])
    providers, notes = _ours(model, images, min(chunk, images), device, solver="dpmpp_2m", steps=steps)
    if peers.diffusers:
        scheduler = peers.diffusers.DPMSolverMultistepScheduler()
        for name, unet in peers.diffusers_unet(net).items():
            providers[name] = _theirs(scheduler, unet, images, steps)
        if compiled:
            providers["diffusers_compile"] = _theirs(scheduler, peers.compiled(unet), images, steps)
    x = torch.randn(min(chunk, images), *x.shape[1:], device=device, dtype=torch.bfloat16)
    return _bench(UNET, x, images, providers, notes)


def _mlp(device: torch.device, quick: bool) -> Bench:
    rows, steps = (8, QUICK_STEPS) if quick else (ROWS[device.type], STEPS[MLP])
    torch.manual_seed(0)
    net = gf.nn.MLP(FEATURES, width=128, depth=4).to(device)
    model = gf.Diffusion(net, schedule="vp_linear", shape=(FEATURES,))
    providers, notes = _ours(model, rows, rows, device, solver="euler_maruyama", steps=steps)
    return _bench(MLP, torch.randn(rows, FEATURES, device=device), rows, providers, notes)


def _ours(model: gf.Diffusion, n: int, chunk: int, device: torch.device, **settings) -> tuple[dict, dict]:
    def sample(x, graph):
        return model.sample(n, chunk=chunk, graph=graph, progress=False, **settings)

    ways = {"genfast": False} | ({"genfast_graph": True} if device.type == "cuda" else {})
    providers, notes = {}, {}
    for name, graph in ways.items():
        providers[name] = functools.partial(sample, graph=graph)
        begin = time.perf_counter()
        providers[name](None)
        if device.type == "cuda":
            torch.cuda.synchronize()
        notes[name] = f"first {1e3 * (time.perf_counter() - begin):.0f} ms"
    return providers, notes


def _theirs(scheduler, unet: Callable, images: int, steps: int) -> Callable:
    """The loop of a pipeline, chunk after chunk."""
    run = peers.diffusers_network_loop(scheduler, unet, steps)

    def loop(x):
        with torch.inference_mode():
            return [run(torch.randn_like(x)) for _ in range(0, images, len(x))]

    return loop


def _bench(name: str, x: torch.Tensor, images: int, providers: dict, notes: dict) -> Bench:
    return Bench(name, tuple(x.shape), x.dtype, 2 * x.nbytes, {"x": x}, providers, (images, "images"), notes)
