"""A queue gives every sample what it gets alone, whoever shares the batch and whenever it was asked for."""

import itertools
import math

import pytest
import torch
from helpers import MEANS, VARIANCES, WEIGHTS, perturbed, row_wise

from genfast import nn
from genfast.diffusion import sampling
from genfast.diffusion.process import schedules
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.sampling.queue import SampleQueue
from genfast.diffusion.solvers import plan
from genfast.gaussian.denoiser import GaussianMixtureDenoiser

VP = schedules.VPLinear()


def alone(denoiser, request, chunk=1, **settings):
    """`sampling.sample` of one request."""
    request = dict(request)
    index, one = request.pop("index"), request.pop("plan")
    for name in ("condition", "unconditional"):
        if name in request:
            request[name] = {key: torch.as_tensor(value)[None] for key, value in request[name].items()}
    out = sampling.sample(denoiser, (2,), one, [index], chunk=chunk, progress=False, **request, **settings)
    return out[0]


def mixed_requests():
    plans = [
        plan("dpmpp_2m_sde", VP, 6), plan("ddim", VP, 3), plan("heun", VP, 4), plan("rk4", VP, 2), plan("ddpm", VP, 9),
    ]  # fmt: skip
    for i, one in zip(range(13), itertools.cycle(plans)):
        request = {"index": 5 * i, "seed": i % 3, "plan": one, "condition": {"label": i % 4}}
        if i % 3 == 0:
            request |= {"guidance": 1.0 + i / 2, "unconditional": {"label": 4}}
        yield request


@pytest.mark.parametrize("capacity", [1, 4, 32])
def test_results_equal_the_solo_run(capacity):
    denoiser = Denoiser(row_wise, VP, "v")
    requests = list(mixed_requests())
    queue = SampleQueue(denoiser, (2,), capacity=capacity)
    for request in requests:
        queue.add(**request)
    assert len(queue) == len(requests)
    found = dict(queue)
    assert len(queue) == 0 and found.keys() == {request["index"] for request in requests}
    for request in requests:
        assert torch.equal(found[request["index"]], alone(denoiser, request))


def test_requests_may_come_at_any_time():
    denoiser = Denoiser(row_wise, VP, "v")
    requests, found = list(mixed_requests()), {}
    queue = SampleQueue(denoiser, (2,), capacity=3)
    for request in requests:
        queue.add(**request)
        found |= dict(queue.step())
    found |= dict(queue)
    for request in requests:
        assert torch.equal(found[request["index"]], alone(denoiser, request))


def test_brownian_noise_clamping_and_conditions_of_any_shape():
    def net(y, t, context):
        return torch.tanh(y + context) * t[:, None]

    denoiser, one = Denoiser(net, VP, "v"), plan("dpmpp_2m_sde", VP, 7)
    request = {"index": 3, "plan": one, "noise": "brownian", "condition": {"context": torch.tensor([0.5, -1.0])}}
    queue = SampleQueue(denoiser, (2,), capacity=4, clamp=(-0.5, 0.5))
    queue.add(**request)
    queue.add(**request | {"index": 4, "noise": "white"})
    found = dict(queue)
    assert torch.equal(found[3], alone(denoiser, request, clamp=(-0.5, 0.5)))
    assert not torch.equal(found[3], found[4])


def test_prepared_networks():
    """The tables of a network with `prepare` are those of the solo run; its linear layers may round by the batch."""
    denoiser = Denoiser(perturbed(nn.MLP(2, width=16, depth=1, classes=4)), VP, "v")
    queue = SampleQueue(denoiser, (2,), capacity=4)
    requests = list(mixed_requests())
    for request in requests:
        queue.add(**request)
    found = dict(queue)
    for request in requests:
        expected = alone(denoiser, request, chunk=4)
        assert torch.allclose(found[request["index"]], expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_an_exact_denoiser():
    denoiser = GaussianMixtureDenoiser(WEIGHTS, MEANS, VARIANCES, VP)
    queue = SampleQueue(denoiser, (2,), capacity=2)
    for i in range(5):
        queue.add(i, plan=plan("dpmpp_2m", VP, 5 + i))
    for index, x in queue:
        assert torch.equal(x, alone(denoiser, {"index": index, "plan": plan("dpmpp_2m", VP, 5 + index)}, chunk=2))


def test_bad_requests_are_refused():
    denoiser, one = Denoiser(row_wise, VP, "v"), plan("ddim", VP, 3)
    with pytest.raises(ValueError, match="capacity must be an integer of at least 1; got 0"):
        SampleQueue(denoiser, (2,), capacity=0)
    with pytest.raises(ValueError, match="clamp must be"):
        SampleQueue(denoiser, (2,), clamp=(1.0, -1.0))
    queue = SampleQueue(denoiser, (2,))
    queue.add(0, plan=one, condition={"label": 1})
    for changes, message in (
        ({"guidance": 2.0}, "guidance and unconditional go together"),
        ({"condition": {}}, r"names and shapes of the other requests, {'label': \(\)}; got {}"),
        (
            {"guidance": 2.0, "unconditional": {"x": 1}},
            r"names and shapes of condition, {'label': \(\)}; got {'x': \(\)}",
        ),
        ({"guidance": 2.0, "unconditional": {}}, r"names and shapes of condition, {'label': \(\)}; got {}"),
        ({"condition": {"label": [1]}}, r"of the other requests, {'label': \(\)}; got {'label': \(1,\)}"),
        ({"guidance": math.nan, "unconditional": {"label": 1}}, "guidance must be a finite number; got nan"),
        ({"seed": -1}, r"seed must be an integer from 0 to 2\^63 - 1; got -1"),
        ({"index": -1}, r"index must be an integer from 0 to 2\^63 - 1; got -1"),
        ({"index": 0.5}, "index must be an integer"),
        ({"noise": "pink"}, "noise must be one of white, brownian"),
    ):
        with pytest.raises(ValueError, match=message):
            queue.add(**{"index": 1, "plan": one, "condition": {"label": 1}} | changes)
    assert len(queue) == 1


def test_samples_that_are_not_finite_are_an_error():
    """And cost the others nothing."""

    def net(y, t, bad):
        return torch.where(bad[:, None] > 0, math.nan, y)

    queue = SampleQueue(Denoiser(net, VP, "x0"), (2,))
    for index in range(3):
        queue.add(index, plan=plan("ddim", VP, 2), condition={"bad": index == 1})
    found = []
    with pytest.raises(FloatingPointError, match=r"samples \[1\] are not finite"):
        for index, _ in queue:
            found.append(index)
    assert found == [0, 2] and len(queue) == 0
    for seed in range(2):  # nor one of the same index
        queue.add(5, seed=seed, plan=plan("ddim", VP, 2), condition={"bad": seed == 1})
    assert [index for index, _ in queue.step() + queue.step()] == [5] and len(queue) == 1


def test_a_label_that_the_network_does_not_have_is_refused_when_it_is_asked_for():
    queue = SampleQueue(Denoiser(perturbed(nn.MLP(2, width=16, depth=1, classes=4)), VP, "v"), (2,))
    with pytest.raises(ValueError, match="label must lie in"):
        queue.add(0, plan=plan("ddim", VP, 2), condition={"label": 77})
    assert len(queue) == 0


def test_a_queue_that_has_run_empty_sees_new_weights():
    net, one = perturbed(nn.MLP(2, width=16, depth=1, classes=4)), plan("ddim", VP, 3)
    queue = SampleQueue(Denoiser(net, VP, "v"), (2,), capacity=2)
    request = {"index": 0, "plan": one, "condition": {"label": 1}}
    queue.add(**request)
    old = dict(queue)[0]
    perturbed(net, seed=1)
    queue.add(**request)
    new = dict(queue)[0]
    assert not torch.allclose(new, old, atol=1e-2)
    assert torch.allclose(
        new, alone(Denoiser(net, VP, "v"), request, chunk=2), rtol=0, atol=1e-4 * new.abs().max().item()
    )
