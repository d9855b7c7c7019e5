"""compare(): rankings with ties, and models whose likelihood and samples disagree."""

import dataclasses
import functools
import json
import math

import pytest
import torch
from toys import Gaussian, Mixed, normal

import genfast as gf

D = 16
REAL = normal(250, D, seed=7)
METRICS = ["frechet", "likelihood"]


@functools.cache
def report(name):
    models = {
        "true": Gaussian(D),
        "near": Gaussian(D, 1.02),
        "narrow": Gaussian(D, 0.6),  # 6 nats worse than the truth, samples that differ by 0.16 a dimension
        "junky": Mixed(D, 0.9, 3.0),  # log 10 = 2.3 nats worse, and nine samples of ten are junk
        "wide": Gaussian(D, 3.0),
    }
    return gf.evaluate(models[name], REAL, metrics=METRICS, progress=False)


def compare(*names):
    return gf.compare([(name, report(name)) for name in names])


def test_clear_order():
    found = compare("wide", "narrow", "true")
    assert found.quality.tiers == (("true",), ("narrow",), ("wide",)) and found.quality.metric == "frechet"
    assert found.likelihood.metric == "nats" and found.likelihood.tiers[0] == ("true",)
    assert "By samples (frechet): true, then narrow, then wide." in found.sentences
    assert not any("disagree" in sentence for sentence in found.sentences)


def test_better_likelihood_and_worse_samples():
    found = compare("narrow", "junky")
    assert found.likelihood.tiers == (("junky",), ("narrow",)) and found.quality.tiers == (("narrow",), ("junky",))
    (sentence,) = [s for s in found.sentences if "disagree" in s]
    assert "junky has the better likelihood than narrow" in sentence and "worse samples" in sentence
    assert "against" in sentence and "[" in sentence


def test_nothing_can_be_told_apart():
    found = compare("true", "near")
    assert found.quality.tiers in ((("true", "near"),), (("near", "true"),)) and len(found.likelihood.tiers) == 1
    assert "Nothing can be told apart at n = 250: all intervals overlap. Take more samples." in found.sentences
    assert "(a tie)" in str(found)


def with_intervals(**intervals):
    """The report of `true`, with these intervals: name=(low, high)."""
    estimate = report("true")["frechet"].estimate
    records = (
        gf.evaluation.Record(name, "lower", dataclasses.replace(estimate, value=low, low=low, high=high, details={}))
        for name, (low, high) in intervals.items()
    )
    return dataclasses.replace(report("true"), records=tuple(records))


@pytest.mark.parametrize("reports, words", [
    ([{"frechet": (0, 2)}, {"frechet": (1, 3)}], "Nothing can be told apart"),
    ([{"frechet": (0, 2), "recall": (0, 1)}, {"frechet": (1, 3), "recall": (1.1, 2)}], "can be told apart by recall."),
    ([{"frechet": (0, 9)}, {"frechet": (1, 2)}, {"frechet": (3, 4)}], "can be told apart by frechet."),  # one tier
    ([{"frechet": (0, 2), "recall": (0, math.inf)}, {"frechet": (1, 3), "recall": (-9, -8)}], "Nothing can be"),
])  # fmt: skip
def test_rankings_that_are_ties(reports, words):
    """It is not all that there is: other numbers may differ, and two of a tier that is a tie with its first."""
    found = gf.compare([(str(i), with_intervals(**intervals)) for i, intervals in enumerate(reports)])
    assert len(found.quality.tiers) == 1 and words in str(found)


def test_intervals_that_overlap_are_a_tie():
    found = compare("true", "near", "wide")
    assert found.quality.place("true") == found.quality.place("near") == 0 and found.quality.place("wide") == 1
    assert not any("Nothing" in sentence for sentence in found.sentences)


def test_table_and_json():
    found = compare("true", "wide")
    lines = str(found).splitlines()
    assert lines[0] == "250 samples against 250 of array, features pixels, 95% intervals"
    assert lines[2].split() == ["metric", "true", "wide"] and lines[3].startswith("frechet")
    content = json.loads(found.json())
    assert content.keys() == {"likelihood", "quality", "sentences", "reports"}
    assert content["quality"] == {"metric": "frechet", "tiers": [["true"], ["wide"]]}
    assert content["reports"]["wide"]["schema"] == "genfast.evaluation"


def test_models_are_evaluated():
    found = gf.compare(
        [("good", Gaussian(D)), ("bad", Gaussian(D, 3.0))], data=REAL, metrics=METRICS, n=250, progress=False
    )
    assert found.reports["good"] == report("true") and found.quality.tiers == (("good",), ("bad",))
    named = gf.compare([report("true"), ("wide", report("wide"))])
    assert list(named.reports) == ["Gaussian", "wide"]


def test_without_a_likelihood():
    arrays = gf.evaluate(normal(250, D), REAL, metrics="frechet", progress=False)
    found = gf.compare([("true", report("true")), ("samples", arrays)])
    assert found.likelihood is None and "By likelihood: no ranking, samples has none." in found.sentences
    assert found.quality is not None


def test_bounds_are_told():
    nats = report("true")["nats"]
    bound = dataclasses.replace(nats, estimate=dataclasses.replace(nats.estimate, method="lower bound (ELBO); x"))
    other = dataclasses.replace(report("true"), records=(report("true")["frechet"], bound))
    found = gf.compare([("a", report("true")), ("b", other)])
    assert "The likelihoods are of different kinds: a exact, b lower bound (ELBO)." in found.sentences


def with_estimate(original, name, **changes):
    """The report with another estimate under this name."""
    found = original[name]
    record = dataclasses.replace(found, estimate=dataclasses.replace(found.estimate, **changes))
    return dataclasses.replace(original, records=tuple(record if r is found else r for r in original.records))


def test_likelihoods_of_other_units_are_not_ranked():
    other = with_estimate(report("wide"), "nats", method="exact, dequantized from 16 levels; central limit")
    found = gf.compare([("a", report("true")), ("b", other)])
    assert found.likelihood is None and found.quality is not None
    units = "a not dequantized, b dequantized from 16 levels"
    assert f"By likelihood: no ranking, their units are different: {units}." in found.sentences
    assert gf.compare([("a", other), ("b", dataclasses.replace(other))]).likelihood is not None


def test_probabilities_are_not_ranked_against_densities():
    def vae(likelihood):
        torch.manual_seed(0)
        return gf.VAE(torch.nn.Linear(D, 4), torch.nn.Linear(2, D), latent=2, likelihood=likelihood)

    models = [("density", vae("gaussian")), ("probability", vae("bernoulli"))]
    options = {"metrics": ["likelihood"], "likelihood": {"draws": 2}, "progress": False}
    found = gf.compare(models, data=REAL.sign(), **options)
    units = "density not dequantized, probability of probabilities"
    assert found.likelihood is None
    assert f"By likelihood: no ranking, their units are different: {units}." in found.sentences
    found = gf.compare([*models[1:], ("logistic", vae("discretized_logistic"))], data=REAL.sign(), **options)
    assert found.likelihood is not None


def test_a_likelihood_of_minus_infinity_is_last(tmp_path):
    none = with_estimate(report("true"), "nats", value=-math.inf, low=-math.inf, high=-math.inf)
    none.save(tmp_path / "report.json")
    for it in (none, gf.evaluation.Report.load(tmp_path / "report.json")):
        assert gf.compare([("it", it), ("wide", report("wide"))]).likelihood.tiers == (("wide",), ("it",))


@functools.cache
def of_few(scale):
    metrics = ["frechet", "kernel_distance"]
    return gf.evaluate(normal(30, D) * scale, REAL, n=30, metrics=metrics, progress=False)


def test_without_an_interval_frechet_does_not_rank():
    found = gf.compare([("wide", of_few(4.0)), ("true", of_few(1.0))])
    assert found.quality.metric == "kernel_distance" and found.quality.tiers == (("true",), ("wide",))
    alone = [dataclasses.replace(of_few(s), records=(of_few(s)["frechet"],)) for s in (1.0, 4.0)]
    found = gf.compare(list(zip("ab", alone)))
    assert found.quality is None and "By samples: no ranking, a and b have none." in found.sentences


def test_a_pair_begins_with_a_name():
    """Samples and labels are no pair of a name and a model, which is said before anything is evaluated."""
    x, label = normal(250, D), torch.zeros(250, dtype=torch.int64)

    class Never:
        def sample(self, *args, **options):
            pytest.fail("evaluated")

    with pytest.raises(TypeError, match=r"models must be .*\(name, model\) with data=; got tuple"):
        gf.compare([("never", Never()), (x, label)], data=REAL)


@pytest.mark.parametrize(
    "what, change",
    [
        ("features", {"features": {"name": "pixels", "dim": D, "fingerprint": "another"}}),
        ("data", {"data": {"name": "array", "shape": [D], "classes": 0, "fingerprint": "another"}}),
        ("n", {"n": 99}),
        ("level", {"level": 0.9}),
    ],
)
def test_what_cannot_be_compared(what, change):
    other = dataclasses.replace(report("true"), **change)
    with pytest.raises(ValueError, match=f"models must have the same {what}; got .* of a and .* of b"):
        gf.compare([("a", report("true")), ("b", other)])


def test_bad_arguments():
    with pytest.raises(ValueError, match="models must be at least two; got 1"):
        compare("true")
    with pytest.raises(ValueError, match="models must have different names; got 'Gaussian' twice"):
        gf.compare([report("true"), report("wide")])
    with pytest.raises(TypeError, match=r"\(name, model\) with data=; got Gaussian"):
        gf.compare([("a", Gaussian(D)), ("b", Gaussian(D))])
    with pytest.raises(TypeError, match="got Gaussian"):
        gf.compare([Gaussian(D), Gaussian(D)], data=REAL)
