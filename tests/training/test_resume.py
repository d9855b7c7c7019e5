"""A run that was left goes on as if it had not been: the same bits of weights, averages and logs."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import genfast as gf
from genfast.checkpoint import MODELS, load
from genfast.common.files import CorruptCheckpoint
from genfast.training import state
from genfast.training.loop import Fit, fit
from genfast.training.run_folder import RunFolder

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
TIMES = {"seconds", "samples_per_second", "data_wait", "memory"}
SETTINGS = {"steps": 20, "batch": 8, "log_every": 4, "save_every": 6, "grid_every": 99, "progress": False}


def diffusion():
    torch.manual_seed(0)
    return gf.Diffusion(gf.nn.MLP(4, width=8, depth=2))


def perceptron(inputs, outputs):
    return gf.nn.FeedForward(inputs, outputs, width=8, depth=1)


def vae():
    torch.manual_seed(0)
    return gf.VAE(perceptron(4, 4), perceptron(2, 4), latent=2, kl_warmup=100)


def gan():
    torch.manual_seed(0)
    return gf.GAN(perceptron(2, 4), perceptron(4, 1), latent=2, lazy=3, spectral_norm=True)


def latent_diffusion():
    return gf.LatentDiffusion(vae(), gf.Diffusion(gf.nn.MLP(2, width=8, depth=1)))


class Random(nn.Module):
    """Draws from torch's generator, and has buffers, one of which no checkpoint holds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64), persistent=False)

    def loss(self, batch, key, *, step=0):
        self.count += 1
        y = nn.functional.dropout(self.norm(batch["x"]), 0.5)
        return (self.linear(y) - batch["x"]).square().mean(1) + 0 * self.count

    def config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MODELS, "Random", Random)


def lasting(logs):
    return [{name: value for name, value in log.items() if name not in TIMES} for log in logs]


def everything(course):
    tensors, numbers = state.gather(course.model, course._step)
    return {name: value.clone() for name, value in tensors.items()}, numbers


def broken_off(model, out, at, **settings):
    """A run that is left in step `at`, by an error in the loss."""
    loss = model.loss

    def failing(batch, key, *, step=0, **player):
        if step == at:
            loss(batch, key, step=step, **player)
            raise KeyError("x")
        return loss(batch, key, step=step, **player)

    model.loss = failing
    with pytest.raises(KeyError):
        fit(model, X, out=out, **SETTINGS | settings)


ways = pytest.mark.parametrize(
    "family, settings",
    [
        (diffusion, {}),
        (diffusion, {"ema": (0.1, 0.05), "precision": "fp16", "test": X[:20], "test_every": 3}),
        (diffusion, {"optimizer": torch.optim.RMSprop, "ema": None}),
        (vae, {"precision": "bf16", "micro_batch": 3}),
        (gan, {"critic_steps": 2}),
        (latent_diffusion, {}),
        (Random, {}),
    ],
    ids=lambda value: value.__name__ if callable(value) else " ".join(value) or "plain",
)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@ways
def test_the_bits_of_the_uninterrupted_run(tmp_path, family, settings):
    whole = Fit(family(), X, out=tmp_path / "whole", **SETTINGS | settings)
    expected, (tensors, numbers) = lasting(whole), everything(whole)
    broken_off(family(), tmp_path / "parts", 9, **settings)
    for log in Fit(family(), X, out=tmp_path / "parts", **SETTINGS | settings):
        if log["step"] == 16:
            break
    last = Fit(family(), X, out=tmp_path / "parts", **SETTINGS | settings)
    found = lasting(last.run())
    now, counted = everything(last)
    assert found == expected and counted == numbers and now.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(now[name], value), name
    kept = [load(tmp_path / name).state_dict() for name in ("whole", "parts")]
    assert all(map(torch.equal, *(values.values() for values in kept)))


def test_a_finished_run_loads_what_it_left_and_says_so(tmp_path, capsys):
    first, again = diffusion(), gf.Diffusion(gf.nn.MLP(4, width=8, depth=2))
    logs = fit(first, X, out=tmp_path, **SETTINGS)
    capsys.readouterr()
    found = fit(again, X, out=tmp_path, **SETTINGS | {"progress": True})
    assert lasting(found) == lasting(logs) and "finished after 20 steps" in capsys.readouterr().err
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert not any(module.training is False for module in again.modules())


def test_killed_between_the_last_state_and_its_checkpoint(tmp_path, monkeypatch):
    whole = diffusion()
    fit(whole, X, out=tmp_path / "whole", **SETTINGS)
    with monkeypatch.context() as patch:
        save = RunFolder.save_model

        def killed(folder, model, step):
            if step == SETTINGS["steps"]:
                raise KeyboardInterrupt
            save(folder, model, step)

        patch.setattr(RunFolder, "save_model", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(diffusion(), X, out=tmp_path / "parts", **SETTINGS)
    assert load(tmp_path / "parts").extra["step"] < SETTINGS["steps"]
    fit(diffusion(), X, out=tmp_path / "parts", **SETTINGS)
    found = load(tmp_path / "parts")
    assert found.extra["step"] == SETTINGS["steps"]
    assert all(map(torch.equal, found.state_dict().values(), whole.state_dict().values()))


def test_more_steps_follow_the_new_schedule(tmp_path, capsys):
    fit(diffusion(), X, out=tmp_path, **SETTINGS)
    longer = Fit(diffusion(), X, out=tmp_path, **SETTINGS | {"steps": 30, "progress": True})
    logs = longer.run()
    assert [log["step"] for log in logs] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert logs[5]["lr"] == longer.learning_rate(23) and logs[4]["lr"] != longer.learning_rate(19)
    assert "goes on from step 20, with 30 steps instead of 20" in capsys.readouterr().err


def test_what_may_not_differ_is_a_table(tmp_path):
    fit(diffusion(), X, out=tmp_path, **SETTINGS)
    with pytest.raises(ValueError, match=r"name +there +here\n +lr +0\.001 +0\.002"):
        Fit(diffusion(), X, out=tmp_path, **SETTINGS | {"lr": 2e-3})
    with pytest.raises(ValueError, match=r"data\.sha256"):
        Fit(diffusion(), X + 1, out=tmp_path, **SETTINGS)
    free = {"micro_batch": 4, "log_every": 5, "save_every": 2, "keep": 1, "graph": False, "compile": False}
    Fit(diffusion(), X, out=tmp_path, callbacks=[print], **SETTINGS | free)
    with pytest.raises(FileExistsError, match="resume=False"):
        Fit(diffusion(), X, out=tmp_path, resume=False, **SETTINGS)


def test_a_model_that_was_measured_is_the_same_model(tmp_path):
    fit(diffusion(), X, out=tmp_path, **SETTINGS)
    logs = fit(load(tmp_path), X, out=tmp_path, **SETTINGS | {"steps": 24})
    assert logs[-1]["step"] == 24


def test_a_state_of_another_model_is_refused():
    small, large = Fit(diffusion(), X, steps=1), Fit(gf.Diffusion(gf.nn.MLP(4, width=16, depth=2)), X, steps=1)
    tensors, numbers = state.gather(small.model, small._step)
    with pytest.raises(CorruptCheckpoint, match=r"the state of the run has net\..* in shape \(8,.*, the model in \(16"):
        state.restore(large.model, large._step, tensors, numbers)
    tensors.pop("model/net.blocks.0.second.bias", None) or tensors.popitem()
    names = {name for name in tensors if name.startswith("model/")}
    tensors.pop(names.pop())
    with pytest.raises(CorruptCheckpoint, match="other tensors than the model"):
        state.restore(small.model, small._step, tensors, numbers)


RUN = """
import sys, torch, genfast as gf
torch.set_num_threads(1)
model = gf.Diffusion(gf.nn.MLP(4, width=8, depth=2))
data = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
gf.fit(model, data, steps=10**6, batch=8, log_every=1, save_every=10**6, out=sys.argv[1])
"""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_signal_saves_the_state_and_says_how_to_go_on(tmp_path, number, code):
    other = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "log.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.02)
    other.send_signal(number)
    _, words = other.communicate(timeout=60)
    assert other.returncode in (code, -number)
    (saved,) = (tmp_path / "state").iterdir()
    assert f"holds the run until step {int(saved.name)}: the same call goes on there" in words
    assert load(tmp_path).extra["step"] == int(saved.name)
