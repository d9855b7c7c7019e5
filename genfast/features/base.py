"""What an extractor of features is."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Features(Protocol):
    """name: as it stands in a report.  dim: D.  fingerprint: a hash of weights and preprocessing; features of different
    fingerprints must not be compared.  Called with samples x: (B, *) float32, images in [-1, 1], it answers (B, D)
    float32; a sample's features must not depend on its batch-mates (they may, in rounding, on the batch's size)."""

    name: str
    dim: int
    fingerprint: str

    def __call__(self, x: Tensor) -> Tensor: ...
