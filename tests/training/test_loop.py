"""fit(): the updates against hand computation, the same run twice, and what is left when it is stopped."""

import json
import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import genfast as gf
from genfast import checkpoint
from genfast.checkpoint import MODELS, load
from genfast.common import locks
from genfast.data.dataset import arrays
from genfast.training import run_folder
from genfast.training.loop import Fit, fit


class Toy(torch.nn.Module):
    """Learns the mean of the data: loss_i = |theta - x_i|^2 / D. Keeps what it was given."""

    def __init__(self, features=3):
        super().__init__()
        self.features = features
        self.theta = torch.nn.Parameter(torch.zeros(features))
        self.seen = []

    def loss(self, batch, key, *, step=0):
        self.seen.append((batch["x"], batch["label"], key))
        return (self.theta - batch["x"]).square().mean(1)

    def config(self):
        return {"features": self.features}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MODELS, "Toy", Toy)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    return arrays(torch.randn(40, 3, generator=generator) * 0.1 + torch.tensor([1.0, -2.0, 0.5]), torch.arange(40) % 4)


def run(data, **settings):
    model = Toy()
    settings = {"steps": 30, "batch": 8, "lr": 0.05, "warmup": 5, "progress": False} | settings
    return model, fit(model, data, **settings)


def test_save_wants_a_folder():
    with pytest.raises(ValueError, match="out must be the folder to save to; got None"):
        Fit(Toy(), arrays(torch.zeros(4, 2)), steps=1).save()
    for out in (3, b"run"):
        with pytest.raises(TypeError, match="out must be a path; got"):
            Fit(Toy(), arrays(torch.zeros(4, 2)), steps=1, out=out)
    with pytest.raises(TypeError, match="path must be a path; got int"):
        load(3)


def test_loss_falls_to_the_variance_of_the_data(data):
    model, logs = run(data, steps=400, log_every=50)
    assert [log["step"] for log in logs] == list(range(50, 401, 50))
    assert logs[0]["loss"] > 0.1 and logs[-1]["loss"] == pytest.approx(0.01, rel=0.3)
    assert torch.allclose(model.theta, data.x.mean(0), atol=0.02)


def test_same_seed_same_bits_other_seed_other_bits(data):
    (first, a), (second, b), (other, _) = run(data), run(data), run(data, seed=1)
    assert torch.equal(first.theta, second.theta) and not torch.equal(first.theta, other.theta)
    for log, again in zip(a, b):
        assert all(log[name] == again[name] for name in ("step", "loss", "lr", "grad_norm", "skipped"))


def test_batches_and_keys_count_samples(data):
    model, _ = run(data, steps=7, seed=3)
    for step, (x, label, key) in enumerate(model.seen):
        expected = data.batch(3, 8 * step, 8)
        assert torch.equal(x, expected["x"]) and torch.equal(label, expected["label"])
        assert key.dtype == torch.int64 and key.tolist() == [[3, 8 * step + i] for i in range(8)]
    unlabeled = arrays(data.x)
    model, _ = run(unlabeled, steps=1)
    assert model.seen[0][1] is None


def test_optimizer_is_adamw_with_clipping_and_schedule(data):
    """Loshchilov & Hutter's update, written out."""
    settings = {"lr": 0.05, "warmup": 4, "clip": 0.3, "weight_decay": 0.1}
    model, logs = run(data, steps=12, ema=None, log_every=1, **settings)
    theta, m, v = torch.zeros(3).double(), 0, 0
    for k, (x, _, _) in enumerate(model.seen):
        g = 2 * (theta - x.double()).mean(0) / 3
        assert logs[k]["grad_norm"] == pytest.approx(g.norm().item(), rel=1e-5)
        assert logs[k]["loss"] == pytest.approx((theta - x).square().mean().item(), rel=1e-5)
        g = g * min(1, 0.3 / g.norm())
        lr = 0.05 * min(1, (k + 1) / 4) * (0.5 + 0.5 * math.cos(math.pi * max(0, k - 4) / 8))
        assert logs[k]["lr"] == pytest.approx(lr, rel=1e-12)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta * (1 - lr * 0.1) - lr * (m / (1 - 0.9 ** (k + 1))) / ((v / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
    assert logs[0]["grad_norm"] > 0.3  # so the clipping was at work
    assert torch.allclose(model.theta.double(), theta, atol=1e-5)


class Two(Toy):
    """Two players: each follows the other or the data. The second sees the first one's update."""

    def __init__(self):
        super().__init__()
        self.follower = torch.nn.Parameter(torch.ones(3))

    def players(self):
        return {"leader": {"params": [self.theta], "betas": (0.0, 0.9)}, "follower": {"params": [self.follower]}}

    def loss(self, batch, key, *, step=0, player):
        self.seen.append((player, self.theta.detach().clone()))
        if player == "leader":
            return (self.theta - batch["x"]).square().mean(1)
        return (self.follower - self.theta.detach()).square().mean().expand(len(key))

    def watch(self, batch, key):
        return {"apart": (self.theta - self.follower).norm().item()}


@pytest.mark.parametrize("steps, log_every, looks", [(100, 50, 50), (100, 1, 100), (10, 50, 10), (1000, 50, 40)])
def test_a_model_is_watched_often_however_rarely_it_logs(data, steps, log_every, looks):
    model = Two()
    model.watch = lambda batch, key: model.looks.append(len(model.seen) // 2) or {"looks": len(model.looks)}
    model.looks = []
    logs = fit(model, data, steps=steps, batch=2, log_every=log_every, progress=False)
    assert len(model.looks) == looks and model.looks[-1] == steps and logs[-1]["looks"] == looks


@pytest.mark.parametrize("count", [40, 4096, 10_000])
def test_a_model_measures_the_data_once_before_the_first_step(count):
    """The first 4,096 of the run, or all of them, with what the data say of themselves."""
    model = Toy()
    model.measured = []
    model.measure = lambda batch: model.measured.append((batch, len(model.seen)))
    x = torch.arange(count).float()[:, None].expand(-1, 3)
    data = arrays(x, torch.arange(count) % 2, condition=x, names=["even", "odd"])
    fit(model, data, steps=3, batch=2, seed=5, progress=False)
    ((batch, seen),) = model.measured
    assert seen == 0 and batch.keys() == {"x", "label", "condition", "names", "levels", "units"}
    assert batch["names"] == ("even", "odd") and torch.equal(batch["x"], data.batch(5, 0, min(count, 4096))["x"])
    assert torch.equal(batch["x"][:, 0].long() % 2, batch["label"]) and torch.equal(batch["x"], batch["condition"])


def test_players_take_turns(data):
    """Each by its own AdamW, its own clipping, and after the one before."""
    model = Two()
    logs = fit(model, data, steps=5, batch=8, lr=0.05, warmup=0, clip=0.1, ema=None, log_every=1, progress=False)
    assert [player for player, _ in model.seen] == ["leader", "follower"] * 5
    theta, follower, v, n, w = torch.zeros(3).double(), torch.ones(3).double(), 0, 0, 0
    for k, log in enumerate(logs):
        lr = 0.05 * (0.5 + 0.5 * math.cos(math.pi * k / 5))
        x = data.batch(0, 8 * k, 8)["x"].double()
        g = 2 * (theta - x).mean(0) / 3
        leader_loss, norm = (theta - x).square().mean(), g.norm()
        g = g * min(1, 0.1 / g.norm())
        v = 0.9 * v + 0.1 * g * g
        theta = theta - lr * g / ((v / (1 - 0.9 ** (k + 1))).sqrt() + 1e-8)
        assert torch.allclose(model.seen[2 * k + 1][1].double(), theta, atol=1e-5)
        g = 2 * (follower - theta) / 3
        assert log["follower_loss"] == pytest.approx((follower - theta).square().mean().item(), rel=1e-4)
        assert log["leader_loss"] == pytest.approx(leader_loss.item(), rel=1e-4)
        assert log["loss"] == pytest.approx(log["leader_loss"] + log["follower_loss"])
        assert log["grad_norm"] == pytest.approx(math.hypot(norm, g.norm()), rel=1e-4)
        g = g * min(1, 0.1 / g.norm())
        n, w = 0.9 * n + 0.1 * g, 0.999 * w + 0.001 * g * g
        follower = follower - lr * (n / (1 - 0.9 ** (k + 1))) / ((w / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
        assert log["apart"] == pytest.approx((theta - follower).norm().item(), rel=1e-4)
    assert torch.allclose(model.follower.double(), follower, atol=1e-5)


class Turns(Two):
    """Notes whose turn is with which samples."""

    def loss(self, batch, key, *, step=0, player):
        self.turns.append((step, player, key[0, 1].item()))
        return super().loss(batch, key, player=player)


def test_critic_steps_have_samples_of_their_own(data):
    """The others' turn is with the last of them; all are counted."""
    model = Turns()
    model.turns = []
    logs = fit(model, data, steps=2, batch=8, lr=0.05, critic_steps=3, log_every=1, progress=False)
    assert model.turns == [
        (0, "leader", 0), (0, "leader", 8), (0, "leader", 16), (0, "follower", 16),
        (1, "leader", 24), (1, "leader", 32), (1, "leader", 40), (1, "follower", 40),
    ]  # fmt: skip
    assert [log["samples"] for log in logs] == [24, 48]


class Stumbling(Two):
    def loss(self, batch, key, *, step=0, player):
        stumbles = math.nan if player == "leader" and len(self.seen) == 4 else 1.0
        return super().loss(batch, key, player=player) * stumbles


def test_no_player_moves_after_one_without_a_gradient(data):
    """Nor in the average; the host does not know, and computes the loss of both."""
    model, weights = Stumbling(), []
    course = Fit(model, data, steps=5, batch=8, lr=0.05, warmup=0, log_every=1)
    for log in course:
        with course.averaged():
            average = model.theta.tolist(), model.follower.tolist()
        weights.append((log["skipped"], model.theta.tolist(), model.follower.tolist(), average))
    assert [skipped for skipped, *_ in weights] == [0, 0, 1, 1, 1]
    assert [now[1:] == before[1:] for now, before in zip(weights[1:], weights)] == [False, True, False, False]


@pytest.mark.parametrize("decay, middle", [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_learning_rate(data, decay, middle):
    course = Fit(Toy(), data, steps=210, warmup=10, lr=2.0, decay=decay)
    rates = [course.learning_rate(step) for step in range(210)]
    assert rates[:10] == pytest.approx([0.2 * (k + 1) for k in range(10)])
    assert rates[110] == pytest.approx(2 * middle)
    assert min(rates) > 0 and rates == rates[:10] + sorted(rates[10:], reverse=True)
    assert Fit(Toy(), data, steps=3, warmup=0).learning_rate(0) == 1e-3
    assert Fit(Toy(), data, steps=3, warmup=10).learning_rate(2) == pytest.approx(3e-4)


def gamma(length):
    """The root of length^2 (gamma + 2)^2 (gamma + 3) = gamma + 1."""
    roots = np.roots([length**2, 7 * length**2, 16 * length**2 - 1, 12 * length**2 - 1])
    return max(root.real for root in roots if abs(root.imag) < 1e-12)


@pytest.mark.parametrize("lengths", [None, 0.05, (0.2, 0.1)])
def test_averages(data, lengths):
    model = Toy()
    course = Fit(model, data, steps=40, batch=8, lr=0.05, warmup=0, ema=lengths, log_every=1, progress=False)
    each = (lengths,) if isinstance(lengths, float) else lengths or ()
    averages = [torch.zeros(3).double() for _ in each]
    for k, _ in enumerate(course, start=1):
        theta = model.theta.detach().clone()
        for length, average in zip(each, averages):
            average.lerp_(theta.double(), 1 - (1 - 1 / k) ** (gamma(length) + 1))
            with course.averaged(length) as held:
                assert held is model and torch.allclose(model.theta.double(), average, atol=1e-6)
        with course.averaged():
            assert torch.allclose(model.theta.double(), averages[0] if each else theta.double(), atol=1e-6)
        assert torch.equal(model.theta, theta)  # the run goes on with the raw weights
    assert torch.allclose(model.theta.double(), averages[0] if each else theta.double(), atol=1e-6)
    assert torch.equal(model.theta, theta) == (lengths is None)  # and ends with the average
    with pytest.raises(ValueError, match=r"length must be one of ema, \[.*\]; got 0\.3"), course.averaged(0.3):
        pass


def test_the_average_is_left_on_an_error(data):
    model = Toy()
    course = Fit(model, data, steps=3, log_every=1)
    next(iter(course))
    theta = model.theta.detach().clone()
    with pytest.raises(KeyError), course.averaged():
        raise KeyError
    assert torch.equal(model.theta, theta)


def test_training_does_not_depend_on_looking(data):
    """Logs, checkpoints and visits to the averaged weights leave no trace in the result."""
    plain, _ = run(data)
    model = Toy()
    course = Fit(model, data, steps=30, batch=8, lr=0.05, warmup=5, log_every=7)
    for _ in course:
        with course.averaged():
            pass
    assert torch.equal(model.theta, plain.theta)


def test_out(data, tmp_path):
    model, logs = run(data, out=tmp_path / "deep" / "run", log_every=10)
    lines = (tmp_path / "deep" / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == logs
    loaded = load(tmp_path / "deep" / "run")
    assert torch.equal(loaded.theta, model.theta) and loaded.extra["step"] == 30
    assert logs[-1]["seconds"] > 0 and logs[-1]["samples_per_second"] > 0
    assert not list(tmp_path.rglob("*.tmp"))


def averaged(course):
    """The averaged weights of the toy."""
    with course.averaged() as model:
        return model.theta.detach().clone()


def test_save_every(data, tmp_path, monkeypatch):
    saved = []
    course = Fit(Toy(), data, steps=10, batch=8, lr=0.05, warmup=5, log_every=1)
    averages = {log["step"]: averaged(course).tolist() for log in course}
    keep = run_folder.RunFolder.save_model

    def save_model(self, model, step):
        saved.append((step, model.theta.tolist()))
        keep(self, model, step)

    monkeypatch.setattr(run_folder.RunFolder, "save_model", save_model)
    run(data, steps=10, save_every=4, out=tmp_path)
    assert saved == [(step, averages[step]) for step in (4, 8, 10)]


class Interrupting(Toy):
    """Presses Ctrl-C in the eleventh loss."""

    def loss(self, batch, key, *, step=0):
        if len(self.seen) == 10:
            raise KeyboardInterrupt
        return super().loss(batch, key)


def test_ctrl_c_inside_a_step_saves_the_average(data, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "Interrupting", Interrupting)
    model = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, steps=30, batch=8, out=tmp_path, progress=False)
    loaded = load(tmp_path)
    assert loaded.extra["step"] == 10 and torch.equal(loaded.theta, model.theta)
    same = Toy()
    course = Fit(same, data, steps=30, batch=8, log_every=10)
    next(iter(course))
    assert torch.equal(averaged(course), loaded.theta)


@pytest.mark.parametrize("leave", ["Ctrl-C", "break"])
def test_leaving_the_callers_loop_saves_the_average(data, tmp_path, leave):
    model = Toy()

    def loop():
        for log in Fit(model, data, steps=30, batch=8, out=tmp_path, log_every=5):
            if log["step"] == 10:
                if leave == "break":
                    break
                raise KeyboardInterrupt

    if leave == "break":
        loop()
    else:
        with pytest.raises(KeyboardInterrupt):
            loop()
    loaded = load(tmp_path)
    assert loaded.extra["step"] == 10 and torch.equal(loaded.theta, model.theta)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


class Failing(Toy):
    """Raises in the eleventh loss."""

    def __init__(self, error=None, features=3):
        super().__init__(features)
        self.error = error

    def loss(self, batch, key, *, step=0):
        if len(self.seen) == 10:
            raise self.error
        return super().loss(batch, key)


def average_after(data, steps):
    course = Fit(Toy(), data, steps=30, batch=8, log_every=steps)
    next(iter(course))
    return averaged(course)


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, MemoryError(), SystemExit(3), FloatingPointError("x"), KeyError("x")])
@pytest.mark.parametrize("place", ["loss", "watch", "loop", "throw"])
def test_whatever_ends_a_run_leaves_the_average(data, tmp_path, monkeypatch, error, place):
    """In the model and in the checkpoint, and the error is the one that was raised."""
    monkeypatch.setitem(MODELS, "Failing", Failing)
    model = Failing(error if place == "loss" else RuntimeError("never"))
    course = Fit(model, data, steps=30, batch=8, log_every=5, out=tmp_path)
    if place == "watch":
        looks = iter(range(9, 99))

        def watch(batch, key):
            if course.step == 10:
                raise error
            return {"look": next(looks)}

        model.watch = watch
    with pytest.raises(type(error)) as raised:
        if place == "throw":
            logs = iter(course)
            next(logs), next(logs)
            logs.throw(error)
        for log in course:
            if place == "loop" and log["step"] == 10:
                raise error
    assert raised.value is error
    raised.value.__traceback__ = None
    assert load(tmp_path).extra["step"] == 10 and torch.equal(load(tmp_path).theta, model.theta)
    assert torch.equal(model.theta, average_after(data, 10))
    assert not locks._holds


def test_where_saving_fails_too_both_are_said(data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "model-0.safetensors")

    monkeypatch.setattr(run_folder.RunFolder, "save_model", full)
    cause = KeyError("y")
    error = ValueError("x")
    error.__cause__ = cause
    model = Failing(error)
    with pytest.raises(ValueError, match="x") as raised:
        fit(model, data, steps=30, batch=8, save_every=30, out=tmp_path, progress=False)
    assert raised.value is error and "model-0.safetensors" in str(error.__cause__)
    assert error.__cause__.__context__ is cause
    assert torch.equal(model.theta, average_after(data, 10))  # the model has it even so
    course = iter(Fit(Toy(), data, steps=30, batch=8, log_every=5, save_every=30, out=tmp_path / "left"))
    next(course)
    with pytest.raises(OSError, match=r"model-0\.safetensors"):
        course.close()


def test_a_run_without_a_step_can_be_repeated(data, tmp_path):
    model = Failing(ValueError("x"))
    model.seen = [None] * 10
    with pytest.raises(ValueError, match="x"):
        fit(model, data, steps=3, batch=8, out=tmp_path, progress=False)
    assert not (tmp_path / "model.json").exists() and not (tmp_path / "log.jsonl").exists()
    run(data, out=tmp_path)
    assert load(tmp_path).extra["step"] == 30


# Two runs


RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import torch

import genfast as gf
from test_loop import Toy, Fit, arrays
for log in Fit(Toy(), arrays(torch.randn(8, 3)), steps=10**6, batch=8, log_every=1, save_every=1, out=sys.argv[2]):
    if log["step"] == 2:
        print("two", flush=True)
        sys.stdin.readline()
"""


def test_a_second_run_is_told_at_once_who_has_the_folder(data, tmp_path):
    command = [sys.executable, "-c", RUN, str(Path(__file__).parent), str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "two\n"
    with pytest.raises(BlockingIOError, match=rf"{tmp_path.name} is being .* by process {other.pid} on "):
        run(data, out=tmp_path)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
    other.kill()  # SIGKILL
    other.communicate()
    with pytest.raises(ValueError, match="steps"):
        run(data, out=tmp_path)


def test_two_runs_of_one_process(data, tmp_path):
    model = Toy()
    for _ in Fit(model, data, steps=10, batch=8, log_every=1, out=tmp_path, save_every=2):
        with pytest.raises(BlockingIOError, match="is being written to by process"):
            Fit(Toy(), data, steps=3, out=tmp_path)
        if model.seen[-1][2][0, 1] < 9 * 8:
            checkpoint.save(model, tmp_path, extra="own")  # inside the run
            assert load(tmp_path).extra == "own"
    assert load(tmp_path).extra["step"] == 10


# The log


def test_a_log_that_cannot_be_written_does_not_cost_the_model(data, tmp_path, monkeypatch):
    """As on a full disk: half of a line fits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = Toy()
    keep = run_folder.RunFolder.save

    def save(*args):  # the limit is meant for the log alone
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        keep(*args)

    monkeypatch.setattr(run_folder.RunFolder, "save", save)
    with pytest.raises(OSError, match=r"log\.jsonl"):
        try:
            for _ in Fit(model, data, steps=30, batch=8, log_every=5, save_every=30, out=tmp_path):
                written = (tmp_path / "log.jsonl").read_text()
                resource.setrlimit(resource.RLIMIT_FSIZE, (len(written) + 50, hard))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert json.loads(written)["step"] == 5 and (tmp_path / "log.jsonl").read_text() == written
    assert load(tmp_path).extra["step"] == 10 and torch.equal(load(tmp_path).theta, model.theta)
    assert torch.equal(model.theta, average_after(data, 10))


def test_the_log_holds_null_for_what_is_not_finite(data, tmp_path, monkeypatch):
    model = Faulty(set(range(4)))
    model.watch = lambda batch, key: {"gap": math.inf, "few": [math.nan, 1.0]}
    monkeypatch.setattr(Faulty, "config", lambda self: {"features": 3})
    logs = fit(model, data, steps=5, batch=8, log_every=4, out=tmp_path, progress=False)
    text = (tmp_path / "log.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    first, last = map(json.loads, text.splitlines())
    assert first["loss"] is None and first["gap"] is None and first["few"] == [None, 1.0] and first["step"] == 4
    assert last["loss"] == logs[1]["loss"] and math.isnan(logs[0]["loss"])


def test_a_folder_that_cannot_be_written_to_is_known_before_training(data, tmp_path):
    (tmp_path / "file").write_text("mine")
    model = Toy()
    for out in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(OSError, match=rf"out must be a folder that can be written to; got {out}"):
            fit(model, data, steps=3, out=out)
    assert model.seen == []


class Faulty(Toy):
    """The loss of these steps is not a number, or infinitely steep."""

    def __init__(self, steps, value=math.nan):
        super().__init__()
        self.faulty, self.value = steps, value

    def loss(self, batch, key, *, step=0):
        factor = self.value if len(self.seen) in self.faulty else 1.0
        return super().loss(batch, key) * factor


def test_skipped_steps_do_not_age_the_average(data):
    """All but steps 1 and 8 are skipped, so the average after step 8 is that of the second update."""
    model = Faulty(set(range(1, 7)))
    course = Fit(model, data, steps=8, batch=8, lr=0.05, warmup=0, log_every=1, ema=0.1)
    thetas = [model.theta.detach().clone() for _ in course if course.step in (1, 8)]
    beta = 0.5 ** (gamma(0.1) + 1)
    assert torch.allclose(model.theta, beta * thetas[0] + (1 - beta) * thetas[1], rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_steps_without_a_finite_gradient_are_skipped_and_counted(data, value):
    model = Faulty({2, 3, 7}, value)
    seen = []
    for log in Fit(model, data, steps=12, batch=8, lr=0.05, warmup=0, log_every=1):
        seen.append((log["skipped"], model.theta.tolist()))
    assert [skipped for skipped, _ in seen] == [0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]
    weights = [theta for _, theta in seen]
    changed = [weights[k] != weights[k - 1] for k in range(1, 12)]
    assert changed == [True, False, False, True, True, True, False, True, True, True, True]
    assert torch.isfinite(model.theta).all()
    model = Faulty({2, 3, 7}, value)
    (log,) = fit(model, data, steps=12, batch=8, progress=False)
    assert math.isfinite(log["loss"]) and math.isfinite(log["grad_norm"])  # means over the good steps


def test_twenty_bad_steps_in_a_row_raise_and_save_the_last_good_ones(data, tmp_path, monkeypatch):
    nineteen = Faulty(set(range(5, 24)) | set(range(25, 44)))
    assert len(fit(nineteen, data, steps=50, batch=8, log_every=1, progress=False)) == 50
    model = Faulty(set(range(5, 25)))
    monkeypatch.setitem(MODELS, "Faulty", Toy)
    monkeypatch.setattr(Faulty, "config", lambda self: {"features": 3})
    with pytest.raises(FloatingPointError, match=r"\(first in theta\) in 20 steps on end, until step 25"):
        fit(model, data, steps=50, batch=8, log_every=5, out=tmp_path, progress=False)
    five = Toy()
    course = Fit(five, data, steps=50, batch=8, log_every=5)
    next(iter(course))
    assert load(tmp_path).extra["step"] == 25
    assert torch.equal(load(tmp_path).theta, averaged(course)) and torch.equal(model.theta, averaged(course))


@pytest.mark.parametrize("log_every, end", [(50, 20), (7, 21), (1, 20)])
def test_a_run_that_is_broken_from_the_start_says_so_early(data, log_every, end):
    with pytest.raises(FloatingPointError, match=f"in {end} steps on end, until step {end};"):
        fit(Faulty(set(range(99))), data, steps=99, batch=8, log_every=log_every, progress=False)


def test_a_function_of_the_step_as_decay(data):
    logs = run(data, steps=8, log_every=1, warmup=2, decay=lambda step: 0.5**step)[1]
    assert [log["lr"] for log in logs] == [0.05 * min(1, (k + 1) / 2) * 0.5**k for k in range(8)]
    with pytest.raises(ValueError, match=r"decay must be .*-1"):
        run(data, decay=lambda step: -1.0)


def test_callbacks_are_given_each_log(data):
    seen = []
    logs = run(data, callbacks=[seen.append], log_every=10)[1]
    assert seen == logs
    for callbacks in ("loss", [3], print):
        with pytest.raises(TypeError, match="callbacks must be a sequence of functions"):
            run(data, callbacks=callbacks)


def test_a_callback_that_raises_loses_nothing(data, tmp_path):
    def stop(log):
        raise KeyError("enough")

    with pytest.raises(KeyError):
        run(data, callbacks=[stop], log_every=10, save_every=30, out=tmp_path)
    assert load(tmp_path).extra["step"] == 10 and len(run(data, out=tmp_path, log_every=10)[1]) == 3


def test_held_out_data_are_looked_at_with_averaged_weights(data, tmp_path):
    model, logs = run(data, steps=20, log_every=50, test=data.x[:16], test_every=5, out=tmp_path)
    assert [log["step"] for log in logs] == [5, 10, 15, 20] and all(len(log["test_loss"]) == 3 for log in logs)
    held = (model.theta - data.x[:16]).square().mean().item()
    assert logs[-1]["test_loss"][0] == pytest.approx(held, rel=1e-5)
    best = min(logs, key=lambda log: log["test_loss"][0])
    assert load(tmp_path / "best").extra["step"] == best["step"]


def test_a_run_is_run_once(data):
    course = Fit(Toy(), data, steps=2, progress=False)
    course.run()
    with pytest.raises(RuntimeError, match="iterated before"):
        course.run()


def test_progress_bar(data, capsys):
    run(data, progress=True)
    assert "30/30" in capsys.readouterr().err
    run(data, progress=False)
    assert capsys.readouterr().err == ""


def test_fit_trains_and_returns_the_logs_of_the_loop(data, capsys):
    settings = {"steps": 12, "batch": 8, "lr": 0.05, "warmup": 0, "log_every": 4}
    trained, looped = Toy(), Toy()
    logs, own = fit(trained, data, **settings), list(Fit(looped, data, **settings))
    assert trained.theta.abs().min() > 0 and trained.theta.equal(looped.theta)
    assert [log["step"] for log in logs] == [4, 8, 12] and "12/12" in capsys.readouterr().err
    for log, other in zip(logs, own, strict=True):
        assert log["loss"] == other["loss"] and log.keys() == other.keys()
    assert Fit(Toy(), data, **settings, progress=False).run()[-1]["loss"] == logs[-1]["loss"]


def test_integers_of_any_kind(data):
    one = fit(Toy(), data, steps=np.int64(3), batch=torch.tensor(8), seed=np.uint8(2), log_every=1, progress=False)
    assert [log["loss"] for log in one] == [
        log["loss"] for log in fit(Toy(), data, steps=3, batch=8, seed=2, log_every=1, progress=False)
    ]


class Untold(Toy):
    config = None


class Scalar(Toy):
    def loss(self, batch, key, *, step=0):
        return super().loss(batch, key).mean()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"steps": 0}, r"steps.*0"),
        ({"steps": 1.5}, r"steps.*1\.5"),
        ({"batch": 0}, r"batch.*0"),
        ({"lr": 0.0}, r"lr.*0\.0"),
        ({"lr": math.nan}, r"lr.*nan"),
        ({"warmup": -1}, r"warmup.*-1"),
        ({"decay": "step"}, r"decay.*cosine.*'step'"),
        ({"weight_decay": -0.1}, r"weight_decay.*-0\.1"),
        ({"clip": 0.0}, r"clip.*0\.0"),
        ({"ema": 0.999}, r"ema.*0\.999"),
        ({"keep": 0}, r"keep.*0"),
        ({"critic_steps": 2}, r"critic_steps.*players.*2"),
        ({"micro_batch": 0}, r"micro_batch.*0"),
        ({"precision": "half"}, r"precision.*bf16.*'half'"),
        ({"graph": True}, r"graph=True must go with a CUDA device; the model is on cpu"),
        ({"test_every": 5}, r"test_every.*test"),
        ({"grid_every": 5}, r"grid_every.*out"),
        ({"seed": -1}, r"seed.*-1"),
        ({"seed": 2**63}, r"seed"),
        ({"log_every": 0}, r"log_every.*0"),
        ({"save_every": 0, "out": "run"}, r"save_every.*0"),
        ({"save_every": 5}, r"save_every.*out"),
    ],
)
def test_bad_settings(data, settings, words):
    with pytest.raises(ValueError, match=words):
        Fit(Toy(), data, **{"steps": 5} | settings)


def test_bad_models(data, tmp_path):
    with pytest.raises(ValueError, match=r"model.*shape \(8,\).*\(\)"):
        fit(Scalar(), data, steps=1, batch=8, progress=False)
    with pytest.raises(ValueError, match=r"model.*Toy has none"):
        Fit(Toy().requires_grad_(False), data, steps=1)
    for other in (torch.nn.Linear(3, 3), torch.nn.DataParallel(Toy()), Toy, "toy", None):
        with pytest.raises(
            TypeError, match=r"model must be one to train, with a method loss\(batch, key\).*; got \w+$"
        ):
            Fit(other, data, steps=1, out=tmp_path)
    with pytest.raises(TypeError, match=r"model.*config"):  # before any training
        Fit(Untold(), data, steps=1, out=tmp_path)
    with pytest.raises(TypeError, match=r"data.*list"):
        Fit(Toy(), [1.0], steps=1)
    assert not list(tmp_path.iterdir())


def test_no_limit_and_largest_seed(data):
    model, _ = run(data, clip=None, seed=2**63 - 1, batch=64)
    assert torch.isfinite(model.theta).all() and model.seen[0][2][0, 0] == 2**63 - 1


def test_gradients_are_there_where_they_are_turned_off(data):
    expected, _ = run(data)
    with torch.no_grad():
        found, _ = run(data)
    assert torch.equal(expected.theta, found.theta)


def test_models_without_numbers_and_held_out_data_of_another_shape_are_refused(data):
    with pytest.raises(ValueError, match="model must be on a device that holds numbers to be trained; got meta"):
        Fit(Toy().to("meta"), data, steps=1)
    with pytest.raises(ValueError, match=r"test must hold samples of shape \(3,\), as data has; got \(2,\)"):
        Fit(Toy(), data, steps=1, test=torch.zeros(5, 2))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_classes_of_held_out_data_are_matched_by_name():
    x, label = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2

    def look(test):
        torch.manual_seed(0)
        model = gf.Diffusion(gf.nn.MLP(4, width=8, depth=1, classes=2))
        return fit(model, arrays(x, label, names=("a", "b")), steps=3, batch=8, lr=0.1, test=test, progress=False)[-1]

    same, swapped = arrays(x, label, names=("a", "b")), arrays(x, 1 - label, names=("b", "a"))
    assert look(same)["test_loss"] == look(swapped)["test_loss"]


def test_no_snapshot_before_the_first_good_step(tmp_path, data, monkeypatch):
    loss = Toy.loss
    bad = lambda self, batch, key, *, step=0: loss(self, batch, key) * (math.nan if step < 3 else 1)  # noqa: E731
    monkeypatch.setattr(Toy, "loss", bad)
    run(data, out=tmp_path, ema=(0.05, 0.1))
    names = sorted(file.name for file in (tmp_path / "averages").iterdir())
    assert names[0].startswith("00000001") and len(names) == 54
