"""Samples that can be held against data: of their shape, and with their classes."""

import torch

from ..data.dataset import Data


def matched(samples: Data, data: Data, argument: str) -> Data:
    """The samples with their classes numbered as those of the data. Raises ValueError if their shape is another."""
    if samples.shape != data.shape:
        raise ValueError(f"{argument} must hold samples of shape {data.shape}, as data has; got {samples.shape}")
    return _relabeled(samples, data, argument)


def _relabeled(samples: Data, data: Data, argument: str) -> Data:
    """By name, where both have names."""
    if samples.names is None or data.names is None or samples.names == data.names:
        return samples
    if unknown := [name for name in samples.names if name not in data.names]:
        raise ValueError(f"{argument} must have classes among {', '.join(data.names)}; got {', '.join(unknown)}")
    number = torch.tensor([data.names.index(name) for name in samples.names])
    return Data(samples.x, number[samples.label], data.classes, samples.condition, data.names)
