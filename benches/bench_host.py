"""What a call of an op costs the host, beside the lines of torch that it stands for: tensors of 1,024 numbers."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import quantiles

from genfast import ops

SHAPE, TOKENS = (2, 32, 4, 4), (2, 16, 32)
TURNS, CALLS = 30, 60


def _pairs(device: torch.device) -> dict[str, tuple[Callable, Callable, list[torch.Tensor]]]:
    """(genfast, torch, what has a gradient, none for []) by name. Tables broadcast without a view, to torch's good."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(shape, generator=generator).to(device)

    def leaf(*shape):
        return randn(*shape).requires_grad_()

    x, tokens, net, key = leaf(*SHAPE), leaf(*TOKENS), leaf(*SHAPE), ops.make_key(0, 2, device)
    weight, bias, scale, shift = leaf(32), leaf(32), leaf(2, 32), leaf(2, 32)
    # The same numbers as they broadcast, leaves of their own.
    wide_scale, wide_shift = (t.detach().clone().view(2, 1, 32).requires_grad_() for t in (scale, shift))
    film_scale, film_shift = (t.detach().clone().view(2, 32, 1, 1).requires_grad_() for t in (scale, shift))
    alpha, sigma = randn(2), randn(2).abs()
    rows = {name: t.view(2, 1, 1, 1) for name, t in (("alpha", alpha), ("sigma", sigma))}
    data, other, state = randn(*SHAPE), randn(*SHAPE), randn(*SHAPE)
    slopes, coefficients = randn(3, *SHAPE), randn(2, 3)
    t, frequencies = randn(2), ops.sinusoidal_frequencies(16).to(device)
    table = ops.StepTable.pack(c_skip=0.0, c_out=1.0, a=torch.tensor([0.9, 0.8]), b=0.1, c_in=1.0).to(device)
    row = torch.ones(2, dtype=torch.int32, device=device)

    def modulated_norm(x, scale, shift):
        return F.silu(F.group_norm(x, 8, weight, bias) * (1 + scale) + shift)

    def halves(x):
        a, b = x.chunk(2, -1)
        return F.silu(a) * b

    def embedded():
        angle = t[:, None] * frequencies
        return torch.cat([angle.sin(), angle.cos()], 1).float()

    def loss():
        target = rows["alpha"] * data + rows["sigma"] * torch.randn_like(data)
        return (net - target).square().flatten(1).mean(1)

    def latents():
        kl = 0.5 * (x.square() + net.exp() - 1 - net).flatten(1).sum(1)
        return x + (0.5 * net).exp() * torch.randn_like(x), kl

    def corrected():
        score, z = rows["alpha"] * data - state, torch.randn_like(state)
        norms = [v.square().flatten(1).sum(1).sqrt().view(2, 1, 1, 1) for v in (score, z)]
        gain = rows["sigma"] * norms[1] / norms[0]
        return state + 2 * gain**2 * score + 2 * gain * rows["sigma"] * z

    def thresholded():
        s = data.abs().flatten(1).quantile(0.9, dim=1).clamp_min(1).view(2, 1, 1, 1)
        return data.clamp(-s, s) / s

    def advanced():
        return data + (coefficients.T.view(3, 2, 1, 1, 1) * slopes).sum(0)

    affine, film = [weight, bias], [weight, bias, scale, shift, film_scale, film_shift]
    modulated = [scale, shift, wide_scale, wide_shift]
    return {
        "group_norm_act": (
            lambda: ops.group_norm_act(x, 8, weight, bias), lambda: F.silu(F.group_norm(x, 8, weight, bias)),
            [x, *affine],
        ),
        "group_norm_act, modulated": (
            lambda: ops.group_norm_act(x, 8, weight, bias, scale, shift),
            lambda: modulated_norm(x, film_scale, film_shift), [x, *film],
        ),
        "layer_norm_modulate": (
            lambda: ops.layer_norm_modulate(tokens, scale, shift),
            lambda: F.layer_norm(tokens, (32,)) * (1 + wide_scale) + wide_shift, [tokens, *modulated],
        ),
        "rms_norm_modulate": (
            lambda: ops.rms_norm_modulate(tokens, weight=weight), lambda: F.rms_norm(tokens, (32,), weight),
            [tokens, weight],
        ),
        "bias_act": (lambda: ops.bias_act(tokens, bias), lambda: F.silu(tokens + bias), [tokens, bias]),
        "swiglu": (lambda: ops.swiglu(tokens), lambda: halves(tokens), [tokens]),
        "time_embedding": (lambda: ops.time_embedding(t, frequencies), embedded, []),
        "normal": (lambda: ops.normal(key, SHAPE[1:]), lambda: torch.randn(SHAPE, device=device), []),
        "uniform": (lambda: ops.uniform(key, SHAPE[1:]), lambda: torch.rand(SHAPE, device=device), []),
        "diffuse": (
            lambda: ops.diffuse(data, key, alpha, sigma),
            lambda: rows["alpha"] * data + rows["sigma"] * torch.randn_like(data), [],
        ),
        "denoising_loss": (lambda: ops.denoising_loss(net, data, key, alpha, sigma), loss, [net]),
        "step": (
            lambda: ops.step(state, other, key, row, table),
            lambda: torch.addcmul(data, other, rows["alpha"]), [],
        ),
        "langevin": (
            lambda: ops.langevin(
                state, other, key, alpha=alpha, sigma=sigma, snr=sigma, c_skip=alpha, c_out=sigma
            ),
            corrected, [],
        ),
        "dot": (lambda: ops.dot(x, net), lambda: (x * net).flatten(1).sum(1), [x, net]),
        "runge_kutta": (lambda: ops.runge_kutta(data, slopes, coefficients), advanced, []),
        "dynamic_threshold": (lambda: ops.dynamic_threshold(data, 0.9), thresholded, []),
        "reparameterize": (lambda: ops.reparameterize(x, net, key), latents, [x, net]),
    }  # fmt: skip


def names() -> list[str]:
    return list(_pairs(torch.device("cpu")))


def _with_gradient(function: Callable, leaves: list[torch.Tensor]) -> Callable:
    """function, and its gradient in those of the leaves that it uses."""

    def outputs():
        found = function()
        return found if isinstance(found, tuple) else (found,)

    ones = [torch.ones_like(out) for out in outputs()]
    used = torch.autograd.grad(outputs(), leaves, ones, allow_unused=True)
    leaves = [leaf for leaf, gradient in zip(leaves, used, strict=True) if gradient is not None]
    return lambda: torch.autograd.grad(outputs(), leaves, ones)


def _milliseconds(rivals: tuple[Callable, ...], turns: int, calls: int) -> list[list[float]]:
    """[p20, p50, p80] over turns of the time that a call of each takes the host."""
    times = [[] for _ in rivals]
    for turn in range(-3, turns):
        for rival, of_rival in zip(rivals, times, strict=True):
            begin = time.perf_counter()
            for _ in range(calls):
                rival()
            if turn >= 0:
                of_rival.append((time.perf_counter() - begin) / calls * 1e3)
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
    return [quantiles(of_rival) for of_rival in times]


def report(arguments) -> list[dict]:
    """Prints the table; the rows of --json."""
    device, rows = torch.device(arguments.device), []
    turns, calls = (3, 2) if arguments.quick else (arguments.repeats, CALLS)
    pairs = _pairs(device)
    torch.set_num_threads(1)
    print(f"one thread, us a call: median of {turns} x {calls} calls, {SHAPE} or {TOKENS}\n")
    print(f"{'op':<28}{'no gradient':>12}{'torch':>9}{'ratio':>8}{'and backward':>15}{'torch':>9}{'ratio':>8}")
    for name in (name for name in arguments.cases if name in pairs):
        ours, theirs, leaves = pairs[name]
        line = f"{name:<28}"
        kinds = [("no_grad", torch.no_grad, (ours, theirs))]
        if leaves:
            both = tuple(_with_gradient(function, leaves) for function in (ours, theirs))
            kinds.append(("backward", torch.enable_grad, both))
        for kind, grad_mode, rivals in kinds:
            with grad_mode():
                times = _milliseconds(rivals, turns, calls)
            one, other = (1e3 * of_rival[1] for of_rival in times)
            line += f"{one:{12 if kind == 'no_grad' else 15}.1f}{other:9.1f}{one / other:8.2f}"
            rows += [
                {
                    "bench": "host", "case": f"{name}_{kind}", "shape": list(SHAPE), "dtype": "float32",
                    "provider": provider, "device": str(device), "threads": 1, "torch": torch.__version__,
                    "time_ms": ms,
                }
                for provider, ms in zip(("genfast", "torch"), times, strict=True)
            ]  # fmt: skip
        print(line, flush=True)
    return rows
