"""Whole sampling loops without a network, against the same scheduler of diffusers: what is left to pay beside it.

The network is a function that answers with one fixed tensor; every loop makes the same number of calls to it. Brownian
noise is timed against white noise of our own.
"""

from collections.abc import Callable, Iterator

import peers
import torch
from timing import Bench

from genfast.diffusion import sampling, solvers
from genfast.diffusion.process import denoisers, grids
from genfast.diffusion.sampling.brownian import aligned

SHAPE, GPU_SHAPE, QUICK_SHAPE = (64, 3, 32, 32), (256, 3, 256, 256), (4, 3, 8, 8)
STEPS, QUICK_STEPS = 50, 5

# (solver, its options, schedule, diffusers' scheduler, its options).  Noise-free ones and noisy ones, one and two calls
# a step, with and without history.
_VP = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
CASES = {
    "ddpm": ("ddpm", {}, "vp_linear", "DDPMScheduler", _VP | {"clip_sample": False}),
    "ddim": ("ddim", {}, "vp_linear", "DDIMScheduler", _VP | {"clip_sample": False}),
    "euler": ("euler", {}, "edm", "EulerDiscreteScheduler", _VP),
    "heun": ("heun", {}, "edm", "HeunDiscreteScheduler", _VP),
    "dpmpp_2m": ("dpmpp_2m", {}, "vp_linear", "DPMSolverMultistepScheduler", _VP),
    "dpmpp_2m_sde": (
        *("dpmpp_2m_sde", {}, "vp_linear", "DPMSolverMultistepScheduler"),
        _VP | {"algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": ("unipc", {}, "vp_linear", "UniPCMultistepScheduler", _VP),
}
BROWNIAN = "brownian"


def names() -> list[str]:
    return ["copy", *CASES, BROWNIAN]


def benches(wanted: list[str], device: torch.device, quick: bool, compiled: bool) -> Iterator[Callable[[], Bench]]:
    """The benches of the cases in `wanted`, each to be made when its turn comes."""
    shape, steps = GPU_SHAPE if device.type == "cuda" else SHAPE, STEPS
    if quick:
        shape, steps = QUICK_SHAPE, QUICK_STEPS
    for name in wanted:
        if name == "copy":
            yield lambda: peers.large_copy(device, quick)
        elif name == BROWNIAN:
            yield lambda: _brownian(shape, steps, device)
        else:
            yield lambda name=name: _loop(name, shape, steps, device)


def _ours(plan, schedule, shape, device, noise="white"):
    def run(F):
        denoiser = denoisers.Denoiser(lambda y, t: F, schedule, "eps")
        return sampling.sample(
            denoiser, shape[1:], plan, shape[0], chunk=shape[0], device=device, noise=noise, progress=False
        )

    return run


def _loop(name: str, shape: tuple[int, ...], steps: int, device: torch.device) -> Bench:
    solver, options, schedule, scheduler, arguments = CASES[name]
    plan = solvers.plan(solver, schedule, steps, **options)
    providers = {"genfast": _ours(plan, schedule, shape, device)}
    if peers.diffusers:
        providers["diffusers"] = peers.diffusers_loop(scheduler, arguments, steps, shape, device)
    return _bench(f"loop_{name}", shape, device, len(plan), plan.slots, providers)


def _brownian(shape: tuple[int, ...], steps: int, device: torch.device) -> Bench:
    """Brownian noise, on times that are aligned, more so, and not at all; and white noise."""
    times = grids.GRIDS["log_snr"]("vp_linear", steps)
    grid = {
        "genfast": aligned("vp_linear", times),
        "share_0.35": aligned("vp_linear", times, 0.35),
        "not_aligned": times,
    }
    plans = {name: solvers.SOLVERS["dpmpp_2m_sde"]("vp_linear", times) for name, times in grid.items()}
    providers = {name: _ours(plan, "vp_linear", shape, device, "brownian") for name, plan in plans.items()}
    plain = plans["not_aligned"]
    providers["genfast_white"] = _ours(plain, "vp_linear", shape, device)
    return _bench("loop_brownian", shape, device, len(plain), plain.slots, providers)


def _bench(case, shape, device, rows: int, slots: int, providers) -> Bench:
    """The least traffic of a row: x in and out, the network's answer in, its next input out, the history in and out."""
    moved = rows * torch.Size(shape).numel() * 4 * (4 + 2 * slots)
    F = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    return Bench(case, shape, torch.float32, moved, {"F": 0.5 * F}, providers)
