"""Processes that have a share of the weights each train as one."""

import json

import pytest
import torch
from parallel_runs import FAMILIES, assert_one_has_failed, dit, looked, stopped, trained, unet
from several import answers, start

import genfast as gf
from genfast.training.states import states

PROGRAM = """
import json, pathlib, sys
import torch
from genfast.common import processes
from genfast.training import fsdp
from genfast.training.compiled import blocks
from parallel_runs import FAMILIES, SETTINGS, dit, failed, gan, gf, looked, made, stopped, trained, unet

torch.set_num_threads(1)
processes.PARTING = 1.0
folder, rank, found = pathlib.Path(sys.argv[1]), processes.world()[0], {}
for name in ("unet", "vae"):
    make, settings = FAMILIES[name]
    found[name] = trained(make, parallel="fsdp", **settings)
stopped(unet, 4, steps=8, out=folder / "run", parallel="fsdp")
found["dit"] = trained(dit, 6, parallel="fsdp")
for mode in ("ddp", "fsdp"):
    found[f"bf16 {mode}"] = trained(unet, 4, parallel=mode, precision="bf16", micro_batch=3)[0]
model, data = made(unet)
run, seen = gf.Fit(model, data, steps=1, precision="bf16", parallel="fsdp", **SETTINGS), set()
for block in blocks(run._step.model):
    see = lambda block, _: seen.update(str(p.dtype) for p in block.parameters() if p.ndim == 4)
    block.register_forward_pre_hook(see)
list(run)
found["dtypes"] = [*seen]
fsdp.PARCEL = 20  # bytes: every weight by itself
found["looked"] = looked(folder / "looked", steps=6, parallel="fsdp")
try:
    trained(gan, 1, parallel="fsdp")
except ValueError as error:
    found["players"] = str(error)
found["one"] = failed(folder / "one", (1,), parallel="fsdp")
(folder / f"{rank}.json").write_text(json.dumps(found))  # more than a pipe holds
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that one process has left after 2 steps of 8."""
    folder = tmp_path_factory.mktemp("runs")
    stopped(unet, 2, steps=8, out=folder / "run")
    return folder


@pytest.fixture(scope="module")
def both(folder):
    """What two processes find, by name."""
    answers(start(["-c", PROGRAM, folder], 2), timeout=240)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def assert_close(values, others, **tolerance):
    for value, other in zip(values, others, strict=True):
        torch.testing.assert_close(torch.tensor(value), torch.tensor(other), **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), {"unet": 40, "vae": 40, "dit": 6}.items())
def test_losses_and_averages_are_those_of_one_process(both, name, steps):
    make, settings = FAMILIES.get(name, (dit, {"steps": 6}))
    (losses, weights), expected = both[0][name], trained(make, **settings)
    assert len(losses) == steps and losses == pytest.approx(expected[0], rel=1e-6)
    assert both[0][name] == both[1][name]
    assert_close(weights, expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_whole_shared_and_whole(both, folder):
    """Left by one process after 2 steps, by two after 4."""
    assert states(folder / "run" / "state")[0].name == "00000004"
    losses, _ = trained(unet, 8, out=folder / "run")
    assert losses == pytest.approx(trained(unet, 8)[0], rel=2e-6)
    assert gf.load(folder / "run").extra["step"] == 8


@pytest.mark.slow
def test_looks_see_the_whole_model(both, folder, tmp_path):
    """Weights of odd shapes, held-out data, `watch`, any average; at other times the model has no numbers."""
    seen, hidden, weights = both[0]["looked"]
    expected, _, whole = looked(tmp_path / "looked", steps=6)
    assert both[0]["looked"] == both[1]["looked"] and hidden == [True] * 6
    for values, others in zip(seen, expected, strict=True):
        assert (values[0] is None) == (others[0] is None)
        assert_close([v or 0.0 for v in values], [v or 0.0 for v in others], rtol=1e-5, atol=1e-6)
    assert_close(weights, whole, rtol=1e-5, atol=1e-6)
    averages = (gf.training.average(run / "looked", 0.08).state_dict() for run in (folder, tmp_path))
    assert_close(*([v.tolist() for v in average.values()] for average in averages))


@pytest.mark.slow
def test_blocks_are_gathered_in_the_precision(both):
    assert both[0]["dtypes"] == ["torch.bfloat16"]
    assert both[0]["bf16 fsdp"] == pytest.approx(both[0]["bf16 ddp"], rel=1e-3)


@pytest.mark.slow
def test_players_are_refused(both):
    assert "parallel must be 'ddp' for a model with players" in both[0]["players"]
    assert both[0]["players"].endswith("got 'fsdp' and a GAN")


@pytest.mark.slow
def test_an_error_in_one_ends_the_other_with_its_reason(both, folder):
    """What was saved before is there to go on from."""
    assert_one_has_failed(both, folder / "one")
