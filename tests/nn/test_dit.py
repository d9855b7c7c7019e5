"""DiT beyond the laws of every network (test_mlp.py): its formula written out, patches, places, sizes at run time."""

import math

import pytest
import torch
import torch.nn.functional as F

from genfast.nn import DiT
from genfast.nn.dit import FeedForward, GridFeatures, TokenAttention


def plain_attention(layer, x):
    """Head by head."""
    query, key, value = layer.query_key_value(x).chunk(3, -1)
    size = x.shape[-1] // layer.heads
    parts = []
    for head in range(layer.heads):
        q, k, v = (part[..., size * head : size * (head + 1)] for part in (query, key, value))
        if layer.query_weight is not None:
            q = q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.query_weight
            k = k / (k.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.key_weight
        parts.append((q @ k.transpose(-1, -2) / math.sqrt(size)).softmax(-1) @ v)
    return layer.output(torch.cat(parts, -1))


def plain_feedforward(layer, x):
    first = layer.first(x)
    a, b = first.chunk(2, -1)
    gelu, swiglu, geglu = F.gelu(first, approximate="tanh"), F.silu(a) * b, a * F.gelu(b)
    hidden = {"gelu": gelu, "swiglu": swiglu, "geglu": geglu}[layer.kind]
    return layer.second(hidden)


def plain_dit(net, x, t):
    """A two-dimensional DiT in the words of the paper: every norm, modulation, gate and residual by itself."""
    side = net.patch[0]
    tokens = net.input(F.unfold(x, side, stride=side).transpose(1, 2))
    tokens = tokens + net.places([n // side for n in x.shape[2:]])
    c = net.condition(x, t)

    def normal(scale, shift):
        centered = tokens - tokens.mean(-1, keepdim=True)
        x_hat = centered / (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x_hat * (1 + scale[:, None]) + shift[:, None]

    for mix, modulation in zip(net.mixes, net.modulations, strict=True):
        scale, shift, gate = modulation(c).chunk(3, 1)
        plain = plain_attention if isinstance(mix, TokenAttention) else plain_feedforward
        tokens = tokens + gate[:, None] * plain(mix, normal(scale, shift))
    tokens = net.output(normal(*net.last_modulation(c).chunk(2, 1)))
    return F.fold(tokens.transpose(1, 2), x.shape[2:], side, stride=side)


@pytest.mark.parametrize("kind", FeedForward.KINDS)
def test_a_dit_is_its_formula(kind):
    torch.manual_seed(0)
    net = DiT(3, 2, 24, 2, 3, feedforward=kind, qk_norm=kind == "geglu").double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    t = torch.rand(2).double()
    for size in [(4, 6), (8, 2)]:  # any size at run time
        x = torch.randn(2, 3, *size).double()
        torch.testing.assert_close(net(x, t), plain_dit(net, x, t))


def test_blocks_start_as_the_identity():
    torch.manual_seed(0)
    net = DiT(1, 1, 8, 2, 2)
    torch.nn.init.normal_(net.output.weight)
    x, t = torch.randn(1, 1, 3, 3), torch.rand(1)
    tokens = net.input(x.flatten(2).transpose(1, 2)) + net.places((3, 3))
    expected = net.output(F.layer_norm(tokens, (8,), eps=1e-6))
    torch.testing.assert_close(net(x, t), expected.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize(("patch", "size"), [((3,), (6,)), ((2, 3), (4, 9)), ((1, 2, 2), (3, 4, 2))])
def test_patches_are_cut_and_joined(patch, size):
    net = DiT(2, patch, 12, 1, 1)
    x = torch.arange(2.0 * 2 * math.prod(size)).reshape(2, 2, *size)
    grid = net.grid_of(x)
    cut = net.patches(x, grid)
    assert cut.shape == (2, math.prod(grid), 2 * math.prod(patch))
    corner = (slice(None), slice(None), *(slice(-side, None) for side in patch))
    assert torch.equal(cut[:, -1], x[corner].flatten(1))
    assert torch.equal(net.image(cut, grid), x)


def test_places_are_told_by_sines_axis_by_axis():
    wave = GridFeatures(12, 2)((3, 5))
    f = [10000 ** (-k / 3) for k in range(3)]
    row, column = 2, 4
    expected = [math.sin(row * k) for k in f] + [math.cos(row * k) for k in f]
    expected += [math.sin(column * k) for k in f] + [math.cos(column * k) for k in f]
    torch.testing.assert_close(wave[row * 5 + column], torch.tensor(expected))
    assert len(wave.unique(dim=0)) == 15


def test_normed_queries_and_keys_have_no_scale():
    torch.manual_seed(0)
    layer, x = TokenAttention(16, 2, True), torch.randn(2, 5, 16)
    before = layer(x)
    with torch.no_grad():
        layer.query_key_value.weight[:32] *= 100
        layer.query_key_value.bias[:32] *= 100
    torch.testing.assert_close(layer(x), before, rtol=1e-3, atol=1e-4)


def test_gated_feedforwards_have_as_many_weights():
    plain, gated = (
        sum(p.numel() for p in FeedForward(384, 4.0, kind).parameters() if p.ndim == 2) for kind in ("gelu", "swiglu")
    )
    assert plain == gated


BAD_ARGUMENTS = {
    "channels": {"channels": 0},
    "patch": {"patch": 0},
    "patch ": {"patch": (2, 2.5)},
    "patch  ": {"patch": ()},
    "patch   ": {"patch": 1.5},
    "width": {"width": 6, "heads": 1},
    "depth": {"depth": 0},
    "heads": {"heads": 3},
    "ratio": {"ratio": 0},
    "ratio ": {"ratio": float("inf")},
    "feedforward": {"feedforward": "relu"},
    "classes": {"classes": -1},
    "condition": {"condition": True},
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_named(name):
    with pytest.raises(ValueError, match=f"^{name.strip()} must"):
        DiT(**BAD_ARGUMENTS[name])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2, 4, 4), r"x must have shape \(B, 1, H, W\)"),
        ((2, 1, 4), "got"),
        ((2, 1, 4, 5), "divisible by the patch"),
        ((2, 1, 0, 4), "positive"),
    ],
)
def test_bad_images_are_named(shape, message):
    with pytest.raises(ValueError, match=message):
        DiT(1, 2, 8, 1, 1)(torch.zeros(shape), torch.zeros(2))
