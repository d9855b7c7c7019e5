"""Every op refuses what it cannot do, naming the argument; and takes what is merely unusual."""

import pytest
import torch

from genfast import ops
from genfast.diffusion.process import schedules
from genfast.testing import CASES, to

B, SHAPE = 3, (3, 2, 4, 4)


def args_of(name, **changes):
    args = CASES[name].inputs(SHAPE, torch.float32, torch.Generator().manual_seed(0))
    return args | {k: v(args) if callable(v) else v for k, v in changes.items()}


def transposed(name):
    return lambda args: args[name].transpose(2, 3)


def with_value(name, at, value):
    def change(args):
        copy = args[name].clone()
        copy[at] = value
        return copy

    return change


BAD = [
    ("diffuse", {"x0": lambda a: a["x0"].int()}, "x0 must be float32; got int32"),
    ("diffuse", {"x0": lambda a: a["x0"].bfloat16()}, "x0 must be float32; got bfloat16"),
    ("diffuse", {"alpha": lambda a: a["alpha"][:2]}, r"alpha must have shape \(3,\), one number a sample; got \(2,\)"),
    ("diffuse", {"sigma": lambda a: a["sigma"].half()}, "sigma must be float32; got float16"),
    ("diffuse", {"c_in": with_value("c_in", 1, float("nan"))}, r"c_in\[1\] must be a finite number; got nan"),
    ("diffuse", {"alpha": with_value("alpha", 2, float("inf"))}, r"alpha\[2\] must be a finite number; got inf"),
    ("diffuse", {"key": ops.make_key(0, 2)}, r"key must have shape \(3, 2\); got \(2, 2\)"),
    ("diffuse", {"dtype": torch.int64}, "dtype must be float32, bfloat16 or float16; got int64"),
    ("diffuse", {"step": -1}, "step must be an integer from 0"),
    ("denoising_loss", {"net": lambda a: a["net"][:2]}, "net must have the shape of x0"),
    ("denoising_loss", {"net": lambda a: a["net"].long()}, "net must be float32, bfloat16 or float16; got int64"),
    (
        "denoising_loss",
        {"weight": with_value("weight", 0, float("nan"))},
        r"weight\[0\] must be a finite number; got nan",
    ),
    ("denoising_loss", {"q": lambda a: a["q"][:, None]}, r"q must have shape \(3,\)"),
    ("dot", {"a": lambda a: a["a"].long()}, "a must be float32, bfloat16 or float16; got int64"),
    ("dot", {"b": lambda a: a["b"].bfloat16()}, "b must be float32; got bfloat16"),
    ("dot", {"b": lambda a: a["b"][:2]}, r"b must have the shape of a, \(3, 2, 4, 4\); got \(2, 2, 4, 4\)"),
    ("langevin_guided", {"x": lambda a: a["x"].half()}, "x must be float32; got float16"),
    ("langevin_guided", {"net": lambda a: a["net"][:2]}, "net must have the shape of x"),
    ("langevin_guided", {"y": lambda a: a["y"].bfloat16()}, "y must be float32; got bfloat16"),
    ("langevin_guided", {"snr": lambda a: a["snr"][:2]}, r"snr must have shape \(3,\), one number a sample"),
    (
        "langevin_guided",
        {"sigma": with_value("sigma", 1, float("nan"))},
        r"sigma\[1\] must be a finite number; got nan",
    ),
    ("langevin_guided", {"c_in": lambda a: a["c_in"].double()}, "c_in must be float32; got float64"),
    ("langevin_guided", {"guidance": None}, "unconditional and guidance go together"),
    ("langevin_guided", {"key": ops.make_key(0, 2)}, r"key must have shape \(3, 2\)"),
    ("langevin_guided", {"step": 2**24}, "step must be an integer from 0"),
    ("dynamic_threshold", {"D": lambda a: a["D"].half()}, "D must be float32; got float16"),
    ("dynamic_threshold", {"quantile": 1.5}, r"quantile must be a number in \[0, 1\]; got 1.5"),
    ("dynamic_threshold", {"quantile": float("nan")}, "quantile must be a number in"),
    ("dynamic_threshold", {"bound": 0.0}, "bound must be a finite number above 0; got 0.0"),
    ("dynamic_threshold", {"limit": 0.5}, "limit must be a finite number of at least 1; got 0.5"),
    ("runge_kutta_7_error", {"x": lambda a: a["x"].half()}, "x must be float32; got float16"),
    ("runge_kutta_7_error", {"k": lambda a: a["k"][:, :2]}, r"k\[k\] must have the shape of x"),
    ("runge_kutta_7_error", {"k": lambda a: torch.cat([a["k"]] * 2)}, "n from 1 to 7"),
    ("runge_kutta_7_error", {"c": lambda a: a["c"][:, :4]}, r"c must have shape \(3, 7\); got \(3, 4\)"),
    ("runge_kutta_7_error", {"error": lambda a: a["error"].double()}, "error must be float32; got float64"),
    ("runge_kutta_7_error", {"rtol": -1.0}, "rtol must be a finite number of at least 0; got -1.0"),
    ("runge_kutta_7_error", {"atol": 0.0}, "atol must be a finite number above 0; got 0.0"),
    ("step_everything", {"row": with_value("row", 1, 5)}, r"row\[1\] must lie in 0 to 4; got 5"),
    ("step_everything", {"row": with_value("row", 1, -1)}, r"row\[1\] must lie in 0 to 4; got -1"),
    ("step_everything", {"row": lambda a: a["row"].long()}, "row must be int32; got int64"),
    ("step_everything", {"x": lambda a: a["x"].half()}, "x must be float32; got float16"),
    ("step_everything", {"y": lambda a: a["y"].bfloat16()}, "y must be float32; got bfloat16"),
    ("step_everything", {"unconditional": None}, "unconditional and guidance go together"),
    (
        "step_everything",
        {"guidance": with_value("guidance", 2, float("nan"))},
        r"guidance\[2\] must be a finite number; got nan",
    ),
    ("step_everything", {"history": None}, "row 0 of the plan touches a history slot beyond the 0 given"),
    ("step_everything", {"history": lambda a: a["history"][:3]}, "slot beyond the 3 given"),
    ("step_everything", {"history": lambda a: a["history"][:, :2]}, r"history\[k\] must have the shape of x"),
    ("step_everything", {"history": lambda a: torch.cat([a["history"]] * 2)}, "with n from 1 to 4"),
    ("step_everything", {"clamp": (1.0, -1.0)}, "clamp must be"),
    ("step_everything", {"clamp": (float("nan"), 1.0)}, "clamp must be"),
    (
        "step_everything",
        {"table": lambda a: a["table"]._replace(coefficients=a["table"].coefficients[:, :40])},
        r"coefficients must have shape \(5, 44\)",
    ),
    (
        "step_everything",
        {"table": lambda a: ops.StepTable(*(part[:0] for part in a["table"]))},
        "coefficients must have at least one row",
    ),
    (
        "step_everything",
        {"table": lambda a: a["table"]._replace(weights=a["table"].weights[:-1])},
        r"weights must have shape \(10,\); got \(9,\)",
    ),
    (
        "step_everything",
        {"table": lambda a: a["table"]._replace(codes=a["table"].codes + torch.tensor([1, 1, 0, 0]).int())},
        "row 4 of the plan must have noise terms within the 10 there are; got 9 to 11",
    ),
]


@pytest.mark.parametrize("name, changes, message", BAD)
def test_refused(name, changes, message):
    args = args_of(name, **changes)
    before = to(args, torch.clone)
    with pytest.raises((RuntimeError, ValueError), match=message):
        CASES[name].op(**args)
    after = [v for v in args.values() if isinstance(v, torch.Tensor) and v.device.type == "cpu"]
    kept = [v for v in before.values() if isinstance(v, torch.Tensor) and v.device.type == "cpu"]
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(after, kept, strict=True)), (
        "changed its input"
    )


@pytest.mark.parametrize("name, changes, message", [bad for bad in BAD if " must be float32" not in bad[2]])
def test_refused_in_float64(name, changes, message):
    """The ways around the kernels check what the kernels do, if not in the same words."""
    args = CASES[name].inputs(SHAPE, torch.float32, torch.Generator().manual_seed(0))
    args = to(args, lambda t: t.double() if t.dtype == torch.float32 else t)
    args |= {k: v(args) if callable(v) else v for k, v in changes.items()}
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        CASES[name].op(**args)


@pytest.mark.parametrize("name", CASES)
def test_empty_batch(name):
    args = CASES[name].inputs((0, 2, 4, 4), torch.float32, torch.Generator())
    assert all(0 in out.shape for out in CASES[name].op(**args))


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_extreme_seeds(seed):
    for name in ("diffuse", "denoising_loss", "step_everything"):
        args = args_of(name, key=ops.make_key(seed, torch.tensor([0, 1, 2**63 - 1])))
        assert all(out.isfinite().all() for out in CASES[name].op(**args))


def test_nan_in_the_data_goes_through():
    """One bad sample spoils itself and nothing else."""
    args = args_of("step_everything", net=with_value("net", (1, 0, 0, 0), float("nan")))
    x = CASES["step_everything"].op(**args)[0]
    assert x[1].isnan().sum() == 1 and x[0].isfinite().all() and x[2].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_low_precision_keeps_the_noise(name, dtype):
    """At each of 1000 steps the noise added to a low-precision input has the standard deviation sigma, within 1 %.

    The input of x_0 = 0 is the noise alone; for data, the noise's share of the input is its regression on the noise,
    with an x_0 whose own rounding is spread evenly.
    """
    schedule = schedules.SCHEDULES[name]()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = schedule.alpha(t).float(), schedule.sigma(t).float()
    c_in = (1 / (alpha**2 + sigma**2).sqrt()).clamp(max=1)
    key = ops.make_key(11, 1000)
    z = ops.normal(key, (4096,), ops.Purpose.TRAIN).double()
    alone = ops.diffuse(torch.zeros(1000, 4096), key, alpha, sigma, c_in, dtype=dtype).double() / c_in.double()[:, None]
    assert ((alone.std(1) / (sigma.double() * z.std(1)) - 1).abs() < 0.01).all()

    lowest = torch.argsort(sigma)[:4]
    alpha, sigma, c_in = alpha[lowest], sigma[lowest], c_in[lowest]
    key = ops.make_key(12, 4)
    z = ops.normal(key, (2**20,), ops.Purpose.TRAIN)
    x0 = (2 * ops.uniform(key, (2**20,), ops.Purpose.LATENT) - 1) / 4
    y = ops.diffuse(x0, key, alpha, sigma, c_in, dtype=dtype).float()
    share = ((y / c_in[:, None] - alpha[:, None] * x0) * z).double().mean(1) / z.double().square().mean(1)
    assert ((share / sigma - 1).abs() < 0.01).all()
