"""Training: samples a second of `fit`, and of one step by hand against the same network of diffusers.

`fit_*` is the whole of `gf.fit`: data, key, loss, backward, clipping, AdamW and average, `log_every` steps a call.
`step_*` is what both libraries do in one step: noising, loss, backward, fused AdamW; bfloat16 by autocast.
"""

import functools
from collections.abc import Callable, Iterator

import peers
import torch
from bench_networks import DDPM, network
from timing import Bench
from torch import nn

import genfast as gf
from genfast.studies import digits

DEMO, MLP, UNET = "fit_demo", "fit_mlp", "step_unet_ddpm_cifar10"
EVERY = 10
BATCHES, QUICK_BATCH = {"cpu": (8,), "cuda": (16, 128)}, 2
FOREVER = 10**9


def names() -> list[str]:
    return ["copy", DEMO, MLP, UNET]


def benches(wanted: list[str], device: torch.device, quick: bool, compiled: bool) -> Iterator[Callable[[], Bench]]:
    """The benches of the cases in `wanted`, each to be made when its turn comes."""
    peers.tensor_cores(device)
    for name in wanted:
        if name == "copy":
            yield lambda: peers.large_copy(device, quick)
        elif name == UNET:
            batches = (QUICK_BATCH,) if quick else BATCHES[device.type]
            for batch in batches:
                for dtype in (torch.float32, torch.bfloat16):
                    last = compiled and (batch, dtype) == (
                        batches[-1],
                        torch.bfloat16,
                    )  # compiling takes a minute or two
                    yield functools.partial(_steps, batch, dtype, device, quick, last)
        else:
            yield functools.partial({DEMO: _demo, MLP: _mlp}[name], device, quick)


def _demo(device: torch.device, quick: bool) -> Bench:
    return _fit(DEMO, digits.build(), gf.data.digits(), QUICK_BATCH if quick else 128, device, quick)


def _mlp(device: torch.device, quick: bool) -> Bench:
    model = gf.Diffusion(gf.nn.MLP(16, width=128, depth=4), schedule="vp_linear")
    data = torch.randn(4096, 16, generator=torch.Generator().manual_seed(0))
    return _fit(MLP, model, data, QUICK_BATCH if quick else 4096, device, quick)


def _fit(name: str, model: gf.Diffusion, data, batch: int, device: torch.device, quick: bool) -> Bench:
    every = 1 if quick else EVERY
    run = iter(gf.Fit(model, data, steps=FOREVER, batch=batch, log_every=every, device=device, progress=False))
    x = torch.zeros(batch, device=device)
    providers = {"genfast": lambda x: next(run)}
    return Bench(name, (batch,), torch.float32, x.nbytes, {"x": x}, providers, (batch * every, "samples"))


def _steps(batch: int, dtype: torch.dtype, device: torch.device, quick: bool, compiled: bool) -> Bench:
    net, x = network(DDPM, batch, device, quick)
    x = x[:batch].contiguous(memory_format=torch.channels_last)
    model = gf.Diffusion(net.train(), schedule="vp_linear", parameterization="eps")
    key = gf.ops.make_key(0, batch, device=device)
    losses = {"genfast": (net, lambda x: model.loss({"x": x, "label": None}, key).mean())}
    if peers.diffusers:
        unet, scheduler = gf.integrations.diffusers.to_unet2d(net), peers.diffusers.DDPMScheduler()
        theirs = unet.train().to(memory_format=torch.channels_last)
        losses["diffusers"] = (theirs, functools.partial(_their_loss, theirs, scheduler))
        if compiled:
            again = gf.integrations.diffusers.to_unet2d(net).train().to(memory_format=torch.channels_last)
            losses["diffusers_compile"] = (again, functools.partial(_their_loss, peers.compiled(again), scheduler))
    providers = {name: _step(module, loss, dtype) for name, (module, loss) in losses.items()}
    return Bench(UNET, tuple(x.shape), dtype, 2 * x.nbytes, {"x": x}, providers, (batch, "samples"))


def _their_loss(unet: Callable, scheduler, x: torch.Tensor) -> torch.Tensor:
    z, t = torch.randn_like(x), torch.randint(0, 1000, (len(x),), device=x.device)
    return nn.functional.mse_loss(unet(scheduler.add_noise(x, z, t), t, return_dict=False)[0], z)


def _step(module: nn.Module, loss: Callable, dtype: torch.dtype) -> Callable[..., None]:
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def step(x):
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss(x)
        value.backward()
        optimizer.step()

    return step
