"""Features: what metrics compare samples in. A fingerprint says which, and nothing else compares with it."""

from .base import Features, extract, fingerprint
from .choice import as_features
from .module import Network, module
from .pixels import pixels
from .random_conv import random_conv

__all__ = ["Features", "Network", "as_features", "extract", "fingerprint", "module", "pixels", "random_conv"]
