"""What an extractor of features is, and what all of them share."""

import contextlib
import hashlib
import json
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..common.checks import ROWS, require_count
from ..common.eval_mode import evaluating
from ..data.dataset import as_data


@runtime_checkable
class Features(Protocol):
    """name: as it stands in a report.  dim: D.  fingerprint: a hash of weights and preprocessing; features of different
    fingerprints must not be compared.  Called with samples x: (B, *) float32, images in [-1, 1], it answers (B, D)
    float32; a sample's features must not depend on its batch-mates (they may, in rounding, on the batch's size)."""

    name: str
    dim: int
    fingerprint: str

    def __call__(self, x: Tensor) -> Tensor: ...


def fingerprint(state, **settings):
    """16 hex digits of the sha256 of weights, `state`: a dict of tensors, and of `settings`: anything JSON-able.

    Settings hold all else that the features depend on: the extractor's name, its version, sizes, preprocessing. The
    order of either does not matter, nor does the device.
    """
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TypeError(f"state must be a dict of tensors; got {type(state).__name__}")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode())
    for name in sorted(state):
        value = state[name].detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def extract(features, x, *, batch=64):
    """Features of many samples: (N, D) float32, from `x`: (N, *), whatever `as_data` takes.

    batch: samples per call, see `in_chunks`.
    Raises TypeError or ValueError if x is no finite floating-point samples, RuntimeError if the extractor's answer is
    not (batch, D) float32 or not finite.
    """
    if not isinstance(features, Features):
        raise TypeError(f"features must have name, dim, fingerprint and a call; got {type(features).__name__}")
    batch = require_count("batch", batch, 1, ROWS)

    def checked(chunk):
        answer = features(chunk)
        if answer.shape != (batch, features.dim) or answer.dtype != torch.float32:
            wanted = f"{features.name} must answer with shape ({batch}, {features.dim}), float32"
            raise RuntimeError(f"{wanted}; got {tuple(answer.shape)}, {answer.dtype}")
        return answer

    answer = in_chunks(checked, as_data(x, "x").x, batch)
    if len(bad := (~torch.isfinite(answer).all(1)).nonzero()):
        raise RuntimeError(f"{features.name} must give finite features; got NaN or infinity for sample {int(bad[0])}")
    return answer


def in_chunks(function, x, batch=64):
    """function(x), in calls of `batch` rows each, (batch, *) -> (batch, D): (N, D) from x: (N, *).

    The last call is filled up with copies of the last row, so that a row's answer is the same bits however many rows
    there are.
    """
    parts = []
    for first in range(0, len(x), batch):
        chunk = x[first : first + batch]
        filling = chunk[-1:].expand(batch - len(chunk), *chunk.shape[1:])
        parts.append(function(torch.cat([chunk, filling]))[: len(chunk)])
    return torch.cat(parts)


def check_samples(x, shape):
    """Raises TypeError or ValueError unless x is (B, *shape) float32."""
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        raise TypeError(f"x must be a float32 tensor; got {x.dtype if isinstance(x, Tensor) else type(x).__name__}")
    if x.ndim != len(shape) + 1 or x.shape[1:] != shape:
        raise ValueError(f"x must have shape (B, {', '.join(map(str, shape))}); got {tuple(x.shape)}")


@contextlib.contextmanager
def inference(net, device):
    """Inside it `net` is in eval mode and computes on `device` without gradients, autocast or, in convolutions, TF32,
    which differs between cards. Afterwards each of its parts is in the mode that it was in."""
    exact = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )
    with evaluating(net), torch.no_grad(), torch.autocast(device.type, enabled=False), exact:
        yield
