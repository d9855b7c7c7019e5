"""A run that was left goes on as if it had not been: the same bits of weights, averages and logs."""

import functools
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
    tensors, numbers = state.gather(course._step)
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
    tensors, numbers = state.gather(small._step)
    with pytest.raises(CorruptCheckpoint, match=r"the state of the run has net\..* in shape \(8,.*, the model in \(16"):
        state.restore(large._step, tensors, numbers)
    tensors.pop("model/net.blocks.0.second.bias", None) or tensors.popitem()
    names = {name for name in tensors if name.startswith("model/")}
    tensors.pop(names.pop())
    with pytest.raises(CorruptCheckpoint, match="other tensors than the model"):
        state.restore(small._step, tensors, numbers)


RUN = """
import sys, torch, genfast as gf
torch.set_num_threads(1)
model = gf.Diffusion(gf.nn.MLP(4, width=8, depth=2))
data = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
gf.fit(model, data, steps=10**6, batch=8, log_every=1, save_every=10**6, out=sys.argv[1])
"""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_a_signal_saves_the_state_and_says_how_to_go_on(tmp_path, number, code):
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # who runs in the background ignores it
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    other = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    end = time.monotonic() + 60
    while not (tmp_path / "log.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.02)
    other.send_signal(number)
    _, words = other.communicate(timeout=60)
    assert other.returncode in (code, -number)
    (saved,) = (tmp_path / "state").iterdir()
    assert f"holds the run until step {int(saved.name)}: the same call goes on there" in words
    assert load(tmp_path).extra["step"] == int(saved.name)


@pytest.mark.parametrize("place", ["watch", "held out", "log file", "picture"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_look_that_failed_is_made_by_who_goes_on(tmp_path, place, monkeypatch):
    family, settings = (gan, {}) if place == "watch" else (diffusion, {"test": X[:20], "test_every": 4})
    settings = SETTINGS | settings | {"grid_every": 8}
    whole = Fit(family(), X, out=tmp_path / "whole", **settings)
    expected, (tensors, numbers) = lasting(whole), everything(whole)
    parts = Fit(family(), X, out=tmp_path / "parts", **settings)
    owner, name = {
        "watch": (parts.model, "watch"), "held out": (parts._looks.held, "look"), "log file": (parts.folder, "log"),
        "picture": (parts._looks, "_draw"),
    }[place]  # fmt: skip
    do = getattr(owner, name)

    def failing(*arguments):
        if parts.step < 8:
            return do(*arguments)
        torch.rand(1)
        raise OSError(28, "full")

    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(OSError, match="full"):
        parts.run()
    last = Fit(family(), X, out=tmp_path / "parts", **settings)
    assert lasting(last.run()) == expected and last.before[-1]["step"] == 4
    now, counted = everything(last)
    assert counted == numbers and all(torch.equal(now[name], value) for name, value in tensors.items())
    again = Fit(family(), X, out=tmp_path / "parts", **settings).run()
    assert lasting(again) == expected


def test_the_last_state_holds_what_was_trained_not_its_average(tmp_path):
    settings = SETTINGS | {"decay": "constant", "warmup": 0}
    fit(diffusion(), X, out=tmp_path, **settings)
    longer, whole = Fit(diffusion(), X, out=tmp_path, **settings | {"steps": 30}), diffusion()
    longer.run()
    fit(whole, X, out=tmp_path / "whole", **settings | {"steps": 30})
    assert all(map(torch.equal, longer.model.parameters(), whole.parameters()))


def test_a_state_that_is_saved_inside_averaged_holds_what_is_trained(tmp_path):
    whole, parts = diffusion(), Fit(diffusion(), X, out=tmp_path / "parts", **SETTINGS)
    fit(whole, X, out=tmp_path / "whole", **SETTINGS)
    for log in parts:
        with parts.averaged(), parts.averaged():
            parts.save()
        if log["step"] == 8:
            break
    last = diffusion()
    fit(last, X, out=tmp_path / "parts", **SETTINGS)
    assert all(map(torch.equal, last.parameters(), whole.parameters()))


def test_a_run_does_not_train_an_average():
    run = Fit(diffusion(), X, steps=20, log_every=4)
    logs = iter(run)
    next(logs)
    with run.averaged(), pytest.raises(RuntimeError, match=r"must go on outside of averaged\(\)"):
        next(logs)


def test_a_working_directory_that_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    fit(diffusion(), X, out="run", callbacks=[lambda log: monkeypatch.chdir(tmp_path / "other")], **SETTINGS)
    assert load(tmp_path / "run").extra["step"] == 20 and not any((tmp_path / "other").iterdir())


class Counting(torch.optim.SGD):
    """Keeps a number of its own in its group, by which the step shrinks."""

    def __init__(self, parameters):
        super().__init__(parameters, momentum=0.9)
        self.param_groups[0]["k"] = 0

    def step(self):
        self.param_groups[0]["k"] += 1
        self.param_groups[0]["lr"] /= self.param_groups[0]["k"]
        super().step()


def decayed_apart(parameters):
    return torch.optim.AdamW([{"params": parameters[2:], "weight_decay": 0.1}, {"params": parameters[:2]}])


class Growing(Random):
    """Gets one buffer in its training, and another one grows."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(0), persistent=False)
        self.register_buffer("sum", None, persistent=False)

    def loss(self, batch, key, *, step=0):
        self.seen = torch.cat([self.seen, torch.ones(1)])
        self.sum = self.seen.sum()
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.ones(3), persistent=False)
        self.late += 1
        return super().loss(batch, key) * self.late.mean() / self.sum


@pytest.mark.parametrize(
    "family, optimizer", [(diffusion, decayed_apart), (diffusion, Counting), (Growing, None)]
)  # fmt: skip
def test_what_optimizers_and_buffers_keep_elsewhere(tmp_path, monkeypatch, family, optimizer):
    monkeypatch.setitem(MODELS, "Growing", Growing)
    whole = Fit(family(), X, out=tmp_path / "whole", optimizer=optimizer, **SETTINGS)
    expected, (tensors, numbers) = lasting(whole), everything(whole)
    broken_off(family(), tmp_path / "parts", 9, optimizer=optimizer)
    last = Fit(family(), X, out=tmp_path / "parts", optimizer=optimizer, **SETTINGS)
    assert lasting(last.run()) == expected
    now, counted = everything(last)
    assert counted == numbers and now.keys() == tensors.keys()
    assert all(torch.equal(now[name], value) for name, value in tensors.items())
