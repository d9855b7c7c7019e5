"""Training: samples a second of `fit` against a bare loop and diffusers', and of one step by hand.

`fit_*` is the whole of `gf.fit`: data, key, loss, backward, clipping, AdamW and average, a log a call. Against it
    bare        the same model in a loop of its own: `Data.batch`, loss, backward, clip, fused AdamW, foreach average;
                it looks at nothing, logs nothing and skips nothing
    composed    `fit` of the same modules with plain torch in the place of our ops, and torch's noise; `_contiguous`: in
                the layout that suits torch's norms on a CPU, not in that which suits ours
    diffusers   the loop of diffusers' examples/unconditional_image_generation, its network with the same weights
`step_*` is what both libraries do in one step: noising, loss, backward, fused AdamW; bfloat16 by autocast.
`average_*` is `Averages.update` of three lengths, the weights of a step included, against three calls of
torch._foreach_lerp_ with numbers of the host; on a CPU no call finds weights or averages in the cache, as after a step.
"""

import functools
import itertools
from collections.abc import Callable, Iterator

import peers
import torch
from bench_networks import DDPM, network
from timing import Bench, cache_bytes
from torch import nn

import genfast as gf
from genfast.studies import digits
from genfast.training.ema import Averages

DEMO, VAE, GAN, MLP, DDPM_FIT, UNET = "fit_demo", "fit_vae", "fit_gan", "fit_mlp", "fit_ddpm", "step_unet_ddpm_cifar10"
AVERAGE_DEMO, AVERAGE_DDPM = "average_demo", "average_ddpm_cifar10"
LENGTHS = (0.05, 0.1, 0.2)
EVERY = 40  # steps a call
BATCHES, QUICK_BATCH = {"cpu": (8,), "cuda": (16, 128)}, 2
FOREVER = 10**9


def names() -> list[str]:
    return ["copy", DEMO, VAE, GAN, MLP, DDPM_FIT, UNET, AVERAGE_DEMO, AVERAGE_DDPM]


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
        elif name == DDPM_FIT:
            if peers.diffusers:
                yield functools.partial(_ddpm, device, quick)
        elif name in (AVERAGE_DEMO, AVERAGE_DDPM):
            yield functools.partial(_average, name, device, quick)
        else:
            yield functools.partial({DEMO: _demo, VAE: _vae, GAN: _gan, MLP: _mlp}[name], device, quick)


def _demo(device: torch.device, quick: bool) -> Bench:
    return _fits(DEMO, digits.build, gf.data.digits(), 128, device, quick, bare=True)


def _vae(device: torch.device, quick: bool) -> Bench:
    def make() -> gf.VAE:
        return gf.VAE(gf.nn.Encoder((8, 8)), gf.nn.Decoder((8, 8)), latent=16)

    return _fits(VAE, make, gf.data.arrays(gf.data.digits().x), 128, device, quick)


def _gan(device: torch.device, quick: bool) -> Bench:
    def make() -> gf.GAN:
        return gf.GAN(gf.nn.Generator((8, 8)), gf.nn.Discriminator((8, 8)), latent=16)

    return _fits(GAN, make, gf.data.arrays(gf.data.digits().x), 128, device, quick)


def _mlp(device: torch.device, quick: bool) -> Bench:
    def make() -> gf.Diffusion:
        return gf.Diffusion(gf.nn.MLP(16, width=128, depth=4), schedule="vp_linear")

    data = gf.data.arrays(torch.randn(4096, 16, generator=torch.Generator().manual_seed(0)))
    return _fits(MLP, make, data, 4096, device, quick, bare=True)


def _fits(
    name: str, make: Callable[[], object], data: gf.data.Data, batch: int, device: torch.device, quick: bool,
    bare: bool = False,
) -> Bench:  # fmt: skip
    batch, every = (QUICK_BATCH, 1) if quick else (batch, EVERY)

    def model() -> object:
        torch.manual_seed(0)
        return make().to(device)

    def composed(contiguous: bool) -> Callable[..., None]:
        run = _fit(model(), data, batch, every)

        def step(x: torch.Tensor) -> None:
            with peers.composed_ops(contiguous):
                run(x)

        return step

    providers = {"genfast": _fit(model(), data, batch, every), "composed": composed(contiguous=False)}
    if len(data.shape) == 3 and device.type == "cpu":
        providers["composed_contiguous"] = composed(contiguous=True)
    if bare:
        providers["bare"] = peers.bare_loop(model(), data, batch, every)
    return _bench(name, batch, every, device, providers)


def _ddpm(device: torch.device, quick: bool) -> Bench:
    """The U-Net of DDPM, narrow and of two levels on a CPU, against diffusers' loop; on a GPU in bfloat16."""
    cuda = device.type == "cuda"
    changes = {} if cuda else {"channels": 1, "width": 32, "multipliers": (1, 2), "blocks": 1}
    net = gf.nn.presets.build("ddpm_cifar10", timesteps={"shift": 1.0}, dropout=0.0, **changes)
    net = net.to(device, memory_format=torch.channels_last if cuda else torch.contiguous_format)
    x = torch.rand(4096, 3, 32, 32) * 2 - 1 if cuda else gf.data.digits().x
    batch, every, precision = (QUICK_BATCH, 1, "fp32") if quick else (128, EVERY, "bf16" if cuda else "fp32")
    theirs = gf.integrations.diffusers.to_unet2d(net)
    model = gf.Diffusion(net, schedule="vp_linear", parameterization="eps")
    providers = {
        "genfast": _fit(model, gf.data.arrays(x), batch, every, precision),
        "diffusers": peers.diffusers_training(theirs, x, batch, every, precision),
    }
    return _bench(DDPM_FIT, batch, every, device, providers)


def _fit(model, data: gf.data.Data, batch: int, every: int, precision: str = "fp32") -> Callable[..., object]:
    settings = {"log_every": every, "precision": precision, "progress": False}
    run = iter(gf.Fit(model, data, steps=FOREVER, batch=batch, **settings))
    return lambda x: next(run)


def _bench(name: str, batch: int, every: int, device: torch.device, providers: dict) -> Bench:
    x = torch.zeros(batch, device=device)
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


def _average(name: str, device: torch.device, quick: bool) -> Bench:
    net = digits.build() if name == AVERAGE_DEMO else network(DDPM, 1, device, quick)[0]
    size = sum(p.numel() for p in net.parameters())
    sets = 1 if device.type == "cuda" else max(2, -(-2 * cache_bytes() // (4 * size * (1 + len(LENGTHS)))))
    copies = [[p.detach().clone().to(device) for p in net.parameters()] for _ in range(sets)]
    turns = itertools.cycle([(values, Averages(values, LENGTHS)) for values in copies])
    updates, good = torch.tensor(1000, device=device), torch.tensor(True, device=device)

    def foreach(x: torch.Tensor) -> None:
        values, averages = next(turns)
        for of_length in averages.values:
            torch._foreach_lerp_(of_length, values, 0.01)

    providers = {"genfast": lambda x: next(turns)[1].update(updates, good), "foreach": foreach}
    moved = 4 * size * (1 + 2 * len(LENGTHS))
    return Bench(name, (size,), torch.float32, moved, {"x": torch.zeros(1, device=device)}, providers)
