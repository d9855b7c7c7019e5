"""Modes and dtypes of networks: every verb of a diffusion model, for networks of every floating-point dtype, left in
training mode with dropout in them."""

import copy
import itertools
from typing import ClassVar

import pytest
import torch
from torch import nn

import genfast as gf
from genfast import ops
from genfast.diffusion import sampling
from genfast.diffusion.elbo import elbo
from genfast.diffusion.guidance import DPS, MMPS, ClassifierGuidance, Guidance, PiGDM
from genfast.diffusion.process.denoisers import Denoiser
from genfast.diffusion.solvers import plan

DTYPES = {torch.float32: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 3e-4}  # and what they round


class Net(nn.Module):
    """A network that needs its dtype and notices its mode: of time, a label and a condition, all told by name."""

    config: ClassVar = {"classes": 3}

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 2)
        self.dropout, self.label = nn.Dropout(0.5), nn.Embedding(4, 2)
        for p in self.parameters():
            p.data = 0.4 * torch.randn(p.shape, generator=generator)

    def forward(self, y, t, label=None, condition=None):
        assert not self.training and y.dtype == self.first.weight.dtype
        assert t.dtype == (torch.float64 if y.dtype == torch.float64 else torch.float32)
        label = torch.full(t.shape, 3) if label is None else label
        condition = torch.zeros_like(y) if condition is None else condition.nan_to_num()
        assert condition.dtype == y.dtype  # a product of two dtypes is refused by torch
        time = torch.stack([t, t.cos()], 1).to(y.dtype)
        return self.second(self.dropout(torch.tanh(self.first(torch.cat([y, time, self.label(label), condition], 1)))))


X = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
PLAN = plan("dpmpp_2m_sde", "edm", 5, "karras")
CONDITION = torch.tensor([[0.5, -1.0], [0.0, 1.0], [2.0, 0.0]])
MEASURED = {"measurement": X[:, :1]}
QUIET = {"progress": False}


def first(x):
    return x[:, :1]


def logit(x, t):
    return -1e-4 * (x - 1).square().sum(1)


def queue(model):
    requests = model.queue(capacity=2)
    for index in range(3):
        requests.add(index, label=1, condition=CONDITION[:1], guidance=2.0, steps=4)
    return torch.stack([x for _, x in sorted(requests, key=lambda pair: pair[0])])


def latent(model):
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x, torch.full_like(x, -9.0)

    whole = gf.LatentDiffusion(gf.VAE(Twice(), nn.Identity(), latent=2, shape=(2,)), model)
    model.net.first.eval()  # as it was: to wrap it set its mode
    whole.shift.fill_(0.5)
    whole.scale.fill_(2.0)
    whole.measured = True
    return whole.sample(3, steps=4, label=[0, 1, 2], **QUIET)


SCHEDULE = gf.schedules.VPLinear()
VERBS = {
    "sample": lambda m: m.sample(3, steps=4, label=[0, 1, 2], condition=CONDITION, guidance=2.0, **QUIET),
    "sample in float64": lambda m: m.sample(3, steps=4, dtype=torch.float64, condition=CONDITION.double(), **QUIET),
    "sampling.sample": lambda m: sampling.sample(m.denoiser, (2,), PLAN, 3, **QUIET),
    "of float64": lambda m: sampling.sample(m.denoiser, (2,), PLAN, 3, dtype=torch.float64, **QUIET),
    "clamp": lambda m: m.sample(3, steps=4, clamp=(-1, 1), threshold=0.9, **QUIET),
    "langevin": lambda m: m.sample(3, solver="predictor_corrector", steps=4, **QUIET),
    "sample_adaptively": lambda m: m.sample_adaptively(3, label=1, rtol=1e-3, atol=1e-3, **QUIET)[0],
    "adaptively in float64": lambda m: m.sample_adaptively(3, rtol=1e-3, atol=1e-3, dtype=torch.float64, **QUIET)[0],
    "queue": queue,
    "denoise": lambda m: m.denoise(X, 0.3, 1, CONDITION),
    "denoise float64": lambda m: m.denoise(X.double(), torch.tensor([0.1, 0.2, 0.3]), 1),
    "denoise bfloat16": lambda m: m.denoise(X.bfloat16(), 0.3),
    "score": lambda m: m.score(X, 0.3, 1, CONDITION),
    "denoiser": lambda m: m.denoiser(X, 0.3, label=torch.tensor([0, 1, 2])).detach(),
    "eps": lambda m: m.denoiser.eps(X, 0.3).detach(),
    "network": lambda m: m.denoiser.network(X, torch.full((3,), 0.1), condition=CONDITION).detach(),
    "invert": lambda m: sampling.invert(m.denoiser, X / 9, solver="ddim", steps=4, **QUIET),
    "DPS": lambda m: sampling.sample(DPS(m.denoiser, first), (2,), PLAN, 3, condition=MEASURED, **QUIET),
    "PiGDM": lambda m: sampling.sample(PiGDM(m.denoiser, first, 0.5), (2,), PLAN, 3, condition=MEASURED, **QUIET),
    "MMPS": lambda m: sampling.sample(MMPS(m.denoiser, first, 0.5), (2,), PLAN, 3, condition=MEASURED, **QUIET),
    "classifier": lambda m: sampling.sample(
        ClassifierGuidance(m.denoiser, logit, conditions=()), (2,), PLAN, 3, dtype=torch.float64, **QUIET
    ),
    "log_likelihood": lambda m: m.log_likelihood(X / 3, label=1, condition=CONDITION, steps=4, **QUIET).nats,
    "of float32": lambda m: m.log_likelihood(
        X / 3, steps=4, dtype=torch.float32, divergence="gaussian", probes=2, **QUIET
    ).nats,
    "elbo": lambda m: m.elbo(X / 3, ops.make_key(0, 3), 1, CONDITION, samples=4),
    "elbo of the denoiser": lambda m: elbo(m.denoiser, X.double() / 3, ops.make_key(0, 3), samples=4),
    "bits_per_dim": lambda m: m.bits_per_dim(torch.tensor([[0, 255], [9, 9], [128, 3]]), steps=4, **QUIET).bits,
    "latent": latent,
}  # fmt: skip


@pytest.fixture(scope="module")
def exact():
    """The answers of the network in eval mode and float32."""
    model = gf.Diffusion(Net().eval(), "edm", "edm", shape=(2,))
    return {name: verb(model) for name, verb in VERBS.items()}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_runs_a_network_in_eval_mode_and_in_its_own_dtype(exact, verb, dtype):
    model = gf.Diffusion(Net().train(), "edm", "edm", shape=(2,)).to(dtype)
    model.net.first.eval()  # a frozen part
    before = [module.training for module in model.modules()]
    found, expected = VERBS[verb](model), exact[verb]
    assert [module.training for module in model.modules()] == before
    assert found.dtype == expected.dtype and found.dtype in (torch.float32, torch.float64)
    if dtype == torch.float32:
        assert torch.equal(found, expected)
    error = (found - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert error <= DTYPES[dtype]


@pytest.mark.parametrize(("other", "dtype"), list(itertools.product(DTYPES, [torch.float32, torch.bfloat16])))
def test_a_second_network_runs_in_its_own_dtype(other, dtype):
    """Autoguidance: as in float32 up to rounding, in training mode or not."""
    weak = Net().train()
    with torch.no_grad():
        weak.second.bias += 1
    model = gf.Diffusion(Net().train(), "edm", "edm", shape=(2,))
    settings = {"steps": 4, "label": [0, 1, 2], "condition": CONDITION, **QUIET}
    expected = model.sample(3, guidance=Guidance(2.0, network=weak), **settings)
    model.to(dtype)
    found = model.sample(3, guidance=Guidance(2.0, network=copy.deepcopy(weak).to(other)), **settings)
    assert weak.training and model.net.training
    assert (found - expected).abs().max() / expected.abs().max() <= 3 * max(DTYPES[dtype], DTYPES[other])


def test_a_classifier_and_an_operator_are_in_eval_mode_too():
    class Classifier(nn.Sequential):
        def forward(self, x, t=None):
            assert not self.training
            return super().forward(x.float())[:, 0]

    denoiser = gf.Diffusion(Net(), "edm", "edm").denoiser
    classifier = Classifier(nn.Linear(2, 1), nn.Dropout())
    guided = ClassifierGuidance(denoiser, classifier, conditions=())
    sampling.sample(guided, (2,), PLAN, 3, **QUIET)
    guided(X, 0.5)
    DPS(denoiser, classifier)(X, 0.5, measurement=torch.zeros(3))
    assert classifier.training and classifier[1].training


def test_functions_take_what_they_are_given():
    seen = []

    def net(y, t, condition):
        seen.append((y.dtype, t.dtype, condition.dtype))
        return y

    denoiser = Denoiser(net, SCHEDULE, "v")
    for x, wide in ((X, torch.float32), (X.double(), torch.float64), (X.half(), torch.float32)):
        assert denoiser(x, 0.5, condition=CONDITION).dtype == wide
        assert seen.pop() == (x.dtype, wide, torch.float32)


def test_the_loop_enters_eval_mode_once(monkeypatch):
    """Not at each of its rows, where the network's parts would be walked over each time."""
    model, walks = gf.Diffusion(Net(), "edm", "edm", shape=(2,)), []
    monkeypatch.setattr(Net, "eval", lambda self: walks.append(1) or nn.Module.eval(self))
    model.sample(3, steps=4, **QUIET)
    model.sample_adaptively(3, **QUIET)
    model.log_likelihood(X, steps=4, **QUIET)
    model.elbo(X, ops.make_key(0, 3))
    assert len(walks) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_is_in_the_mode_and_dtype_of_the_network(dtype):
    seen = []

    class Seen(nn.Linear):
        def forward(self, y, t):
            seen.append((self.training, y.dtype, t.dtype))
            return super().forward(y)

    model = gf.Diffusion(Seen(2, 2), "edm", "edm").to(dtype)
    for mode in (True, False):
        model.train(mode).loss({"x": X}, ops.make_key(0, 3)).sum().backward()
        assert seen.pop() == (mode, dtype, dtype) and model.net.weight.grad.isfinite().all()


def test_training_casts_conditions_to_the_dtype_of_the_network():
    class Told(nn.Bilinear):  # a product of two dtypes is refused by torch
        def forward(self, y, t, condition):
            return super().forward(y, condition)

    model = gf.Diffusion(Told(2, 3, 2).double(), "flow", label_dropout=0.0)
    model.loss({"x": X, "condition": torch.ones(3, 3)}, ops.make_key(0, 3)).sum().backward()
    assert model.net.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("schedule", gf.schedules.SCHEDULES)
def test_gradients_of_each_sample_by_vmap(schedule):
    """Of the loss with keys of their own, and the denoiser and the schedule at times of their own."""
    model, key = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), schedule, shape=(2,)), ops.make_key(0, 3)
    nn.init.normal_(list(model.parameters())[-2])

    def loss(x, key):
        return model.loss({"x": x[None]}, key[None]).sum()

    x, t = X.clone().requires_grad_(), torch.tensor([0.2, 0.5, 0.9])
    model.loss({"x": x}, key).sum().backward()
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(X, key), x.grad, rtol=1e-4, atol=1e-6)
    for verb in (model.denoiser, model.denoiser.score, model.denoiser.eps):
        found = torch.func.vmap(lambda x, t, verb=verb: verb(x[None], t)[0])(X, t)
        torch.testing.assert_close(found, verb(X, t), rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.func.vmap(model.schedule.log_snr)(t), model.schedule.log_snr(t))


def test_another_default_device_changes_nothing():
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    verbs = [
        lambda: model.sample(3, steps=4, **QUIET),
        lambda: model.sample_adaptively(3, **QUIET)[0],
        lambda: model.log_likelihood(X, steps=3, **QUIET).nats,
        lambda: model.sample(3, solver="dpmpp_2m_sde", steps=4, noise="brownian", source=X, strength=0.5, **QUIET),
    ]
    for verb in verbs:
        expected = verb()
        with torch.device("meta"):
            found = verb()
        assert torch.equal(found, expected)
    for solver in gf.solvers.SOLVERS:
        for schedule in ("edm", "flow"):
            with torch.device("meta"):
                found = gf.solvers.plan(solver, schedule, 4)
            assert found == gf.solvers.plan(solver, schedule, 4)


def test_the_loss_takes_any_strides():
    model = gf.Diffusion(gf.nn.UNet(channels=2, width=8, multipliers=(1,)))
    x, key = torch.randn(4, 2, 6, 4).transpose(2, 3), ops.make_key(0, 4)
    expected = model.loss({"x": x.contiguous()}, key)
    one = torch.randn(1, 2, 4, 6).expand(4, -1, -1, -1)
    for strided in (x, x.contiguous(memory_format=torch.channels_last), torch.cat([x, x], 3)[..., :6]):
        torch.testing.assert_close(model.loss({"x": strided}, key), expected)
    assert torch.equal(model.loss({"x": one}, key), model.loss({"x": one.contiguous()}, key))
