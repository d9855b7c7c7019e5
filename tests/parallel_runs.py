"""Training runs that one process and several do alike: see test_parallel.py, which is one, and starts the others."""

import os

import torch
from torch import nn

import genfast as gf
from genfast.checkpoint import MODELS
from genfast.common import processes
from genfast.training.states import states

SETTINGS = {"batch": 16, "log_every": 1, "progress": False, "ema": (0.05, 0.1)}
STEPS = 40


def perceptron(inputs, outputs):
    return gf.nn.FeedForward(inputs, outputs, width=32, depth=2)


def images(n=64):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


def rows(n=64):
    return images(n)[0].flatten(1)


def unet():
    net = gf.nn.UNet(channels=1, width=8, multipliers=(1, 2), blocks=1, attention=(1,), classes=3, dropout=0.2)
    return gf.Diffusion(net), images()


def dit():
    return gf.Diffusion(gf.nn.DiT(channels=1, width=16, depth=2, heads=2, classes=3)), images()


def vae():
    model = gf.VAE(perceptron(64, 16), perceptron(8, 64), latent=8, kl_warmup=200, likelihood="learned_variance")
    return model, rows()


def gan():
    return gf.GAN(perceptron(8, 64), perceptron(64, 1), latent=8, lazy=4, spectral_norm=True), rows()


FAMILIES = {"unet": (unet, {}), "vae": (vae, {"micro_batch": 5}), "gan": (gan, {"critic_steps": 2})}


class Saved(nn.Module):
    """A model without arguments, as checkpoints want it."""

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


class Uneven(Saved):
    """Of two layers one is used by no row, one by those with a large number only; its buffer counts the faulty rows;
    at step 3 one row is not finite."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(4))

    def loss(self, batch, key, *, step=0):
        x = batch["x"]
        self.seen += x.mean(0)
        y = self.first(x)
        if bool((key[:, 1] % 16 == 15).any()):  # the last row of a batch
            y = y + self.second(x) * (key[:, 1:] % 16 == 15)
        losses = (y - x).square().mean(1)
        return torch.where((key[:, 1] % 16 == 2) & torch.tensor(step == 3), torch.inf, 1.0) * losses


def uneven():
    return Uneven(), rows()[:, :4]


class Scaled(Saved):
    """Of an odd number of rows, a single number, a frozen weight and a buffer that follows the data."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.factor = nn.Linear(4, 5), nn.Linear(5, 4), nn.Parameter(torch.ones(()))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.register_buffer("seen", torch.zeros(4))

    def loss(self, batch, key, *, step=0):
        x = batch["x"]
        self.seen += step
        return (self.factor * self.second(self.first(x).tanh()) + self.frozen(x) - x).square().mean(1)

    def watch(self, batch, key):
        return {"watched": self.loss(batch, key).mean().item()}


MODELS |= {"Uneven": Uneven, "Scaled": Scaled}


def scaled():
    return Scaled(), rows()[:, :4]


def looked(out, **settings):
    """(what the held-out data and `watch` say, the averages seen, whether the weights are NaN at other times) of a run
    with a look every second step."""
    model, data = made(scaled)
    run, seen, hidden = gf.Fit(model, data, test=data[:32], test_every=2, out=out, **SETTINGS | settings), [], []
    for log in run:
        hidden.append(bool(model.first.weight.isnan().all()))
        with run.averaged(0.1):
            seen.append([log.get("test_loss"), log["watched"], model.first.weight.tolist(), model.factor.item()])
    return seen, hidden, [v.tolist() for v in model.state_dict().values()]


def made(make):
    """The model with the weights of seed 0 in the first process, and others in others: they count for nothing."""
    torch.manual_seed(processes.world()[0])
    return make()


def trained(make, steps=STEPS, **settings):
    """(losses, all numbers of the model) of a run."""
    model, data = made(make)
    logs = gf.fit(model, data, steps=steps, **SETTINGS | settings)
    return [log["loss"] for log in logs], [v.tolist() for v in model.state_dict().values()]


def stopped(make, at, **settings):
    """Leaves a run after step `at`."""
    model, data = made(make)
    for log in gf.Fit(model, data, **SETTINGS | settings):
        if log["step"] == at:
            break


class Failing(gf.Diffusion):
    """Whose loss fails at step 5 in the processes `who`."""

    who = ()

    def loss(self, batch, key, *, step=0):
        if step == 5 and int(os.environ["RANK"]) in self.who:
            raise KeyError("no such thing")
        return super().loss(batch, key, step=step)


MODELS["Failing"] = Failing


def failed(out, who, **settings):
    """What a run says that fails in these processes."""
    torch.manual_seed(0)
    model, data = Failing(gf.nn.MLP(64, width=8)), rows()
    model.who = who
    try:
        gf.fit(model, data, steps=12, out=out, **SETTINGS | settings)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def assert_one_has_failed(both, out):
    """Of a run that failed in the second of two processes: the first says so, and what was saved is there."""
    assert both[0]["one"] == "ProcessLost: process 1 of 2 has failed, KeyError: 'no such thing'"
    assert both[1]["one"] == "KeyError: 'no such thing'"
    assert states(out / "state")[0].name == "00000005"
