"""fit(): what is not finite never replaces what is; every part in its mode; short runs reach their learning rate."""

import math

import pytest
import torch
from torch import nn

import genfast as gf
from genfast.checkpoint import MODELS, load
from genfast.training.loop import Fit, fit

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def diffusion(net=None):
    return gf.Diffusion(net or gf.nn.MLP(4, width=8, depth=1), shape=(4,))


def perceptron(inputs, outputs):
    return gf.nn.FeedForward(inputs, outputs, width=8, depth=1)


def vae(**settings):
    return gf.VAE(perceptron(4, 4), perceptron(2, 4), latent=2, likelihood="learned_variance", shape=(4,), **settings)


def gan():
    return gf.GAN(perceptron(2, 4), perceptron(4, 1), latent=2, spectral_norm=True, shape=(4,))


def latent_diffusion():
    return gf.LatentDiffusion(vae(), gf.Diffusion(gf.nn.MLP(2, width=8, depth=1)))


every_family = pytest.mark.parametrize("family", [diffusion, vae, gan, latent_diffusion], ids=lambda f: f.__name__)


class Normed(nn.Module):
    """A network with running means, and one more buffer, which the loss below may spoil."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.norm, self.linear, self.dropout = nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Dropout(dropout)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, y, t):
        return self.linear(self.dropout(self.norm(y)))


class Faulty(gf.Diffusion):
    """What becomes of the batches with these numbers is up to `spoil`."""

    def __init__(self, faulty, spoil, net=None):
        super().__init__(net or Normed(), shape=(4,))
        self.faulty, self.spoil = faulty, spoil

    def loss(self, batch, key, *, step=0):
        return self.spoil(self, batch, key) if step in self.faulty else super().loss(batch, key)


def infinite_batch(model, batch, key):
    return gf.Diffusion.loss(model, {**batch, "x": torch.full_like(batch["x"], math.inf)}, key)


def spoiled_buffer(model, batch, key):
    """The gradient is fine."""
    model.net.seen += math.nan
    return gf.Diffusion.loss(model, batch, key)


def not_a_number(model, batch, key):
    return gf.Diffusion.loss(model, batch, key) * math.nan


def run(model, **settings):
    return fit(model, X, **{"steps": 12, "batch": 8, "progress": False} | settings)


def finite(model):
    return all(bool(value.isfinite().all()) for value in model.state_dict().values())


# What is not finite


DIVERGED = [{"lr": 1e38}, {"lr": 3e38, "clip": None}, {"lr": 1.0, "weight_decay": 1e30}]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the GAN's monitor has its own opinion
@pytest.mark.parametrize("settings", DIVERGED)
@every_family
def test_a_diverged_run_is_an_error_and_leaves_what_is_finite(tmp_path, family, settings):
    model = family()
    with pytest.raises(FloatingPointError, match=r"weights are not finite after step \d, at lr|no finite gradient in"):
        run(model, steps=15, warmup=0, out=tmp_path, **settings)
    assert finite(model) and not (tmp_path / "model.json").exists()  # before anything was saved
    run(family(), out=tmp_path)
    assert finite(load(tmp_path))


class Toy(nn.Module):
    """Learns the mean; has a weight that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.theta, self.spare = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))

    def loss(self, batch, key, *, step=0):
        return (self.theta - batch["x"]).square().mean(1)

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("save_every", [None, 1])
def test_weights_that_are_not_finite_never_reach_the_average(tmp_path, monkeypatch, value, save_every):
    """Of which no gradient tells; 3e38 is finite, but the difference of two such is not."""
    monkeypatch.setitem(MODELS, "Toy", Toy)
    model, plain = Toy(), Toy()
    settings = {"steps": 30, "batch": 8, "log_every": 10, "warmup": 0}
    with pytest.raises(FloatingPointError, match=r"weights are not finite after step 11, at lr 0\.00075; lower lr"):
        for _ in Fit(model, X, out=tmp_path, save_every=save_every, **settings):
            model.spare.data[1] = value
    course = Fit(plain, X, **settings)
    next(iter(course))
    with course.averaged():
        assert torch.equal(model.theta, plain.theta) and model.spare.tolist() == [0, 0]
    loaded = load(tmp_path)
    assert loaded.extra["step"] == (10 if save_every else 9) and finite(loaded)
    assert not save_every or torch.equal(loaded.theta, model.theta)


def test_large_weights_are_averaged_as_ever():
    """Their squares overflow, they do not."""
    model, plain = Toy(), Toy()
    model.spare.data += 1e30
    assert fit(model, X, steps=20, batch=8, progress=False)[-1]["skipped"] == 0
    fit(plain, X, steps=20, batch=8, progress=False)
    assert torch.equal(model.theta, plain.theta) and model.spare.tolist() == pytest.approx([1e30] * 2)


@pytest.mark.parametrize("faulty, skipped", [({9}, 1), ({10, 11}, None), ({11}, 1), (set(range(12)), None)])
def test_a_run_that_ends_with_skipped_steps_is_an_error(tmp_path, monkeypatch, faulty, skipped):
    """A single one is an accident, at the end as anywhere."""
    monkeypatch.setitem(MODELS, "Faulty", gf.Diffusion)
    model = Faulty(faulty, not_a_number, gf.nn.MLP(4, width=8, depth=1))
    if skipped:
        assert run(model, out=tmp_path)[-1]["skipped"] == skipped
    else:
        with pytest.raises(FloatingPointError, match=rf"gradient .*in {len(faulty)} steps on end, until step 12"):
            run(model, out=tmp_path)
    assert finite(model) and finite(load(tmp_path)) and load(tmp_path).extra["step"] == 12
    one = Faulty({0}, not_a_number)
    with pytest.raises(FloatingPointError, match="in 1 steps on end"):
        run(one, steps=1)


@pytest.mark.parametrize("spoil", [infinite_batch, spoiled_buffer, not_a_number])
def test_a_skipped_step_leaves_the_buffers_of_before(spoil):
    model = Faulty({4, 7}, spoil)
    for log in Fit(model, X, steps=12, batch=8, log_every=1):
        assert finite(model.net) and model.net.norm.num_batches_tracked == log["step"] - log["skipped"]
    assert log["skipped"] == 2
    with torch.no_grad():
        assert model.eval().net(X, torch.ones(64)).isfinite().all()


def test_an_error_leaves_the_buffers_of_before(tmp_path, monkeypatch):
    class Own(Normed):
        pass

    def failing(model, batch, key):
        infinite_batch(model, batch, key)
        raise KeyError("y")

    monkeypatch.setitem(MODELS, "Faulty", gf.Diffusion)
    model = Faulty({6}, failing, Own())
    with pytest.raises(KeyError):
        run(model, out=tmp_path)
    assert finite(model) and model.net.norm.num_batches_tracked == 6
    assert finite(load(tmp_path, net=Own()))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_skipped_turn_leaves_the_vectors_of_the_spectral_norm(player):
    model, kept = gan(), []
    plain = model.loss

    def loss(batch, key, **now):
        kept.append([b.clone() for b in model.discriminator.buffers()])
        return plain(batch, key, **now) * (math.nan if key[0, 1] == 4 * 8 and now["player"] == player else 1)

    model.loss = loss
    assert run(model)[-1]["skipped"] == 1
    turn = 2 * 4 + (player == "generator")  # number of the turn that was skipped
    assert all(map(torch.equal, kept[turn], kept[turn + 1])) and finite(model)


def test_buffers_that_are_nan_from_the_start_skip_nothing():
    model = diffusion(Normed())
    model.net.seen.fill_(math.nan)
    assert run(model)[-1]["skipped"] == 0


def test_what_could_not_be_saved_is_told_before_the_training(tmp_path):
    model = diffusion(Normed())
    model.net.seen.fill_(math.nan)
    with pytest.warns(UserWarning, match=r"model net\.seen holds NaN: .*cannot be saved to `out`") as caught:
        Fit(model, X, steps=1, out=tmp_path)
    assert caught[0].filename == __file__


def test_a_network_that_does_not_know_null_is_told_of_it():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 4)

        def forward(self, y, t, condition):
            return self.linear(torch.cat([y, condition], 1))

    data = gf.data.arrays(X, condition=torch.ones(64))
    with pytest.raises(FloatingPointError, match=r"no finite gradient .*; a network must take a condition of NaN"):
        fit(diffusion(Own()), data, steps=3, batch=64, progress=False)


# Dtypes and modes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_family
def test_weights_of_low_precision_are_refused(family, dtype):
    """Their average would stand still."""
    model = family().to(dtype)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"model must have float32 or float64 weights.*got {name}: model\.float\(\)"):
        Fit(model, X, steps=1)
    run(model.float(), steps=2)


def test_a_frozen_part_may_be_of_low_precision():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Linear(4, 4).bfloat16().requires_grad_(False)
            self.linear = nn.Linear(4, 4)

        def forward(self, y, t):
            return self.linear(self.frozen(y.bfloat16()).float())

    assert run(diffusion(Part()))[-1]["skipped"] == 0


class Wandering(Normed):
    """Notes the modes in which it is called."""

    def __init__(self):
        super().__init__(dropout=0.5)
        self.modes = set()

    def forward(self, y, t):
        self.modes.add((self.training, self.dropout.training))
        return super().forward(y, t)


@pytest.mark.parametrize("ending", ["end", "break", "error", "Ctrl-C"])
def test_training_is_in_training_mode_and_modes_come_back(ending):
    model = diffusion(Wandering()).eval()
    model.net.train()
    model.net.dropout.eval()
    modes = [module.training for module in model.modules()]
    course = Fit(model, X, steps=6, batch=8, log_every=2)
    errors = {"error": KeyError, "Ctrl-C": KeyboardInterrupt}

    def loop():
        for log in course:
            assert all(module.training for module in model.modules())
            with course.averaged():
                assert model.training and model.net.dropout.training
            if log["step"] == 4 and ending == "break":
                break
            if log["step"] == 4 and ending in errors:
                raise errors[ending]

    if ending in errors:
        with pytest.raises(errors[ending]):
            loop()
    else:
        loop()
    assert model.net.modes == {(True, True)} and [module.training for module in model.modules()] == modes


def test_a_model_that_was_left_in_eval_mode_by_the_callers_loop():
    model = diffusion(Wandering())
    for _ in Fit(model, X, steps=6, batch=8, log_every=2):
        model.eval()
    assert model.net.modes == {(True, True)} and model.training


def test_a_part_that_the_model_keeps_in_eval_mode_stays_there():
    model = latent_diffusion().eval()
    for _ in Fit(model, X, steps=4, batch=8, log_every=1):
        assert model.diffusion.training and model.diffusion.net.training
        assert not any(module.training for module in model.vae.modules())
    assert not any(module.training for module in model.modules())


# The warm-up


@pytest.mark.parametrize("decay", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [2, 3, 10, 50, 100, 150, 199, 200, 1000])
def test_by_default_a_run_reaches_its_learning_rate_and_the_end_of_its_decay(steps, decay):
    course = Fit(Toy(), X, steps=steps, decay=decay)
    assert course.settings.warmup == min(100, steps // 2)
    rates = [course.learning_rate(step) for step in range(steps)]
    assert max(rates) == 1e-3 and rates[max(course.settings.warmup, 1) - 1] == 1e-3
    assert rates[-1] <= 1e-3 / (steps - course.settings.warmup) * 1.0001
    assert Fit(Toy(), X, steps=steps, warmup=100).learning_rate(1) == 2e-5


def test_a_run_of_one_step_has_the_full_rate():
    assert run(Toy(), steps=1)[0]["lr"] == 1e-3


def test_fifty_steps():
    logs = run(diffusion(), steps=50, log_every=1)
    assert max(log["lr"] for log in logs) == 1e-3 and logs[-1]["lr"] < 1e-5
