"""The held-out loss: by hand, always on the same samples and noise, and when it has risen."""

import json
import math
import warnings

import pytest
import torch
from families import NAMES, family, images

from genfast import ops
from genfast.data.dataset import arrays
from genfast.data.matching import for_training
from genfast.training.held_out import FIRST, HeldOut

CPU = torch.device("cpu")


class Noisy(torch.nn.Module):
    """Loss |theta - x_i - z_i|^2 / D with z_i of the key. Keeps what it was given; eval mode stops its dropout."""

    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.zeros(2))
        self.dropout, self.frozen = torch.nn.Dropout(0.5), torch.nn.Dropout(0.5).eval()
        self.seen = []

    def loss(self, batch, key):
        z = ops.normal(key, (2,), ops.Purpose.PRIOR)
        self.seen.append((batch, key, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), self.training))
        return self.dropout((self.theta - batch["x"] - z).square()).mean(1)


class Leveled(Noisy):
    def log_snr(self, key):
        return 10 - 20 * ops.uniform(key, (), ops.Purpose.TIME, dtype=torch.float64)


class Scripted:
    """Has these losses, one list a look."""

    def __init__(self, *looks):
        self.looks = iter(looks)

    def loss(self, batch, key):
        first = int(key[0, 1]) - FIRST
        if first == 0:
            self.now = torch.tensor(next(self.looks))
        return self.now[first : first + len(key)]


def data(n=40, **columns):
    return arrays(torch.randn(n, 2, generator=torch.Generator().manual_seed(0)), **columns)


def scripted(*looks):
    return HeldOut(Scripted(*looks), data(len(looks[0])), CPU)


def test_the_mean_and_its_interval_by_hand():
    samples, model = data(), Noisy()
    x = samples.batch(0, 0, 40)["x"]
    z = ops.normal(ops.make_key(0, FIRST + torch.arange(40)), (2,), ops.Purpose.PRIOR)
    losses = (x + z).square().mean(1).double()
    mean, low, high = HeldOut(model, samples, CPU).look(1)["test_loss"]
    reach = 1.96 * float(losses.std()) / math.sqrt(40)
    assert (mean, low, high) == pytest.approx((float(losses.mean()), mean - reach, mean + reach), rel=1e-6)


def test_samples_and_keys_are_the_same_at_every_look_and_of_no_training():
    model = Noisy()
    held = HeldOut(model, data(1000, label=torch.arange(1000) % 3), CPU)
    first = held.look(10)
    again = HeldOut(model, data(1000, label=torch.arange(1000) % 3), CPU).look(999)
    assert first == again
    keys = torch.cat([key for _, key, *_ in model.seen])
    assert len(keys) == 2 * 512 and int(keys[:, 1].min()) == 2**62
    assert all(len(batch["x"]) == len(batch["label"]) == len(key) <= 64 for batch, key, *_ in model.seen)


def test_it_computes_in_eval_mode_and_float32_and_leaves_no_trace():
    model = Noisy()
    held, before = HeldOut(model, data(), CPU), torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        held.look(1)
    assert [seen[2:] for seen in model.seen] == [(False, False, False)]
    assert model.training and model.dropout.training and not model.frozen.training
    assert model.theta.grad is None and torch.equal(before, torch.get_rng_state())


def test_the_bins_are_of_equal_counts_in_order_of_log_snr():
    model, samples = Leveled(), data(512)
    found = HeldOut(model, samples, CPU).look(1)
    bins = found["test_loss_by_snr"]
    level = model.log_snr(ops.make_key(0, FIRST + torch.arange(512))).sort().values
    assert [bin[:2] for bin in bins] == [[float(part[0]), float(part[-1])] for part in level.chunk(8)]
    assert sum(bin[2] for bin in bins) / 8 == pytest.approx(found["test_loss"][0], rel=1e-12)
    assert all(low < mean < high for _, _, mean, low, high in bins)
    assert "test_loss_by_snr" not in HeldOut(Noisy(), samples, CPU).look(1)


def test_few_samples():
    found = HeldOut(Leveled(), data(3), CPU).look(1)
    assert len(found["test_loss_by_snr"]) == 3 and found["test_loss_by_snr"][0][4] == math.inf
    mean, low, high = HeldOut(Noisy(), data(1), CPU).look(1)["test_loss"]
    assert math.isfinite(mean) and (low, high) == (-math.inf, math.inf)


def test_players_have_no_held_out_loss():
    model = Noisy()
    model.players = dict
    held = HeldOut(model, data(), CPU)
    assert held.look(1) == {} and not held.best and model.seen == []


def test_the_best_look_is_the_lowest():
    held = scripted([3.0, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 2.0], [1.0, 1.0])
    assert [held.look(k) and held.best for k in range(5)] == [True, True, False, False, True]


def rising(by, looks, n=64, spread=10.0):
    """Losses that differ by `spread` between samples, and from the first look on rise by `by`."""
    base = torch.linspace(0, spread, n)
    wobble = torch.linspace(-1, 1, n) * 0.01
    return [(base + by * k + (k % 2) * wobble).tolist() for k in range(looks)]


def test_three_rises_in_a_row_warn_once():
    """A rise by 0.05 is far within the interval of the loss, +-0.7, and far beyond that of the pairs."""
    held = scripted(*rising(0.05, 9))
    for step in range(3):
        held.look(100 * step)
    with pytest.warns(RuntimeWarning, match=r"risen from 5 at step 0 to 5\.15 at step 300.*RUN/best.*step 0") as said:
        held.look(300)
    assert said[0].filename == __file__  # at the line that a user wrote
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(4, 9):
            held.look(100 * step)


def test_a_plateau_is_no_rise():
    """The best of many looks was lucky, and the next three are not: with 1.96 in place of 3 standard errors 4 of these
    40 runs would be warned of."""
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            held = scripted(*(5 + torch.randn(20, 256, generator=generator)).tolist())
            for step in range(20):
                held.look(step)


def test_a_lower_loss_begins_the_count_anew():
    up = rising(0.05, 3)
    held = scripted(*up, [value - 1 for value in up[0]], up[1], up[2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(6):
            held.look(step)


def test_what_is_not_finite_is_never_the_best():
    held = scripted([1.0, math.nan], [2.0, 2.0], [-math.inf, 1.0], [1.0, 1.0])
    with pytest.warns(RuntimeWarning, match="not finite at step 5, in 1 of 2 samples"):
        assert math.isnan(held.look(5)["test_loss"][0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best = [held.best] + [held.look(k) and held.best for k in (6, 7, 8)]
    assert best == [False, True, False, True]


def test_a_resumed_run_goes_on_bit_for_bit():
    looks = [[value / 3 for value in look] for look in rising(0.05, 6)]
    whole, before = scripted(*looks), scripted(*looks[:3])
    after = scripted(*looks[3:])
    found = [whole.look(k) for k in range(3)]
    assert [before.look(k) for k in range(3)] == found
    after.load(json.loads(json.dumps(before.state(), allow_nan=False)))
    assert after.state() == whole.state()
    for held in (whole, after):
        with pytest.warns(RuntimeWarning, match="risen"):
            held.look(3)
    assert after.look(4) == whole.look(4) and after.state() == whole.state()
    fresh = scripted([1.0])
    fresh.load(scripted([1.0]).state())
    assert fresh.look(1) and fresh.best


def test_looks_are_rare_enough():
    """A look at n samples takes 0.4 of a step of n, and all looks 3 % of the time: at the demo's 600 steps of 128 10
    looks. None is shortly before the last, which is at the end."""
    held = HeldOut(Noisy(), data(512), CPU)
    assert [held.apart(steps, 128) for steps in (1, 30, 400, 600, 10_000)] == [1, 30, 58, 60, 500]
    assert held.apart(1, 10**6) == 1 and HeldOut(Noisy(), data(40), CPU).apart(600, 128) == 30


@pytest.mark.parametrize("name", NAMES)
def test_every_family(name):
    """One number for a VAE, eight more for diffusion, none for a GAN; the same whatever the mode."""
    model, columns = family(name), {"label": torch.arange(24) % 3}
    samples = arrays(images(), **columns if getattr(model, "classes", 0) else {})
    held = HeldOut(model, for_training(samples, model), CPU)
    found = held.look(1)
    if name == "gan":
        assert found == {}
        return
    mean, low, high = found["test_loss"]
    assert low < mean < high and held.best and held.look(2) == found
    if name == "vae":
        assert [*found] == ["test_loss"]
        return
    bins = torch.tensor(found["test_loss_by_snr"], dtype=torch.float64)
    assert bins.shape == (8, 5) and (bins[:, 0] < bins[:, 1]).all() and (bins[1:, 0] > bins[:-1, 1]).all()
    assert float(bins[:, 2].mean()) == pytest.approx(mean, rel=1e-9)  # of 24 samples, three each


def test_noise_levels_are_spread_evenly():
    """The times of training are stratified in the counter, and so are those that are looked at."""
    model = family("diffusion", times="uniform", schedule="vp_cosine")
    level = model.log_snr(ops.make_key(0, FIRST + torch.arange(512))).sort().values
    gaps = model.schedule.log_snr(torch.linspace(1, 0, 513, dtype=torch.float64)[1:-1]).diff()
    assert (level.diff()[20:-20] < 3 * gaps[20:-19]).all()
