"""diffusers' schedulers beside ours on one fake network: the cases, their loop, their loop in float64.

Run as a program it prints the table of all cases: the greatest relative differences between trajectories.
"""

import contextlib
import importlib
from unittest import mock

import diffusers
import numpy as np
import torch

from genfast import ops
from genfast.integrations.diffusers import GenfastScheduler

SEED, SHAPE = 7, (3, 4, 4)
KARRAS, EXPONENTIAL, BETA = ({f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta"))
V, SAMPLE, TRAILING = (
    {"prediction_type": "v_prediction"},
    {"prediction_type": "sample"},
    {"timestep_spacing": "trailing"},
)
LEADING, ZERO_SNR = (
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"rescale_betas_zero_snr": True, **V, **TRAILING},
)
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
COSINE, SCALED = {"beta_schedule": "squaredcos_cap_v2"}, {"beta_schedule": "scaled_linear"}
LOW = {"final_sigmas_type": "sigma_min"}


def _cases():
    """(scheduler, config, options of each step, steps)."""
    trained = {"trained_betas": np.linspace(1e-4, 0.03, 500).tolist(), "num_train_timesteps": 500}
    for config in ({}, V, SAMPLE, COSINE, {**ZERO_SNR}, trained, {"beta_schedule": "sigmoid"}, {"thresholding": True}):
        yield "DDPM", config, {}, 20
    for kind in ("fixed_small_log", "fixed_large"):
        yield "DDPM", {"variance_type": kind, "clip_sample": False}, {}, 20
    yield "DDPM", {"timestep_spacing": "linspace"}, {}, 15
    for config in ({}, V, SAMPLE, COSINE, ZERO_SNR, {**SCALED, **LEADING, "set_alpha_to_one": False}):
        for options in ({}, {"eta": 0.7}, {"eta": 1.0, "use_clipped_model_output": True}):
            yield "DDIM", config, options, 20
    yield "DDIM", {"set_alpha_to_one": False}, {"eta": 0.5}, 50
    yield "DDIM", {"thresholding": True, "sample_max_value": 2.0}, {}, 20
    for config in ({}, V, SAMPLE, KARRAS, EXPONENTIAL, BETA, LEADING, TRAILING, ZERO_SNR, {**KARRAS, **LOW}, SCALED):
        yield "EulerDiscrete", config, {}, 20
    yield "EulerDiscrete", {"timestep_type": "continuous", **V, "sigma_min": 0.1, "sigma_max": 50.0, **KARRAS}, {}, 20
    yield "EulerDiscrete", {"interpolation_type": "log_linear"}, {}, 50
    for config in ({}, V, LEADING, ZERO_SNR, COSINE):
        yield "EulerAncestralDiscrete", config, {}, 20
    for config in ({}, V, SAMPLE, KARRAS, EXPONENTIAL, BETA, LEADING, {"clip_sample": True}):
        yield "HeunDiscrete", config, {}, 20
    for order in (1, 2, 3, 4):
        yield "LMSDiscrete", KARRAS if order > 2 else {}, {"order": order}, 20
    for algorithm in ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"):
        for order in (1, 2, 3) if not algorithm.startswith("sde") else (1, 2):
            for steps in (10, 20):
                config = {"algorithm_type": algorithm, "solver_order": order}
                config |= {"solver_type": "heun" if steps == 20 else "midpoint"}
                yield "DPMSolverMultistep", config | ({} if algorithm.endswith("++") else LOW), {}, steps
    more = (V, SAMPLE, KARRAS, EXPONENTIAL, BETA, {"use_lu_lambdas": True}, FLOW, ZERO_SNR, {**KARRAS, **LOW}, LEADING)
    for config in (*more, {"thresholding": True}, {**COSINE, **KARRAS, **V}, {"lambda_min_clipped": -5.1, **COSINE}):
        yield "DPMSolverMultistep", {**config, "solver_order": 3}, {}, 12
    for algorithm in ("dpmsolver++", "dpmsolver"):
        for order in (1, 2, 3):
            for steps in (12, 20):
                config = {"algorithm_type": algorithm, "solver_order": order, "lower_order_final": steps == 20}
                config |= {"solver_type": "heun" if steps == 20 else "midpoint"}
                yield "DPMSolverSinglestep", config | ({} if algorithm.endswith("++") else LOW), {}, steps
    for config in (KARRAS, FLOW, V):
        yield "DPMSolverSinglestep", config, {}, 21
    for order in (1, 2, 3):
        for kind in ("bh1", "bh2"):
            last = LOW if kind == "bh1" else {}
            yield "UniPCMultistep", {"solver_order": order, "solver_type": kind, **last}, {}, 20
    for config in (
        V,
        SAMPLE,
        KARRAS,
        FLOW,
        {**FLOW, **KARRAS},
        {**KARRAS, **LOW},
        ZERO_SNR,
        {"lower_order_final": False},
    ):
        yield "UniPCMultistep", {**config, **({} if config.get("lower_order_final", True) else LOW)}, {}, 10
    for order in (1, 2, 3):
        for config in ({}, KARRAS):
            yield "DEISMultistep", {"solver_order": order, **config}, {}, 10 if config else 20
    for config in ({}, V, LOW, {"sigma_schedule": "exponential"}):
        yield "EDMEuler", config, {}, 20
        yield "EDMDPMSolverMultistep", {**config, "solver_order": 2 if config == LOW else 3}, {}, 20
    for order in (1, 2):
        yield "EDMDPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", "solver_order": order}, {}, 20
    for config in ({}, {"shift": 3.0}, {"stochastic_sampling": True}, KARRAS, {"shift_terminal": 0.1}):
        yield "FlowMatchEulerDiscrete", config, {}, 20
    for config in ({}, {"shift": 3.0}):
        yield "FlowMatchHeunDiscrete", config, {}, 20


CASES = list(_cases())


def made(name, config, steps):
    scheduler = getattr(diffusers, f"{name}Scheduler")(**config)
    scheduler.set_timesteps(steps)
    return scheduler


def network(x, t, **_):
    """A function of each element, its place and the time."""
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1)) / 1000
    place = torch.linspace(-1, 1, x.shape[1:].numel(), dtype=x.dtype).reshape(x.shape[1:])
    return 0.6 * torch.sin(1.3 * x + t) + 0.3 * place * torch.cos(2 * t * x) + 0.1 * x


def noise(count=2, seed=SEED):
    return ops.normal(ops.make_key(seed, count), SHAPE, ops.Purpose.PRIOR)


def loop(scheduler, x, options=None, net=network):
    """The loop of diffusers' own tests; the state after every call."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    states = []
    for t in scheduler.timesteps:
        y = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(net(y, t), t, x, **(options or {})).prev_sample
        states.append(x)
    return torch.stack(states)


@contextlib.contextmanager
def our_noise(scheduler, count=2, seed=SEED, wide=False):
    """diffusers' scheduler draws the noise that ours makes: that of step 0, 1, 2, ...; wide: it computes in float64."""
    module, calls = importlib.import_module(type(scheduler).__module__), iter(range(10**6))

    def draw(shape, generator=None, device=None, dtype=None, layout=None):
        return ops.normal(ops.make_key(seed, count), shape[1:], ops.Purpose.STEP, next(calls)).to(dtype)

    class Wide:
        """torch, where float32 is float64: schedulers cast their state to it."""

        float32 = torch.float64

        def __getattr__(self, name):
            return getattr(torch, name)

    with mock.patch.object(module, "randn_tensor", draw, create=True):
        if not wide:
            yield
            return
        for name in ("alphas_cumprod", "sigmas", "final_alpha_cumprod", "one"):
            if hasattr(scheduler, name):
                setattr(scheduler, name, getattr(scheduler, name).double())
        with mock.patch.object(module, "torch", Wide()):
            yield


def start(scheduler, count=2):
    return noise(count) * float(getattr(scheduler, "init_noise_sigma", 1.0))


def difference(ours, theirs):
    """The greatest difference after any call, relative to the greatest number there."""
    return float(((ours - theirs).abs().flatten(1).amax(1) / theirs.abs().flatten(1).amax(1)).max())


def compare(name, config, options, steps, wide=True):
    """ours - theirs; if wide also theirs - theirs in float64, ours - theirs in float64, both in float64."""
    scheduler = made(name, config, steps)
    ours = GenfastScheduler.from_scheduler(scheduler, seed=SEED)
    x = start(scheduler)
    mine = loop(ours, x, options)
    with our_noise(scheduler):
        theirs = loop(scheduler, x, options)
    if not wide:
        return (difference(mine, theirs),)
    mine_wide = loop(ours, x.double(), options)
    scheduler = made(name, config, steps)
    with our_noise(scheduler, wide=True):
        wide = loop(scheduler, x.double(), options)
    return difference(mine, theirs), difference(theirs, wide), difference(mine, wide), difference(mine_wide, wide)


def table():
    """Lines of the comparison of all cases."""
    titles = " ".join(f"{title:>11}" for title in ("ours-theirs", "theirs-f64", "ours-f64", "both f64"))
    yield f"{'scheduler':24} {titles}  steps, config, options"
    for name, config, options, steps in CASES:
        numbers = " ".join(f"{value:11.1e}" for value in compare(name, config, options, steps))
        config = {k: v for k, v in config.items() if k != "trained_betas"}
        yield f"{name:24} {numbers}  {steps} {config} {options or ''}"


if __name__ == "__main__":
    for line in table():
        print(line)
