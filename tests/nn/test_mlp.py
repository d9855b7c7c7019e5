"""Laws of every network: shapes, rows on their own, every parameter in use, the same when compiled or rebuilt."""

import json

import pytest
import torch
from helpers import conditions, without_zeros

from genfast.nn import MLP, NETWORKS, DiT, UNet
from genfast.nn.conditioning import Conditions, FourierFeatures
from genfast.nn.layers import group_count
from genfast.nn.mlp import NormAct

CASES = {
    "mlp": (lambda: MLP(24, width=16, depth=2, classes=3, condition=2), (24,)),
    "mlp of images": (lambda: MLP(24, width=16, depth=1, classes=3), (2, 3, 4)),
    "unet": (lambda: UNet(2, 8, (1, 2, 2), blocks=2, classes=3, condition=2), (2, 8, 12)),
    "unet that adds": (
        lambda: UNet(1, 8, (1, 1.5), attention=(0,), classes=3, modulation="add", resample="convolution"),
        (1, 6, 10),
    ),
    "unet of steps": (
        lambda: UNet(1, 8, (2, 1), 1, (1,), 3, resample="convolution behind", timesteps={"shift": 1}, skip_scale=1.0),
        (1, 6, 4),
    ),
    "unet of signals": (lambda: UNet(2, 8, (1, 2), classes=3, dims=1, middle="blocks", resample="convolution"), (2, 6)),
    "unet of films": (lambda: UNet(1, 4, classes=3, dims=3, middle="attention without norm"), (1, 2, 4, 6)),
    "dit": (lambda: DiT(2, width=16, depth=2, heads=2, classes=3, condition=4), (2, 4, 6)),
    "dit of signals": (lambda: DiT(2, (3,), 8, 1, 1, feedforward="geglu", classes=3), (2, 9)),
    "dit of films": (lambda: DiT(1, (1, 2, 3), 12, 1, 2, qk_norm=True, classes=3, condition=1), (1, 3, 4, 3)),
    "dit with swiglu": (lambda: DiT(1, (2, 1), 12, 2, 3, 2.0, "swiglu", True, classes=3), (1, 4, 3)),
}


@pytest.fixture(params=CASES)
def case(request):
    """A network that is no longer the zero function, five rows of input and of conditions for it."""
    torch.manual_seed(0)
    build, shape = CASES[request.param]
    net = without_zeros(build())
    return net, torch.randn(5, *shape), torch.linspace(-1.6, 1.1, 5), conditions(net)


def rows(given, which):
    return {name: value[which] for name, value in given.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_network_is_the_zero_function_of_the_shape_of_x(name):
    build, shape = CASES[name]
    x = torch.randn(5, *shape)
    assert torch.equal(build()(x, torch.rand(5)), torch.zeros_like(x))


def test_rows_are_independent(case):
    net, x, t, given = case
    whole = net(x, t, **given)
    other = {name: torch.cat([value[:2], 3 - value[2:]]) for name, value in given.items()}
    changed = net(torch.cat([x[:2], 5 * x[2:] + 1]), torch.cat([t[:2], -t[2:] + 3]), **other)
    torch.testing.assert_close(changed[:2], whole[:2])
    assert not torch.isclose(changed[2:], whole[2:]).all(dim=0).any()
    for row in range(5):
        which = slice(row, row + 1)
        torch.testing.assert_close(net(x[which], t[which], **rows(given, which))[0], whole[row])
    assert net(x[:0], t[:0], **rows(given, slice(0))).shape == x[:0].shape


def test_time_and_label_matter_and_no_label_is_the_null_label(case):
    net, x, t, given = case
    label = given["label"]
    null = net(x, t, torch.full_like(label, 3))
    torch.testing.assert_close(net(x, t), null)
    assert (net(x, t + 0.1) - null).abs().amax() > 1e-4
    outputs = torch.stack([net(x, t, torch.full_like(label, value)) for value in range(4)])
    assert all((outputs[i] - outputs[j]).abs().amax() > 1e-4 for i in range(4) for j in range(i))


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][0]().config.get("condition")])
def test_a_condition_matters_and_none_is_a_row_of_nan(name):
    torch.manual_seed(0)
    build, shape = CASES[name]
    net = without_zeros(build())
    x, t, condition = torch.randn(5, *shape), torch.rand(5), torch.randn(5, net.config["condition"])
    plain, null = net(x, t, condition=condition), net(x, t)
    assert ((plain - null).abs().flatten(1).amax(1) > 1e-4).all()
    condition[1, 0] = condition[4, -1] = torch.nan
    missing = condition.isnan().any(1)
    mixed = net(x, t, condition=condition)
    torch.testing.assert_close(mixed[missing], null[missing])
    torch.testing.assert_close(mixed[~missing], plain[~missing])


def test_every_parameter_gets_a_gradient(case):
    net, x, t, given = case
    net(x, t, **given).square().sum().backward()
    assert [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert all(value.grad.isfinite().all() for value in net.parameters())


def test_gradients_are_right(case):
    net, x, t, given = case
    net.double()
    x, t, given = x[2:4].double().requires_grad_(), t[2:4].double(), rows(given, slice(2, 4))
    assert torch.autograd.gradcheck(lambda value: net(value, t, **given), x, fast_mode=True)


def test_gradients_of_each_sample_by_vmap(case):
    net, x, t, given = case
    x, t, given = x[:3], t[:3], rows(given, slice(3))

    def loss(weights, x, t, given):
        given = {name: value[None] for name, value in given.items()}
        return torch.func.functional_call(net, weights, (x[None], t[None]), given).square().sum()

    weights = {name: value.detach() for name, value in net.named_parameters()}
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))(weights, x, t, given)
    net(x, t, **given).square().sum().backward()
    for name, value in net.named_parameters():
        torch.testing.assert_close(each[name].sum(0), value.grad, rtol=1e-3, atol=1e-4)


def test_forward_mode(case):
    net, x, t, given = case
    tangent = torch.randn_like(x)
    _, slope = torch.func.jvp(lambda x: net(x, t, **given), (x,), (tangent,))
    net.double()
    y, step = x.double(), 1e-6 * tangent.double()
    expected = (net(y + step, t.double(), **given) - net(y - step, t.double(), **given)).detach() / 2e-6
    torch.testing.assert_close(slope.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_a_penalty_on_the_gradient(case):
    """Second derivatives, of torch's attention where it has them."""
    net, x, t, given = case

    def penalty(net, x, t):
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(x, t, **given).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), net.input.weight)[0]

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        single = penalty(net, x, t)
    expected = penalty(net.double(), x.double(), t.double())
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_config_and_state_rebuild_the_network(case):
    net, x, t, given = case
    other = type(net)(**json.loads(json.dumps(net.config)))
    assert other.config == net.config
    other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(other(x, t, **given), net(x, t, **given))
    assert NETWORKS[type(net).__name__] is type(net)


def test_what_is_prepared_gives_the_same(case):
    net, x, t, given = case
    assert torch.equal(net(x, t, prepared=net.prepare(t, **given)), net(x, t, **given))
    assert torch.equal(net(x, t, prepared=net.prepare(t)), net(x, t))


def test_what_norms_take_is_prepared_in_float32_and_what_is_added_in_the_dtype_of_the_weights(case):
    """A norm converts what it is given: once for a plan is better than at every layer of every step."""
    net, x, t, given = case
    net, x = net.bfloat16(), x.bfloat16()
    given = {name: value.bfloat16() if value.is_floating_point() else value for name, value in given.items()}
    prepared = net.prepare(t, **given)
    assert prepared.dtype == (torch.float32 if net.only_norms else torch.bfloat16)
    assert net.only_norms == (net.config.get("modulation") != "add")
    y = net(x, t, prepared=prepared)
    assert y.dtype == torch.bfloat16
    assert torch.equal(net(x, t, prepared=prepared.bfloat16()), y)
    assert net.double().prepare(t.double()).dtype == torch.float64


def test_compiled_equals_eager_and_another_batch_takes_no_other_graph(case):
    net, x, t, given = case
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, t, **given), net(x, t, **given))
    with torch._dynamo.config.patch(error_on_recompile=True):
        other = {name: value.flip(0) for name, value in given.items()}
        torch.testing.assert_close(compiled(x.flip(0), t.flip(0), **other), net(x.flip(0), t.flip(0), **other))


def test_compiled_without_conditions():
    net = without_zeros(CASES["mlp"][0]())
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    x, t = torch.randn(5, 24), torch.rand(5)
    torch.testing.assert_close(compiled(x, t), net(x, t))


def test_float64_network_and_memory_format(case):
    net, x, t, given = case
    single = net(x, t, **given)
    if x.ndim == 4:
        torch.testing.assert_close(net(x.to(memory_format=torch.channels_last), t, **given), single)
    double = net.double()(x.double(), t.double(), **given)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


def test_bf16_networks_and_autocast(case):
    net, x, t, given = case
    single = net(x, t, **given).detach()
    close = {"rtol": 0.0, "atol": 0.05 * float(single.abs().amax())}
    with torch.autocast("cpu", torch.bfloat16):
        cast = net(x, t, **given)
    torch.testing.assert_close(cast.float(), single, **close)
    cast.float().square().sum().backward()
    assert all(value.grad.dtype == torch.float32 and value.grad.isfinite().all() for value in net.parameters())
    half = net.bfloat16()(x.bfloat16(), t, **given)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), single, **close)


def test_conditions_are_their_formula():
    torch.manual_seed(3)
    layer, h, condition = Conditions(5, 2, 3), torch.randn(2, 5), torch.randn(2, 3)
    expected = h + layer.label.weight[[1, 2]] + condition @ layer.vector.weight.T
    torch.testing.assert_close(layer(h, torch.tensor([1, 2]), condition), expected)
    assert Conditions(5)(h) is h


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


def test_norm_of_an_mlp_is_its_formula():
    torch.manual_seed(1)
    layer, x, c = NormAct(8).double(), torch.randn(3, 8).double(), torch.randn(3, 8).double()
    normal = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    scale, shift = layer.modulation(c).chunk(2, dim=1)
    y = normal * (1 + scale) + shift
    torch.testing.assert_close(layer(x, (scale, shift)), y * y.sigmoid())


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
    "label dtype": (lambda net: net(X, T, T), TypeError, "label must hold integers; got torch.float32"),
    "label shape": (lambda net: net(X, T, torch.zeros(1, dtype=torch.int64)), ValueError, "label must have shape"),
    "label high": (lambda net: net(X, T, torch.tensor([0, 4])), ValueError, r"label must lie in \[0, 3\] .* got 0..4"),
    "label low": (lambda net: net(X, T, torch.tensor([-1, 0])), ValueError, "got -1..0"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_say_what_is_wrong(name):
    call, error, message = BAD_CALLS[name]
    with pytest.raises(error, match=message):
        call(UNet(width=4, classes=3))


def test_bad_rows_of_an_mlp_and_conditions_that_a_network_does_not_take():
    net = MLP(6, width=8, depth=1)
    for shape in [(2, 5), (6,), (2, 2, 4)]:
        with pytest.raises(ValueError, match="6 values a row"):
            net(torch.zeros(shape), T)
    with pytest.raises(ValueError, match="unconditional"):
        net(torch.zeros(2, 6), T, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="condition was given to a network without one"):
        net(torch.zeros(2, 6), T, condition=torch.zeros(2, 1))
    net = MLP(6, width=8, depth=1, condition=3)
    with pytest.raises(ValueError, match=r"condition must have shape \(2, 3\); got \(2, 1\)"):
        net(torch.zeros(2, 6), T, condition=torch.zeros(2, 1))
    with pytest.raises(TypeError, match="condition must be a floating-point tensor"):
        net(torch.zeros(2, 6), T, condition=torch.zeros(2, 3, dtype=torch.int64))


BAD_ARGUMENTS = {
    "features": lambda: MLP(0),
    "depth": lambda: MLP(4, depth=0),
    "width": lambda: MLP(4, width=8.5),
    "classes": lambda: MLP(4, classes=-1),
    "condition": lambda: MLP(4, condition=0.5),
    "channels": lambda: UNet(channels=0),
    "attention  ": lambda: UNet(attention=1),
    "multipliers": lambda: UNet(multipliers=()),
    "multipliers ": lambda: UNet(multipliers=(1, 0)),
    "blocks": lambda: UNet(blocks=0),
    "attention": lambda: UNet(attention=(2,)),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_constructor_arguments_are_named(name):
    with pytest.raises(ValueError, match=f"^{name.strip()} must"):
        BAD_ARGUMENTS[name]()
