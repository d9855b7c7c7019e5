"""The metrics by name, for those who ask for several."""

from collections.abc import Callable
from dataclasses import dataclass

from .frechet import frechet
from .inception_score import inception_score
from .kernel import kernel_distance
from .precision_recall import precision_recall
from .two_sample import two_sample_test

FEATURES = ("samples", "real")


@dataclass(frozen=True)
class Metric:
    """function: called with what it needs, by position, and seed= and level=, answers with a dict of Estimates by name.
    needs: ("samples", "real"), features of both, or ("probabilities",), a classifier's answers on samples.
    better: "lower", "higher", or "near_half"."""

    function: Callable
    needs: tuple[str, ...]
    better: str


METRICS = {
    "frechet": Metric(lambda *a, **o: {"frechet": frechet(*a, **o)}, FEATURES, "lower"),
    "kernel_distance": Metric(lambda *a, **o: {"kernel_distance": kernel_distance(*a, **o)}, FEATURES, "lower"),
    "precision_recall": Metric(precision_recall, FEATURES, "higher"),
    "two_sample": Metric(lambda *a, **o: {"two_sample": two_sample_test(*a, **o)}, FEATURES, "near_half"),
    "inception_score": Metric(
        lambda p, seed=0, level=0.95: {"inception_score": inception_score(p, level=level)}, ("probabilities",), "higher"
    ),
}
