"""What genfast is timed against: each op as it is written without genfast, and the same step of other libraries.

Eager functions take a Case's arguments and `z`, the noise; z=None draws it with torch, which is then part of the time.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from timing import Bench
from torch import Tensor, nn

from genfast import ops
from genfast.diffusion import sampling
from genfast.diffusion.process.plans import Plan
from genfast.integrations import diffusers as bridge
from genfast.ops.step import COLUMNS, StepCodes, StepRows
from genfast.testing import Case

try:
    import diffusers
except ImportError:
    diffusers = None

LARGE, GPU_LARGE = 64 << 20, 512 << 20  # elements of the large copy: beyond any cache


def copy(case: str, shape: tuple[int, ...], device: torch.device) -> Bench:
    """The yardstick: bytes that only move."""
    x = torch.ones(shape, device=device)
    providers = {"copy_": lambda x, y: y.copy_(x), "clone": lambda x, y: x.clone()}
    return Bench(case, shape, x.dtype, 2 * x.nbytes, {"x": x, "y": torch.empty_like(x)}, providers)


def large_copy(device: torch.device, quick: bool) -> Bench:
    """What shares of copy bandwidth are shares of."""
    return copy("copy_large", ((GPU_LARGE if device.type == "cuda" else LARGE) >> 12 * quick,), device)


def compiled(function: Callable[..., object]) -> Callable[..., object]:
    """torch.compile for the shapes of one bench: what other shapes left behind would make it a general one, or none."""
    torch.compiler.reset()
    return torch.compile(function, dynamic=False)


def tensor_cores(device: torch.device) -> None:
    """Products and convolutions of float32 as networks are trained on such GPUs: in TF32, by the fastest algorithm."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True


def eager(case: Case) -> Callable[..., object]:
    """A Case's op in plain torch.  Noise is torch's own: the reference's Philox is not meant to be fast."""
    if case.name in _EAGER:
        return _EAGER[case.name]
    return eager_step if case.name.startswith("step_") else case.eager


def _randn(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, **_) -> tuple[Tensor]:
    return (torch.randn(len(key), *shape, dtype=dtype, device=key.device),)


def _rand(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype, **_) -> tuple[Tensor]:
    return (torch.rand(len(key), *shape, dtype=dtype, device=key.device),)


def _reparameterize(mu: Tensor, logvar: Tensor, **_) -> tuple[Tensor, Tensor]:
    return ops.reparameterize_reference(mu, logvar, torch.randn_like(mu))


_EAGER = {"normal": _randn, "uniform": _rand, "reparameterize": _reparameterize}


@contextlib.contextmanager
def composed_ops(contiguous: bool = False) -> Iterator[None]:
    """Inside it a model's loss is computed by plain torch: each op of training as it is written without genfast.

    Noise is torch's, and that of `diffuse` is stored, for the `denoising_loss` after it. contiguous: images inside
    networks are, where torch's norms are faster on a CPU; otherwise channels-last, as with our norms.
    """
    stored = []

    def diffuse(x0, key, alpha, sigma, c_in=None):
        stored[:] = [torch.randn_like(x0)]
        return ops.diffuse_reference(x0, *stored, alpha, sigma, c_in)[0]

    def denoising_loss(net, x0, key, p, q, weight=None):
        return ops.denoising_loss_reference(net, x0, *stored, p, q, weight)

    def normal(key, shape, purpose=None, step=0, dtype=torch.float32):
        return torch.randn(len(key), *shape, dtype=dtype, device=key.device)

    def uniform(key, shape, purpose=None, step=0, dtype=torch.float32):
        return torch.rand(len(key), *shape, dtype=dtype, device=key.device)

    def time_embedding(t, frequencies, *, dtype=torch.float32, **rest):
        return ops.time_embedding_reference(t.float(), frequencies, **rest).to(dtype)

    def norm_modulate(x, scale=None, shift=None, *, weight=None, bias=None, eps=1e-6, rms=False):
        return ops.norm_modulate_reference(x, scale, shift, weight, bias, eps, rms)

    def gated(residual, gate, y, *modulation, **affine):
        v = residual + gate.view(len(y), *[1] * (y.ndim - 2), -1) * y
        return v, norm_modulate(v, *modulation, **affine)

    composed = {
        "diffuse": diffuse, "denoising_loss": denoising_loss, "normal": normal, "uniform": uniform,
        "reparameterize": lambda mu, logvar, key, **_: _reparameterize(mu, logvar),
        "dropout": lambda x, key, p, layer: F.dropout(x, p), "time_embedding": time_embedding,
        "group_norm_act": ops.group_norm_act_reference, "bias_act": ops.bias_act_reference,
        "residual": ops.residual_reference,
        "geglu": ops.geglu_reference, "swiglu": ops.swiglu_reference, "layer_norm_modulate": norm_modulate,
        "rms_norm_modulate": functools.partial(norm_modulate, rms=True), "gate_residual_norm_modulate": gated,
    }  # fmt: skip
    if contiguous:
        composed["in_fast_layout"] = lambda x: x
    with mock.patch.multiple(ops, **composed):
        yield


def eager_step(
    x, net, row, table, draws, slots, y=None, history=None, unconditional=None, guidance=None, clamp=None, z=None, **_
):
    """One row of a plan, every sample at a row of its own, with nothing computed that the plan does not have."""
    ones = [1] * (x.ndim - 1)
    c = StepRows.of(table.coefficients[row.long()].view(len(x), *ones, COLUMNS))
    if unconditional is not None:
        net = torch.lerp(unconditional, net, guidance.view(-1, *ones).to(net.dtype))
    D = c.c_skip * x + c.c_out * net
    if clamp is not None:
        D = D.clamp(*clamp)
    following = c.a * x + c.b * D
    for k in range(slots):
        following = following + c.e[..., k] * history[k]
    first = StepCodes.of(table.codes[row.long()]).first
    for k in range(draws):
        weight = table.weights[first + k].view(-1, *ones)
        following = following + weight * (torch.randn_like(x) if z is None else z[k])
    kept = []
    for k in range(slots):
        h = c.p[..., k] * x + c.q[..., k] * D
        for j in range(slots):
            h = h + c.m[..., k, j] * history[j]
        kept.append(h)
    return following, (c.c_in * following).to(net.dtype) if y is not None else None, *kept


def eager_ddpm(plan: Plan, row: int) -> Callable[..., object]:
    """Ho et al. 2020, algorithm 2, x_0 clamped; every sample at one row, so coefficients are plain numbers."""
    alpha, sigma = float(plan.alpha[row]), float(plan.sigma[row])
    from_x, from_D, std = float(plan.a[row]), float(plan.b[row]), float(plan.s[row, 0])

    def step(x, net, clamp, y=None, z=None, **_):
        D = ((x - sigma * net) / alpha).clamp(*clamp)
        following = from_D * D + from_x * x + std * (torch.randn_like(x) if z is None else z)
        return following, following.to(net.dtype, copy=True) if y is not None else None

    return step


def eager_euler(plan: Plan, row: int) -> Callable[..., object]:
    """As k-samplers write it for any denoiser, x = x_0 + sigma eps: D, its derivative, the step."""
    sigma, following_sigma = float(plan.sigma[row]), float(plan.sigma[row + 1])
    c_in = (following_sigma**2 + 1) ** -0.5

    def step(x, net, y=None, z=None, **_):
        D = x - sigma * net
        following = x + (following_sigma - sigma) * ((x - D) / sigma)
        return following, (c_in * following).to(net.dtype) if y is not None else None

    return step


def simplified_euler(plan: Plan, row: int) -> Callable[..., object]:
    """The same, simplified by hand for this one parameterization and solver: x + (sigma' - sigma) F, one pass."""
    step = float(plan.sigma[row + 1] - plan.sigma[row])
    c_in = (float(plan.sigma[row + 1]) ** 2 + 1) ** -0.5

    def run(x, net, y=None, z=None, **_):
        following = torch.add(x, net, alpha=step)
        return following, (c_in * following).to(net.dtype) if y is not None else None

    return run


def diffusers_ddpm(plan: Plan, row: int) -> Callable[..., object]:
    """DDPMScheduler.step on the betas of the plan, which must have one row for every time."""
    abar = torch.tensor(plan.alpha).flip(0) ** 2
    betas = 1 - abar / torch.cat([torch.ones(1), abar[:-1]])
    scheduler = diffusers.DDPMScheduler(len(plan), trained_betas=betas.numpy())
    scheduler.set_timesteps(len(plan))
    t = scheduler.timesteps[row]

    def step(x, net, y=None, generator=None, **_):  # it scales no input: what it returns is the next y
        following = scheduler.step(net, t, x, generator=generator).prev_sample
        return following, following.clone() if y is not None else None

    return step


def diffusers_euler(plan: Plan, row: int) -> Callable[..., object]:
    """EulerDiscreteScheduler.step on the sigmas of the plan; where y is wanted, its scale_model_input too."""
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(len(plan))
    scheduler.sigmas = torch.tensor([*plan.sigma, 0.0], dtype=torch.float32)
    times = scheduler.timesteps
    scheduler.scale_model_input(torch.zeros(1), times[row])  # or it warns

    def step(x, net, y=None, **_):
        scheduler._step_index = row  # it counts its calls; here each is the same row
        following = scheduler.step(net, times[row], x).prev_sample
        return following, scheduler.scale_model_input(following, times[row + 1]) if y is not None else None

    return step


def diffusers_loop(name: str, arguments: dict, steps: int, shape, device) -> Callable[..., Tensor]:
    """The loop of a diffusers pipeline with the scheduler of that name: noise, scale_model_input, step."""
    scheduler = getattr(diffusers, name)(**arguments)

    def run(F):
        scheduler.set_timesteps(steps, device=device)
        x = torch.randn(shape, device=device) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            scheduler.scale_model_input(x, t)
            x = scheduler.step(F, t, x).prev_sample
        return x

    return run


def genfast_loop(scheduler, net: nn.Module, steps: int) -> Callable[..., Tensor]:
    """Ours, at the noise levels of a diffusers scheduler."""
    _, plan = bridge.from_scheduler(scheduler, steps)
    denoiser = bridge.denoiser(scheduler, net, steps)

    def run(x):
        return sampling.sample(
            denoiser, x.shape[1:], plan, len(x), start=x, chunk=len(x), device=x.device, progress=False
        )

    return run


def diffusers_network_loop(scheduler, model: Callable[..., Tensor], steps: int) -> Callable[..., Tensor]:
    """The loop of a diffusers pipeline."""

    def run(x):
        scheduler.set_timesteps(steps, device=x.device)
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t), t, x).prev_sample
        return x

    return run


def diffusers_unet(net: nn.Module) -> dict[str, Callable[..., Tensor]]:
    """UNet2DModel with copies of the weights of a UNet: as it comes, and in channels-last."""

    def make(layout):
        model = bridge.to_unet2d(net).eval().to(memory_format=layout)
        return lambda x, t: model(x.contiguous(memory_format=layout), t, return_dict=False)[0]

    return {"diffusers": make(torch.contiguous_format), "diffusers_nhwc": make(torch.channels_last)}


def eager_dit(net: nn.Module, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
    """What a DiT computes, layer by layer, with its weights."""

    def norm(h, scale, shift):
        return F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift

    grid, c = net.grid_of(x), net.condition(x, t, label)
    h = net.input(net.patches(x, grid)) + net.places(grid)
    for mix, modulation in zip(net.mixes, net.modulations, strict=True):
        scale, shift, gate = modulation(c)[:, None].chunk(3, -1)
        h = h + gate * mix(norm(h, scale, shift))
    return net.image(net.output(norm(h, *net.last_modulation(c)[:, None].chunk(2, -1))), grid)


def diffusers_dit(net: nn.Module, x: Tensor) -> Callable[..., Tensor]:
    """DiTTransformer2DModel of the same size with weights of its own; every block of it embeds t and the label anew."""
    heads, width = net.mixes[0].heads, net.config["width"]
    model = diffusers.DiTTransformer2DModel(
        heads, width // heads, net.channels, num_layers=net.config["depth"], norm_num_groups=1,
        sample_size=x.shape[-1], patch_size=net.patch[0], num_embeds_ada_norm=net.config["classes"],
    ).eval().to(x.device)  # fmt: skip
    return lambda x, t, label: model(x, t, label, return_dict=False)[0]


def bare_loop(model, data, batch: int, every: int) -> Callable[..., None]:
    """What `fit` does, in a loop of one's own, `every` steps a call."""
    parameters = list(model.parameters())
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    average = [p.detach().clone() for p in parameters]
    model.measure(data.batch(0, 0, min(len(data), 4096)))
    steps = itertools.count()

    def run(x):
        for step in itertools.islice(steps, every):
            rows = data.batch(0, step * batch, batch)
            rows = {name: None if value is None else value.to(device) for name, value in rows.items()}
            key = ops.make_key(0, range(step * batch, (step + 1) * batch), device)
            optimizer.zero_grad()
            model.loss(rows, key, step=step).mean().backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 0.01)

    return run


def diffusers_training(unet: nn.Module, x: Tensor, batch: int, every: int, precision: str) -> Callable[..., None]:
    """The loop of diffusers' examples/unconditional_image_generation/train_unconditional.py with its settings, without
    accelerate and what it writes, `every` steps a call."""
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    scheduler, device = diffusers.DDPMScheduler(1000, beta_schedule="linear"), next(unet.parameters()).device
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=10**6)
    average = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch, shuffle=True)
    rows = itertools.chain.from_iterable(itertools.repeat(loader))
    unet.train()

    def run(x):
        for (clean,) in itertools.islice(rows, every):
            clean = clean.to(device)
            z, t = torch.randn_like(clean), torch.randint(0, 1000, (len(clean),), device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                predicted = unet(scheduler.add_noise(clean, z, t), t).sample
            loss = F.mse_loss(predicted.float(), z)
            loss.backward()
            nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            average.step(unet.parameters())
            loss.item()  # for its logs

    return run
