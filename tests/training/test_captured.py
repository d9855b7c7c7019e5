"""A captured training step: the bits of the plain one, and what is said where there is none. On no GPU: recorded."""

import warnings

import pytest
import torch
from recorded_graphs import graphs
from torch import nn

import genfast as gf
from genfast.training.loop import Fit, fit

__all__ = ["graphs"]

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def diffusion():
    torch.manual_seed(0)
    return gf.Diffusion(gf.nn.MLP(4, width=8, depth=2), shape=(4,))


def perceptron(inputs, outputs):
    return gf.nn.FeedForward(inputs, outputs, width=8, depth=1)


def vae():
    torch.manual_seed(0)
    return gf.VAE(perceptron(4, 4), perceptron(2, 4), latent=2, shape=(4,), kl_warmup=100)


def gan():
    torch.manual_seed(0)
    return gf.GAN(perceptron(2, 4), perceptron(4, 1), latent=2, shape=(4,), lazy=3)


def latent_diffusion():
    return gf.LatentDiffusion(vae(), gf.Diffusion(gf.nn.MLP(2, width=8, depth=1)))


def run(model, **settings):
    settings = {"steps": 20, "batch": 8, "log_every": 5, "progress": False} | settings
    logs = fit(model, X, **settings)
    return [{name: log[name] for name in ("step", "loss", "grad_norm", "lr", "skipped")} for log in logs]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("settings", [{}, {"micro_batch": 3}, {"precision": "bf16"}, {"ema": (0.1, 0.05)}])
@pytest.mark.parametrize(
    "family, kinds",
    [(diffusion, 1), (vae, 1), (gan, 2), (latent_diffusion, 1)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_bits_of_the_plain_step(graphs, family, kinds, settings):
    plain, captured = family(), family()
    expected = run(plain, graph=False, **settings)
    assert graphs.captures == 0
    assert run(captured, graph="auto", **settings) == expected
    assert graphs.captures == kinds and graphs.replays == 20 - 3 * kinds
    assert all(map(torch.equal, plain.state_dict().values(), captured.state_dict().values()))


def test_classes_and_dropout(graphs):
    """What is drawn for dropout and for labels left out is a function of the key, which the graph finds anew."""
    data = gf.data.arrays(X.view(16, 1, 4, 4), torch.arange(16) % 3)

    def run(graph):
        torch.manual_seed(0)
        net = gf.nn.UNet(channels=1, width=8, multipliers=(1, 2), groups=4, dropout=0.2, classes=3)
        logs = fit(gf.Diffusion(net), data, steps=7, batch=4, log_every=1, graph=graph, progress=False)
        return [log["loss"] for log in logs]

    assert run(False) == run("auto") and graphs.replays == 4


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_critic_turns(graphs):
    plain, captured = gan(), gan()
    expected = run(plain, graph=False, critic_steps=3)
    assert run(captured, critic_steps=3) == expected and graphs.replays > 0


class Own(nn.Module):
    """Does not say in which phase it is; `reads` looks at its loss."""

    def __init__(self, reads=False):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.reads = nn.Linear(4, 4), reads

    def loss(self, batch, key, *, step=0):
        loss = (self.linear(batch["x"]) - batch["x"]).square().mean(1)
        return loss * 2 if self.reads and loss.mean() > 1e9 else loss


def test_models_of_others_are_captured_when_asked(graphs):
    plain, captured = Own(), Own()
    expected = run(plain)
    assert graphs.captures == 0
    assert run(captured, graph=True) == expected and graphs.captures == 1 and graphs.replays == 17


def test_what_cannot_be_captured_is_said_once_and_goes_on(graphs):
    plain, reading = Own(), Own(reads=True)
    expected = run(plain)
    reading.phase = lambda step: step % 2
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert run(reading) == expected
    words = [str(w.message) for w in said if "CUDA graph" in str(w.message)]
    reason = "a training step cannot be captured as a CUDA graph: the host would wait for a value on the device"
    assert len(words) == 1 and words[0].startswith(f"graph='auto' runs the plain steps: {reason}")
    with pytest.raises(RuntimeError, match="graph=True: a training step cannot be captured as a CUDA graph: the host"):
        run(Own(reads=True), graph=True)


def test_where_true_cannot_be(graphs):
    with pytest.raises(ValueError, match="graph=True must go with optimizer=None, fit's own"):
        Fit(Own(), X, steps=1, graph=True, optimizer=torch.optim.SGD)
    run(Own(), optimizer=torch.optim.SGD)
    assert graphs.captures == 0
