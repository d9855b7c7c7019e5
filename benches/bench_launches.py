"""Kernels that a forward and a training step launch: on a GPU the host is the limit of a small network.

    forward        of sampling: no gradient, modulations prepared; contiguous, float32
    channels-last  the same, weights and x
    bfloat16       the same, weights and x
    prepare        the modulations of a batch, which sampling makes once for a plan
    step           one of `fit`: batch, loss, backward, clip, AdamW, average, log

On a CPU they are counted as ops, `testing.count_launches`, among them what only a CPU needs: checks of values, the
channels-last copy of a U-Net; AdamW and the average are one each. How many there are does not depend on the width, so
narrow networks are counted there. On CUDA the profiler counts kernels.
"""

from collections import Counter
from collections.abc import Callable

import torch

import genfast as gf
from genfast import testing
from genfast.studies import digits

BATCH = 32  # so many that every halving and doubling is done as in a chunk of 64
MODES = ("forward", "channels-last", "bfloat16", "prepare", "step")
NETWORKS = {  # preset, width on a CPU, shape of a sample
    "ddpm_cifar10": ("ddpm_cifar10", 32, (3, 32, 32)),
    "dit_s_2": ("dit_s_2", 48, (4, 32, 32)),
    "demo": (None, None, (1, 8, 8)),
}
EXCESS = {"copies": ("clone", "copy_"), "casts": ("_to_copy",), "cats": ("cat", "stack")}  # that a kernel could spare


def names() -> list[str]:
    return list(NETWORKS)


def count(name: str, mode: str, device: torch.device | str = "cpu") -> Counter[str]:
    """Launches by name, of a network and mode as above."""
    device = torch.device(device)
    preset, width, shape = NETWORKS[name]
    if preset is None:
        model = digits.build()
    else:
        model = gf.Diffusion(gf.nn.presets.build(preset, **{"width": width} if device.type == "cpu" else {}))
    model, x = model.to(device), torch.randn(BATCH, *shape, device=device)
    label = torch.arange(BATCH, device=device) % 10 if model.classes else None
    function = _step(model, x, label) if mode == "step" else _call(model.net, x, label, mode)
    return testing.count_launches(function, device)


def _call(net: torch.nn.Module, x: torch.Tensor, label: torch.Tensor | None, mode: str) -> Callable[[], object]:
    net.eval()
    if mode == "channels-last":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    if mode == "bfloat16":
        net, x = net.bfloat16(), x.bfloat16()
    t = torch.full((len(x),), 0.5, device=x.device)
    with torch.no_grad():
        prepared = net.prepare(t, label)

    @torch.no_grad()
    def call():
        return net.prepare(t, label) if mode == "prepare" else net(x, t, prepared=prepared)

    return call


def _step(model: gf.Diffusion, x: torch.Tensor, label: torch.Tensor | None) -> Callable[[], object]:
    """The second step of a run, for the first has nothing to take into the average."""
    run = iter(gf.Fit(model, x if label is None else (x, label), steps=3, batch=BATCH, log_every=1))
    next(run)
    return lambda: next(run)


def report(arguments) -> list[dict]:
    """Prints the table; the rows of --json."""
    device, rows = torch.device(arguments.device), []
    torch.set_num_threads(1)
    heads = "".join(f"{kind:>9}" for kind in EXCESS)
    print(f"\nlaunches, batch {BATCH}\n{'network':<15}{'mode':<15}{'all':>6}{heads}")
    for name in arguments.cases:
        for mode in MODES:
            found = count(name, mode, device)
            excess = {kind: sum(found[op] for op in ops) for kind, ops in EXCESS.items()}
            shown = "".join(f"{number if device.type == 'cpu' else '':>9}" for number in excess.values())
            print(f"{name:<15}{mode:<15}{found.total():>6}{shown}", flush=True)
            print("    " + ", ".join(f"{op} {number}" for op, number in found.most_common()))
            rows.append({
                "bench": "launches", "case": name, "mode": mode, "device": str(device), "torch": torch.__version__,
                "launches": found.total(), "by_name": dict(found.most_common()),
            })  # fmt: skip
    return rows
