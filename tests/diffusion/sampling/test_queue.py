"""A queue gives every sample what it gets alone, whoever shares the batch and whenever it was asked for."""

import copy
import gc
import itertools
import math
import pickle
import weakref

import pytest
import torch
from helpers import MEANS, VARIANCES, WEIGHTS, perturbed, row_wise
from recorded_graphs import graphs  # noqa: F401

import genfast as gf
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


class Plain(torch.nn.Module):
    """`row_wise` as a Module."""

    def forward(self, y, t, label):
        return row_wise(y, t, label)


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
    tickets = [queue.add(**request) for request in requests]
    assert len(queue) == len(requests) and tickets == sorted(set(tickets))
    found = dict(queue)
    assert len(queue) == 0 and found.keys() == set(tickets)
    for ticket, request in zip(tickets, requests, strict=True):
        assert torch.equal(found[ticket], alone(denoiser, request))


def test_requests_may_come_at_any_time():
    denoiser = Denoiser(row_wise, VP, "v")
    requests, found = {}, {}
    queue = SampleQueue(denoiser, (2,), capacity=3)
    for request in mixed_requests():
        requests[queue.add(**request)] = request
        found |= dict(queue.step())
    found |= dict(queue)
    for ticket, request in requests.items():
        assert torch.equal(found[ticket], alone(denoiser, request))


def test_brownian_noise_clamping_and_conditions_of_any_shape():
    def net(y, t, context):
        return torch.tanh(y + context) * t[:, None]

    denoiser, one = Denoiser(net, VP, "v"), plan("dpmpp_2m_sde", VP, 7)
    request = {"index": 3, "plan": one, "noise": "brownian", "condition": {"context": torch.tensor([0.5, -1.0])}}
    queue = SampleQueue(denoiser, (2,), capacity=4, clamp=(-0.5, 0.5))
    brownian, white = queue.add(**request), queue.add(**request | {"noise": "white"})
    found = dict(queue)
    assert torch.equal(found[brownian], alone(denoiser, request, clamp=(-0.5, 0.5)))
    assert torch.equal(found[white], alone(denoiser, request | {"noise": "white"}, clamp=(-0.5, 0.5)))
    assert not torch.equal(found[brownian], found[white])


def test_prepared_networks():
    """The tables of a network with `prepare` are those of the solo run; its linear layers may round by the batch."""
    denoiser = Denoiser(perturbed(nn.MLP(2, width=16, depth=1, classes=4)), VP, "v")
    queue = SampleQueue(denoiser, (2,), capacity=4)
    requests = {queue.add(**request): request for request in mixed_requests()}
    found = dict(queue)
    for ticket, request in requests.items():
        expected = alone(denoiser, request, chunk=4)
        assert torch.allclose(found[ticket], expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_an_exact_denoiser():
    denoiser = GaussianMixtureDenoiser(WEIGHTS, MEANS, VARIANCES, VP)
    queue = SampleQueue(denoiser, (2,), capacity=2)
    index_of = {queue.add(i, plan=plan("dpmpp_2m", VP, 5 + i)): i for i in range(5)}
    for ticket, x in queue:
        index = index_of[ticket]
        assert torch.equal(x, alone(denoiser, {"index": index, "plan": plan("dpmpp_2m", VP, 5 + index)}, chunk=2))


def test_bad_requests_are_refused():
    denoiser, one = Denoiser(row_wise, VP, "v"), plan("ddim", VP, 3)
    with pytest.raises(ValueError, match="capacity must be an integer of at least 1; got 0"):
        SampleQueue(denoiser, (2,), capacity=0)
    with pytest.raises(ValueError, match="clamp must be"):
        SampleQueue(denoiser, (2,), clamp=(1.0, -1.0))
    queue = SampleQueue(denoiser, (2,))
    for name in ("condition", "unconditional"):
        for call in (queue.add, lambda index, **more: sampling.sample(denoiser, (2,), index=[index], **more)):
            with pytest.raises(TypeError, match=f"{name} must be a dict of arguments of the network; got int"):
                call(0, plan=one, **{name: 3})
    queue.add(0, plan=one, condition={"label": 1})
    label = r"{'label': \('int64', \(\)\)}"
    others, own = f"of the other requests, {label}; got ", f"of condition, {label}; got "
    for changes, message in (
        ({"guidance": 2.0}, "guidance and unconditional go together"),
        ({"condition": {}}, others + "{}"),
        ({"condition": {"label": [1]}}, others + r"{'label': \('int64', \(1,\)\)}"),
        ({"condition": {"label": 1.0}}, others + r"{'label': \('float32', \(\)\)}"),
        ({"guidance": 2.0, "unconditional": {"x": 1}}, own + r"{'x': \('int64', \(\)\)}"),
        ({"guidance": 2.0, "unconditional": {}}, own + "{}"),
        ({"guidance": 2.0, "unconditional": {"label": math.nan}}, own + r"{'label': \('float32', \(\)\)}"),
        ({"guidance": math.nan, "unconditional": {"label": 1}}, "guidance must be a finite number; got nan"),
        ({"guidance": math.inf, "unconditional": {"label": 1}}, "guidance must be a finite number; got inf"),
        ({"seed": -1}, r"seed must be an integer from 0 to 2\^63 - 1; got -1"),
        ({"index": -1}, r"index must be an integer from 0 to 2\^63 - 1; got -1"),
        ({"index": 0.5}, "index must be an integer"),
        ({"noise": "pink"}, "noise must be one of white, brownian"),
        ({"plan": plan("ddim", "vp_cosine", 3)}, "must be of the denoiser's schedule"),
        ({"plan": plan("edm", VP, 3, s_churn=1.0), "noise": "brownian"}, "needs noise that belongs to steps in time"),
    ):
        with pytest.raises(ValueError, match=message):
            queue.add(**{"index": 1, "plan": one, "condition": {"label": 1}} | changes)
    with pytest.raises(TypeError, match=r"condition 'label' must be a tensor, an array, or numbers .*; got 'cat'"):
        queue.add(0, plan=plan("ddim", VP, 3), condition={"label": "cat"})
    with pytest.raises(TypeError, match="plan must be a Plan; got str"):
        queue.add(1, plan="ddim")
    assert len(queue) == 1 and len(dict(queue)) == 1


def wide(y, t, label):
    return torch.cat([y, y], 1)


@pytest.mark.parametrize(
    "net, condition, words",
    [
        (nn.MLP(2, width=8, depth=1, classes=3), {"label": 1, "condition": torch.ones(2)}, "network without one"),
        (nn.MLP(2, width=8, depth=1, condition=3), {"condition": torch.ones(2)}, r"must have shape \(4, 3\)"),
        (nn.MLP(2, width=8, depth=1, condition=3), {"condition": torch.ones(3).long()}, "a floating-point tensor"),
        (nn.MLP(2, width=8, depth=1, classes=3), {"label": math.nan}, "label must hold integers"),
        (nn.MLP(2, width=8, depth=1, classes=3), {"label": 4}, r"label must lie in \[0, 3\]"),
        (nn.MLP(2, width=8, depth=1), {"text": 1}, "unexpected keyword argument 'text'"),
        (row_wise, {"label": torch.ones(5)}, "must match the size"),
        (row_wise, {"word": 1}, "unexpected keyword argument 'word'"),
        (wide, {"label": 1}, r"answer with the shape of its input, \(4, 2\); got \(4, 4\)"),
    ],
)
def test_what_the_network_does_not_take_is_refused_when_it_is_asked_for(net, condition, words):
    """Were it taken, the network would fail at every step, for all requests."""
    queue = SampleQueue(Denoiser(net, VP, "v"), (2,), capacity=4)
    with pytest.raises(ValueError, match=f"condition must be what the network takes; with .*{words}"):
        queue.add(0, plan=plan("ddim", VP, 2), condition=condition)
    assert len(queue) == 0 and queue.step() == []


def test_a_request_with_which_the_network_fails_is_taken_out():
    """And costs the others nothing."""

    def net(y, t, word):
        if bool((word[t < 0.5] == 13).any()):
            raise KeyError("unlucky")
        return torch.tanh(y + word[:, None])

    denoiser, one = Denoiser(net, VP, "v"), plan("ddim", VP, 6)
    queue = SampleQueue(denoiser, (2,), capacity=2)
    words = {queue.add(i, plan=one, condition={"word": word}): (i, word) for i, word in enumerate([3, 13, 5, 7])}
    found = {}
    with pytest.raises(RuntimeError, match=r"the network fails with tickets \[2\], which are taken out: 'unlucky'"):
        found |= dict(queue)
    found |= dict(queue)
    assert found.keys() == words.keys() - {2} and len(queue) == 0
    for ticket, x in found.items():
        index, word = words[ticket]
        assert torch.equal(x, alone(denoiser, {"index": index, "plan": one, "condition": {"word": word}}))


def test_an_error_of_the_moment_takes_nothing_out():
    fails = [False]

    def net(y, t):
        if fails.pop():
            fails.append(False)
            raise OSError("the moment")
        fails.append(False)
        return torch.tanh(y)

    denoiser, one = Denoiser(net, VP, "v"), plan("ddim", VP, 3)
    queue = SampleQueue(denoiser, (2,), capacity=2)
    ticket = queue.add(0, plan=one)
    fails[:] = [True]
    with pytest.raises(OSError, match="the moment"):
        queue.step()
    assert torch.equal(dict(queue)[ticket], alone(denoiser, {"index": 0, "plan": one}))


def test_requests_can_be_cancelled():
    denoiser, one = Denoiser(row_wise, VP, "v"), plan("dpmpp_2m", VP, 4)
    queue = SampleQueue(denoiser, (2,), capacity=2)
    tickets = [queue.add(i, plan=one, condition={"label": 1}) for i in range(4)]
    queue.step()
    assert queue.cancel(tickets[0]) and queue.cancel(tickets[3]) and len(queue) == 2
    assert not queue.cancel(tickets[0]) and not queue.cancel(99)
    found = dict(queue)
    assert found.keys() == {tickets[1], tickets[2]} and not queue.cancel(tickets[1])
    for i in (1, 2):
        expected = alone(denoiser, {"index": i, "plan": one, "condition": {"label": 1}})
        assert torch.equal(found[tickets[i]], expected)
    with pytest.raises(ValueError, match="ticket must be an integer; got None"):
        queue.cancel(None)


def test_plans_are_held_only_while_they_run():
    """Neither the table nor what is prepared grows with the number of plans that were ever asked for."""
    net = perturbed(nn.MLP(2, width=8, depth=1, classes=4))
    queue = SampleQueue(Denoiser(net, VP, "v"), (2,), capacity=2)
    for i in range(1000):
        queue.add(i, plan=plan("ddim", VP, 1, grid=lambda s, n, i=i: torch.tensor([1 - i / 5000, 0])))
        queue.step()
        assert not (queue.parts or queue.lanes.parts or queue.lanes.blocks.at)
    lengths = []
    for i in range(60):
        queue.add(i, plan=plan("ddim", VP, 2 + i % 7), condition={"label": i % 5})
        queue.step()
        lengths.append(len(queue.lanes.parts))
    assert max(lengths) <= 2 and len(queue.lanes.blocks.at) <= 2
    assert len(queue.lanes.blocks.entries) <= 4 * 64


def test_a_long_plan_is_let_go_and_no_cache_holds_it():
    queue = SampleQueue(Denoiser(lambda y, t: torch.zeros_like(y), VP, "v"), (2,), capacity=2)
    one, other = plan("euler", VP, 1500), plan("euler", VP, 2000)
    left = weakref.ref(one), weakref.ref(other)
    queue.add(0, plan=one)
    waiting = queue.add(1, plan=other)
    queue.step()
    del one, other
    assert queue.cancel(waiting) and left[0]() is not None
    dict(queue)
    gc.collect()
    assert left[0]() is None and left[1]() is None


def test_a_long_plan_does_not_keep_the_others_waiting():
    """What is prepared is made 64 rows at a time, as they come up."""
    net = perturbed(nn.MLP(2, width=8, depth=1))
    queue = SampleQueue(Denoiser(net, VP, "v"), (2,), capacity=2)
    queue.add(0, plan=plan("ddim", VP, 200))
    made, prepare = [], net.prepare
    net.prepare = lambda t, **conditions: made.append(len(t)) or prepare(t, **conditions)
    queue.step()
    assert made == [64]
    for _ in range(64):
        queue.step()
    assert made == [64, 64]


def test_a_queue_in_the_middle_of_its_work_can_be_copied():
    model = gf.Diffusion(perturbed(nn.MLP(2, width=8, depth=1, classes=3)), "vp_linear", shape=(2,))
    queue = model.queue(capacity=3)
    for i in range(5):
        queue.add(i, steps=3 + i, label=i % 3, guidance=1.0 + i)
    queue.step()
    copies = [copy.deepcopy(queue), pickle.loads(pickle.dumps(queue))]
    expected = dict(queue)
    for other in copies:
        found = dict(other)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[ticket], expected[ticket]) for ticket in expected)


def test_samples_that_are_not_finite_are_an_error():
    """And cost the others nothing."""

    def net(y, t, bad):
        return torch.where(bad[:, None] > 0, math.nan, y)

    queue = SampleQueue(Denoiser(net, VP, "x0"), (2,))
    tickets = [queue.add(7, seed=i, plan=plan("ddim", VP, 2), condition={"bad": i == 1}) for i in range(3)]
    found = []
    with pytest.raises(FloatingPointError, match=r"samples of tickets \[2\] are not finite"):
        for ticket, _ in queue:
            found.append(ticket)
    assert found == [tickets[0], tickets[2]] and len(queue) == 0


def test_a_queue_that_has_run_empty_sees_new_weights():
    net, one = perturbed(nn.MLP(2, width=16, depth=1, classes=4)), plan("ddim", VP, 3)
    queue = SampleQueue(Denoiser(net, VP, "v"), (2,), capacity=2)
    request = {"index": 0, "plan": one, "condition": {"label": 1}}
    queue.add(**request)
    (old,) = dict(queue).values()
    perturbed(net, seed=1)
    queue.add(**request)
    (new,) = dict(queue).values()
    assert not torch.allclose(new, old, atol=1e-2)
    assert torch.allclose(
        new, alone(Denoiser(net, VP, "v"), request, chunk=2), rtol=0, atol=1e-4 * new.abs().max().item()
    )


def replaced(net):
    net.output.weight = torch.nn.Parameter(2 * net.output.weight)


def hooked(net):
    net.register_forward_hook(lambda module, inputs, answer: 2 * answer)


@pytest.mark.parametrize("change", [replaced, hooked])
def test_a_captured_step_of_a_queue_sees_another_network(graphs, change):  # noqa: F811
    net, one = perturbed(nn.MLP(2, width=16, depth=1, classes=4)), plan("ddim", VP, 4)
    queues = [SampleQueue(Denoiser(net, VP, "v"), (2,), capacity=2, graph=graph) for graph in (False, True)]
    found = []
    for _ in range(2):
        for queue in queues:
            queue.add(0, plan=one, condition={"label": 1})
        loop, replayed = (next(iter(dict(queue).values())) for queue in queues)
        assert torch.equal(loop, replayed)
        found.append(loop)
        change(net)
    assert graphs.captures == 2 and not torch.equal(*found)


@pytest.mark.parametrize("graph", [False, True])
def test_a_queue_that_has_run_empty_sees_another_dtype(graphs, graph):  # noqa: F811
    net = perturbed(nn.MLP(2, width=16, depth=1, classes=4))
    queue, request = (
        SampleQueue(Denoiser(net, VP, "v"), (2,), capacity=2, graph=graph),
        {"index": 0, "plan": plan("ddim", VP, 3)},
    )
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        net.to(dtype)
        queue.add(**request)
        (sample,) = dict(queue).values()
        assert torch.allclose(sample, alone(queue.denoiser, request, chunk=2), rtol=0, atol=0.05)


def test_whatever_the_default_dtype_is(default_dtype):
    """Of the queue's own state, and of the conditions that it is given as numbers."""
    model = gf.Diffusion(perturbed(nn.MLP(2, width=8, depth=1, classes=3, condition=2)), shape=(2,))

    def drawn():
        queue = model.queue(capacity=2)
        for label, steps in ((0, 3), (1, 2), (2, 4)):
            queue.add(label, label=label, condition=[[0.1, -0.7]], guidance=1.7, steps=steps)
        return [sample for _, sample in sorted(queue, key=lambda finished: finished[0])]

    expected = drawn()
    with default_dtype():
        found = drawn()
    assert all(torch.equal(a, b) and a.dtype == b.dtype == torch.float32 for a, b in zip(found, expected))


@pytest.mark.parametrize("make", [lambda: nn.MLP(2, width=16, depth=1, classes=4), Plain])
def test_a_captured_step_gives_the_same(graphs, make):  # noqa: F811
    """For requests that come and go, and as long as the network is the same."""
    net = perturbed(make())
    denoiser = Denoiser(net, VP, "v")

    def drawn(graph):
        queue = SampleQueue(denoiser, (2,), capacity=4, graph=graph)
        requests = list(mixed_requests())
        tickets = [queue.add(**request) for request in requests[:5]]
        found = dict(itertools.chain(queue.step(), queue.step()))
        queue = copy.deepcopy(queue)
        tickets += [queue.add(**request) for request in requests[5:]]
        found |= dict(queue)
        return [found[ticket] for ticket in tickets]

    loop, replayed = drawn(False), drawn(True)
    assert all(torch.equal(a, b) for a, b in zip(loop, replayed, strict=True))
    assert graphs.replays > 10 and graphs.captures <= 4  # guided and not, before the copy and after
    before = graphs.captures
    drawn("auto")
    assert graphs.captures > before


class ByLayout(torch.nn.Conv2d):
    """Answers channels-last, and otherwise where its input is, which it uses up."""

    def forward(self, y, t):
        shift = 0.1 if y.is_contiguous() else 0.0
        answer = super().forward(y).contiguous(memory_format=torch.channels_last) + shift
        y.zero_()
        return answer


def test_a_network_that_uses_up_its_input_or_minds_its_memory_format(graphs):  # noqa: F811
    one = Denoiser(perturbed(ByLayout(3, 3, 3, padding=1)), VP, "v")

    def drawn(graph):
        queue = SampleQueue(one, (3, 5, 5), capacity=2, graph=graph)
        for i in range(5):
            queue.add(i, plan=plan("dpmpp_2m", VP, 3 + i))
        return dict(queue)

    loop, replayed = drawn(False), drawn(True)
    assert graphs.replays and all(torch.equal(loop[ticket], replayed[ticket]) for ticket in loop)


def test_a_queue_whose_network_cannot_be_captured(graphs):  # noqa: F811
    class Reads(Plain):
        def forward(self, y, t, label):
            return super().forward(y, t, label) * (1 + float(y.sum() > 1e9))

    one, requests = Denoiser(Reads(), VP, "v"), list(mixed_requests())
    queue = SampleQueue(one, (2,), capacity=2)
    tickets = [queue.add(**request) for request in requests]
    with pytest.warns(UserWarning, match="graph='auto' runs the plain loop") as warned:
        found = dict(queue)
    assert len(warned) == 1 and not graphs.captures
    for ticket, request in zip(tickets, requests, strict=True):
        assert torch.equal(found[ticket], alone(one, request, graph=False))
    queue = SampleQueue(one, (2,), capacity=2, graph=True)
    queue.add(**requests[0])
    with pytest.raises(RuntimeError, match="graph=True: the step cannot be captured"):
        dict(queue)
