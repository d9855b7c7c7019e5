"""Wherever an integer is asked for, NumPy's and tensors of no dimensions are integers too; one module says so."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rooms import tracked

import genfast as gf
from genfast import ops, studies
from genfast.common.conditions import as_conditions, batch_conditions
from genfast.common.indices import as_index, share
from genfast.common.keys import make_key
from genfast.diffusion.elbo import elbo
from genfast.diffusion.guidance import MMPS, PiGDM
from genfast.diffusion.likelihood import bits_per_dim, log_likelihood
from genfast.diffusion.process.grids import GRIDS
from genfast.metrics import Moments
from genfast.nn.conditioning import Conditions, FourierFeatures
from genfast.nn.timesteps import Sinusoid
from genfast.ops.noise import stream

PACKAGE = Path(gf.__file__).parent
KINDS = [np.int64, np.uint8, torch.tensor, lambda n: torch.tensor(n, dtype=torch.int16)]
KEY = make_key(3, 4)
X, ONES = ops.normal(KEY, (6,)), torch.ones(4)
ROWS = ops.normal(make_key(4, 40), (3,))
LABELS = torch.arange(40) % 2
MIXTURE = gf.GaussianMixture.from_parameters([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.2])
DENOISER = MIXTURE.denoiser("vp_cosine")
TIMES = GRIDS["uniform"]("vp_cosine", 4)


def vae(n, **settings):
    torch.manual_seed(0)
    encoder = gf.nn.FeedForward(n(6), n(4), width=n(8), depth=n(1))
    return gf.VAE(encoder, gf.nn.FeedForward(2, 6, 8, 1), latent=n(2), kl_warmup=n(5), shape=[n(6)], **settings)


def gan(n):
    torch.manual_seed(0)
    nets = gf.nn.FeedForward(2, 6, 8, 1), gf.nn.FeedForward(6, 1, 8, 1)
    return gf.GAN(*nets, latent=(n(2),), lazy=n(2), classes=n(0), shape=(n(6),))


def corrupted(n):
    x = X.clone()
    settings = {name: torch.full((4,), 0.5) for name in ("alpha", "sigma", "snr", "c_skip", "c_out")}
    ops.langevin(x, x.flip(1), KEY, step=n(3), purpose=n(3), **settings)
    return x


def images(n, folder):
    for number in range(2):
        Image.new("L", (8, 8), 100 + number).save(folder / f"{number}.png")
    return gf.data.folder(folder, size=n(4), channels=n(3)).x


def mean(n):
    denoiser = MMPS(DENOISER, lambda x: x, 0.5, iterations=n(2))
    return denoiser.iterations, PiGDM(DENOISER, lambda x: x, 0.5, iterations=n(3)).iterations


def studied(n, monkeypatch):
    monkeypatch.setattr(studies, "load", lambda name: lambda seed, progress: (name, seed))
    return studies.run("manifold", seed=n(3))


CALLS = {
    # common
    "make_key": lambda n: make_key(n(3), n(5)),
    "make_key of an index": lambda n: make_key(n(3), [n(2), n(7)]),
    "as_index": lambda n: (as_index("n", n(4)), as_index("n", [n(4), n(2)])),
    "share": lambda n: share(n(9), n(2), rank=n(1), ranks=n(3)),
    "as_conditions": lambda n: as_conditions(3, 4, n(2)),
    # ops
    "stream": lambda n: stream(n(4), n(3)),
    "normal": lambda n: ops.normal(KEY, (n(3),), n(2), n(5)),
    "uniform": lambda n: ops.uniform(KEY, (n(3),), n(2), n(5)),
    "diffuse": lambda n: ops.diffuse(X, KEY, ONES, ONES, step=n(3), purpose=n(2)),
    "denoising_loss": lambda n: ops.denoising_loss(X, X, KEY, ONES, ONES, step=n(3)),
    "langevin": corrupted,
    "reparameterize": lambda n: ops.reparameterize(X, X, KEY, step=n(3)),
    "group_norm_act": lambda n: ops.group_norm_act(X, n(3)),
    "nearest": lambda n: ops.nearest(X, X, n(2)),
    "time_embedding": lambda n: ops.time_embedding(X[:, 0], ops.geometric_frequencies(2), dim=n(6)),
    "sinusoidal_frequencies": lambda n: ops.sinusoidal_frequencies(n(4), shift=n(1)),
    "geometric_frequencies": lambda n: ops.geometric_frequencies(n(4)),
    "gaussian_frequencies": lambda n: ops.gaussian_frequencies(n(4), seed=n(2)),
    # nn
    "FourierFeatures": lambda n: FourierFeatures(n(6)).frequencies,
    "Sinusoid": lambda n: Sinusoid(n(6), shift=n(1)).frequencies,
    "Conditions": lambda n: Conditions(n(4), n(3), n(2)),
    "MLP": lambda n: gf.nn.MLP(n(2), width=n(8), depth=n(1), classes=n(2), condition=n(1)),
    "FeedForward": lambda n: gf.nn.FeedForward(n(2), n(3), width=n(4), depth=n(1), fourier=n(2)),
    "DiT": lambda n: gf.nn.DiT(n(1), n(2), width=n(8), depth=n(1), heads=n(2), classes=n(2), condition=n(1)),
    "DiT of films": lambda n: gf.nn.DiT(1, (n(1), n(2), n(2)), width=12, depth=1, heads=1),
    "UNet": lambda n: gf.nn.UNet(
        n(1), n(8), (n(1), n(2)), n(1), (n(1),), n(2), n(1), out_channels=n(2), dims=n(1), head_width=n(4), groups=n(2)
    ),
    "Encoder": lambda n: gf.nn.Encoder((n(8), n(8)), n(1), n(3), n(4), (n(1), n(2)), n(1), False, n(2), n(1)),
    "Decoder": lambda n: gf.nn.Decoder((n(8), n(8)), n(1), n(3), n(4), (n(1), n(2)), n(1), True, n(2), n(1)),
    "Generator": lambda n: gf.nn.Generator((n(8), n(8)), n(1), n(3), n(4), (n(1), n(2)), n(1)),
    "Discriminator": lambda n: gf.nn.Discriminator((n(8), n(8)), n(1), n(4), (n(1), n(2)), n(1), n(2), n(1)),
    "build": lambda n: gf.nn.presets.build("mlp_small", width=n(4), depth=n(1)),
    # data
    "permutation": lambda n: gf.data.permutation(n(9), n(3), n(2)),
    "Data": lambda n: gf.data.Data(ROWS, LABELS, classes=n(3)).classes,
    "Data.batch": lambda n: gf.data.Data(ROWS, LABELS).batch(n(3), n(37), n(9)),
    "Data.augmented": lambda n: gf.data.Data(X.reshape(2, 1, 3, 4)).augmented(crop=(n(2), n(3))).x,
    "folder": images,
    "grid": lambda n: gf.data.grid(X.reshape(2, 1, 3, 4).tanh(), columns=n(1), padding=n(2), scale=n(3)),
    # metrics and features
    "frechet": lambda n: gf.metrics.frechet(ROWS, ROWS + 1, seed=n(3)),
    "kernel_distance": lambda n: gf.metrics.kernel_distance(ROWS, ROWS + 1, kernel="rbf", seed=n(3)),
    "precision_recall": lambda n: gf.metrics.precision_recall(ROWS, ROWS + 1, k=n(2), seed=n(3)),
    "two_sample_test": lambda n: gf.metrics.two_sample_test(ROWS, ROWS + 1, k=n(3), seed=n(3)),
    "memorization": lambda n: gf.metrics.memorization(ROWS, ROWS + 1, ROWS - 1, k=n(3)),
    "likelihood": lambda n: gf.metrics.likelihood(ROWS[:, 0], n(3)),
    "Moments": lambda n: Moments(n(3)).dim,
    "pixels": lambda n: (gf.features.pixels((n(3),)).shape, gf.features.pixels(n(3)).shape),
    "random_conv": lambda n: gf.features.random_conv((n(1), n(8), n(8))).fingerprint,
    "module": lambda n: gf.features.module(torch.nn.Identity(), shape=(n(3),)).shape,
    "extract": lambda n: gf.features.extract(gf.features.pixels((3,)), ROWS, batch=n(7)),
    "as_features": lambda n: gf.features.as_features("pixels", [n(3)]).shape,
    "classifier": lambda n: gf.features.classifier(ROWS, LABELS, n(2), seed=n(3), steps=n(2)).accuracy,
    # models in closed form
    "Gaussian": lambda n: gf.Gaussian("low_rank", rank=n(1), shape=(n(3),)).fit(ROWS).sample(n(4), seed=n(2)),
    "GaussianMixture": lambda n: (
        gf.GaussianMixture(n(2), "diagonal", max_iterations=n(200), starts=n(2), seed=n(3), shape=n(3))
        .fit(ROWS)
        .log_prob(ROWS)
    ),
    "PPCA": lambda n: gf.PPCA(n(1), max_iterations=n(3), shape=[n(3)]).fit(ROWS).log_prob(ROWS),
    "denoiser of a mixture": lambda n: DENOISER.sample(n(4), generator=torch.Generator().manual_seed(0)),
    "estimate_prior": lambda n: (
        gf.GenerativeClassifier([gf.Gaussian().fit(ROWS), gf.Gaussian().fit(ROWS + 1)])
        .estimate_prior(ROWS, max_iterations=n(9), tolerance=0.1)
        .prior
    ),
    # VAE and GAN
    "VAE": vae,
    "VAE.sample": lambda n: vae(int).sample(n(5), seed=n(3), chunk=n(2)),
    "VAE.log_weights": lambda n: vae(int).log_weights(X, KEY, n(3), n(1)),
    "VAE.log_likelihood": lambda n: vae(int).log_likelihood(X, k=n(3), seed=n(2), chunk=n(2)),
    "VAE.interpolate": lambda n: vae(int).interpolate(X[0], X[1], n(4)),
    "VAE.traverse": lambda n: vae(int).traverse(X[0], n(1), n=n(4)),
    "VAE.active_units": lambda n: vae(int).active_units(X, chunk=n(3)),
    "VAE of classes": lambda n: vae(int, classes=n(3)).classes,
    "LearnedVariance": lambda n: gf.vae.likelihoods.LearnedVariance((n(3), 1)),
    "DiscretizedLogistic": lambda n: gf.vae.likelihoods.DiscretizedLogistic(n(17), (n(3),)),
    "autoencoder_kl": lambda n: gf.vae.autoencoder_kl((n(8), n(8)), n(1), latent=n(2), width=n(4), multipliers=(n(1),)),
    "GAN": gan,
    "GAN.sample": lambda n: gan(int).sample(n(5), seed=n(3), chunk=n(2)),
    # diffusion
    **{f"grid {name}": lambda n, grid=grid: grid("vp_cosine", n(5)) for name, grid in GRIDS.items()},
    "plan": lambda n: gf.solvers.plan("ddim", "ve", n(4), final_sigma="sigma_min"),
    "lcm": lambda n: gf.solvers.plan("lcm", "edm", n(4)),
    **{
        name: lambda n, name=name: gf.solvers.plan(name, "vp_cosine", 4, order=n(2))
        for name in ("lms", "ipndm", "dpm_solver_2m_sde", "deis", "unipc")
    },
    "repaint": lambda n: gf.solvers.plan("repaint", "vp_cosine", 4, resample=n(2)),
    "predictor_corrector": lambda n: gf.solvers.plan("predictor_corrector", "vp_cosine", 4, corrector_steps=n(2)),
    "annealed_langevin": lambda n: gf.solvers.plan("annealed_langevin", "vp_cosine", 4, langevin_steps=n(2)),
    "guidance": mean,
    "log_likelihood": lambda n: log_likelihood(
        DENOISER, ROWS[:3, :2], divergence="rademacher", probes=n(2), first_probe=n(1), seed=n(3), steps=n(2),
        index=[n(1), n(0), n(4)], chunk=n(3), progress=False,
    ),
    "bits_per_dim": lambda n: bits_per_dim(
        DENOISER, torch.tensor([[0, 3]], dtype=torch.uint8), levels=n(4), draws=n(2), seed=n(3), probes=n(1), steps=2,
        progress=False,
    ),
    "elbo": lambda n: elbo(DENOISER, ROWS[:4, :2], KEY, samples=n(3), chunk=n(2)),
    # others
    "studies.run": studied,
}  # fmt: skip


def plain(value):
    """Something that can be compared by ==: networks by their config, which must go into a file, and their shapes."""
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.tolist()
    if isinstance(value, torch.nn.Module):
        config = value.config() if callable(getattr(value, "config", None)) else getattr(value, "config", {})
        config = {name: part for name, part in config.items() if not isinstance(part, torch.nn.Module)}
        return json.dumps(config), [(name, tuple(p.shape)) for name, p in value.state_dict().items()]
    if isinstance(value, np.ndarray):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return plain(vars(value)) if type(value).__module__.startswith("genfast.metrics") else (type(value), value)


@pytest.mark.parametrize("name", CALLS)
def test_integers_of_all_kinds_do_the_same(name, tmp_path, monkeypatch):
    call, more = CALLS[name], {"folder": tmp_path, "studies.run": monkeypatch}
    extra = [more[name]] if name in more else []
    expected = plain(call(int, *extra))
    for kind in KINDS:
        assert plain(call(kind, *extra)) == expected


DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_of_any_integer_dtype(dtype):
    label, expected = LABELS.to(dtype), LABELS
    for given in (label, label.numpy()):
        data = gf.data.Data(ROWS, given)
        assert data.label.equal(expected) and data.label.dtype == torch.int64 and data.classes == 2
        assert as_conditions(40, 2, given)["label"].equal(expected)
        models = [gf.Gaussian(), gf.Gaussian()]
        assert gf.GenerativeClassifier(models).fit((ROWS, given)).prior.tolist() == [0.5, 0.5]
        assert gf.features.classifier(ROWS, given, steps=1).dim == 128
    batch = {"x": ROWS, "label": label}
    assert batch_conditions(batch, 2, null=False)["label"].equal(expected)
    net = Conditions(4, 2)
    assert net(torch.zeros(40, 4), label).equal(net(torch.zeros(40, 4), expected))
    key = make_key(0, torch.arange(40).to(dtype))
    assert key.equal(make_key(0, 40)) and as_index("n", label).equal(expected)

    torch.manual_seed(0)
    many = gf.Diffusion(gf.nn.MLP(3, width=8, depth=1, classes=256), shape=(3,))  # null, 256, is no int8
    assert many.loss(batch, key).equal(many.loss({"x": ROWS, "label": expected}, key))

    torch.manual_seed(0)
    sizes = {"size": (8, 8), "width": 4, "latent": 2, "classes": 2}
    model = gf.VAE(gf.nn.Encoder(**sizes), gf.nn.Decoder(**sizes), latent=2, classes=2)
    x = torch.zeros(4, 1, 8, 8)
    assert model.loss({"x": x, "label": label[:4]}, KEY).equal(model.loss({"x": x, "label": expected[:4]}, KEY))
    assert model.active_units((x, label[:4])).count == model.active_units((x, expected[:4])).count
    assert model.sample(4, label=label[:4]).equal(model.sample(4, label=expected[:4]))


# Modules that ask by themselves whether something is an integer, and why.
ALONE = {
    "studies/finding.py": "prints a number by its kind",
    "integrations/diffusers/scheduler.py": "leaves to diffusers the timesteps that it refuses, by its own rule",
}


def asks(tree):
    """Whether a module says what an integer is: isinstance(_, int), numbers.Integral, or the words of a message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            names = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
            names |= {part.attr for part in ast.walk(node.args[1]) if isinstance(part, ast.Attribute)}
            if names & {"int", "Integral"}:
                return True
        if isinstance(node, ast.Raise) and re.search("(must be|expected) an? (positive )?integer ", ast.unparse(node)):
            return True
    return False


def test_one_module_says_what_an_integer_is():
    found = {str(path.relative_to(PACKAGE)) for path in tracked(PACKAGE, ".py") if asks(ast.parse(path.read_text()))}
    assert found - {"common/checks.py"} == ALONE.keys()
