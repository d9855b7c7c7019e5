"""Laws of the trunks of autoencoders and adversarial pairs."""

import json

import pytest
import torch
from helpers import conditions, without_zeros

from genfast.nn import NETWORKS, Decoder, Discriminator, Encoder, Generator

CASES = {
    "encoder": (lambda: Encoder((8, 8), latent=3, width=8), (1, 8, 8), (3,)),
    "encoder to a map": (
        lambda: Encoder((7, 13), 2, 3, 8, (1, 2, 2), spatial=True, classes=3, condition=2), (2, 7, 13), (3, 2, 4),
    ),
    "decoder": (lambda: Decoder((7, 13), 2, 3, 8, (1, 1, 2), 2, classes=3), (3,), (2, 7, 13)),
    "decoder of a map": (lambda: Decoder((6, 4), 1, 2, 8, spatial=True, condition=3), (2, 3, 2), (1, 6, 4)),
    "plain decoder of a map": (lambda: Decoder((5, 4), 1, 2, 8, spatial=True), (2, 3, 2), (1, 5, 4)),
    "generator": (lambda: Generator((8, 8), 3, 5, 8, classes=3), (5,), (3, 8, 8)),
    "discriminator": (lambda: Discriminator((9, 6), 3, 8, (1, 2, 2), classes=3, condition=2), (3, 9, 6), ()),
    "plain discriminator": (lambda: Discriminator((8, 8), 1, 8), (1, 8, 8), ()),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    """A network, five rows of input, the conditions it takes and the shape of its answers."""
    torch.manual_seed(0)
    build, shape, answer = CASES[request.param]
    net = without_zeros(build())
    return net, torch.randn(5, *shape), conditions(net), answer


def answered(net, x, given):
    """The answer in one tensor."""
    answer = net(x, **given)
    return torch.stack(answer, 1) if isinstance(answer, tuple) else answer


def test_shapes_and_rows_on_their_own(case):
    net, x, given, shape = case
    whole = answered(net, x, given)
    two = (2,) if isinstance(net, Encoder) else ()
    assert whole.shape == (5, *two, *shape)
    for row in range(5):
        own = {name: value[row, None] for name, value in given.items()}
        torch.testing.assert_close(answered(net, x[row, None], own)[0], whole[row])
    assert answered(net, x[:0], {name: value[:0] for name, value in given.items()}).shape == (0, *two, *shape)
    if isinstance(net, Generator):
        assert whole.abs().amax() < 1


def test_input_and_conditions_matter_and_none_is_null(case):
    net, x, given, _ = case
    plain = answered(net, x, given)
    assert ((answered(net, x + 0.1, given) - plain).abs().reshape(5, -1).amax(1) > 1e-5).all()
    null = answered(net, x, {})
    if given:
        torch.testing.assert_close(plain[3], null[3])
    for name, value in given.items():
        other = given | {name: 3 - value if name == "label" else value + 1}
        assert (answered(net, x, other)[:3] - plain[:3]).abs().amax() > 1e-4


def test_every_parameter_gets_a_gradient(case):
    net, x, given, _ = case
    answered(net, x, given).square().sum().backward()
    assert [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert all(value.grad.isfinite().all() for value in net.parameters())


def test_gradients_of_gradients_are_right(case):
    """As a penalty on the gradient of a discriminator needs."""
    net, x, given, _ = case
    net.double()
    x, given = x[2:4].double().requires_grad_(), {name: value[2:4] for name, value in given.items()}
    assert torch.autograd.gradgradcheck(lambda value: answered(net, value, given), x, fast_mode=True)


def test_config_and_state_rebuild_the_network(case):
    net, x, given, _ = case
    other = NETWORKS[type(net).__name__](**json.loads(json.dumps(net.config)))
    assert type(other) is type(net) and other.config == net.config
    other.load_state_dict(net.state_dict(), strict=True)
    assert torch.equal(answered(other, x, given), answered(net, x, given))


def test_compiled_equals_eager_and_another_batch_takes_no_other_graph(case):
    net, x, given, _ = case
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(answered(compiled, x, given), answered(net, x, given))
    with torch._dynamo.config.patch(error_on_recompile=True):
        given = {name: value.flip(0) for name, value in given.items()}
        torch.testing.assert_close(answered(compiled, x.flip(0), given), answered(net, x.flip(0), given))


def test_dtypes_autocast_and_memory_format(case):
    net, x, given, _ = case
    single = answered(net, x, given).detach()
    close = {"rtol": 0.0, "atol": 0.05 * float(single.abs().amax())}
    if x.ndim == 4:
        last = {"memory_format": torch.channels_last}
        torch.testing.assert_close(answered(net.to(**last), x.to(**last), given), single)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(answered(net, x, given).float(), single, **close)
    torch.testing.assert_close(answered(net.double(), x.double(), given).float(), single, rtol=1e-4, atol=1e-5)
    half = answered(net.bfloat16(), x.bfloat16(), given)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), single, **close)


def test_a_discriminator_is_a_projection():
    torch.manual_seed(0)
    net, x, label = Discriminator((4, 4), width=4, classes=2), torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 2])
    features = torch.nn.functional.silu(net.features(net.down(x)))
    weight = net.output.weight + net.conditions.label.weight[label]
    torch.testing.assert_close(net(x, label), (weight * features).sum(1) + net.output.bias)


def test_an_autoencoder_of_any_size_fits():
    for size in [(1, 1), (8, 8), (7, 13), (28, 28)]:
        pair = [net(size, 2, 3, 4, (1, 2, 2, 2), spatial=True) for net in (Encoder, Decoder)]
        x = torch.randn(2, 2, *size)
        assert pair[1](pair[0](x)[0]).shape == x.shape


BAD_ARGUMENTS = {
    "size": {"size": (8,)},
    "size ": {"size": (8, 0)},
    "channels": {"channels": 0},
    "width": {"width": 1.5},
    "multipliers": {"multipliers": ()},
    "multipliers ": {"multipliers": (1, 0)},
    "blocks": {"blocks": 0},
    "classes": {"classes": -1},
    "condition": {"condition": None},
}


@pytest.mark.parametrize("kind", [Encoder, Decoder, Discriminator])
@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_named(kind, name):
    with pytest.raises(ValueError, match=f"^{name.strip()} must"):
        kind(**{"size": (8, 8)} | BAD_ARGUMENTS[name])


def test_bad_calls_are_named():
    with pytest.raises(ValueError, match="latent must"):
        Encoder((8, 8), latent=0)
    with pytest.raises(ValueError, match="latent must"):
        Generator((8, 8), latent=-1)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\); got \(2, 1, 8, 7\)"):
        Encoder((8, 8))(torch.zeros(2, 1, 8, 7))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\); got \(8, 8\)"):
        Discriminator((8, 8))(torch.zeros(8, 8))
    with pytest.raises(ValueError, match=r"z must have shape \(B, 2\); got \(3, 1\)"):
        Decoder((8, 8), latent=2)(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="label was given to an unconditional network"):
        Decoder((8, 8), latent=2)(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
