"""Laws of every network: shapes, rows on their own, every parameter in use, the same when compiled or rebuilt."""

import json

import pytest
import torch

from genfast.nn import MLP, NETWORKS, UNet
from genfast.nn.conditioning import FourierFeatures
from genfast.nn.layers import Attention, NormModulateAct, group_count

CASES = {
    "mlp": (lambda: MLP(24, width=16, depth=2, classes=3), (24,)),
    "mlp of images": (lambda: MLP(24, width=16, depth=1, classes=3), (2, 3, 4)),
    "unet": (lambda: UNet(2, width=8, multipliers=(1, 2, 2), blocks=2, classes=3), (2, 8, 12)),
    "unet with attention": (lambda: UNet(1, width=8, multipliers=(2, 1), attention=(1,), classes=3), (1, 6, 4)),
}


@pytest.fixture(params=CASES)
def case(request):
    """A network that is no longer the zero function, and five rows of input for it."""
    torch.manual_seed(0)
    build, shape = CASES[request.param]
    net = build()
    torch.nn.init.normal_(net.output.weight, std=0.1)
    return net, torch.randn(5, *shape), torch.linspace(-1.6, 1.1, 5), torch.tensor([0, 1, 2, 3, 0])


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_network_is_the_zero_function_of_the_shape_of_x(name):
    build, shape = CASES[name]
    x = torch.randn(5, *shape)
    assert torch.equal(build()(x, torch.rand(5)), torch.zeros_like(x))


def test_rows_are_independent(case):
    net, x, t, label = case
    whole = net(x, t, label)
    changed = net(
        torch.cat([x[:2], 5 * x[2:] + 1]), torch.cat([t[:2], -t[2:] + 3]), torch.cat([label[:2], 3 - label[2:]])
    )
    torch.testing.assert_close(changed[:2], whole[:2])
    assert not torch.isclose(changed[2:], whole[2:]).all(dim=0).any()
    for row in range(5):
        torch.testing.assert_close(net(x[row, None], t[row, None], label[row, None])[0], whole[row])
    assert net(x[:0], t[:0], label[:0]).shape == x[:0].shape


def test_time_and_label_matter_and_no_label_is_the_null_label(case):
    net, x, t, label = case
    null = net(x, t, torch.full_like(label, 3))
    torch.testing.assert_close(net(x, t), null)
    assert (net(x, t + 0.1) - null).abs().amax() > 1e-4
    outputs = torch.stack([net(x, t, torch.full_like(label, value)) for value in range(4)])
    assert all((outputs[i] - outputs[j]).abs().amax() > 1e-4 for i in range(4) for j in range(i))


def test_every_parameter_gets_a_gradient(case):
    net, x, t, label = case
    net(x, t, label).square().sum().backward()
    assert [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_gradients_are_right(case):
    net, x, t, label = case
    net.double()
    x, t = x[:2].double().requires_grad_(), t[:2].double()
    assert torch.autograd.gradcheck(lambda value: net(value, t, label[:2]), x, fast_mode=True)


def test_config_and_state_rebuild_the_network(case):
    net, x, t, label = case
    other = type(net)(**json.loads(json.dumps(net.config)))
    assert other.config == net.config
    other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(other(x, t, label), net(x, t, label))
    assert NETWORKS[type(net).__name__] is type(net)


@pytest.mark.parametrize("given", ["label", "no label"])
def test_compiled_equals_eager(case, given):
    net, x, t, label = case
    torch.compiler.reset()
    arguments = (x, t, label) if given == "label" else (x, t)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), net(*arguments))


def test_float64_network_and_memory_format(case):
    net, x, t, label = case
    single = net(x, t, label)
    if x.ndim == 4:
        torch.testing.assert_close(net(x.to(memory_format=torch.channels_last), t, label), single)
    double = net.double()(x.double(), t.double(), label)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


def test_time_features_keep_their_precision_in_a_bf16_network():
    t = torch.tensor([0.123, 0.456])
    features = FourierFeatures(16)
    torch.testing.assert_close(features.bfloat16()(t), features(t.double()).float(), rtol=1e-4, atol=1e-4)
    net = MLP(4, width=16, depth=1).bfloat16()
    assert net(torch.randn(2, 4, dtype=torch.bfloat16), t).dtype == torch.bfloat16


def test_time_features_are_the_formula():
    wave = FourierFeatures(6, maximum=9.0)(torch.tensor([0.5], dtype=torch.float64))
    angle = torch.tensor([0.5, 1.5, 4.5], dtype=torch.float64)
    torch.testing.assert_close(wave[0], torch.cat([angle.cos(), angle.sin()]))


@pytest.mark.parametrize("shape", [(8,), (8, 5), (8, 2, 3)])
def test_norm_modulate_act_is_its_formula(shape):
    torch.manual_seed(1)
    layer, x, c = NormModulateAct(8, 4).double(), torch.randn(3, *shape).double(), torch.randn(3, 4).double()
    grouped = x.reshape(3, layer.groups, -1)
    mean, variance = grouped.mean(-1, keepdim=True), grouped.var(-1, correction=0, keepdim=True)
    normal = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    scale, shift = layer.modulation(c).chunk(2, dim=1)
    broadcast = (3, 8) + (1,) * (x.ndim - 2)
    y = normal * (1 + scale.reshape(broadcast)) + shift.reshape(broadcast)
    torch.testing.assert_close(layer(x, layer.modulation(c)), y * y.sigmoid())


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (128, 2)])
def test_attention_is_its_formula(channels, heads):
    torch.manual_seed(2)
    layer, x = Attention(channels).double(), torch.randn(2, channels, 3, 2).double()
    mixed = torch.empty(2, channels, 6, dtype=torch.float64)
    projected = layer.query_key_value(layer.norm(x)).flatten(2)
    size = channels // heads
    for head in range(heads):
        query, key, value = (projected[:, channels * part + size * head :][:, :size] for part in range(3))
        weight = torch.einsum("bci,bcj->bij", query, key).div(size**0.5).softmax(-1)
        mixed[:, size * head : size * (head + 1)] = torch.einsum("bij,bcj->bci", weight, value)
    torch.testing.assert_close(layer(x), (x + layer.output(mixed.reshape(x.shape))) / 2**0.5)


def test_group_count_divides_and_leaves_four_channels_a_group():
    assert [group_count(channels) for channels in (1, 3, 4, 8, 30, 32, 34, 48, 256)] == [1, 1, 1, 2, 6, 8, 2, 12, 32]


X = torch.zeros(2, 1, 4, 4)
T = torch.zeros(2)
BAD_CALLS = {
    "x channels": (lambda net: net(torch.zeros(2, 3, 4, 4), T), ValueError, r"x must have shape \(B, 1, H, W\)"),
    "x rank": (lambda net: net(torch.zeros(2, 16), T), ValueError, r"got \(2, 16\)"),
    "x size": (lambda net: net(torch.zeros(2, 1, 4, 5), T), ValueError, "divisible by 2 .* got 4 x 5"),
    "t shape": (lambda net: net(X, torch.zeros(2, 1)), ValueError, r"t must have shape \(2,\)"),
    "t rows": (lambda net: net(X, torch.zeros(3)), ValueError, r"t must .* got \(3,\)"),
    "t dtype": (lambda net: net(X, torch.zeros(2, dtype=torch.int64)), TypeError, "t must be a floating-point"),
    "label dtype": (lambda net: net(X, T, T), TypeError, "label must be an int64 tensor, got torch.float32"),
    "label shape": (lambda net: net(X, T, torch.zeros(1, dtype=torch.int64)), ValueError, "label must have shape"),
    "label high": (lambda net: net(X, T, torch.tensor([0, 4])), ValueError, r"label must lie in \[0, 3\] .* got 0..4"),
    "label low": (lambda net: net(X, T, torch.tensor([-1, 0])), ValueError, "got -1..0"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_say_what_is_wrong(name):
    call, error, message = BAD_CALLS[name]
    with pytest.raises(error, match=message):
        call(UNet(width=4, classes=3))


def test_bad_rows_of_an_mlp_and_labels_of_an_unconditional_network():
    net = MLP(6, width=8, depth=1)
    for shape in [(2, 5), (6,), (2, 2, 4)]:
        with pytest.raises(ValueError, match="6 values a row"):
            net(torch.zeros(shape), T)
    with pytest.raises(ValueError, match="unconditional"):
        net(torch.zeros(2, 6), T, torch.zeros(2, dtype=torch.int64))


BAD_ARGUMENTS = {
    "features": lambda: MLP(0),
    "depth": lambda: MLP(4, depth=0),
    "width": lambda: MLP(4, width=8.5),
    "classes": lambda: MLP(4, classes=-1),
    "channels": lambda: UNet(channels=0),
    "multipliers": lambda: UNet(multipliers=()),
    "multipliers ": lambda: UNet(multipliers=(1, 0)),
    "blocks": lambda: UNet(blocks=0),
    "attention": lambda: UNet(attention=(2,)),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_constructor_arguments_are_named(name):
    with pytest.raises(ValueError, match=f"^{name.strip()} must"):
        BAD_ARGUMENTS[name]()
