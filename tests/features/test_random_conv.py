"""The random network sees what it has to: its distance grows with noise, blur and collapse."""

import pytest
import torch
import torch.nn.functional as F

from genfast.data.dataset import permutation
from genfast.features import extract, random_conv
from genfast.metrics import frechet_distance


@pytest.fixture(scope="module")
def photographs():
    """Two disjoint halves of 1,950 patches of two photographs, and the distance to the first in random features."""
    sklearn = pytest.importorskip("sklearn.datasets")
    pictures = torch.stack([torch.tensor(i).permute(2, 0, 1) for i in sklearn.load_sample_images().images])
    patches = pictures.unfold(2, 32, 16).unfold(3, 32, 16).permute(0, 2, 3, 1, 4, 5).flatten(0, 2) / 127.5 - 1
    patches = patches[torch.from_numpy(permutation(len(patches), 0, 0))]
    f = random_conv((3, 32, 32))
    real, other = patches[:975], patches[975:1950]
    features = extract(f, real)
    return other, lambda x: frechet_distance(extract(f, x), features)


def rises(values, floor):
    assert values == sorted(values) and values[-1] > 1.5 * floor, (floor, values)


def test_noise(photographs):
    x, distance = photographs
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    rises([distance(x), *(distance(x + s / 127.5 * noise) for s in (5, 20, 80))], distance(x))


def test_blur(photographs):
    x, distance = photographs
    tap = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel, values = (tap[:, None] * tap).expand(3, 1, 3, 3), [distance(x)]
    for _ in range(3):
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
        values.append(distance(x))
    rises(values, values[0])


def test_collapse(photographs):
    x, distance = photographs
    rises([distance(x), *(distance(x[torch.arange(len(x)) % kept]) for kept in (300, 100, 30))], distance(x))
