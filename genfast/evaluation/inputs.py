"""What metrics ask for, by the names in `Metric.needs`."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

from torch import Tensor

from ..common.log_likelihood import NotDifferentiable
from ..metrics import Memorization, memorization
from .likelihoods import Likelihoods
from .splits import outside, subset

SPLITS = 4  # repeats of a baseline


class Missing(ValueError):
    """A metric does not apply: what it needs is not there. The message says why."""


class Extracted:
    """n samples by their features, (n, D) float32, which are made when they are first asked for.

    classify: from features to p(class | x), (n, K), if the extractor has it.
    """

    def __init__(self, n: int, make: Callable[[], Tensor], classify: Callable[[Tensor], Tensor] | None = None):
        self.n, self.make, self.classify = n, make, classify

    @functools.cached_property
    def features(self) -> Tensor:
        return self.make()

    def __getitem__(self, index: Tensor) -> "Extracted":
        return Extracted(len(index), lambda: self.features[index], self.classify)

    def probabilities(self) -> Tensor:
        """(n, K). Raises Missing if the features are no classifier's, or its last layer is not there."""
        if self.classify is None:
            raise Missing("the features are no classifier's; features.classifier(x, label) is one")
        features = self.features
        try:
            return self.classify(features)
        except ValueError as error:
            raise Missing(str(error)) from error


@dataclasses.dataclass
class Inputs:
    """An attribute a need: the value, made when it is first asked for, or `Missing` raised."""

    of_samples: Extracted
    of_real: Extracted
    of_train: Extracted | None = None
    ask_likelihoods: Callable[[], Likelihoods | None] = lambda: None
    dims: int = 0

    @property
    def samples(self) -> Tensor:
        return self.of_samples.features

    @property
    def real(self) -> Tensor:
        return self.of_real.features

    @property
    def probabilities(self) -> Tensor:
        return self.of_samples.probabilities()

    @functools.cached_property
    def memorization(self) -> Memorization:
        if self.of_train is None:
            raise Missing("no training data were given: train=")
        try:
            return memorization(self.samples, self.of_train.features, self.real)
        except ValueError as error:  # too few rows
            raise Missing(str(error)) from error

    @functools.cached_property
    def likelihoods(self) -> Likelihoods:
        try:
            found = self.ask_likelihoods()
        except NotDifferentiable as error:
            raise Missing(str(error)) from error
        if found is None:
            raise Missing("no model that offers log_prob, log_weights, elbo or log_likelihood")
        return found

    @property
    def enough_training_data(self) -> bool:
        """Whether training data can stand for as many samples as there are."""
        return self.of_train is not None and self.of_train.n >= self.of_samples.n

    @property
    def baseline_kind(self) -> str:
        """Which data `baselines` takes in the place of samples."""
        return "training data" if self.enough_training_data else "parts of the data"

    def baselines(self, seed: int) -> Iterator["Inputs"]:
        """The same with real data in the place of the samples, `SPLITS` times: random training data, as many as there
        are samples, against all of the data; without so many, two random parts of the data, the first at most a half,
        in the proportion of samples to data."""
        n, m = self.of_samples.n, self.of_real.n
        for split in range(1, SPLITS + 1):
            if not self.enough_training_data:
                first = subset(m, min(round(m * n / (n + m)), m // 2), seed, split)
                yield Inputs(self.of_real[first], self.of_real[outside(first, m)])
            else:
                yield Inputs(self.of_train[subset(self.of_train.n, n, seed, split)], self.of_real)
