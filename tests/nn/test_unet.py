"""What a UNet is made of: each part against its formula, layouts, what divides what, bad arguments."""

import copy

import pytest
import torch
import torch.nn.functional as F

from genfast import testing
from genfast.nn import UNet, layers
from genfast.nn.layers import NormAct
from genfast.nn.resample import Downsample, Pool, Repeat, Upsample
from genfast.nn.residual import Attention, ResidualBlock, Style
from genfast.nn.timesteps import Sinusoid
from genfast.ops import make_key

SHAPES = {1: (3, 6, 100), 2: (3, 6, 10, 9), 3: (3, 6, 5, 6, 4)}  # enough pixels for a transposed convolution
CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CL = torch.channels_last


def made(*arguments, **style):
    """A UNet in which nothing is zero."""
    torch.manual_seed(0)
    net = UNet(*arguments, **style)
    torch.nn.init.normal_(net.output.weight, std=0.1)
    return net


@pytest.mark.parametrize("rows", [3, 1])
@pytest.mark.parametrize("dims", SHAPES)
def test_upsample_is_repeating_and_convolving(dims, rows):
    torch.manual_seed(0)
    layer, x = Upsample(6, dims).double(), torch.randn(SHAPES[dims])[:rows].double().requires_grad_()
    repeated = x
    for axis in range(2, x.ndim):
        repeated = repeated.repeat_interleave(2, axis)
    y, expected = layer(x), CONVOLVE[dims](repeated, layer.mix.weight, layer.mix.bias, padding=1)
    torch.testing.assert_close(y, expected)
    given, cotangent = (x, *layer.parameters()), torch.randn_like(y)
    for ours, theirs in zip(torch.autograd.grad(y, given, cotangent), torch.autograd.grad(expected, given, cotangent)):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dims", SHAPES)
def test_plain_resampling_is_repeats_and_means(dims):
    x = torch.randn(SHAPES[dims])
    large = Repeat()(x)
    assert large.shape[2:] == torch.Size(2 * size for size in x.shape[2:])
    assert all(large[(..., *[slice(at, None, 2)] * dims)].equal(x) for at in (0, 1))
    torch.testing.assert_close(Pool()(large), x)
    y = torch.randn_like(large)
    torch.testing.assert_close(Pool()(y).mean(), y.mean())
    torch.testing.assert_close((Pool()(y) * x).sum(), (y * large).sum() / 2**dims)  # the adjoint


@pytest.mark.parametrize("behind", [False, True])
def test_downsample_reads_the_pixels_it_says(behind):
    layer = Downsample(1, 1, behind)
    layer.mix.weight.data, layer.mix.bias.data = torch.tensor([[[1.0, 10.0, 100.0]]]), torch.zeros(1)
    x = torch.arange(1.0, 5.0)[None, None]
    assert layer(x).tolist() == [[[321.0, 43.0] if behind else [210.0, 432.0]]]


@pytest.mark.parametrize("modulation", ["scale_shift", "add"])
@pytest.mark.parametrize(("inputs", "scale"), [(6, 1.0), (4, 0.7)])
def test_residual_block_is_its_formula(modulation, inputs, scale):
    torch.manual_seed(0)
    style = Style(modulation=modulation, skip_scale=scale, groups=2, eps=1e-3)
    block, x, c = ResidualBlock(inputs, 6, 5, style).double(), torch.randn(3, inputs, 4, 2).double(), torch.randn(3, 5)
    for norm in (block.norm_1, block.norm_2):
        torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    vectors = block.modulation(c.double()).split(6, 1)
    parts = [part[:, :, None, None] for part in vectors]
    hidden = block.mix_1(F.silu(F.group_norm(x, 2, block.norm_1.weight, block.norm_1.bias, 1e-3)))
    hidden = hidden + parts[0] if modulation == "add" else hidden
    hidden = F.group_norm(hidden, 2, block.norm_2.weight, block.norm_2.bias, 1e-3)
    hidden = hidden * (1 + parts[0]) + parts[1] if modulation == "scale_shift" else hidden
    skip = x if inputs == 6 else block.skip(x)
    torch.testing.assert_close(block(x, vectors), scale * (skip + block.mix_2(F.silu(hidden))))


@pytest.mark.parametrize(("channels", "width", "heads"), [(8, 64, 1), (12, 4, 3), (12, None, 1), (10, 4, 1)])
def test_attention_is_its_formula(channels, width, heads):
    torch.manual_seed(2)
    layer = Attention(channels, Style(head_width=width, skip_scale=0.7)).double()
    x = torch.randn(2, channels, 3, 2).double()
    torch.nn.init.normal_(layer.norm.weight)
    normal = F.group_norm(x, layer.norm.groups, layer.norm.weight, layer.norm.bias)
    projected = torch.einsum("oc,bcn->bon", layer.query_key_value.weight, normal.flatten(2))
    projected = projected + layer.query_key_value.bias[:, None]
    mixed, size = torch.empty(2, channels, 6, dtype=torch.float64), channels // heads
    for head in range(heads):
        query, key, value = (projected[:, channels * part + size * head :][:, :size] for part in range(3))
        weight = torch.einsum("bci,bcj->bij", query, key).div(size**0.5).softmax(-1)
        mixed[:, size * head : size * (head + 1)] = torch.einsum("bij,bcj->bci", weight, value)
    added = torch.einsum("oc,bcn->bon", layer.output.weight, mixed) + layer.output.bias[:, None]
    torch.testing.assert_close(layer(x), 0.7 * (x + added.reshape(x.shape)))


def test_norm_without_activation_or_modulation():
    layer, x = NormAct(8, act="none"), torch.randn(3, 8, 5)
    torch.testing.assert_close(layer(x), F.group_norm(x, 2))


@pytest.mark.parametrize("flip", [False, True])
def test_sinusoid_is_its_formula(flip):
    t = torch.tensor([0.0, 3.0, 999.0], dtype=torch.float64)
    frequencies = [1.0, 10_000 ** (-1 / 2), 1e-4]  # three, of which the last is the slowest: shift = 1
    waves = [torch.stack([f(t * k) for k in frequencies], 1) for f in (torch.sin, torch.cos)]
    torch.testing.assert_close(Sinusoid(6, 1, flip)(t), torch.cat(waves[::-1] if flip else waves, 1))


@pytest.mark.parametrize("resample", ["mean", "convolution", "convolution behind"])
@pytest.mark.parametrize("modulation", ["scale_shift", "add"])
def test_a_layout_is_kept_from_end_to_end(resample, modulation):
    """Of every tensor inside: no layer leaves its result in the other one. Of contiguous images too, all between the
    first convolution and the answer are channels-last."""
    net = made(3, 8, (1, 2), 1, (1,), resample=resample, modulation=modulation)
    x, t, seen = torch.randn(2, 3, 4, 6), torch.rand(2), []
    for module in net.modules():
        if not isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, given, y: seen.append((type(module).__name__, y)))
    with torch.no_grad():
        expected = net(x, t)
        images = [(name, y) for name, y in seen if y.ndim == 4]
        assert len(images) > 30 and images[0][1].is_contiguous() and images[-1][1].is_contiguous()
        assert [name for name, y in images[1:-1] if not y.is_contiguous(memory_format=CL)] == []
        seen.clear()
        found = copy.deepcopy(net).to(memory_format=CL)(x.to(memory_format=CL), t)
    images = [(name, y) for name, y in seen if y.ndim == 4]
    assert [name for name, y in images if not y.is_contiguous(memory_format=CL)] == []
    assert found.is_contiguous(memory_format=CL)
    torch.testing.assert_close(found, expected)


def test_bfloat16_layers_beside_float32_norms():
    net, x, t = made(3, 8, (1, 2), 1, (1,)), torch.randn(2, 3, 4, 6), torch.rand(2)
    expected = net(x, t)
    for module in net.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            module.bfloat16()
    y = net(x.bfloat16(), t)
    assert y.dtype == torch.bfloat16 and net.norm.weight.dtype == torch.float32
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.1 * expected.std().item())


def test_any_channels_in_and_out_and_any_sizes_that_halve():
    net = made(3, 9, (1, 5 / 3, 2), 1, (2,), out_channels=7)
    assert [level.stages[0].block.mix_1.out_channels for level in net.down] == [9, 15, 18]
    assert net(torch.randn(2, 3, 12, 20), torch.rand(2)).shape == (2, 7, 12, 20)
    assert UNet(3, 8)(torch.randn(1, 3, 2, 2), torch.rand(1)).shape == (1, 3, 2, 2)
    with pytest.raises(ValueError, match=r"divisible by 4 .* got 12 x 18"):
        net(torch.randn(2, 3, 12, 18), torch.rand(2))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 2, L\); got \(2, 2, 4, 4\)"):
        UNet(2, 8, dims=1)(torch.randn(2, 2, 4, 4), torch.rand(2))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_is_zeros_behind_that_are_cut_off(dims):
    """Of any size, down to one pixel; one that fits has the bits of a network without."""
    net, plain = (made(2, 8, (1, 1, 1), dims=dims, pad=pad) for pad in (True, False))
    for size in ((1, 1, 1), (3, 5, 4), (4, 7, 9)):
        x = torch.randn(2, 2, *size[:dims])
        large = torch.zeros(2, 2, *(-(-n // 4) * 4 for n in size[:dims]))
        inside = (..., *map(slice, size[:dims]))
        large[inside] = x
        y = net(x, torch.ones(2))
        assert y.is_contiguous() and y.equal(plain(large, torch.ones(2))[inside])
        assert net(large, torch.ones(2)).equal(plain(large, torch.ones(2)))
    with pytest.raises(ValueError, match="x must have positive sizes; got 0"):
        net(torch.zeros(2, 2, *(0, 4, 4)[:dims]), torch.ones(2))


def test_padding_keeps_the_layout_and_the_gradient():
    net, x = made(3, 8, (1, 1), pad=True), torch.randn(2, 3, 5, 7, requires_grad=True)
    expected = net(x, torch.ones(2))
    found = net(x.to(memory_format=CL), torch.ones(2))
    assert found.is_contiguous(memory_format=CL) and not found.is_contiguous()
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(expected.square().sum(), x)[0].abs().gt(0).all()


def test_attention_where_it_was_asked_for():
    def attended(**style):
        net = UNet(1, 8, (1, 1, 1), 2, (1,), **style)
        levels = [[stage.attention is not None for stage in level.stages] for level in (*net.down, *net.up)]
        return levels, [stage.attention is not None for stage in net.middle]

    no, down, up = [False, False], [True, True], [True] * 3
    assert attended() == ([no, down, no, [False] * 3, up, [False] * 3], [True, False])
    assert attended(middle="blocks")[1] == no


def test_dropout_acts_in_training_alone():
    net, x, t, key = made(1, 8, dropout=0.5), torch.randn(2, 1, 4, 4), torch.rand(2), make_key(0, 2)
    without = UNet(1, 8)
    without.load_state_dict(net.state_dict())
    assert net.wants_key and not without.wants_key
    with pytest.raises(
        ValueError, match=r"key must be given to a network with dropout \(0.5\) in training: key=.*None"
    ):
        net(x, t)
    with pytest.raises(ValueError, match=r"key must have shape \(2, 2\), one row a sample; got \(3, 2\)"):
        net(x, t, key=make_key(0, 3))
    assert not net(x, t, key=key).allclose(without(x, t))
    assert net.eval()(x, t).equal(without(x, t)) and net(x, t, key=key).equal(without(x, t))
    assert without(x, t, key=key).equal(without(x, t))


@pytest.mark.parametrize("dims", [1, 2])
def test_dropout_is_a_function_of_the_key(dims):
    """Row by row, and with a mask of its own in each block; the tables of a plan change nothing."""
    net, shape = made(1, 8, dropout=0.5, dims=dims), (1, 8, 8)[: dims + 1]
    x, t, key = torch.randn(5, *shape), torch.rand(5), make_key(3, 5)
    whole = net(x, t, key=key)
    assert net(x, t, key=key).equal(whole) and not net(x, t, key=make_key(4, 5)).allclose(whole)
    torch.testing.assert_close(net(x[3:], t[3:], key=key[3:]), whole[3:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x, t, prepared=net.prepare(t), key=key), whole)
    layers = [module.layer for module in net.modules() if isinstance(module, ResidualBlock)]
    assert layers == list(range(len(layers)))
    assert [m.layer for m in copy.deepcopy(net).modules() if isinstance(m, ResidualBlock)] == layers


BAD = {
    "dims": {"dims": 4},
    "modulation": {"modulation": "scale"},
    "resample": {"resample": "fir"},
    "middle": {"middle": "none"},
    "head_width": {"head_width": 0},
    "groups": {"groups": 3},
    "groups ": {"groups": 0},
    "skip_scale": {"skip_scale": 0.0},
    "eps": {"eps": -1.0},
    "dropout": {"dropout": 1.0},
    "out_channels": {"out_channels": 0},
    "pad": {"pad": 1},
    "multipliers": {"multipliers": (1, 1.01)},
    "features": {"timesteps": {"shift": 16}},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    with pytest.raises(ValueError, match=f"^{name.strip()} must"):
        UNet(**BAD[name])
    with pytest.raises(TypeError, match="nonsense"):
        UNet(nonsense=1)


@pytest.mark.parametrize("modulation", ["scale_shift", "add"])
def test_a_bias_may_be_left_to_who_reads_next(modulation, monkeypatch):
    """As on a GPU, where torch adds it in a kernel of its own: values and gradients are the same but for rounding. A
    layer with a hook, or of the user's own, is called as it is."""
    torch.manual_seed(0)
    net = UNet(2, 16, (1, 2), attention=(1,), modulation=modulation)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    block = net.middle[0].block

    class Own(type(block.mix_1)):
        def forward(self, x):
            seen.append("own")
            return super().forward(x)

    x, t, seen = torch.randn(3, 2, 8, 8), torch.rand(3), []
    block.mix_2.register_forward_hook(lambda *_: seen.append("hook"))
    block.mix_1.__class__ = Own

    def both():
        net.zero_grad()
        y = net(x, t)
        y.square().sum().backward()
        return [y.detach(), *(p.grad.clone() for p in net.parameters())]

    whole = both()
    calls = testing.count_launches(lambda: net(x, t))
    monkeypatch.setattr(layers, "adds_a_bias_apart", lambda x: True)
    for apart, together in zip(both(), whole, strict=True):
        torch.testing.assert_close(apart, together, rtol=2e-4, atol=2e-4 * float(together.abs().max()))
    assert sorted(set(seen)) == ["hook", "own"] and len(seen) == 6
    with torch.no_grad():
        assert testing.count_launches(lambda: net(x, t))["residual"] == calls["residual"]
