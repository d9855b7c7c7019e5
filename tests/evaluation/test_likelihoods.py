"""Likelihood by what a model offers: exact, importance-weighted, a bound, by the flow."""

import math

import numpy as np
import pytest
import torch
from helpers import perturbed
from toys import Gaussian, LinearVAE, normal

import genfast as gf
from genfast.common import processes
from genfast.evaluation.likelihoods import likelihoods
from genfast.evaluation.splits import subset

DATA = gf.data.Data(normal(90, 6, seed=3))


def run(model, data=DATA, seed=0, **options):
    return likelihoods(model, data, options, seed=seed, progress=False)


def test_nothing_offered():
    assert run(object()) is None and run(None) is None


def test_exact():
    found = run(Gaussian(6, 1.5))
    assert torch.equal(found.nats, Gaussian(6, 1.5).log_prob(DATA.x)) and found.how == "exact"
    assert found.nats.dtype == torch.float64 and found.se is None and found.elbo is None and found.note == ""


def test_a_random_part_of_the_data():
    whole, part = run(Gaussian(6)).nats, run(Gaussian(6), n=30).nats
    place = torch.isin(whole, part).nonzero().flatten()
    assert len(place) == 30 and place.max() > 60 and torch.equal(whole[place], part)
    assert not torch.equal(part, run(Gaussian(6), n=30, seed=1).nats)


def test_weights_of_the_exact_posterior_are_the_likelihood():
    """Case 18: the bound is tight, at any number of draws."""
    found = run(LinearVAE(), draws=3)
    exact = LinearVAE().exact(DATA.x)
    assert torch.allclose(found.nats, exact, rtol=1e-10) and torch.allclose(found.elbo, exact, rtol=1e-10)
    assert found.se.max() < 1e-6 and found.how == "lower bound (IWAE of 3)"


def test_importance_weighting_closes_the_gap():
    """A posterior twice too wide loses KL = (2 - 1 - log 2) / 2 nats a latent number, and IWAE gains it back."""
    model = LinearVAE(wide=2.0)
    exact = model.exact(DATA.x)
    few, many = run(model, draws=4), run(model, draws=500)
    gap = model.latent * (2 - 1 - math.log(2)) / 2
    assert exact.mean() - many.elbo.mean() == pytest.approx(gap, abs=0.02)
    assert many.elbo.mean() < few.nats.mean() < many.nats.mean()
    assert ((many.nats - exact).abs() < 5 * many.se).all() and many.se.max() < 0.1


def test_draws_come_in_parts_without_repeating():
    """40 draws are draws 0 to 39, whatever is taken at a time."""
    asked = []

    class Spy(LinearVAE):
        def log_weights(self, x, key, samples, first=0):
            asked.append((len(x), samples, first))
            return super().log_weights(x, key, samples, first)

    found = run(Spy(wide=2.0), draws=40)
    assert asked == [(rows, samples, first) for rows in (64, 26) for samples, first in ((16, 0), (16, 16), (8, 32))]
    key = gf.ops.make_key(0, torch.arange(90))
    at_once = LinearVAE(wide=2.0).log_weights(DATA.x, key, 40)
    assert torch.allclose(found.nats, at_once.logsumexp(0) - math.log(40), rtol=1e-9)


class Flow(Gaussian):
    """Of a likelihood whose draws go by the numbers of the rows."""

    log_prob = None

    def log_likelihood(self, x, seed, index, progress=False, divergence="", probes=0, steps=0, chunk=64):
        draws = gf.ops.normal(gf.ops.make_key(seed, index), (2,), gf.ops.Purpose.PROBE).double()
        return x.double().sum(1) + draws[:, 0], draws[:, 1].abs()


class Unnumbered(Flow):
    """The same, that cannot be asked for some rows only."""

    def log_likelihood(self, x, seed, progress=False, divergence="", probes=0, steps=0):
        return super().log_likelihood(x, seed, torch.arange(len(x)))


@pytest.mark.parametrize(
    "model, options, sizes",
    [
        (Gaussian(6), {}, [64, 128, 108]),
        (LinearVAE(), {"draws": 3}, [64, 128, 108]),
        (Flow(6), {"n": 300, "chunk": 10}, [100, 100, 100]),
        (Unnumbered(6), {"n": 300}, [300, 300, 300]),
    ],
)
def test_several_processes_share_the_rows(model, options, sizes, monkeypatch):
    """In whole chunks; all the shares are what one process finds, in order."""
    data, parts = gf.data.Data(normal(300, 6, seed=3)), []
    whole = run(model, data, **options)
    for rank in range(3):
        monkeypatch.setattr(processes, "world", lambda rank=rank: (rank, 3))
        monkeypatch.setattr(processes, "gather", lambda part: part)
        parts.append(run(model, data, **options))
    assert [len(part.nats) for part in parts] == sizes and {part.how for part in parts} == {whole.how}
    joined = parts[:1] if sizes[0] == 300 else parts
    for name in ("nats", "se", "elbo"):
        columns, found = [getattr(part, name) for part in joined], getattr(whole, name)
        assert columns == [None] * len(joined) if found is None else torch.equal(torch.cat(columns), found)


def test_bad_draws():
    for draws in (0, 2.0, True):
        with pytest.raises(ValueError, match=r'likelihood\["draws"\] must be an integer of at least 1; got '):
            run(LinearVAE(), draws=draws)


def test_a_plain_bound():
    class Bounded:
        def elbo(self, x, key):
            assert key.shape == (len(x), 2)
            return Gaussian(6).log_prob(x) - 1

    found = run(Bounded())
    assert torch.equal(found.nats, Gaussian(6).log_prob(DATA.x) - 1) and found.how == "lower bound (ELBO)"


def test_the_flow_of_a_diffusion_model():
    model = gf.Diffusion(perturbed(gf.nn.MLP(6, 8)), shape=(6,))
    options = {"steps": 3, "divergence": "rademacher", "probes": 2}
    found = run(model, n=5, **options)
    x = DATA.x[torch.isin(run(Gaussian(6)).nats, run(Gaussian(6), n=5).nats)]
    nats, se = model.log_likelihood(x, **options, progress=False)
    assert torch.equal(found.nats, nats) and torch.equal(found.se, se) and found.how == "probability flow"
    probes = [run(model, n=90, **options, seed=seed).nats for seed in (0, 0, 1)]
    assert torch.equal(probes[0], probes[1]) and not torch.equal(probes[0], probes[2])
    assert run(model, n=5, steps=3, divergence="rademacher", probes=1).se is None  # unknown
    assert run(model, n=4, steps=2).se.max() == 0  # six dimensions: exact divergence by default
    wide = gf.data.Data(normal(400, 2))
    assert len(run(gf.Diffusion(gf.nn.MLP(2, 4), shape=(2,)), wide, steps=1).nats) == 128


def test_a_class_conditional_model_is_told():
    class Conditional(Gaussian):
        classes = 3

        def log_prob(self, x, label):
            return super().log_prob(x) + label

    label = torch.arange(90) % 3
    found = run(Conditional(6), gf.data.Data(DATA.x, label))
    assert torch.equal(found.nats, Gaussian(6).log_prob(DATA.x) + label)


def test_dequantized_data_of_a_uniform_model_are_log2_levels():
    """The bins of 17 levels tile [-17/16, 17/16]; a uniform density there says log2 17 bits a number."""

    class Uniform(Gaussian):
        def log_prob(self, x):
            assert x.abs().max() < 17 / 16 and len(x.unique()) > 150
            return torch.full((len(x),), -x.shape[1] * math.log(2 * 17 / 16))

    grid = gf.data.Data((DATA.x * 8).round().clamp(-8, 8) / 8)
    report = gf.evaluate(Uniform(6), grid, metrics="likelihood", likelihood={"levels": 17}, progress=False)
    assert report["bits_per_dim"].value == pytest.approx(math.log2(17), rel=1e-6) and not report.warnings
    assert report["nats"].estimate.method.startswith("exact, dequantized from 17 levels; ")
    with pytest.raises(ValueError, match="data must be of 16 levels"):
        run(Uniform(6), grid, levels=16)
    with pytest.raises(ValueError, match=r'likelihood\["levels"\] must be an integer of at least 2; got 1'):
        run(Uniform(6), grid, levels=1)


class Still(torch.nn.Module):
    """The exact v of x_0 ~ N(0, I) on VP cosine: none."""

    def forward(self, y, t):
        return 0 * y


def flow():
    """A diffusion model that is N(0, I)."""
    return gf.Diffusion(Still(), "vp_cosine", "v", shape=(6,))


@pytest.mark.parametrize(
    "model, exact, options",
    [
        (Gaussian(6), lambda x: Gaussian(6).log_prob(x), {}),
        (LinearVAE(), lambda x: LinearVAE().exact(x), {"draws": 2}),
        (flow(), lambda x: Gaussian(6).log_prob(x), {"n": 20}),
    ],
    ids=["exact", "weights", "flow"],
)
def test_data_of_levels_are_dequantized(model, exact, options):
    """log P(k) >= E log p(x + u) + log(2 / 16) a number, u even in a bin; without levels it is a density at x."""
    data = gf.data.Data((DATA.x * 8).round().clamp(-8, 8) / 8, levels=17)
    found = run(model, data, **options)
    plain = run(model, data, levels=None, **options)
    index = torch.arange(90) if "n" not in options else subset(90, options["n"], 0)
    x = data.x[index]
    u = gf.ops.uniform(gf.ops.make_key(0, index), (6,), gf.ops.Purpose.DEQUANTIZE)
    torch.testing.assert_close(found.nats, exact(x + (u - 0.5) / 8).double(), atol=0.02, rtol=1e-5)
    torch.testing.assert_close(plain.nats, exact(x).double(), atol=0.02, rtol=1e-5)
    assert found.how.endswith(", dequantized from 17 levels") and found.bits_offset == 3 and not found.note
    assert "dequantized" not in plain.how and plain.bits_offset == 0 and "distinct values" in plain.note


def test_levels_that_the_data_do_not_have_are_named():
    data = gf.data.Data(DATA.x.clamp(-1, 1), levels=17)
    with pytest.raises(ValueError, match=r'data must be of 17 levels, .*: likelihood=\{"levels": None\} takes them'):
        run(Gaussian(6), data)
    assert run(Gaussian(6), data, levels=None).bits_offset == 0


@pytest.mark.parametrize("integer", [np.int64, torch.tensor], ids=["numpy", "torch"])
def test_integers_of_other_libraries(integer):
    assert torch.equal(run(Gaussian(6), n=integer(30)).nats, run(Gaussian(6), n=30).nats)
    assert run(LinearVAE(), draws=integer(3)).how == "lower bound (IWAE of 3)"
    grid = gf.data.Data((DATA.x * 8).round().clamp(-8, 8) / 8)
    assert run(Gaussian(6), grid, levels=integer(17)).how == "exact, dequantized from 17 levels"


def test_no_gradients_are_kept():
    class Learned(Gaussian):
        def log_prob(self, x):
            assert not torch.is_grad_enabled()
            return super().log_prob(x)

    assert not run(Learned(6)).nats.requires_grad


def test_gray_levels_are_noted():
    grid = gf.data.Data((DATA.x * 4).round() / 4)
    assert "distinct values" in run(Gaussian(6), grid).note


def test_in_a_report():
    report = gf.evaluate(LinearVAE(wide=2.0), DATA, metrics="likelihood", likelihood={"draws": 8}, progress=False)
    assert [record.name for record in report.records] == ["nats", "bits_per_dim", "elbo"]
    assert report["elbo"].value < report["nats"].value
    assert report["nats"].estimate.method.startswith("lower bound (IWAE of 8)")


@pytest.mark.parametrize(
    "match, options",
    [
        (r'\["n"\] must be an integer from 2 to 90; got 91', {"n": 91}),
        (r'\["n"\] must be an integer from 2 to 90; got 1', {"n": 1}),
        (r'\["levels"\] must be an integer of at least 2; got 8.0', {"levels": 8.0}),
        (" must have settings among levels, n for log_prob; got draws, steps", {"steps": 5, "draws": 4}),
    ],
)
def test_bad_options(match, options):
    with pytest.raises(ValueError, match=f"likelihood{match}"):
        run(Gaussian(6), **options)


def test_an_answer_of_the_wrong_shape():
    class Odd:
        def log_prob(self, x):
            return x

    with pytest.raises(ValueError, match=r"model.log_prob must answer with shape \(90,\); got \(90, 6\)"):
        run(Odd())


def vae(likelihood):
    torch.manual_seed(0)
    return gf.VAE(torch.nn.Linear(6, 4), torch.nn.Linear(2, 6), latent=2, likelihood=likelihood)


@pytest.mark.parametrize("name, levels", [("bernoulli", 2), ("discretized_logistic", 256)])
def test_probabilities_are_no_densities(name, levels):
    grid = gf.data.Data(((DATA.x.clamp(-1, 1) + 1) * (levels - 1) / 2).round() / (levels - 1) * 2 - 1)
    found = run(vae(name), grid, draws=2)
    assert found.how == "lower bound (IWAE of 2) of probabilities" and not found.note and (found.nats < 0).all()
    assert torch.equal(run(vae(name), grid.replace(levels=levels), draws=2).nats, found.nats)
    why = f"for the model gives probabilities of {levels} levels, no densities"
    with pytest.raises(ValueError, match=rf'likelihood\["levels"\] must be left out, {why}; got {levels}'):
        run(vae(name), grid, levels=levels)
    coarse = gf.data.Data(DATA.x.sign())
    assert "distinct values" in run(vae("gaussian"), coarse, draws=2).note and not run(vae(name), coarse, draws=2).note


def test_gray_values_under_bernoulli_are_no_likelihood():
    gray = gf.data.Data(DATA.x.clamp(-1, 1))
    assert "a loss, no likelihood" in run(vae("bernoulli"), gray, draws=2).note


def test_a_seed_among_the_options():
    """Of the probes; it goes before that of the evaluation."""
    model = gf.Diffusion(perturbed(gf.nn.MLP(6, width=8, depth=1)), shape=(6,))
    few = {"steps": 2, "n": 4, "divergence": "rademacher"}
    assert torch.equal(run(model, **few, probes=1).nats, run(model, **few, probes=1, seed=0).nats)
    data = gf.data.Data(DATA.x[:4])
    own = likelihoods(model, data, few | {"seed": 5}, seed=0, progress=False).nats
    assert torch.equal(own, model.log_likelihood(data.x, seed=5, steps=2, divergence="rademacher", probes=1)[0])
