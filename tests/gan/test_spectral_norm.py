"""The layer is torch's, bit for bit; and takes weights of zero, copies and transposed convolutions."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from genfast.gan.spectral_norm import spectral_norm

LAYERS = {
    "linear": lambda: nn.Linear(5, 7),
    "conv1d": lambda: nn.Conv1d(4, 6, 3, groups=2),
    "conv2d": lambda: nn.Conv2d(3, 4, 3),
    "conv3d": lambda: nn.Conv3d(3, 4, 2),
    "conv_transpose1d": lambda: nn.ConvTranspose1d(4, 6, 3, groups=2),
    "conv_transpose2d": lambda: nn.ConvTranspose2d(3, 4, 3),
    "conv_transpose3d": lambda: nn.ConvTranspose3d(3, 4, 2),
}


def layer(name, normalize):
    torch.manual_seed(0)
    made = LAYERS[name]()
    normalize(made)
    return made


@pytest.mark.parametrize("name", LAYERS)
def test_has_the_bits_of_torch(name):
    own, other = layer(name, spectral_norm), layer(name, parametrizations.spectral_norm)
    weights = own._parameters["weight"], other.parametrizations.weight.original
    for _ in range(3):
        both = own.weight, other.weight
        assert torch.equal(*both)
        steps = [torch.autograd.grad((w**3).sum(), p)[0] for w, p in zip(both, weights, strict=True)]
        assert torch.equal(*steps)
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight -= 0.1 * step
    assert torch.equal(own.eval().weight, other.eval().weight) and torch.equal(own.weight, other.weight)


@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_singular_value_is_one(name):
    made = layer(name, spectral_norm)
    for _ in range(200):
        weight = made.weight.detach()
    rows = weight.transpose(0, 1) if "transpose" in name else weight
    assert torch.linalg.matrix_norm(rows.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_a_weight_of_zero_stays_zero_and_is_normalized_once_it_grows():
    made = nn.Linear(3, 2)
    nn.init.zeros_(made.weight)
    spectral_norm(made)
    x = torch.randn(4, 3)
    assert torch.equal(made(x), made.bias.expand(4, 2))
    made(x).square().sum().backward()
    assert made._parameters["weight"].grad.isfinite().all() and made._parameters["weight"].grad.any()
    with torch.no_grad():
        made._parameters["weight"].normal_()
    for _ in range(100):
        made(x)
    assert torch.linalg.matrix_norm(made.weight, 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_can_be_copied(copied):
    made = layer("conv_transpose2d", spectral_norm)
    other = copied(made)
    assert type(other) is type(made) and isinstance(other, nn.ConvTranspose2d)
    for _ in range(2):  # the next step of the power method too
        assert torch.equal(other.weight, made.weight)
    assert other._parameters["weight"] is not made._parameters["weight"]
    assert made.state_dict().keys() == other.state_dict().keys() == {"weight", "bias", "weight_u", "weight_v"}


def test_normalizes_a_layer_once_and_leaves_parametrized_ones():
    own, parametrized = nn.Linear(2, 2), parametrizations.weight_norm(nn.Linear(2, 2))
    kinds = type(own), type(parametrized)
    net = nn.Sequential(own, own, parametrized)
    spectral_norm(net)
    spectral_norm(net)
    assert type(own).__mro__[2] is kinds[0] and type(parametrized) is kinds[1]
