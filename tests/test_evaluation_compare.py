"""compare(): rankings with ties, and models whose likelihood and samples disagree."""

import dataclasses
import functools
import json

import pytest
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
    with pytest.raises(ValueError, match=f"models: expected the same {what} in all reports; a has .*, b has"):
        gf.compare([("a", report("true")), ("b", other)])


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least two, got 1"):
        compare("true")
    with pytest.raises(ValueError, match="different names, got 'Gaussian' twice"):
        gf.compare([report("true"), report("wide")])
    with pytest.raises(TypeError, match=r"\(name, model\) with data=, got Gaussian"):
        gf.compare([("a", Gaussian(D)), ("b", Gaussian(D))])
    with pytest.raises(TypeError, match="got Gaussian"):
        gf.compare([Gaussian(D), Gaussian(D)], data=REAL)
