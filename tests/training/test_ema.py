"""Averages of what is trained: their weights in closed form, on the device alone, and any length from snapshots."""

import math
import shutil

import numpy as np
import pytest
import torch

import genfast as gf
from genfast.checkpoint import save
from genfast.common.files import CorruptCheckpoint, read_tensors
from genfast.testing import no_host_reads
from genfast.training.ema import LONGEST, Averages, average, gamma_of, require_lengths

TRACKED, BETWEEN, STEPS = (0.05, 0.1), (0.07, 0.08), 640
YES, NO = torch.tensor(True), torch.tensor(False)


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (3,), (), (4, 3, 3, 3), (0,)]
    made = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    made[3] = made[3].contiguous(memory_format=torch.channels_last)
    return [torch.nn.Parameter(p) for p in made]


def walk(trained, steps, seed=1):
    """Changes the parameters `steps` times, yields t = 1, 2, ...: a drift that slows down, and noise about it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        place = [p.clone() for p in trained]
        for t in range(1, steps + 1):
            for p, at in zip(trained, place):
                at += torch.randn(p.shape, generator=generator, dtype=p.dtype) / math.sqrt(t)
                p.copy_(at + 0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
            yield t


@pytest.mark.parametrize("length", [0.25, 0.1, 0.05, 0.01, 0.001])
def test_gamma(length):
    """Its definition, and the standard deviation of the profile by numbers."""
    gamma = gamma_of(length)
    assert (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) == pytest.approx(length**2, rel=1e-9)
    tau = (np.arange(1_000_000) + 0.5) / 1e6
    profile = (gamma + 1) * tau**gamma / 1e6
    mean = (profile * tau).sum()
    assert math.sqrt((profile * (tau - mean) ** 2).sum()) == pytest.approx(length, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_weights_are_those_of_the_profile(dtype):
    """(tau/t)^(gamma+1) - ((tau-1)/t)^(gamma+1) of all that was seen, and skipped steps leave no trace."""
    trained = parameters(dtype)
    averages, seen, skipped = Averages(trained, (0.05, 0.2)), [], 0
    for t in walk(trained, 60):
        if t % 7 == 3:
            skipped += 1
            with torch.no_grad():
                trained[0][1] = (math.nan, math.inf, -math.inf)[t % 3]
            before = [v.clone() for v in averages.values[1]]
            averages.update(torch.tensor(t - skipped), NO)
            assert all(map(torch.equal, averages.values[1], before))
            continue
        seen.append([p.detach().double().clone() for p in trained])
        averages.update(torch.tensor(t - skipped), YES)
        if t == 1:
            assert all(torch.equal(v, p) for values in averages.values for v, p in zip(values, trained))
    edges = torch.arange(len(seen) + 1, dtype=torch.float64) / len(seen)
    for length, values in zip((0.05, 0.2), averages.values):
        weights = (edges ** (gamma_of(length) + 1)).diff()
        for i, value in enumerate(values):
            expected = sum(w * of_step[i] for w, of_step in zip(weights, seen))
            assert value.dtype == dtype and value.shape == expected.shape
            torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 2e-5)


def test_before_the_first_good_step_nothing_is_taken():
    trained = parameters()
    averages = Averages(trained, TRACKED)
    before = [v.clone() for v in averages.values[0]]
    with torch.no_grad():
        for p in trained:
            p.fill_(math.nan)
    for dtype in (torch.int64, torch.float32, torch.float64):
        averages.update(torch.zeros((), dtype=dtype), NO)
    assert all(map(torch.equal, averages.values[0], before))


def test_an_update_reads_nothing_and_follows_the_parameters():
    """Also where these come to lie otherwise, or in other memory."""
    trained = parameters()
    averages = Averages(trained, TRACKED)
    with no_host_reads(on="cpu"):
        averages.update(torch.tensor(1), YES)
    trained[3].data = torch.randn(4, 3, 3, 3)
    trained[0].data = torch.randn(5, 7).T
    averages.update(torch.tensor(1), YES)
    assert all(torch.equal(v, p) for v, p in zip(averages.values[1], trained))


def test_a_state():
    trained = parameters()
    averages, other = Averages(trained, TRACKED), Averages(parameters(), TRACKED)
    for t in walk(trained, 5):
        averages.update(torch.tensor(t), YES)
    other.load({name: value.clone() for name, value in averages.tensors().items()})
    for a, b in zip(averages.values, other.values):
        assert all(map(torch.equal, a, b))
    with pytest.raises(ValueError, match=r"tensors must be the averages of this run; got 5 missing"):
        other.load(Averages(trained, (0.05,)).tensors())
    assert Averages(trained, ()).tensors() == {} and Averages(trained, ()).values == []
    Averages(trained, ()).update(torch.tensor(1), YES)
    Averages([], TRACKED).update(torch.tensor(1), YES)


def test_lengths():
    assert require_lengths(None) == () and require_lengths(0.05) == (0.05,)
    assert require_lengths([0.05, LONGEST]) == require_lengths((0.05, 0.25)) == (0.05, 0.25)
    for decay in (0.999, 0.5, 0.2500001, [0.05, 0.9999]):
        with pytest.raises(
            ValueError, match=r"ema must be the length .* at most 0\.25; got .* reads like a decay: pass"
        ):
            require_lengths(decay)
    for wrong in (0, -0.1, 1, 2.0, math.nan, True, "0.05", [], [0.05, 0.05], [None], {0.05}):
        with pytest.raises(ValueError, match="ema must be"):
            require_lengths(wrong)


# ---- snapshots ----


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """(folder of a run with snapshots of TRACKED, the weights as they are, their averages by length, tracked)."""
    run = tmp_path_factory.mktemp("run")
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    names, trained = map(list, zip(*model.named_parameters()))
    averages, skipped = Averages(trained, TRACKED + BETWEEN), 0
    kept = Averages(trained, TRACKED)
    for step in walk(trained, STEPS):
        good = torch.tensor(step % 9 != 5)
        skipped += not good
        if not good:
            with torch.no_grad():
                trained[0].fill_(math.nan)
        for a in (averages, kept):
            a.update(torch.tensor(step - skipped), good)
        if step % (STEPS // 32) == 0:
            kept.snapshot(run / "averages", step - skipped, names)
    save(model, run)
    return run, dict(zip(names, trained)), {n: dict(zip(names, v)) for n, v in zip(averages.lengths, averages.values)}


def norm(one, other):
    return math.sqrt(sum(float((one[name] - other[name]).detach().double().square().sum()) for name in other))


@pytest.mark.parametrize("length", TRACKED + BETWEEN)
def test_any_length_between(trained_run, length):
    run, raw, tracked = trained_run
    found = dict(average(run, length).named_parameters())
    error, scale = norm(found, tracked[length]), norm(raw, tracked[length])
    assert error <= (1e-5 if length in TRACKED else 0.01) * scale
    assert norm(found, tracked[0.05 if length > 0.06 else 0.1]) > 0.05 * scale


def test_what_did_not_move_is_reproduced(tmp_path):
    """Far from 0, of few snapshots, which reproduce the profile less well."""
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1000.0)
    names, trained = map(list, zip(*model.named_parameters()))
    averages = Averages(trained, TRACKED)
    for t in (1, 2, 3, 4):
        averages.update(torch.tensor(t), YES)
        averages.snapshot(tmp_path / "averages", t, names)
    save(model, tmp_path)
    assert all(torch.equal(p, torch.full_like(p, 1000.0)) for p in average(tmp_path, 0.07).parameters())


def copied(run, to):
    return shutil.copytree(run, to / "run")


def test_a_snapshot_is_a_file_that_knows_itself(trained_run, tmp_path):
    run = copied(trained_run[0], tmp_path)
    files = sorted((run / "averages").iterdir())
    assert len(files) == 64 and files[0].name == "00000018-0.05.safetensors"
    content = files[9].read_bytes()
    damage = [
        content[:-1], content[: len(content) // 2], b"", content + b"x", bytes(1000), b"\xff" * 100,
        *(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in (0, 9, 60, len(content) - 5)),
        files[10].read_bytes(),  # another one under this name
    ]  # fmt: skip
    for bad in damage:
        files[9].write_bytes(bad)
        with pytest.raises(CorruptCheckpoint, match=f"{files[9].name} is damaged"):
            average(run, 0.08)
    files[9].write_bytes(content)
    average(run, 0.08)


def test_a_run_that_went_back_leaves_no_later_snapshots(trained_run, tmp_path):
    """Nor half a file that a killed process was writing."""
    folder = copied(trained_run[0], tmp_path) / "averages"
    (folder / ".00000018-0.05.safetensors.1-abc.tmp").write_bytes(b"half")
    Averages(list(trained_run[2][0.05].values()), (0.05,)).snapshot(folder, 100, list(trained_run[2][0.05]))
    names = sorted(file.name for file in folder.iterdir())
    assert names[-1] == "00000100-0.05.safetensors" and not any(name.endswith("tmp") for name in names)


def test_what_is_not_finite_is_not_kept(tmp_path):
    averages = Averages([torch.tensor([1.0, math.inf])], TRACKED)
    with pytest.raises(
        FloatingPointError, match=r"average of length 0\.05 must be finite to be kept; w holds infinity"
    ):
        averages.snapshot(tmp_path / "averages", 1, ["w"])
    averages.snapshot(tmp_path / "averages", 0, ["w"])  # of no update there is nothing
    assert not (tmp_path / "averages").exists()


def test_refusals(trained_run, tmp_path):
    run = trained_run[0]
    for length in (0.04, 0.11, 0.25):
        with pytest.raises(ValueError, match=r"length must lie in \[0\.05, 0\.1\], between the lengths .*; got 0\."):
            average(run, length)
    with pytest.raises(ValueError, match=r"length must be the length of an average .* reads like a decay"):
        average(run, 0.999)
    with pytest.raises(TypeError, match="run must be a path; got int"):
        average(3, 0.07)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        average(tmp_path, 0.07)
    other = gf.Diffusion(gf.nn.MLP(2, width=8, depth=2), shape=(2,))
    save(other, tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no snapshots in .*averages: a run writes them .* ema=\(0\.05, 0\.1\)"
    ):
        average(tmp_path, 0.07)
    (tmp_path / "averages").symlink_to(run / "averages")
    smaller = gf.Diffusion(gf.nn.MLP(2, width=4, depth=1), shape=(2,))
    save(smaller, tmp_path)
    with pytest.raises(CorruptCheckpoint, match=r"holds averages of another model than .*misshapen"):
        average(tmp_path, 0.07)


def test_too_few_snapshots_for_a_wide_gap(tmp_path):
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    names, trained = map(list, zip(*model.named_parameters()))
    averages = Averages(trained, (0.01, 0.25))
    averages.update(torch.tensor(1), YES)
    averages.snapshot(tmp_path / "averages", 1, names)
    save(model, tmp_path)
    with pytest.raises(
        ValueError, match=r"length must be one that the 2 snapshots of 0\.01, 0\.25 come near; got 0\.07"
    ):
        average(tmp_path, 0.07)
    average(tmp_path, 0.25)


def test_of_a_run(tmp_path):
    """What `fit` leaves: snapshots of 32 looks and of the end, under the names of the checkpoint."""
    torch.manual_seed(0)
    model = gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,))
    settings = {"steps": 70, "batch": 16, "lr": 0.01, "ema": (0.05, 0.1, 0.08), "progress": False, "out": tmp_path}
    gf.fit(model, gf.data.toy("checkerboard", 100), grid_every=1000, **settings)
    names = sorted(file.name for file in (tmp_path / "averages").iterdir())
    assert len(names) == 3 * 35 and names[-1] == "00000070-0.1.safetensors"
    tracked = read_tensors((tmp_path / "averages" / "00000070-0.08.safetensors").read_bytes())
    for file in (tmp_path / "averages").glob("*-0.08.safetensors"):
        file.unlink()
    found, first = dict(average(tmp_path, 0.08).named_parameters()), dict(gf.load(tmp_path).named_parameters())
    assert norm(found, tracked) < 0.02 * norm(first, tracked)
    assert norm(dict(average(tmp_path, 0.05).named_parameters()), first) < 1e-5
