"""Every public function with one wrong argument at a time: it works, or says in a ValueError or TypeError which one."""

import functools
import re

import numpy as np
import pytest
import torch
from families import family, images
from PIL import Image
from toys import Gaussian
from vaes import model as small_vae

import genfast as gf
from genfast import ops
from genfast.diffusion import guidance, sampling
from genfast.diffusion.elbo import elbo
from genfast.diffusion.likelihood import bits_per_dim, log_likelihood
from genfast.diffusion.process import grids, tabulated
from genfast.diffusion.solvers import SOLVERS, plan, time_grid
from genfast.diffusion.times import LogNormal
from genfast.gan import augment

OBJECTS = [
    None, "x", "3", b"x", [], [1.0], ["a", "b"], [[1.0], [1.0, 2.0]], object(), {}, {"a": 1}, {1: 2}, {1, 2}, (1, 2),
    float("nan"), float("inf"), -1, 0, 1.5, 2**70, 10**400, True, 1j, torch.float16,
    Image.new("L", (4, 4)), np.array([None, 1], dtype=object), np.array(["a"] * 6), np.array(["2020"], "datetime64"),
    np.zeros(6, [("a", "f4"), ("b", "i4")]), np.ones((6, 2), np.float32)[::-1], np.ones((6, 2), ">f4"), np.array(0.5),
    np.ma.masked_array(np.ones((6, 2), np.float32)),
]  # fmt: skip
TENSORS = [
    torch.ones(6, 2) * 1j, torch.ones(6, 2) > 0, torch.ones(6, 2, dtype=torch.int64), torch.empty(0), torch.tensor(0.5),
    torch.ones(6, 2, 1, 1, 1), torch.full((6, 2), torch.nan), torch.eye(2).to_sparse(),
    torch.ones(6, 2).to(torch.float8_e4m3fn), torch.ones(6, 2, dtype=torch.float64),
]  # fmt: skip


def x(n=6, d=2):
    return torch.linspace(-1, 1, n * d).reshape(n, d).clone()


def key():
    return ops.make_key(0, 6)


def columns(*names):
    return {name: torch.ones(6) for name in names}


NET = gf.nn.MLP(2, width=8, depth=1, classes=2, condition=3)
UNET = gf.nn.UNet(1, 4, (1, 1), dropout=0.1)
MODEL = gf.Diffusion(NET, shape=(2,))
PLAIN = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
DENOISER, PLAN, FEW = PLAIN.denoiser, plan("euler", "edm", 2), {"steps": 2, "progress": False}
LABEL, TIMES = torch.zeros(6, dtype=torch.int64), torch.tensor([1.0, 0.5, 0.2, 0.0], dtype=torch.float64)
NORMAL = gf.Gaussian().fit(torch.randn(20, 2, generator=torch.Generator().manual_seed(0)))
CLASSIFIER = gf.GenerativeClassifier([NORMAL, gf.Gaussian("diagonal").fit(x())])
VAE, GAN = small_vae(shape=(6,)), family("gan")
CONV = {
    "size": (4, 4), "channels": 1, "latent": 2, "width": 4, "multipliers": (1, 2), "blocks": 1, "spatial": False,
    "classes": 2, "condition": 2,
}  # fmt: skip
IMAGES, TOLD = images(6), {"label": LABEL, "condition": torch.zeros(6, 2)}


def queued(**arguments):
    queue = MODEL.queue(capacity=2)
    queue.add(**arguments)
    return list(queue)


def first(x_0):
    return x_0[:, :1]


def measured(method, **arguments):
    """A sample given a measurement, of an inverse problem."""
    given = {"measurement": arguments.pop("measurement", torch.zeros(6, 1))}
    more = {} if method is guidance.DPS else {"noise_std": 0.1}
    denoiser = method(DENOISER, **{"A": first} | more | arguments)
    return sampling.sample(denoiser, (2,), PLAN, 6, condition=given, progress=False)


def evaluated(**arguments):
    few = {"metrics": "frechet", "n": 20, "progress": False}
    return gf.evaluate(**{"model": Gaussian(2), "data": torch.randn(20, 2)} | few | arguments)


CASES = {  # name: the function and a valid call of it, whose arguments are made wrong one by one
    "Diffusion": (gf.Diffusion, {
        "net": NET, "schedule": "edm", "parameterization": "edm", "times": "uniform", "label_dropout": 0.1,
        "classes": 2, "shape": (2,), "levels": 17, "units": None,
    }),
    "Units": (gf.data.Units, {"mean": [0.0, 1.0], "sd": [1.0, 2.0]}),
    "arrays": (gf.data.arrays, {"x": x(), "layout": None}),
    "table": (gf.data.table, {"frame": {"a": [1.0, 2.0], "b": [1, 2]}, "label": None, "condition": None}),
    "Data.augmented": (gf.data.Data(images(6)).augmented, {"flip": True, "crop": None}),
    "Diffusion.measure": (gf.Diffusion(gf.nn.MLP(2, width=8, depth=1)).measure, {"batch": {"x": x()}}),
    "Diffusion.log_snr": (MODEL.log_snr, {"key": key()}),
    "Diffusion.loss": (lambda key, **batch: MODEL.loss(batch, key), {
        "x": x(), "label": LABEL, "condition": torch.zeros(6, 3), "key": key(),
    }),
    "Diffusion.loss of a batch": (MODEL.loss, {"batch": {"x": x()}, "key": key()}),
    "Diffusion.sample": (lambda n=3, **more: MODEL.sample(n, **FEW | more), {
        "n": 3, "seed": 0, "label": 0, "condition": torch.zeros(1, 3), "solver": "euler", "steps": 2, "grid": None,
        "guidance": 1.0, "negative_label": None, "clamp": None, "clip": None, "threshold": None, "start": None,
        "noise": "white", "chunk": 4, "shape": None, "dtype": torch.float32, "graph": False, "progress": False,
        "callback": None,
    }),
    "Diffusion.sample of a source": (lambda **more: PLAIN.sample(6, **FEW | more), {"source": x(), "strength": 0.5}),
    "Diffusion.sample with a mask": (lambda **more: PLAIN.sample(6, **FEW | more), {"known": x(), "mask": x() > 0}),
    "Diffusion.denoise": (MODEL.denoise, {"x_t": x(), "t": 0.5, "label": None, "condition": None}),
    "Diffusion.elbo": (MODEL.elbo, {"x": x(), "key": key(), "label": None, "samples": 2, "chunk": 8}),
    "Diffusion.queue": (MODEL.queue, {"capacity": 2, "clamp": None, "clip": None}),
    "queue.add": (queued, {
        "index": 3, "seed": 0, "label": 0, "condition": None, "solver": "euler", "steps": 2, "grid": None,
        "guidance": 1.0, "negative_label": None, "noise": "white",
    }),
    "sampling.sample": (sampling.sample, {
        "denoiser": DENOISER, "shape": (2,), "plan": PLAN, "index": 3, "seed": 0, "condition": None, "guidance": None,
        "unconditional": None, "chunk": 4, "device": "cpu", "progress": False,
    }),
    "sample_adaptively": (sampling.sample_adaptively, {
        "denoiser": DENOISER, "shape": (2,), "index": 2, "rtol": 0.5, "atol": 0.5, "device": "cpu", "progress": False,
    }),
    "invert": (sampling.invert, {
        "denoiser": DENOISER, "x_0": x(), "solver": "euler", "steps": 3, "condition": None, "device": "cpu",
        "progress": False,
    }),
    "aligned": (sampling.aligned, {"schedule": "edm", "times": TIMES, "share": 0.15}),
    "log_likelihood": (log_likelihood, {
        "denoiser": DENOISER, "x": x(), "condition": None, "divergence": "rademacher", "probes": 1, "first_probe": 0,
        "seed": 0, "index": None, "steps": 2, "t_min": None, "prior": None, "chunk": 8, "dtype": torch.float64,
        "progress": False,
    }),
    "bits_per_dim": (lambda **more: bits_per_dim(DENOISER, **FEW | more), {"x": LABEL[:, None], "levels": 4}),
    "elbo": (elbo, {"denoiser": DENOISER, "x": x(), "key": key(), "condition": None}),
    "Guidance": (gf.Guidance, {"scale": 2.0, "interval": (0, 1), "rescale": 0.0, "network": None}),
    "ClassifierGuidance": (guidance.ClassifierGuidance, {
        "denoiser": DENOISER, "log_prob": len, "scale": 1.0, "conditions": (), "shared": (),
    }),
    "DPS": (lambda **more: measured(guidance.DPS, **more), {"measurement": torch.zeros(6, 1), "zeta": 1.0}),
    "PiGDM": (lambda **more: measured(guidance.PiGDM, **more), {
        "measurement": torch.zeros(6, 1), "A": first, "noise_std": 0.1, "data_std": 1.0, "iterations": 1,
    }),
    "MMPS": (lambda **more: measured(guidance.MMPS, **more), {"measurement": torch.zeros(6, 1), "operands": ()}),
    "Tabulated": (tabulated.Tabulated, {"alphas": [0.9, 0.5, 0.1], "sigmas": [0.1, 0.5, 0.9]}),
    "EDM": (gf.schedules.EDM, {"sigma_min": 0.1, "sigma_max": 9.0, "rho": 7.0}),
    "alpha": (lambda t: gf.schedules.VPLinear().alpha(t), {"t": 0.5}),
    "LogNormal": (LogNormal, {"mean": 0.0, "std": 1.0}),
    "EDM's parameterization": (gf.denoisers.EDM, {"sigma_data": 0.5}),
    "Denoiser": (gf.denoisers.Denoiser, {"net": NET, "schedule": "edm", "parameterization": "edm"}),
    "Denoiser.score": (gf.denoisers.Denoiser(lambda y, t: y, "edm", "edm").score, {"x_t": x(), "t": 0.5}),
    "karras": (grids.karras, {"schedule": "edm", "steps": 4, "rho": 7.0}),
    "plan": (plan, {"solver": "euler", "schedule": "edm", "steps": 3, "grid": None, "final_sigma": "zero"}),
    "time_grid": (time_grid, {"solver": "euler", "schedule": "edm", "grid": None}),
    "edm": (SOLVERS["edm"], {"schedule": "edm", "times": TIMES, "s_churn": 0.0, "s_tmax": 1.0}),
    "dpmpp_3m": (SOLVERS["dpmpp_3m"], {"schedule": "edm", "times": TIMES, "curvature": 1.0, "solver_type": "heun"}),
    "repaint": (SOLVERS["repaint"], {"schedule": "edm", "times": TIMES, "resample": 2}),
    "Plan": (lambda **more: gf.Plan(**{name: getattr(PLAN, name) for name in gf.Plan.__annotations__} | more), {
        name: getattr(PLAN, name) for name in ("name", "order", "steps", "prior_std", "a", "e", "writes", "stream")
    }),
    "Plan.start": (PLAN.start, {"z": x(), "source": None}),
    "Gaussian": (gf.Gaussian, {"covariance": "low_rank", "rank": 0, "shrinkage": 0.0, "ridge": 0.0, "shape": (2, 2)}),
    "Gaussian.from_moments": (gf.Gaussian.from_moments, {"mean": torch.zeros(2), "covariance": torch.eye(2)}),
    "PPCA": (gf.PPCA, {"q": 1, "tolerance": 0.1, "max_iterations": 3, "shape": (2, 2)}),
    "GaussianMixture": (gf.GaussianMixture, {
        "components": 2, "min_variance": 1e-6, "tolerance": 1e-3, "max_iterations": 3, "starts": 1, "shape": (2,),
    }),
    "GaussianMixture.from_parameters": (functools.partial(gf.GaussianMixture.from_parameters, weights=[1.0]), {
        "means": x(1), "covariances": torch.ones(1),
    }),
    "Gaussian.fit": (lambda data: gf.Gaussian("diagonal").fit(data), {"data": x()}),
    "Gaussian.log_prob": (NORMAL.log_prob, {"x": x()}),
    "Gaussian.sample": (NORMAL.sample, {"n": 3, "seed": 0}),
    "Gaussian.denoiser": (NORMAL.denoiser, {"schedule": "edm"}),
    "GenerativeClassifier": (gf.GenerativeClassifier, {"models": [NORMAL, NORMAL], "prior": [1.0, 1.0]}),
    "GenerativeClassifier.predict": (CLASSIFIER.predict, {"x": x()}),
    "GenerativeClassifier.accuracy": (CLASSIFIER.accuracy, {"data": (x(), LABEL)}),
    "VAE": (gf.VAE, {
        "encoder": VAE.encoder, "decoder": VAE.decoder, "latent": 4, "likelihood": "gaussian", "beta": 1.0,
        "kl_warmup": 0, "free_bits": 0.0, "classes": 0, "shape": (6,), "units": None,
    }),
    "VAE.loss": (lambda x, key: VAE.loss({"x": x}, key, step=0), {"x": x(6, 6), "key": key()}),
    "VAE.encode": (VAE.encode, {"x": x(6, 6), "label": None, "condition": None}),
    "VAE.decode": (VAE.decode, {"z": x(6, 4)}),
    "VAE.sample": (VAE.sample, {"n": 3, "seed": 0, "temperature": 1.0, "noise": False, "chunk": 4}),
    "VAE.log_weights": (VAE.log_weights, {"x": x(6, 6), "key": key(), "samples": 1, "first": 0}),
    "VAE.interpolate": (VAE.interpolate, {"a": x(6, 6)[0], "b": x(6, 6)[1], "n": 3, "slerp": False}),
    "VAE.traverse": (VAE.traverse, {"x": x(6, 6)[0], "dim": 0, "range": (-1, 1), "n": 3}),
    "VAE.active_units": (VAE.active_units, {"data": x(6, 6), "threshold": 0.01, "chunk": 8}),
    "LearnedVariance": (gf.vae.likelihoods.LearnedVariance, {"shape": (), "floor": -12.0}),
    "Bernoulli": (gf.vae.likelihoods.Bernoulli().log_prob, {"x": x(), "f": x()}),
    "GAN": (gf.GAN, {
        "generator": GAN.generator, "discriminator": GAN.discriminator, "latent": 2, "loss": "hinge", "r1": 0.1,
        "lazy": 1, "spectral_norm": False, "sigma_data": 0.5, "augment": (), "classes": 3, "shape": (1, 4, 4),
        "units": None,
    }),
    "GAN.loss": (
        lambda key, step, **batch: GAN.loss(batch, key, step=step),
        {"x": IMAGES, "label": LABEL, "key": key(), "step": 0},
    ),
    "GAN.sample": (GAN.sample, {"n": 3, "seed": 0, "label": 0, "chunk": 4}),
    "augment.color": (augment.color, {"x": IMAGES, "u": torch.zeros(6, 4)}),
    "Fit": (gf.Fit, {
        "model": PLAIN, "data": x(), "steps": 2, "batch": 4, "lr": 1e-3, "warmup": 1, "decay": "cosine", "clip": 1.0,
        "weight_decay": 0.0, "ema": 0.05, "seed": 0, "log_every": 1, "save_every": None, "device": None,
        "progress": False, "parallel": None,
    }),
    "Data": (gf.data.Data, {"x": x() / 9, "label": LABEL, "condition": x(), "levels": 17}),
    "as_data": (gf.data.as_data, {"data": x()}),
    "Data.batch": (gf.data.Data(x()).batch, {"seed": 0, "first": 0, "size": 2}),
    "Data.rows": (gf.data.Data(x()).rows, {"index": LABEL}),
    "emoji": (gf.data.emoji, {"size": 8, "font": "nowhere"}),
    "toy": (gf.data.toy, {"name": "moons", "n": 6, "seed": 0}),
    "ToyData.log_density": (gf.data.toy("moons", 4).log_density, {"x": x()}),
    "grid": (gf.data.grid, {"images": IMAGES, "columns": None, "padding": 1, "scale": 1, "value_range": (-1, 1)}),
    "frechet": (gf.metrics.frechet, {"samples": x(), "real": x(), "seed": 0, "level": 0.9}),
    "kernel_distance": (gf.metrics.kernel_distance, {"samples": x(), "real": x(), "kernel": "rbf", "gamma": 1.0}),
    "precision_recall": (gf.metrics.precision_recall, {"samples": x(), "real": x(), "k": 1}),
    "two_sample_test": (gf.metrics.two_sample_test, {"samples": x(), "real": x(), "k": 1, "classifier": None}),
    "metrics.likelihood": (gf.metrics.likelihood, {"nats": torch.ones(6), "dims": 2, "se": torch.ones(6)}),
    "Moments.merge": (gf.metrics.Moments(2).merge, {"other": gf.metrics.Moments(2)}),
    "pixels": (gf.features.pixels, {"shape": (2,)}),
    "module": (gf.features.module, {"net": torch.nn.Flatten(), "name": None, "shape": (2,)}),
    "load": (functools.partial(gf.data.load, "digits:test"), {
        "size": None, "broken": "raise", "channels": None, "names": None, "layout": None,
    }),
    "extract": (gf.features.extract, {"features": gf.features.pixels((2,)), "x": x(), "batch": 4}),
    "evaluate": (evaluated, {
        "model": Gaussian(2), "data": x(20), "metrics": "frechet", "n": 6, "features": None, "seed": 0, "train": None,
        "sampling": None, "likelihood": None, "per_class": None, "level": 0.9, "progress": False,
    }),
    "compare": (gf.compare, {"models": [("a", NORMAL), ("b", NORMAL)]}),
    "diagnose": (gf.diagnose, {"report": None}),
    "nn.Encoder": (gf.nn.Encoder, CONV),
    "nn.Discriminator": (gf.nn.Discriminator, {name: CONV[name] for name in CONV if name not in ("latent", "spatial")}),
    "nn.DiT": (gf.nn.DiT, {"patch": 2, "width": 16, "depth": 1, "heads": 2, "ratio": 4.0, "qk_norm": False}),
    "nn.UNet": (gf.nn.UNet, {
        "channels": 1, "width": 4, "multipliers": (1, 2), "attention": (), "out_channels": None, "dims": 2,
        "pad": False, "groups": None, "dropout": 0.0, "timesteps": None,
    }),
    "nn.MLP of x": (NET, {"x": x(), "t": torch.ones(6), "label": LABEL, "condition": x(6, 3), "prepared": None}),
    "nn.UNet of x": (UNET, {"x": IMAGES, "t": torch.ones(6), "key": key()}),
    "nn.Encoder of x": (gf.nn.Encoder(**CONV), {"x": IMAGES} | TOLD),
    "nn.Decoder of z": (gf.nn.Decoder(**CONV), {"z": x()} | TOLD),
}  # fmt: skip

OPS = {
    "make_key": (ops.make_key, {"seed": 0, "index": 6, "device": None}),
    "normal": (ops.normal, {"key": key(), "shape": (2,), "purpose": 1, "step": 0, "dtype": torch.float32}),
    "split_stream": (ops.split_stream, {"stream": 3}),
    "dot": (ops.dot, {"a": x(), "b": x()}),
    "dropout": (ops.dropout, {"x": x(), "key": key(), "p": 0.1, "layer": 0}),
    "bias_act": (ops.bias_act, {"x": x(), "bias": torch.zeros(2), "act": "silu"}),
    "geglu": (ops.geglu, {"x": x()}),
    "denoising_loss": (ops.denoising_loss, {"net": x(), "x0": x(), "key": key()} | columns("p", "q", "weight")),
    "diffuse": (ops.diffuse, {"x0": x(), "key": key(), "target": None} | columns("alpha", "sigma", "c_in")),
    "dynamic_threshold": (ops.dynamic_threshold, {"D": x(), "quantile": 0.9, "bound": 1.0, "limit": None}),
    "group_norm_act": (lambda x, **more: ops.group_norm_act(x, 2, **more), {"x": x(6, 4), "weight": torch.ones(4)}),
    "kernel_sums": (ops.kernel_sums, {"x": x(), "y": x(), "kernel": "rbf", "gamma": 1.0, "exclude_self": False}),
    "langevin": (ops.langevin, {"x": x(), "net": x(), "key": key(), "y": None} | columns(
        "alpha", "sigma", "snr", "c_skip", "c_out",
    )),
    "layer_norm_modulate": (ops.layer_norm_modulate, {"x": x(), "scale": x(), "shift": x(), "weight": torch.ones(2)}),
    "nearest": (ops.nearest, {"x": x(), "y": x(), "k": 2, "exclude_self": False}),
    "reparameterize": (ops.reparameterize, {"mu": x(), "logvar": x(), "key": key()}),
    "runge_kutta": (ops.runge_kutta, {"x": x(), "k": torch.ones(3, 6, 2), "c": torch.ones(6, 3), "rtol": 0.1}),
    "time_embedding": (ops.time_embedding, {
        "t": torch.ones(6), "frequencies": torch.ones(2, dtype=torch.float64), "flip": False, "log": False, "dim": None,
        "dtype": torch.float32,
    }),
    "gaussian_frequencies": (ops.gaussian_frequencies, {"count": 4, "scale": 16.0, "seed": 0}),
}  # fmt: skip


def named(name, error):
    """Whether the error is one sentence that has the argument's name in it."""
    return re.search(rf"(?<![A-Za-z_]){name}(?![A-Za-z])", str(error)) and len(str(error)) < 1000


def faults(call, valid, values):
    """What happens in place of an answer or an error that names the argument, by argument and value."""
    found = []
    for name in valid:
        for value in values:
            try:
                with np.errstate(all="ignore"):
                    call(**valid | {name: value})
            except (ValueError, TypeError, FileNotFoundError) as error:
                if not named(name, error):
                    found.append(f"{name}={value!r}"[:90] + f": {error!r}"[:200])
            except Exception as error:
                found.append(f"{name}={value!r}"[:90] + f": {error!r}"[:200])
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_argument_is_named(name, one_thread):
    doubled = (
        TENSORS[:-1] if name.startswith("nn.") else TENSORS
    )  # of another dtype than weights, torch says what it is
    found = faults(*CASES[name], OBJECTS + doubled)
    assert not found, "\n".join(found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPS)
def test_a_wrong_argument_of_an_op_is_named(name, one_thread):
    """Of tensors the kernels say the rest."""
    found = faults(*OPS[name], OBJECTS)
    assert not found, "\n".join(found)
