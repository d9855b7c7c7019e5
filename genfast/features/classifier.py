"""A small classifier trained on the spot: what tells the classes apart, as features."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..common.checks import require_integer, require_samples, require_tensor
from ..common.conditions import require_classes
from ..common.keys import MAX_SEED
from ..common.processes import alone
from ..data.dataset import Data, permutation
from ..nn.layers import NormAct
from ..ops import Purpose, make_key, normal
from ..training.loop import fit
from .base import extract, in_chunks
from .module import Network

WIDTH = 128  # of the features
NOISE = 0.3  # standard deviation of what training adds to a standardized sample, against learning by heart


def classifier(x, label, classes=None, *, seed=0, steps=200, progress=False):
    """A `Classifier` trained on `x: (N, *)`, images (C, H, W) or anything else, and `label: (N,)`, in [0, classes).

    A fifth of the samples, of every class alike and chosen by `seed`, is held out and measures its `accuracy`. Initial
    weights and the order of the samples are functions of the seed too, so the same call gives the same classifier, to
    rounding on another machine.
    steps: of training, of 128 samples each.  progress: whether to show a bar.
    Raises TypeError or ValueError unless there are 10 samples, of 2 classes, or if a setting is out of range.
    """
    data = Data(x, label, classes)
    if len(data) < 10 or data.classes < 2:
        raise ValueError(f"label must hold labels of 2 or more classes for 10 or more samples; got {data}")
    require_classes(data.label, data.classes, null=False)
    seed, steps = require_integer("seed", seed, 0, MAX_SEED), require_integer("steps", steps, 1)
    order = torch.from_numpy(permutation(len(data), seed, 0))
    order = order[torch.sort(data.label.cpu()[order], stable=True).indices]  # by class, at random within one
    held = torch.zeros(len(data), dtype=torch.bool, device="cpu")
    held[order[4::5]] = True
    held = held.to(data.x.device)
    train, test = (Data(data.x[chosen], data.label[chosen], data.classes) for chosen in (~held, held))
    answer = Classifier(train, seed)
    with alone():  # of several processes each trains the same one, so that its bits are those of one process
        fit(_Task(answer), train, steps=steps, lr=2e-3, seed=seed, progress=progress)
    answer.accuracy = (answer.probabilities(test.x).argmax(1) == test.label).double().mean().item()
    return answer


class Classifier(Network):
    """Features: the last layer but one, (B, 128), of a classifier with weights drawn by `seed`, to be trained.

    accuracy: share of held-out samples whose most probable class is their own; None before training.
    """

    def __init__(self, data, seed):
        image = len(data.shape) == 3
        layers = _convolutions(data.shape) if image else _matrices(math.prod(data.shape))
        # Layers draw weights when they are made, which are replaced below.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            trunk = nn.Sequential(_Standard(data.x, dim=None if image else 0), *layers)
            self.head, self.accuracy = nn.Linear(WIDTH, data.classes), None
        trunk, self.head = trunk.float(), self.head.float()  # whatever torch's default dtype is
        weights = [*trunk.named_parameters(), *self.head.named_parameters()]
        for index, (name, weight) in enumerate(weights):
            weight.data = _start(name, weight, make_key(seed, [index])).to(data.x.device)
        super().__init__(trunk.to(data.x.device), "classifier", data.shape, follow=True)

    def probabilities(self, x, *, batch=64):
        """p(class | x), (N, K) float32 from `x: (N, *)`: what the inception score and label agreement need."""
        return self.classify(extract(self, x, batch=batch))

    def classify(self, features):
        """p(class | features), (N, K) float32, from features (N, 128) that were extracted before."""
        features = require_samples("features", require_tensor("features", features), (WIDTH,))
        self.head.to(features.device)
        with torch.no_grad():
            return in_chunks(lambda y: self.head(y).softmax(1), features)


class _Task:
    """What `fit` trains: cross-entropy, of samples with noise."""

    def __init__(self, classifier):
        self.trunk, self.head = classifier.net, classifier.head

    def parameters(self):
        return [*self.trunk.parameters(), *self.head.parameters()]

    def loss(self, batch, key, *, step=0):
        x = self.trunk[0](batch["x"])
        x = x + NOISE * normal(key, x.shape[1:], Purpose.TRAIN)
        return F.cross_entropy(self.head(self.trunk[1:](x)), batch["label"], reduction="none")


class _Standard(nn.Module):
    """(x - mean) / std over `dim`: 0 for each number of a sample on its own, None for all; 1 in place of a std of 0."""

    def __init__(self, x, dim):
        super().__init__()
        std = x.std(dim, correction=0)
        self.register_buffer("mean", x.mean(dim))
        self.register_buffer("std", torch.where(std > 0, std, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


def _matrices(numbers):
    yield from (nn.Flatten(), nn.Linear(numbers, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH), nn.SiLU())


def _convolutions(shape):
    """Convolutions of stride 2 down to about 4 x 4, between one before and one after."""
    channels, *size = shape
    strides = [1] + [2] * max(1, min(5, round(math.log2(max(size) / 4)))) + [1]
    for level, stride in enumerate(strides):
        width = min(24 * 2**level, 96)
        yield from (nn.Conv2d(channels, width, 3, stride, padding=1), NormAct(width))
        channels, size = width, [-(-length // stride) for length in size]
    yield from (nn.Flatten(), nn.Linear(channels * math.prod(size), WIDTH), nn.SiLU())


def _start(name, weight, key):
    """N(0, 1 / inputs) for matrices and filters; norms start as they are, other vectors at 0."""
    if weight.ndim > 1:
        return normal(key, weight.shape)[0] / weight[0].numel() ** 0.5
    return torch.zeros_like(weight) if name.endswith("bias") else weight.data
