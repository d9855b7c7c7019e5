"""Sampling by CUDA graphs: the bits of the plain loop, through the public names alone.

There are no graphs on a CPU, where two plain loops are compared.
"""

import pytest
import torch
from helpers import without_zeros

import genfast as gf


def unet(device, dtype=torch.float32):
    torch.manual_seed(0)
    net = without_zeros(gf.nn.UNet(channels=3, width=8, multipliers=(1, 2), attention=(1,), classes=10))
    return gf.Diffusion(net, schedule="edm", shape=(3, 8, 8)).to(device, dtype)


def mlp(device):
    torch.manual_seed(0)
    return gf.Diffusion(without_zeros(gf.nn.MLP(2, width=16, depth=2)), schedule="vp_linear", shape=(2,)).to(device)


def require_same_bits(model, device, n=10, graph=True, **settings):
    """By a graph, once when it is captured and once when it is there; by default; and without one."""
    settings = {"steps": 4, "chunk": 8, "progress": False} | settings
    ways = [{"graph": graph and device.type == "cuda"}] * 2 + [{}]
    plain = model.sample(n, graph=False, **settings)
    assert plain.isfinite().all()
    assert all(torch.equal(model.sample(n, **settings, **way), plain) for way in ways), settings


@pytest.mark.parametrize("solver", gf.solvers.SOLVERS)
def test_each_solver(solver, device):
    langevin = bool(gf.solvers.plan(solver, "vp_linear", 4).snr.any())  # the host asks for its noise
    require_same_bits(mlp(device), device, solver=solver, graph=not langevin)


def test_plans_and_seeds_of_one_model(device):
    """In any order: what one call leaves behind is not seen by the next."""
    model = mlp(device)
    for steps, seed, solver in ((4, 0, "dpmpp_2m"), (7, 0, "dpmpp_2m"), (4, 1, "ddim"), (7, 2, "heun"), (4, 0, "ddpm")):
        require_same_bits(model, device, steps=steps, seed=seed, solver=solver)


def test_chunks_and_numbers_of_samples(device):
    model = mlp(device)
    for n, chunk in ((0, 8), (1, 8), (8, 8), (9, 8), (30, 16), ([63, 5], 4)):
        require_same_bits(model, device, n=n, chunk=chunk)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("noise", ["white", "brownian"])
def test_a_guided_network_with_classes(dtype, guidance, noise, device):
    model, label = unet(device, dtype), torch.arange(10) % 10
    require_same_bits(model, device, label=label, guidance=guidance, noise=noise, solver="dpmpp_2m_sde")
    require_same_bits(model, device, label=3, guidance=guidance, solver="dpmpp_2m")


def test_channels_last(device):
    require_same_bits(unet(device).to(memory_format=torch.channels_last), device, label=1)


def test_clamped_and_inpainted(device):
    model, mask = mlp(device), torch.tensor([1.0, 0.0])
    require_same_bits(model, device, clamp=(-1.0, 1.0))
    require_same_bits(model, device, threshold=0.9)
    require_same_bits(model, device, known=torch.zeros(2), mask=mask, graph=False)  # the host asks for its noise


def test_weights_that_change(device):
    """In place, and by moving them elsewhere."""
    model = mlp(device)
    before = model.sample(4, steps=3, progress=False)
    require_same_bits(model, device)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    require_same_bits(model, device)
    model.double().float()
    require_same_bits(model, device)
    assert not torch.equal(model.sample(4, steps=3, progress=False), before)
