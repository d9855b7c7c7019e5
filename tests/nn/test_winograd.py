"""Convolution by tiles: its error beside torch's own, when it is taken, and that nothing else changes."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from genfast.nn import winograd
from genfast.nn.winograd import Convolution, correlate, pays

CL = torch.channels_last


def given(B, I, O, H, W):
    torch.manual_seed(0)
    x = F.silu(torch.randn(B, I, H, W)).to(memory_format=CL)
    return x, torch.randn(O, I, 3, 3) / (9 * I) ** 0.5, torch.randn(O)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 4, 4), (3, 5, 7, 8, 4), (5, 64, 32, 12, 20), (2, 130, 129, 28, 16), (1, 256, 128, 16, 16)]
)
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_error_is_that_of_rounding(shape, mean):
    """A few units in the last place of a term; at the sizes where it is taken, at most three times torch's error."""
    x, weight, bias = given(*shape)
    x = x + mean
    truth = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    y = correlate(x, weight, bias)
    assert y.is_contiguous(memory_format=CL)
    ours, torchs = ((one - truth).square().mean() for one in (y, F.conv2d(x, weight, bias, padding=1)))
    squares = F.conv2d(x.double().square(), weight.double().square(), padding=1).mean()
    assert ours.sqrt() < 32 * 2**-24 * squares.sqrt() and (shape[1] < 128 or ours.sqrt() < 3 * torchs.sqrt())
    assert correlate(x, weight.to(memory_format=CL), bias).equal(y)


def test_edges_and_tiles_are_in_their_places():
    """One tap at a time, of whole numbers: shifted images, exactly but for the rounding of a few sums."""
    x = torch.randint(-9, 9, (2, 1, 8, 12)).float().to(memory_format=CL)
    for tap in range(9):
        weight = torch.zeros(1, 1, 3, 3)
        weight.view(-1)[tap] = 1
        y = correlate(x, weight, torch.zeros(1))
        assert torch.allclose(y, F.conv2d(x, weight, padding=1), atol=1e-4)


def used(layer, x):
    with mock.patch.object(winograd, "correlate", side_effect=correlate) as spy:
        y = layer(x)
    return y, spy.called


def test_a_layer_takes_it_in_inference_and_answers_the_same():
    layer = Convolution(128, 128)
    x, _, _ = given(1, 128, 128, 32, 32)
    assert layer.state_dict().keys() == torch.nn.Conv2d(128, 128, 3).state_dict().keys()
    expected, of_training = used(layer, x)
    with torch.no_grad():
        y, of_inference = used(layer, x)
    with torch.inference_mode():
        assert used(layer, x)[1]
    assert of_inference and not of_training and expected.requires_grad
    torch.testing.assert_close(y, expected.detach(), rtol=1e-5, atol=1e-5)
    other = torch.cat([x, -x])
    with torch.no_grad():
        torch.testing.assert_close(layer(other)[:1], y, rtol=1e-5, atol=1e-5)


def test_a_compiled_layer_is_one_graph():
    layer = Convolution(128, 128)
    x, _, _ = given(1, 128, 128, 32, 32)
    with torch.no_grad():
        y, called = used(torch.compile(layer, fullgraph=True, backend="eager"), x)
        torch.testing.assert_close(y, layer(x), rtol=1e-5, atol=1e-5)
    assert not called


REFUSED = {
    "contiguous": lambda x: x.contiguous(),
    "a half tile": lambda x: x[:, :, :-2].to(memory_format=CL),
    "few pixels": lambda x: x[:, :, :8].to(memory_format=CL),
    "float64": lambda x: x.double(),
    "bfloat16": lambda x: x.bfloat16(),
    "a gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_it_does_not_pay_torch_convolves(name):
    x, weight, bias = given(1, 128, 128, 32, 32)
    assert pays(x, weight, bias) and not pays(REFUSED[name](x), weight.to(REFUSED[name](x).dtype), bias)
    assert not pays(x, weight.bfloat16(), bias) and not pays(x, weight[:64], bias)
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(x, weight, bias)
    assert torch.func.vmap(lambda row: row * (not pays(row, weight, bias)))(x[None]).any()


def test_a_bias_trained_alone_gets_its_gradient():
    layer = Convolution(128, 128)
    layer.weight.requires_grad_(False)
    x, _, _ = given(1, 128, 128, 32, 32)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((128,), 1024.0))
