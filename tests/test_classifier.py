"""Bayes' rule on generative models: exact on Gaussian classes, under a moved prior, on digits, by a diffusion."""

import math

import pytest
import torch
from helpers import normal

import genfast as gf
from genfast.diffusion.process.denoisers import Unscaled
from genfast.diffusion.process.schedules import Flow
from genfast.verification.invariance import threads

MEANS = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]]).double()


def gaussian_classes(prior=None):
    """Three classes of one covariance, known."""
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]])
    return gf.GenerativeClassifier([gf.Gaussian.from_moments(mean, covariance) for mean in MEANS], prior)


# Bayes' rule ----------------------------------------------------------------------------------------------------------


def test_posterior_of_gaussian_classes():
    """With one covariance C the log-odds are linear: x^T C^-1 (m_k - m_0) + b_k (linear discriminant analysis)."""
    prior = torch.tensor([0.2, 0.3, 0.5]).double()
    classifier, x = gaussian_classes(prior), 2 * normal(50, 2)
    inverse = torch.linalg.inv(torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double())
    logits = x @ inverse @ MEANS.T - ((MEANS @ inverse) * MEANS).sum(1) / 2 + prior.log()
    found = classifier.predict_proba(x)
    assert found.dtype == torch.float64 and torch.allclose(found, torch.softmax(logits, 1), rtol=0, atol=1e-12)
    assert torch.equal(classifier.predict(x), logits.argmax(1))
    evidence = torch.logsumexp(classifier.log_joint(x), 1)
    mixture = gf.GaussianMixture.from_parameters(prior, MEANS, torch.linalg.inv(inverse).expand(3, 2, 2))
    assert torch.allclose(evidence, mixture.log_prob(x), rtol=0, atol=1e-12)


def test_predictions_are_calibrated():
    """Of samples given p(y | x), as many are of class y as that says."""
    prior = torch.tensor([0.6, 0.3, 0.1]).double()
    label = torch.multinomial(prior, 20_000, replacement=True, generator=torch.Generator().manual_seed(3))
    x = torch.stack([model.sample(len(label), seed=4) for model in gaussian_classes().models])
    x = x[label, torch.arange(len(label))]
    p = gaussian_classes(prior).predict_proba(x)
    hits = torch.nn.functional.one_hot(label, 3)
    assert ((hits - p).sum(0) / (p * (1 - p)).sum(0).sqrt()).abs().max() < 4
    weighted = ((hits - p) * p).sum(0) / (p**3 * (1 - p)).sum(0).sqrt()
    assert weighted.abs().max() < 4


def test_missing_values():
    """PPCAs take them in fit, and Bayes' rule is on what is there."""
    label = torch.arange(300) % 2
    x = normal(300, 4) @ normal(4, 4, seed=1) + 3.0 * label.unsqueeze(1)
    x[torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) < 0.2] = math.nan
    classifier = gf.GenerativeClassifier([gf.PPCA(2), gf.PPCA(2)]).fit((x, label))
    assert torch.equal(classifier.models[1].mean, gf.PPCA(2).fit(x[label == 1]).mean)
    assert classifier.predict_proba(x).isfinite().all() and classifier.accuracy((x.numpy(), label.numpy())) > 0.8
    with pytest.raises(ValueError, match="data must be finite; rows"):
        gf.GenerativeClassifier([gf.Gaussian(), gf.Gaussian()]).fit((x, label))


def test_float64_far_from_the_origin():
    label = torch.arange(300) % 2
    x = normal(300, 4) + 3.0 * label.unsqueeze(1)
    near, far = (gf.GenerativeClassifier([gf.Gaussian(), gf.Gaussian()]).fit((x + c, label)) for c in (0, 1e8))
    assert torch.allclose(far.log_likelihoods(x + 1e8), near.log_likelihoods(x), atol=1e-5)


def test_fit_is_one_fit_a_class_and_counts():
    label = torch.tensor([0, 1, 1]).repeat(60)
    x = normal(180, 3) + label.unsqueeze(1)
    classifier = gf.GenerativeClassifier([gf.Gaussian(), gf.PPCA(1)]).fit((x, label))
    assert torch.equal(classifier.models[0].mean, gf.Gaussian().fit(x[label == 0]).mean)
    assert torch.equal(classifier.models[1].mean, gf.PPCA(1).fit(x[label == 1]).mean)
    assert torch.allclose(classifier.prior, torch.tensor([1.0, 2.0]).double() / 3)
    assert classifier.accuracy((x, label)) == float((classifier.predict(x) == label).double().mean())


def test_one_object_cannot_be_two_classes():
    label = torch.tensor([0, 1]).repeat(30)
    with pytest.raises(ValueError, match="models must be different objects, one a class"):
        gf.GenerativeClassifier([gf.Gaussian()] * 2).fit((normal(60, 2), label))


def test_a_changed_prior_reweights_the_posterior():
    """p'(y | x) ~ p(y | x) p'(y) / p(y), and the first classifier stays as it is."""
    first, x = gaussian_classes([0.2, 0.3, 0.5]), 2 * normal(50, 2)
    moved = first.with_prior([3, 1, 1])
    expected = first.predict_proba(x) * torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64) / first.prior
    assert torch.allclose(moved.predict_proba(x), expected / expected.sum(1, keepdim=True), rtol=0, atol=1e-12)
    assert torch.equal(first.prior, gaussian_classes([0.2, 0.3, 0.5]).prior) and moved.models is first.models
    assert (first.with_prior([1, 0, 0]).predict(x) == 0).all()


# A prior that moves ---------------------------------------------------------------------------------------------------


def mail(count, share, seed):
    """A narrow class, a `share` of all, in front of a broad one."""
    generator = torch.Generator().manual_seed(seed)
    label = (torch.rand(count, generator=generator) < share).long()
    x = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return torch.where(label.unsqueeze(1) == 1, 1 + 0.3 * x, x), label


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_base_rate_from_10_to_50_percent(seed):
    before, after = mail(20_000, 0.1, seed + 1), mail(20_000, 0.5, seed + 2)
    classifier = gf.GenerativeClassifier([gf.Gaussian(), gf.Gaussian()]).fit(mail(4000, 0.1, seed))
    estimate = classifier.estimate_prior(after[0])
    assert estimate.converged and abs(float(estimate.prior[1]) - 0.5) < 0.03
    usual = classifier.accuracy(before)
    assert usual > 0.93
    for prior in ([0.5, 0.5], estimate.prior):
        assert classifier.with_prior(prior).accuracy(after) > usual - 0.01
    assert classifier.accuracy(after) < usual - 0.05


def test_estimated_prior_is_the_likeliest():
    """Against a search over all priors of two classes, and the fixed point of the equation."""
    classifier = gf.GenerativeClassifier([gf.Gaussian.from_moments([m], [1.0]) for m in (0.0, 1.0)], [0.9, 0.1])
    x = torch.cat([normal(100, 1), 1 + normal(60, 1, seed=1)])
    found = classifier.estimate_prior(x, tolerance=1e-12)
    shares = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    both = classifier.log_likelihoods(x)
    evidence = [float(torch.logsumexp(both + torch.stack([1 - s, s]).log(), 1).sum()) for s in shares]
    assert abs(float(shares[max(range(999), key=evidence.__getitem__)] - found.prior[1])) <= 1e-3
    assert torch.allclose(classifier.with_prior(found.prior).predict_proba(x).mean(0), found.prior, rtol=0, atol=1e-10)
    other = classifier.with_prior([0.2, 0.8]).estimate_prior(x, tolerance=1e-12)
    assert torch.allclose(other.prior, found.prior, atol=1e-9)


def test_an_unfinished_estimate_says_so():
    with pytest.warns(UserWarning, match=r"EM has not converged in max_iterations=2: p\(y\) still changes by"):
        estimate = gaussian_classes().estimate_prior(normal(50, 2), max_iterations=2)
    assert not estimate.converged and estimate.iterations == 2


# Digits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:data. .* samples of 64 numbers")  # regularized, as it advises
@pytest.mark.parametrize("make", [lambda: gf.Gaussian(shrinkage=0.1), lambda: gf.PPCA(10)], ids=["shrunk", "ppca"])
def test_digits(make):
    classifier = gf.GenerativeClassifier([make() for _ in range(10)]).fit(gf.data.digits("train"))
    assert classifier.accuracy(gf.data.digits("test")) > 0.975


@pytest.mark.slow
@threads(1)  # of a network so small, two wait for each other
def test_digits_by_a_class_conditional_diffusion():
    """A U-Net trained for 300 steps, and log p(x | y) by the bound with 16 times: on a third of the held-out digits."""
    torch.manual_seed(0)
    net = gf.nn.UNet(channels=1, width=16, multipliers=(1, 3), classes=10)
    diffusion = gf.Diffusion(
        net, gf.schedules.EDM(sigma_min=0.05, sigma_max=10.0), gf.denoisers.EDM(sigma_data=0.75),
        times=gf.diffusion.LogNormal(mean=-0.6, std=1.2), label_dropout=0.0,
    )  # fmt: skip
    gf.fit(diffusion, gf.data.digits("train"), steps=300, batch=64, lr=4e-3, warmup=50, progress=False)
    held_out = gf.data.digits("test")
    third = gf.data.Data(held_out.x[::3], held_out.label[::3])
    assert len(third) == 150
    assert gf.GenerativeClassifier(diffusion, bound=True, samples=16).accuracy(third) >= 0.95


# Other models ---------------------------------------------------------------------------------------------------------


class ExactNet(torch.nn.Module):
    """D(x_t, t) of N(m_label, std^2 I)."""

    def __init__(self, means, std, schedule):
        super().__init__()
        self.means, self.std, self.schedule = means, std, schedule

    def forward(self, x_t, t, label):
        alpha, sigma = self.schedule.alpha(t[:1].double()), self.schedule.sigma(t[:1].double())
        gain = (alpha * self.std**2 / (alpha**2 * self.std**2 + sigma**2)).to(x_t.dtype)
        mean = self.means.to(x_t.dtype)[label]
        return mean + gain * (x_t - alpha.to(x_t.dtype) * mean)


@pytest.mark.parametrize("options", [{}, {"divergence": "rademacher", "probes": 1}])
def test_a_class_conditional_diffusion(options):
    """With an exact network it is the Gaussian classifier: isotropic, so that one Rademacher probe is exact."""
    diffusion = gf.Diffusion(ExactNet(MEANS, 0.7, Flow()), Flow(), Unscaled(), classes=3, shape=(2,))
    classifier = gf.GenerativeClassifier(diffusion, [0.2, 0.3, 0.5], steps=50, progress=False, **options)
    expected = gf.GenerativeClassifier([gf.Gaussian.from_moments(m, [0.49, 0.49]) for m in MEANS], [0.2, 0.3, 0.5])
    x = normal(10, 2) + 0.5
    # At t_max alpha is 0.001, and the prior N(0, V I) leaves an error of alpha m^T x_t / V.
    assert (classifier.log_joint(x) - expected.log_joint(x)).abs().max() < 0.02
    assert torch.equal(classifier.predict(x), expected.predict(x))
    assert torch.allclose(classifier.estimate_prior(x).prior, expected.estimate_prior(x).prior, atol=1e-2)


def test_a_class_conditional_diffusion_by_its_bound():
    """Without the flow, the same posterior, but for the noise of 300 times."""
    diffusion = gf.Diffusion(ExactNet(MEANS, 0.7, Flow()), Flow(), Unscaled(0.7), classes=3, shape=(2,))
    classifier = gf.GenerativeClassifier(diffusion, [0.2, 0.3, 0.5], bound=True, samples=300, seed=1)
    expected = gf.GenerativeClassifier([gf.Gaussian.from_moments(m, [0.49, 0.49]) for m in MEANS], [0.2, 0.3, 0.5])
    x = 0.5 * normal(8, 2) + 0.5
    found = classifier.predict_proba(x)
    assert (found - expected.predict_proba(x)).abs().max() < 0.1
    keys = gf.ops.make_key(1, 8)
    assert torch.equal(classifier.log_likelihoods(x)[:, 2], diffusion.elbo(x, keys, 2, samples=300))


class Recorder:
    """A model that notes what it is asked."""

    classes = 3

    def __init__(self):
        self.asked = []

    def log_likelihood(self, x, **options):
        self.asked.append(options)
        nats = torch.zeros(len(x)) - options.get("label", 0)
        return nats, torch.zeros(len(x))


def test_every_class_is_asked_alike():
    model = Recorder()
    p = gf.GenerativeClassifier(model, steps=7, seed=3, probes=2).predict_proba(torch.zeros(4, 2))
    assert model.asked == [{"label": k, "steps": 7, "seed": 3, "probes": 2} for k in range(3)]
    assert torch.allclose(p, torch.softmax(-torch.arange(3).double(), 0).expand(4, 3))


def test_every_class_meets_the_same_keys():
    """One model told each class, and one model a class."""

    class Bounded:
        classes = 3

        def elbo(self, x, key, **options):
            asked.append((key, options))
            return torch.zeros(len(x)) - options.get("label", 0)

    asked, x = [], torch.zeros(4, 2)
    found = gf.GenerativeClassifier(Bounded(), bound=True, seed=3, samples=7).log_likelihoods(x)
    assert torch.equal(found, -torch.arange(3).double().expand(4, 3))
    gf.GenerativeClassifier([Bounded(), Bounded()], bound=True).predict(x)
    assert all(torch.equal(key, gf.ops.make_key(3 if "label" in options else 0, 4)) for key, options in asked)
    assert [options for _, options in asked] == [*({"label": k, "samples": 7} for k in range(3)), {}, {}]


def test_models_with_a_bound_beside_models_with_a_density():
    x = normal(5, 2)
    classifier = gf.GenerativeClassifier([Recorder(), gaussian_classes().models[0]])
    found = classifier.log_likelihoods(x)
    assert not found[:, 0].any() and torch.equal(found[:, 1], gaussian_classes().models[0].log_prob(x))


# Input ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: gf.GenerativeClassifier([]), ValueError, "models must be a list of two or more.*; got 0 classes"),
        (lambda: gf.GenerativeClassifier([gf.Gaussian()]), ValueError, "got 1 classes"),
        (lambda: gf.GenerativeClassifier([1, 2]), TypeError, "a method log_prob or log_likelihood; got int"),
        (lambda: gf.GenerativeClassifier(gf.Gaussian()), TypeError, "a method log_likelihood; got Gaussian"),
        (lambda: gf.GenerativeClassifier(Recorder(), bound=True), TypeError, "a method elbo; got Recorder"),
        (lambda: gf.GenerativeClassifier([gf.Gaussian()] * 2, bound=True), TypeError, "elbo; got Gaussian"),
        (lambda: gf.GenerativeClassifier([gf.Gaussian()] * 2, steps=3), TypeError, "steps: options are for log_likeli"),
        (lambda: gaussian_classes([1, 2]), ValueError, r"prior must be \(3,\) finite numbers, none negative"),
        (lambda: gaussian_classes([1, -2, 3]), ValueError, r"prior must be .*got \[1.0, -2.0, 3.0\]"),
        (lambda: gaussian_classes([0, 0, 0]), ValueError, "not all 0"),
        (lambda: gaussian_classes().with_prior([1, math.nan, 1]), ValueError, "prior must be"),
        (lambda: gaussian_classes().fit(torch.zeros(4, 2)), ValueError, r"data must hold labels in \[0, 3\); got Data"),
        (
            lambda: gaussian_classes().fit((torch.zeros(4, 2), torch.arange(4))),
            ValueError,
            r"label must lie in \[0, 3\); got 3 in 1 of 4 samples",
        ),
        (lambda: gaussian_classes().fit((torch.zeros(4, 2), torch.ones(4).long())), ValueError, r"classes \[0, 2\]"),
        (lambda: gf.GenerativeClassifier(Recorder()).fit((torch.zeros(1, 2), torch.zeros(1).long())), TypeError, "fit"),
        (lambda: gaussian_classes().predict(torch.zeros(4, 3)), ValueError, r"x must have shape \(N, 2\)"),
        (lambda: gaussian_classes().estimate_prior(torch.zeros(4, 2), tolerance=0), ValueError, "tolerance must be"),
        (lambda: gaussian_classes().estimate_prior(MEANS, max_iterations=0), ValueError, "max_iterations must be"),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_labels_go_by_the_names_of_the_first_fit():
    x = MEANS.repeat(9, 1) + 0.1 * normal(27, 2)
    label, names = torch.arange(27) % 3, ("cat", "dog", "eel")
    classifier = gf.GenerativeClassifier([gf.Gaussian() for _ in range(3)])
    assert classifier.fit(gf.data.Data(x, label, names=names)).names == names
    kept = label > 0
    assert classifier.accuracy(gf.data.Data(x[kept], 2 - label[kept], names=("eel", "dog"))) == 1
    with pytest.raises(ValueError, match="data must have classes among cat, dog, eel; got cat, dog, fox, of which fox"):
        classifier.fit(gf.data.Data(x, label, names=("cat", "dog", "fox")))
    with pytest.raises(ValueError, match=r"label must lie in \[0, 3\); got -1 in 9 of 27 samples"):
        classifier.accuracy((x, label - 1))


def test_a_likelihood_of_the_wrong_shape_is_refused():
    model = Recorder()
    model.log_likelihood = lambda x, **options: torch.zeros(1)
    with pytest.raises(ValueError, match=r"models must answer with a likelihood of shape \(4,\); got \(1,\)"):
        gf.GenerativeClassifier(model).predict(torch.zeros(4, 2))
