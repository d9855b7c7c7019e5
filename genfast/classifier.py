"""Classifiers made of generative models: p(y | x) from p(x | y) and p(y)."""

import copy
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .common.checks import as_tensor, require_bool, require_integer, require_number
from .common.conditions import require_classes
from .common.keys import make_key
from .data.dataset import Data, as_data
from .data.matching import in_own_units, renumbered


class PriorEstimate(NamedTuple):
    """prior: (K,) float64.  iterations: of EM.  converged: whether it came to rest within its tolerance."""

    prior: Tensor
    iterations: int
    converged: bool


class GenerativeClassifier:
    """Bayes' rule on generative models: p(y | x) = p(x | y) p(y) / sum_k p(x | k) p(k).

    models   one a class, in a list, each with a method `log_prob(x)` or `log_likelihood(x)`, nats or (nats, standard
             errors); or a single class-conditional one, with `classes` and `log_likelihood(x, label=k)`, as a Diffusion
             has
    prior    p(y): (K,) not negative, normalized here; by default uniform. `fit` counts it anew
    bound    asks for `elbo(x, key)`, or `elbo(x, key, label=k)`, instead, which serves where it is about equally tight
             for all classes: for a Diffusion it costs a fraction of the flow's likelihood (Li et al. 2023,
             arXiv:2303.16203; Clark & Jaini 2023, arXiv:2303.15233)
    options  what `log_likelihood` or `elbo` is to be told, e.g. steps=, probes=, samples=, seed=. All classes are told
             the same, so a sample meets the same probes in each of them, and the noise of the difference is less

    names: of the classes, those of a class-conditional model or of the data of `fit`; labels are matched by them.
    """

    def __init__(self, models, prior=None, *, bound: bool = False, **options):
        self.conditional, self.bound = not isinstance(models, list | tuple), require_bool("bound", bound)
        for model in [models] if self.conditional else models:
            wanted = ("elbo",) if bound else ("log_likelihood",) if self.conditional else ("log_prob", "log_likelihood")
            if not any(callable(getattr(model, name, None)) for name in wanted):
                raise TypeError(f"models must have a method {' or '.join(wanted)}; got {type(model).__name__}")
        self.classes = getattr(models, "classes", 0) if self.conditional else len(models)
        if self.classes < 2:
            expected = "a list of two or more, one a class, or one model with classes"
            raise ValueError(f"models must be {expected}; got {self.classes} classes")
        if options and not (bound or self.conditional) and all(callable(getattr(m, "log_prob", None)) for m in models):
            raise TypeError(f"{', '.join(options)}: options are for log_likelihood, and all models have log_prob")
        self.models, self.options, self.names = models, options, getattr(models, "names", None)
        self.prior = self._as_prior([1.0] * self.classes if prior is None else prior)

    def _as_prior(self, prior: Sequence[float] | Tensor | np.ndarray) -> Tensor:
        prior = as_tensor("prior", prior, torch.float64).detach().cpu()
        if prior.shape != (self.classes,) or not bool((prior.isfinite() & (prior >= 0)).all()) or not prior.sum() > 0:
            expected = f"({self.classes},) finite numbers, none negative and not all 0"
            raise ValueError(f"prior must be {expected}; got {prior.tolist()}")
        return prior / prior.sum()

    def fit(self, data):
        """Fits the model of each class to its samples, by its own `fit(x)`, and counts the prior; itself.

        data: Data or a pair (x, label), with samples of every class; of a pair x goes to the models in its own
        precision, and with NaN where a number is missing, for those that take it, as PPCA does.
        """
        if self.conditional:
            raise TypeError("fit: a class-conditional model is trained beforehand, by genfast.fit")
        if len({id(model) for model in self.models}) < self.classes:
            raise ValueError("models must be different objects, one a class; got one of them twice")
        x, label = self._labeled(data)
        counts = torch.bincount(label, minlength=self.classes)
        if not bool((counts > 0).all()):
            missing = (counts == 0).nonzero().flatten().tolist()
            raise ValueError(f"data must have samples of every class; got none of the classes {missing}")
        for k, model in enumerate(self.models):
            if not callable(getattr(model, "fit", None)):
                raise TypeError(f"models must have a method fit(x); got {type(model).__name__}")
            model.fit(x[label == k])
        self.prior = self._as_prior(counts)
        self.names = self.names or getattr(data, "names", None)
        return self

    def log_likelihoods(self, x) -> Tensor:
        """log p(x | y) of every class, nats: (N, K) float64 on the CPU. x: (N, *), a tensor, an array or Data."""
        x = self._own(x).x if isinstance(x, Data) else as_tensor("x", x)
        columns = []
        for k in range(self.classes):
            model, label = (self.models, {"label": k}) if self.conditional else (self.models[k], {})
            if self.bound:
                options = {"seed": 0} | self.options
                nats = model.elbo(x, make_key(options.pop("seed"), len(x), x.device), **label, **options)
            elif not self.conditional and callable(getattr(model, "log_prob", None)):
                nats = model.log_prob(x)
            else:
                nats = model.log_likelihood(x, **label, **self.options)
            nats = nats[0] if isinstance(nats, tuple) else nats
            if nats.shape != (len(x),):
                raise ValueError(f"models must answer with a likelihood of shape ({len(x)},); got {tuple(nats.shape)}")
            columns.append(nats.detach().double().cpu())
        return torch.stack(columns, 1)

    def log_joint(self, x) -> Tensor:
        """log p(x | y) + log p(y), nats: (N, K) float64."""
        return self.log_likelihoods(x) + self.prior.log()

    def predict_proba(self, x) -> Tensor:
        """p(y | x): (N, K) float64, rows of sum 1."""
        return torch.softmax(self.log_joint(x), 1)

    def predict(self, x) -> Tensor:
        """The most probable class: (N,) int64."""
        return self.log_joint(x).argmax(1)

    def accuracy(self, data) -> float:
        """The share of the samples whose most probable class is their own. data: Data or a pair (x, label)."""
        x, label = self._labeled(data)
        return float((self.predict(x) == label.cpu()).double().mean())

    def with_prior(self, prior) -> "GenerativeClassifier":
        """The same models under another p(y): (K,), not negative, normalized here."""
        other = copy.copy(self)
        other.prior = self._as_prior(prior)
        return other

    def estimate_prior(self, x, *, tolerance: float = 1e-8, max_iterations: int = 10_000) -> PriorEstimate:
        """The p(y) that maximizes the likelihood of unlabeled x, by EM from the present one.

        p(k) <- mean_i p(k | x_i), until no p(k) changes by more than `tolerance`, or `max_iterations`, with a warning.
        The likelihood is concave in p(y), so there is one maximum, but a p(k) of 0 stays 0.
        x: (N, *), unlabeled: a tensor, an array or Data, of which the labels are not looked at.
        Saerens, Latinne & Decaestecker 2002, Neural Computation 14(1), equation 2.6.
        """
        max_iterations = require_integer("max_iterations", max_iterations, 1)
        tolerance = require_number("tolerance", tolerance, above=0)
        log_likelihoods, prior = self.log_likelihoods(x), self.prior
        for iteration in range(1, max_iterations + 1):
            following = torch.softmax(log_likelihoods + prior.log(), 1).mean(0)
            change = float((following - prior).abs().max())
            prior = following
            if change <= tolerance:
                return PriorEstimate(prior, iteration, True)
        warnings.warn(
            f"EM has not converged in max_iterations={max_iterations}: p(y) still changes by {change:.2g}", stacklevel=2
        )
        return PriorEstimate(prior, max_iterations, False)

    def _labeled(self, data) -> tuple[Tensor, Tensor]:
        """x and label, below the number of classes; x of a pair as it is, for its models to check."""
        if pair := isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Tensor | np.ndarray):
            x, label = as_tensor("x", data[0]), data[1]
            checked = as_data((torch.zeros(len(x), 1, device="cpu"), label) if x.ndim else data)
        else:
            checked = as_data(data)
        if checked.label is None:
            raise ValueError(f"data must hold labels in [0, {self.classes}); got {checked}")
        label = renumbered(checked, self.names, "data").label
        require_classes(label, self.classes, null=False)
        return x if pair else self._own(checked).x, label

    def _own(self, data: Data) -> Data:
        """The data in the units that the models answer in."""
        return in_own_units(data, self.models if self.conditional else self.models[0])
