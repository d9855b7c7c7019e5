"""Features: what metrics compare samples in. A fingerprint says which, and nothing else compares with it."""

from .base import Features, extract, fingerprint
from .choice import as_features
from .classifier import Classifier, classifier
from .inception import InceptionFeatures, inception
from .module import Network, module
from .pixels import pixels
from .random_conv import RandomConv, random_conv

__all__ = [
    "Classifier", "Features", "InceptionFeatures", "Network", "RandomConv", "as_features", "classifier", "extract",
    "fingerprint", "inception", "module", "pixels", "random_conv",
]  # fmt: skip
