"""One captured step for every row, plan, seed, chunk and call: recorded on the CPU, the bits of the loop."""

import contextlib
import copy
import dataclasses
import pickle
import threading

import pytest
import torch
from helpers import perturbed
from recorded_graphs import graphs  # noqa: F401

import genfast as gf
from genfast import nn
from genfast.common.cuda_graphs import CudaGraphs
from genfast.diffusion import sampling
from genfast.diffusion.sampling.captured import CapturedStep
from genfast.diffusion.sampling.trajectory import Trajectory
from genfast.testing import no_host_reads

LABEL = torch.arange(7) % 3


def mlp(**settings):
    return perturbed(nn.MLP(2, width=16, depth=1, classes=3), **settings)


def model(net=None, **settings):
    return gf.Diffusion(net or mlp(), **{"schedule": "vp_linear", "shape": (2,)} | settings)


def both(model, n=7, **settings):
    """Samples by the loop and by a captured step."""
    settings = {"steps": 4, "chunk": 4, "progress": False} | settings
    return model.sample(n, graph=False, **settings), model.sample(n, graph=True, **settings)


def same(model, n=7, **settings):
    loop, graph = both(model, n, **settings)
    return torch.equal(loop, graph)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_every_solver_two_plans_and_two_seeds_through_one_graph(graphs, guidance):  # noqa: F811
    """For each number of history slots, which is what the step of two solvers differs in."""
    one, solvers = model(), {}
    for solver in gf.solvers.SOLVERS:
        plan = gf.solvers.plan(solver, "vp_linear", 4)
        if not plan.snr.any() and len(plan) < 100:  # Langevin rows go by the loop; a long plan wants more room
            solvers.setdefault(plan.slots, []).append(solver)
    assert sum(map(len, solvers.values())) == len(gf.solvers.SOLVERS) - 2
    for count, names in enumerate(solvers.values(), 1):
        for solver in names:
            for seed, steps in ((0, 4), (1, 7)):
                assert same(one, label=LABEL, guidance=guidance, solver=solver, seed=seed, steps=steps), solver
        assert graphs.captures == count
    assert same(one, label=LABEL, guidance=guidance, solver="annealed_langevin")


UNET = perturbed(nn.UNet(channels=1, width=8, multipliers=(1, 2), classes=3))
WAYS = {
    "plain": {},
    "labels": {"label": LABEL},
    "one label": {"label": 2},
    "guided": {"label": LABEL, "guidance": torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0, -1.0, 7.5])},
    "interval": {"label": LABEL, "guidance": gf.Guidance(3.0, interval=(0.2, 0.6))},
    "rescaled": {"label": LABEL, "guidance": gf.Guidance(3.0, rescale=0.7)},
    "autoguided": {"label": LABEL, "guidance": gf.Guidance(2.0, network=copy.deepcopy(UNET).bfloat16())},
    "negative": {"label": 0, "negative_label": LABEL, "guidance": 2.0},
    "clamp": {"clamp": (-0.5, 0.5)},
    "threshold": {"threshold": 0.9, "label": LABEL},
    "threshold and guidance": {"threshold": 0.9, "label": LABEL, "guidance": gf.Guidance(2.0, rescale=0.3)},
    "brownian": {"noise": "brownian", "solver": "dpmpp_2m_sde"},
    "brought back": {"source": torch.linspace(-1, 1, 64).view(1, 8, 8), "strength": 0.5},
    "churn": {"solver": "edm"},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("schedule", ["vp_linear", "edm"])
def test_a_captured_step_gives_the_bits_of_the_loop(graphs, schedule, dtype):  # noqa: F811
    one = model(copy.deepcopy(UNET).to(dtype), schedule=schedule, shape=(1, 8, 8))
    for name, settings in WAYS.items():
        before = graphs.replays
        assert same(one, **settings), name
        assert graphs.replays > before, name


class ByLayout(torch.nn.Conv2d):
    """Answers channels-last, and otherwise where its input is."""

    def forward(self, y, t):
        shift = 0.1 if y.is_contiguous() else 0.0
        return super().forward(y).contiguous(memory_format=torch.channels_last) + shift


@pytest.mark.parametrize("schedule", ["vp_linear", "edm"])
@pytest.mark.parametrize("kind", [ByLayout, lambda *a, **k: ByLayout(*a, **k).bfloat16()])
def test_the_first_row_stays_out_where_the_memory_format_matters(graphs, kind, schedule):  # noqa: F811
    one = model(perturbed(kind(3, 3, 3, padding=1)), schedule=schedule, shape=(3, 5, 5))
    for solver in ("dpmpp_2m", "euler", "unipc"):
        assert same(one, solver=solver)
    graphs.replays = 0
    one.sample(4, steps=4, chunk=4, progress=False, graph=True, solver="euler")
    assert graphs.replays == 3


def test_a_start_of_zeros_does_not_hide_that_it_matters(graphs):  # noqa: F811
    class Scaled(ByLayout):
        def forward(self, y, t):
            return super().forward(y, t) * y.square().mean((1, 2, 3), keepdim=True)

    one = model(perturbed(Scaled(3, 3, 3, padding=1)), shape=(3, 5, 5))
    start = torch.linspace(-1, 1, 4 * 75).view(4, 3, 5, 5)
    assert same(one, n=4, start=0 * start) and same(one, n=4, start=start)


def calls_of(net):
    """The list to which every call of the network adds an entry."""
    calls = []
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("guidance", [1.0, gf.Guidance(2.0, interval=(0.2, 0.6))])
def test_the_first_call_costs_three_evaluations_and_the_second_captures_nothing(graphs, guidance):  # noqa: F811
    net = mlp()
    calls, one = calls_of(net), model(net)
    settings = {"label": LABEL, "guidance": guidance, "graph": True, "progress": False}
    one.sample(7, **settings)
    kinds = 1 if guidance == 1.0 else 2
    assert graphs.captures == kinds and len(calls) - kinds <= 3  # what is called to be captured does not run
    calls.clear()
    for settings["seed"], n, settings["label"] in ((0, 7, LABEL), (1, 70, 2), (2, 1, 0)):
        one.sample(n, **settings)
    assert not calls and graphs.captures == kinds


def test_by_default_it_is_used_where_it_can_be(graphs):  # noqa: F811
    """Not for functions, in which no change can be seen."""
    one = model()
    one.sample(7, progress=False)
    assert graphs.captures == 1
    one.sample(7, progress=False, graph=False)
    for settings in (
        {"callback": lambda state: None}, {"known": torch.zeros(2), "mask": torch.ones(2)},
        {"solver": "predictor_corrector"}, {"dtype": torch.float64},
    ):  # fmt: skip
        before = graphs.replays
        one.sample(3, steps=3, progress=False, **settings)
        assert graphs.replays == before
        with pytest.raises(ValueError, match="graph=True cannot go with"):
            one.sample(3, steps=3, progress=False, graph=True, **settings)
    plain = gf.denoisers.Denoiser(lambda y, t: 0.1 * y, "vp_linear", "v")
    plan, before = gf.solvers.plan("ddim", "vp_linear", 4), graphs.captures
    sampling.sample(plain, (2,), plan, 3, progress=False)
    assert graphs.captures == before
    sampling.sample(plain, (2,), plan, 3, progress=False, graph=True)
    assert graphs.captures == before + 1


# What changes between calls -------------------------------------------------------------------------------------------


def in_place(net):
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.1)


def replaced(net):
    net.output.weight = torch.nn.Parameter(0.5 * net.output.weight)


def hooked(net):
    net.register_forward_hook(lambda module, inputs, answer: 2 * answer)


def slower(net):
    net.factor = 0.5


def patched(net):
    forward = net.forward
    net.forward = lambda *args, **known: -forward(*args, **known)


def reclassed(net):
    forward = type(net).forward
    net.__class__ = type("Other", (type(net),), {"forward": lambda *args, **known: -forward(*args, **known)})


def listed(net):
    net.factors[0] = 0.5


def elsewhere(net):
    net.shifts["first"] = torch.ones(2)


class Factored(torch.nn.Module):
    """A network with numbers, functions and tensors among its attributes."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(2, 2)
        self.factors, self.shifts = [1.0], {"first": torch.zeros(2)}

    def forward(self, y, t):
        y = self.output(y) + self.shifts["first"].to(y.dtype)
        return self.factor * self.factors[0] * y + t[:, None].to(y.dtype)


CHANGES = {
    "in place": (in_place, 0), "replaced": (replaced, 1), "hook": (hooked, 1), "number": (slower, 1),
    "forward": (patched, 1), "class": (reclassed, 1), "in a list": (listed, 1), "in a dict": (elsewhere, 1),
}  # fmt: skip


UNSEEN = ("number", "in a list", "in a dict")  # by an MLP


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", [mlp, Factored])
def test_a_changed_network_is_seen(graphs, make, change):  # noqa: F811
    net = make()
    one, (does, captures) = model(net), CHANGES[change]
    before = one.sample(7, graph=True, progress=False)
    if make is mlp and change in UNSEEN[1:]:
        return
    does(net)
    loop, graph = both(one, chunk=None, steps=20)
    assert torch.equal(loop, graph) and graphs.captures == 1 + captures
    assert torch.equal(before, graph) == (make is mlp and change in UNSEEN)
    net.to(torch.bfloat16)
    assert same(one)


def test_settings_of_torch_are_seen(graphs, default_dtype):  # noqa: F811
    class Makes(Factored):
        def forward(self, y, t):
            return super().forward(y, t) + torch.full((1,), 0.1)

    one = model(Makes())
    assert same(one)
    with default_dtype():
        assert same(one)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        before = graphs.captures
        assert same(one) and graphs.captures == before + 1


def test_what_a_network_keeps_of_its_own_is_no_change(graphs):  # noqa: F811
    """Such as a weight that is computed in every call, or a count of calls."""

    class Keeps(Factored):
        def forward(self, y, t):
            self.calls, self.last = getattr(self, "calls", 0) + 1, 2 * self.output.weight
            return super().forward(y, t) + y @ self.last

    one = model(Keeps())
    for n in (4, 8, 3):
        one.sample(n, chunk=4, graph=True, progress=False)
        assert graphs.captures == 1
    in_place(one.net)
    assert same(one)


def test_modes_of_torch_may_change_between_calls(graphs):  # noqa: F811
    """What was prepared, or made, in one is not used in another."""
    for one in (model(), model(mlp().bfloat16())):
        for inference, autocast in ((True, False), (False, False), (False, True), (True, True), (False, False)):
            with torch.inference_mode(inference), torch.autocast("cpu", torch.bfloat16, autocast):
                assert same(one, label=LABEL, guidance=2.0)


def test_tensors_that_lie_nowhere(graphs):  # noqa: F811
    """Yet, or by one address."""

    class Lazy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.output = torch.nn.LazyLinear(2)
            self.register_buffer("mix", torch.eye(2).to_sparse())

        def forward(self, y, t):
            return self.output(y) + torch.sparse.mm(self.mix, y.T).T

    one = model(Lazy())
    graph = one.sample(7, graph=True, progress=False)
    assert torch.equal(graph, one.sample(7, graph=False, progress=False))


def test_another_network_in_its_place(graphs):  # noqa: F811
    """As many parameters, changed as often, and the guiding one beside it or not."""
    one = model()
    one.sample(7, label=1, graph=True, progress=False)
    one.net = perturbed(nn.MLP(2, width=16, depth=1, classes=3), seed=1)
    assert same(one, label=1)
    guided, before = {"label": 1, "guidance": gf.Guidance(2.0, network=mlp())}, graphs.captures
    for settings in (guided, {"label": 1}, guided, {"label": 1}):
        assert same(one, **settings)
    assert graphs.captures == before + 1

    factor = [0.1]
    other = gf.Diffusion(lambda y, t: factor[0] * y, "vp_linear", shape=(2,))
    assert same(other)
    factor[0] = 0.5
    assert same(other)


def by_data(net):
    for p in net.parameters():
        p.data.mul_(1.1)


def by_an_optimizer(net):
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.AdamW(net.parameters(), lr=0.1, fused=True).step()


@pytest.mark.parametrize("change", [in_place, by_data, by_an_optimizer])
def test_what_is_prepared_is_made_again_in_every_call(graphs, change):  # noqa: F811
    """Torch counts no changes by p.data, and none of its fused optimizers; a count would let them pass."""
    net, prepared = mlp(), []
    net.condition.register_forward_hook(lambda *_: prepared.append(1))
    one = model(net)
    assert same(one, label=1) and len(prepared) == 2
    change(net)
    assert same(one, label=1) and graphs.captures == 1


def test_two_are_kept_and_none_in_copies(graphs):  # noqa: F811
    one = model()
    for n, chunk in ((4, 4), (8, 8), (4, 4), (16, 16), (4, 4)):
        one.sample(n, chunk=chunk, progress=False)
    assert graphs.captures == 3 and len(one._graphs.steps) == 2
    one.sample(8, chunk=8, progress=False)
    assert graphs.captures == 4
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert not other._graphs.steps and torch.equal(other.sample(3), one.sample(3))
    assert not any("graph" in name for name in one.state_dict())
    one.release()
    assert not one._graphs.steps


def test_a_plan_longer_than_there_is_room_for(graphs):  # noqa: F811
    assert same(model(), n=4, solver="euler", steps=1030)


def test_a_step_with_more_room_serves_a_chunk_that_needs_less(graphs):  # noqa: F811
    """What is prepared is of 1, 30 and 64 labels in turn: the second call captures nothing."""
    one = model(perturbed(nn.MLP(2, width=16, depth=1, classes=64)))
    label = torch.cat([torch.zeros(64), torch.arange(64) % 30, torch.arange(64)]).long()
    settings = {"n": 192, "label": label, "chunk": None, "steps": 50, "solver": "ddim"}
    assert same(one, **settings)
    captures = graphs.captures
    assert same(one, **settings, seed=1) and graphs.captures == captures


@pytest.mark.parametrize("classes, steps", [(3, 1024), (63, 16)])
def test_a_graph_that_is_captured_later_finds_the_step_at_the_end_of_a_plan(graphs, classes, steps):  # noqa: F811
    """Where, a row further on, there is no room for any: of tables, and of what is prepared of 64 labels."""
    one = model(perturbed(nn.MLP(2, width=16, depth=1, classes=classes)))
    settings = {"n": classes, "label": torch.arange(classes), "chunk": 63, "steps": steps, "solver": "euler"}
    for interval in ((0.5, 0.5), (0.0, 1.0), (0.2, 0.6)):
        guidance = gf.Guidance(2.0, interval=interval)
        assert same(one, guidance=guidance, **settings)


class Wider(Factored):
    """A network in bfloat16 that answers in float32, where it is told to."""

    def __init__(self, wider):
        super().__init__()
        self.bfloat16().wider = wider

    def forward(self, y, t):
        answer = super().forward(y, t)
        return answer.float() if self.wider else answer


@pytest.mark.parametrize("schedule", ["vp_linear", "edm"])
def test_guided_rows_may_be_of_another_dtype(graphs, schedule):  # noqa: F811
    one = model(Wider(False), schedule=schedule)
    for interval in ((0.2, 0.6), (0.5, 1.0), (0.0, 0.5), (0.0, 1.0)):
        assert same(one, guidance=gf.Guidance(2.0, interval=interval, network=Wider(True)), steps=8)


def test_neither_networks_that_guide_nor_their_fingerprints_pile_up(graphs):  # noqa: F811
    one = model()
    for seed in range(4):
        one.sample(3, steps=2, progress=False, guidance=gf.Guidance(2.0, network=mlp(seed=seed)))
    assert len(one._graphs.steps) == 2 and not one._graphs.refused


def test_what_is_released_in_the_middle_of_a_run_is_not_taken_for_the_network_of_later(graphs, monkeypatch):  # noqa: F811
    net = mlp()
    one, run, left = model(net), CapturedStep.run, [1]

    def released(*args):
        while left:
            one.release() or left.pop()
        return run(*args)

    monkeypatch.setattr(CapturedStep, "run", released)
    one.sample(8, steps=4, chunk=4, graph=True, progress=False)
    replaced(net)
    assert same(one)


def test_an_interrupted_run_says_when_it_will_be_done(graphs, monkeypatch):  # noqa: F811
    """Another stream then waits for it, before it writes to the same tensors."""
    marks = []
    monkeypatch.setattr(graphs, "mark", lambda device: marks.append(1) or "here")
    one = model()
    one.sample(4, graph=True, progress=False)
    (step,) = one._graphs.steps.values()
    monkeypatch.setattr(step.graphs, "graphs", {False: lambda: (_ for _ in ()).throw(KeyboardInterrupt)})
    with pytest.raises(KeyboardInterrupt):
        one.sample(4, graph=True, progress=False)
    assert len(marks) == 2


def test_a_function_that_has_no_hash(graphs):  # noqa: F811
    @dataclasses.dataclass
    class Scaled:
        factor: float = 0.1

        def __call__(self, y, t):
            return self.factor * y

    assert same(model(Scaled()))


# A network that cannot be captured ------------------------------------------------------------------------------------


class Reads(Factored):
    def forward(self, y, t):
        return super().forward(y, t) * (2 if float(y.sum()) > 0 else 1)


def test_a_network_that_reads_the_device_goes_by_the_loop_with_one_warning(graphs, recwarn):  # noqa: F811
    one = model(Reads())
    expected = one.sample(7, graph=False, progress=False)
    with pytest.warns(UserWarning, match=r"graph='auto' runs the plain loop: .* aten._local_scalar_dense.default") as w:
        assert torch.equal(one.sample(7, progress=False), expected)
    assert w[0].filename == __file__
    recwarn.clear()
    assert torch.equal(one.sample(7, seed=0, progress=False), expected)
    assert not recwarn.list and not graphs.captures
    with pytest.raises(RuntimeError, match="graph=True: the step cannot be captured as a CUDA graph: the host would"):
        one.sample(7, graph=True, progress=False)


def test_errors_of_the_network_are_its_own(graphs):  # noqa: F811
    class Fails(Factored):
        def forward(self, y, t):
            raise KeyError("of its own")

    for graph in ("auto", True):
        with pytest.raises(KeyError, match="of its own"):
            model(Fails()).sample(3, graph=graph, progress=False)


def test_what_is_asked_of_torch_for_a_capture(monkeypatch):
    """On a stream of the device, which is left also where torch does not; torch's own tensors in no inference mode."""
    now, begun = ["default"], []

    @contextlib.contextmanager
    def on(stream):
        before, now[0] = now[0], stream
        try:
            yield
        finally:
            now[0] = before

    @contextlib.contextmanager
    def capturing(graph, stream="cuda:0", **settings):
        begun.append((stream, torch.is_inference_mode_enabled()))
        now[0] = stream  # as torch does, which then ends the capture before it leaves the stream
        yield
        raise RuntimeError("refused")

    fakes = {"Stream": str, "stream": on, "graph": capturing, "CUDAGraph": object, "device": contextlib.nullcontext}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    found = []

    def step():
        found.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    capture = CudaGraphs().capture
    for inference in (False, True):
        with torch.inference_mode(inference), torch.no_grad(), pytest.raises(RuntimeError, match="refused"):
            capture(step, torch.device("cuda:1"))
        assert now == ["default"]
    assert begun == [("cuda:1", False)] * 2 and found == [(False, False), (True, False)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_a_gpu(cuda, dtype):
    """CUDA's own graphs: the bits of the loop, and nothing captured twice."""
    one = model(copy.deepcopy(UNET).to(cuda, dtype), shape=(1, 8, 8))
    for name, settings in WAYS.items():
        assert same(one, n=300, chunk=64, **settings), name
    one.sample(300, progress=False)
    kept = list(one._graphs.steps.values())
    one.sample(10, steps=7, seed=1, progress=False)
    assert list(one._graphs.steps.values()) == kept
    with pytest.warns(UserWarning, match="graph='auto' runs the plain loop"):
        model(Reads().to(cuda)).sample(7, progress=False)


# Threads --------------------------------------------------------------------------------------------------------------


def test_a_second_thread_runs_the_loop(graphs):  # noqa: F811
    one, found = model(), {}
    expected = [one.sample(50, seed=seed, graph=False, progress=False) for seed in range(4)]
    one.sample(1, progress=False)
    (step,) = one._graphs.steps.values()
    before = graphs.replays
    with step.lock:  # another thread has it
        assert torch.equal(one.sample(50, seed=0, progress=False), expected[0])
    assert graphs.replays == before

    def draw(seed):
        found[seed] = [one.sample(50, seed=seed, progress=False) for _ in range(5)]

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(x, expected[seed]) for seed in range(4) for x in found[seed])


# The host -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_the_loop_reads_nothing_back(way, monkeypatch):
    """From the first row to the last."""
    run = Trajectory.run

    def watched(self, *args):
        with no_host_reads():
            return run(self, *args)

    monkeypatch.setattr(Trajectory, "run", watched)
    for solver in ("dpmpp_2m", "predictor_corrector"):
        if way not in ("brownian", "churn", "brought back") or solver == "dpmpp_2m":
            model(UNET, shape=(1, 8, 8)).sample(7, steps=3, progress=False, **{"solver": solver} | WAYS[way])
