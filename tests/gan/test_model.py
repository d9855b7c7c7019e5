"""GAN: its losses and verbs, and that it learns all modes of a ring where a plain one does not."""

import copy
import itertools
import json
import pickle
import warnings

import pytest
import torch
from long import gan_seeds
from torch import nn
from toys import Ring

import genfast as gf
from genfast import ops
from genfast.gan.losses import LOSSES, PlayerLosses
from genfast.gan.monitor import health
from genfast.studies.gan_failures import PLAIN


def mlp(*widths):
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1])


def model(width=16, seed=0, **settings):
    torch.manual_seed(seed)
    return gf.GAN(mlp(2, width, width, 2), mlp(2, width, width, 1), latent=2, **settings)


def conv(**settings):
    torch.manual_seed(0)
    nets = {"size": (8, 8), "width": 8, "classes": 3}
    networks = gf.nn.Generator(latent=4, **nets), gf.nn.Discriminator(**nets)
    return gf.GAN(*networks, latent=4, classes=3, shape=(1, 8, 8), **settings)


def images(n=6):
    x = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)).tanh()
    return {"x": x, "label": torch.arange(n) % 3}


KEY = ops.make_key(5, torch.arange(12))
BATCH = {"x": Ring().sample(12)}


def gradients(gan, loss):
    gan.zero_grad()
    loss.mean().backward()
    return {name: p.grad.clone() for name, p in gan.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_that_of_its_formula(name):
    gan = model(loss=name, r1=0.0, r2=0.0).double()
    batch = {"x": BATCH["x"].double()}
    sides = gan.loss(batch, KEY)
    for step, side in enumerate(PlayerLosses._fields):
        fake = gan.generator(ops.normal(KEY, (2,), ops.Purpose.LATENT, step).double())
        real, fake = gan.discriminator(batch["x"])[:, 0], gan.discriminator(fake)[:, 0]
        torch.testing.assert_close(getattr(sides, side), getattr(LOSSES[name], side)(real, fake))
        assert torch.equal(gan.loss(batch, KEY, player=side), getattr(sides, side))


@pytest.mark.parametrize("settings", [{}, {"gradient_penalty": 10.0, "loss": "wasserstein"}, {"spectral_norm": True}])
def test_each_side_moves_its_own_weights(settings):
    gan = model(**settings)
    for side in PlayerLosses._fields:
        moved = gradients(gan, gan.loss(BATCH, KEY, player=side))
        assert moved and all(name.startswith(side) for name in moved)
    assert all(p.requires_grad for p in gan.parameters())


@pytest.mark.parametrize("penalty, expected", [
    ({"r1": 3.0}, 3 * 12.5), ({"r2": 3.0}, 3 * 12.5), ({"r1": 1.0, "r2": 1.0}, 25.0),
    ({"gradient_penalty": 2.0}, 2 * 16.0), ({"dragan": 2.0}, 2 * 16.0),
])  # fmt: skip
def test_penalties_of_a_linear_discriminator(penalty, expected):
    def loss(step=0, **settings):
        gan = gf.GAN(mlp(2, 8, 2), nn.Linear(2, 1), latent=2, **{"r1": 0.0, "r2": 0.0} | settings)
        gan.discriminator.weight.data = torch.tensor([[3.0, 4.0]])
        torch.manual_seed(0)
        gan.generator.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
        return gan.loss(BATCH, KEY, step=step, player="discriminator").mean().item()

    for step in range(4):
        lazy = 3 * expected if step % 3 == 0 else 0.0
        assert loss(step, **penalty) - loss(step) == pytest.approx(expected, rel=1e-4)
        assert loss(step, lazy=3, **penalty) - loss(step) == pytest.approx(lazy, rel=1e-4, abs=1e-6)
        assert model(lazy=3).phase(step) is (step % 3 == 0)


def test_spectral_norm():
    gan = model(spectral_norm=True)
    for _ in range(100):
        gan.loss(BATCH, KEY)
    for layer in gan.discriminator:
        if isinstance(layer, nn.Linear):
            assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-3)


def test_spectral_norm_of_an_output_that_starts_at_zero():
    gan = model(spectral_norm=False)
    nn.init.zeros_(gan.discriminator[-1].weight)
    gan = gf.GAN(gan.generator, gan.discriminator, latent=2, spectral_norm=True)
    assert torch.equal(gan.discriminator(BATCH["x"]), gan.discriminator[-1].bias.expand(12, 1))
    gf.fit(gan, BATCH["x"], steps=3, batch=4, progress=False)
    assert all(parameter.isfinite().all() for parameter in gan.parameters())


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda gan: pickle.loads(pickle.dumps(gan))])
def test_copies(copied, spectral_norm):
    gan = model(spectral_norm=spectral_norm)
    gan.loss(BATCH, KEY)
    other = copied(gan)
    assert torch.equal(other.sample(5), gan.sample(5))
    assert torch.equal(other.loss(BATCH, KEY).discriminator, gan.loss(BATCH, KEY).discriminator)


def test_samples_that_are_not_finite_are_an_error():
    gan = conv()
    with torch.no_grad():
        next(gan.generator.parameters())[:] = torch.nan
    with pytest.raises(FloatingPointError, match=r"samples \[7, 3\] are not finite"):
        gan.sample([7, 3], label=1)


def test_samples_are_functions_of_seed_and_index():
    gan = conv()
    labels = torch.arange(150) % 3
    whole = gan.sample(150, seed=3, label=labels)
    z = ops.normal(ops.make_key(3, 150), (4,), ops.Purpose.LATENT)
    torch.testing.assert_close(whole, gan.generator(z, label=labels).detach(), rtol=1e-4, atol=1e-5)
    index = [149, 3, 64, 3]
    assert torch.equal(gan.sample(index, seed=3, label=labels[index]), whole[index])
    parts = [gan.sample(range(a, b), seed=3, label=labels[a:b]) for a, b in ((0, 50), (50, 150))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(gan.sample(150, seed=4, label=labels), whole)
    assert not torch.equal(gan.sample(9, seed=3, label=1)[0], whole[0])  # of class 0
    assert gan.sample(0, label=0).shape == (0, 1, 8, 8)


def test_loss_without_gradients_and_of_wide_data():
    gan = model()
    sides = gan.loss(BATCH, KEY)
    with torch.no_grad():
        held = gan.loss({"x": BATCH["x"].double()}, KEY)
    for side, same in zip(sides, held):
        assert not same.requires_grad and torch.equal(side, same)


def test_measure():
    """Of what is not known yet: the shape, and for dragan the standard deviation."""
    gan, x = model(dragan=1.0), 3 * BATCH["x"] + 1
    before = gan.loss({"x": x}, KEY)
    assert gan.shape is None and gan.sigma_data is None
    gan.measure({"x": x, "names": None, "levels": None})
    assert gan.shape == (2,) and gan.sigma_data == pytest.approx(x.std(correction=0).item())
    assert not torch.allclose(before.discriminator, gan.loss({"x": x}, KEY).discriminator)
    assert torch.equal(model(dragan=1.0, sigma_data=0.5).loss({"x": x}, KEY).discriminator, before.discriminator)
    assert gf.GAN.from_config(gan.config()).sigma_data == gan.sigma_data
    gan.measure({"x": torch.zeros(3, 2), "names": None, "levels": None})
    assert gan.sigma_data > 1
    plain = model()
    plain.measure({"x": x})
    assert plain.shape == (2,) and plain.sigma_data is None


@pytest.mark.parametrize("settings", [{}, {"spectral_norm": True}])
def test_watch_changes_nothing(settings):
    """And is of the batch that it is given: also of networks whose buffers training changes."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    gan, x = gf.GAN(generator, mlp(2, 8, 1), latent=2, **settings).train(), Ring().sample(600)
    state, key = {name: value.clone() for name, value in gan.state_dict().items()}, ops.make_key(5, 600)
    found = gan.watch({"x": x}, key)
    assert found == gan.watch({"x": x}, key) == gan.watch({"x": x[:512]}, key[:512])
    assert all(torch.equal(value, state[name]) for name, value in gan.state_dict().items())
    assert all(module.training for module in gan.modules()) and all(p.grad is None for p in gan.parameters())
    gan.eval()
    z = ops.normal(key[:512], (2,), ops.Purpose.LATENT)
    fake = gan.generator(z)
    logits = (gan.discriminator(v)[:, 0] for v in (x[:512], fake))
    assert found == pytest.approx(health(x[:512], fake, *logits)._asdict())


def test_watch_goes_on_from_a_state():
    gan, other, x = model(), model(), Ring().sample(64)
    with torch.no_grad():
        for net in (gan, other):
            net.generator[-1].weight.zero_()  # one sample for all z
    batch, key = {"x": x}, ops.make_key(0, 64)
    for _ in range(9):
        gan.watch(batch, key)
    other.load_watch_state(json.loads(json.dumps(gan.watch_state())))
    with pytest.warns(RuntimeWarning, match="has collapsed"):
        other.watch(batch, key)
    assert other.watch_state()["said"] and not gan.watch_state()["said"]


def test_truncation():
    gan = model()
    center = gan.generator(torch.zeros(1, 2)).detach()
    torch.testing.assert_close(gan.sample(5, truncation=0.0), center.expand(5, 2))
    assert gan.sample(500, truncation=0.5).std() < gan.sample(500).std()


@pytest.mark.parametrize("augment", [(), ("color", "translation", "cutout")])
def test_images_with_classes(augment):
    gan, key = conv(augment=augment, gradient_penalty=1.0, dragan=1.0), ops.make_key(0, 6)
    sides = gan.loss(images(), key)
    assert all(side.shape == (6,) and torch.isfinite(side).all() for side in sides)
    other = images() | {"label": torch.tensor([1, 0, 1, 0, 1, 0])}
    assert not torch.allclose(gan.loss(other, key).discriminator, sides.discriminator)
    assert not torch.allclose(conv(r1=0.0, r2=0.0).loss(images(), key).discriminator, sides.discriminator)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_save_and_load(tmp_path, spectral_norm):
    gan = conv(loss="hinge", r1=1.0, lazy=4, spectral_norm=spectral_norm, augment=["color"])
    gf.fit(gan, gf.data.arrays(**images(12)), steps=3, batch=6, out=tmp_path, progress=False)
    loaded = gf.load(tmp_path)
    assert loaded.config().keys() == gan.config().keys() and repr(loaded) == repr(gan)
    assert torch.equal(loaded.sample(9, label=2), gan.sample(9, label=2))


def train(gan, steps, seed=0, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = gf.data.arrays(Ring().sample(20000, seed=9))
        logs = gf.fit(gan, data, steps=steps, batch=128, seed=seed, progress=False, **settings)
    return logs, [str(warning.message) for warning in caught if warning.category is RuntimeWarning]


def test_same_seed_same_weights():
    (a, _), (b, _) = (train(model(), 20, log_every=10) for _ in range(2))
    clocks = dict.fromkeys(("seconds", "samples_per_second", "data_wait", "memory"))
    assert [log | clocks for log in a] == [log | clocks for log in b]
    assert {"discriminator_loss", "generator_loss", "overconfidence", "diversity", "gap"} <= a[0].keys()
    assert a[0]["loss"] == pytest.approx(a[0]["discriminator_loss"] + a[0]["generator_loss"])


@pytest.mark.slow
def test_the_defaults_find_all_modes():
    """The whole is gan_seeds.py: 6000 steps, five seeds. A fifth of the steps is enough for the ring; half of them, for
    which the grid's share may be less."""
    ring, grid = gan_seeds.train("ring", steps=1200), gan_seeds.train("grid", steps=3000)
    assert ring.modes == 8 and ring.share > 0.95 and not ring.said
    assert grid.modes == 25 and grid.share > 0.88


@pytest.mark.slow
def test_a_plain_gan_collapses_and_the_monitor_says_so():
    plain = gan_seeds.train("ring", steps=1000, **PLAIN)
    assert plain.modes < 8 and any("dropped modes" in words for words in plain.said)


@pytest.mark.slow
def test_digits():
    """Precision and recall of digits in the features of a classifier; halves of the real ones have 0.92 and 0.92."""
    data = gf.data.digits()
    torch.manual_seed(0)
    generator = nn.Sequential(gf.nn.FeedForward(16, 64, width=128), nn.Tanh())
    gan = gf.GAN(generator, gf.nn.FeedForward(64, 1, width=128, depth=2), latent=16)
    gf.fit(gan, data.x.flatten(1), steps=2000, lr=5e-3, progress=False)
    images = gan.sample(len(data), seed=1).reshape(data.x.shape)
    features = gf.features.classifier(data.x, data.label)
    samples, real = (gf.features.extract(features, x) for x in (images, data.x))
    found = gf.metrics.precision_recall(samples, real, k=3)
    assert found["precision"].value >= 0.6 and found["recall"].value >= 0.6


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"loss": "kl"}, r"loss.*relativistic.*'kl'"),
        ({"r1": -1.0}, r"r1.*-1\.0"),
        ({"gradient_penalty": float("nan")}, r"gradient_penalty.*nan"),
        ({"lazy": 0}, r"lazy.*0"),
        ({"sigma_data": -1.0}, r"sigma_data.*-1\.0"),
        ({"classes": -1}, r"classes.*-1"),
        ({"augment": "color"}, r"augment.*'color'"),
        ({"augment": ["flip"]}, r"augment.*cutout.*flip"),
        ({"latent": 0}, r"latent.*0"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        gf.GAN(mlp(2, 2), mlp(2, 1), **{"latent": 2} | settings)


def test_bad_input():
    with pytest.raises(TypeError, match=r"discriminator.*int"):
        gf.GAN(mlp(2, 2), 3, latent=2)
    with pytest.raises(ValueError, match="spectral_norm must be True or False; got 1"):
        model(spectral_norm=1)
    with pytest.raises(ValueError, match=r"x must have shape.*\(0, 2\)"):
        model().loss({"x": torch.zeros(0, 2)}, KEY[:0])
    with pytest.raises(TypeError, match=r"x must hold floating-point numbers; got torch.int64"):
        model().loss({"x": torch.zeros(12, 2, dtype=torch.int64)}, KEY)
    with pytest.raises(ValueError, match=r"key.*\(12, 2\).*\(3, 2\)"):
        model().loss(BATCH, KEY[:3])
    with pytest.raises(ValueError, match=r"step must be an integer of at least 0; got -1"):
        model().loss(BATCH, KEY, step=-1)
    with pytest.raises(ValueError, match=r"player.*generator.*'critic'"):
        model().loss(BATCH, KEY, player="critic")
    with pytest.raises(ValueError, match=r"discriminator must.*\(24, 2\)"):
        gf.GAN(mlp(2, 2), mlp(2, 2), latent=2).loss(BATCH, KEY)
    with pytest.raises(ValueError, match=r"generator must.*\(12, 2\).*\(12, 3\)"):
        gf.GAN(mlp(2, 3), mlp(2, 1), latent=2).loss(BATCH, KEY)
    with pytest.raises(ValueError, match=r"label is needed"):
        conv().loss({"x": images()["x"], "label": None}, ops.make_key(0, 6))
    with pytest.raises(ValueError, match=r"label is needed"):
        conv().sample(3)
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\); got 3"):
        conv().sample(3, label=3)  # a GAN has no null label
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\)"):
        conv().loss(images() | {"label": torch.tensor([0, 1, 2, 3, 0, 1])}, ops.make_key(0, 6))
    with pytest.raises(ValueError, match=r"truncation.*-1"):
        model().sample(3, truncation=-1)
    with pytest.raises(ValueError, match=r"shape"):
        model().sample(0)
