"""Several processes train as one: the same losses, one run folder, and one end."""

import json

import pytest
import torch
from parallel_runs import FAMILIES, assert_one_has_failed, made, stopped, trained, unet, uneven
from several import answers, start

import genfast as gf
from genfast.training.states import states

MODES = ("ddp",)
PROGRAM = """
import json, pathlib, sys
import torch
from genfast.common import processes
from parallel_runs import FAMILIES, failed, stopped, trained, uneven, unet

torch.set_num_threads(1)
processes.PARTING = 1.0
folder = pathlib.Path(sys.argv[1])
modes = sys.argv[2].split()
found = {}
for mode in modes:
    for name, (make, settings) in FAMILIES.items():
        found[f"{name} {mode}"] = trained(make, parallel=mode, **settings)
    stopped(unet, 12, steps=24, out=folder / mode, parallel=mode)
with processes.alone():
    found["alone"] = trained(uneven, steps=3)
found["uneven"] = trained(uneven, steps=8)
found["callbacks"] = calls = []
trained(uneven, steps=8, log_every=4, callbacks=[calls.append])
found["whole"] = failed(folder / "whole", ())
found["both"] = failed(folder / "both", (0, 1))
found["again"] = failed(folder / "both", ())
found["one"] = failed(folder / "one", (1,))
try:
    processes.world()
except RuntimeError as error:
    found["after"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of the unet that one process has left after 6 steps of 24."""
    folder = tmp_path_factory.mktemp("runs")
    for mode in MODES:
        stopped(unet, 6, steps=24, out=folder / mode)
    return folder


@pytest.fixture(scope="module")
def both(folder):
    """What two processes find, by name."""
    started = start(["-c", PROGRAM, folder, " ".join(MODES)], 2)
    return [json.loads(out.splitlines()[-1]) for out in answers(started, timeout=240)]


@pytest.fixture(scope="module")
def alone():
    """The same of one process."""
    return {name: trained(make, **settings) for name, (make, settings) in FAMILIES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_weights_are_those_of_one_process(both, alone, name, mode):
    (losses, weights), (others, _) = (found[f"{name} {mode}"] for found in both)
    expected, whole = alone[name]
    assert len(losses) == 40 and losses == others and losses == pytest.approx(expected, rel=1e-6)
    assert weights == both[1][f"{name} {mode}"][1]
    for value, other in zip(weights, whole, strict=True):
        # The bias of a relativistic discriminator has no gradient but rounding, which AdamW makes steps of.
        torch.testing.assert_close(torch.tensor(value), torch.tensor(other), rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_rows_without_a_gradient_and_rows_that_are_not_finite(both):
    """A parameter that only rows of one process use is trained, one that none uses stays without state; a step that is
    bad in one is skipped by all; a buffer is the first process's."""
    losses, weights = both[0]["uneven"]
    expected, whole = trained(uneven, steps=8)
    assert losses[:3] + losses[4:] == pytest.approx(expected[:3] + expected[4:], rel=1e-6)
    assert weights == both[1]["uneven"][1]
    names = [*made(uneven)[0].state_dict()]
    for name, value, other in zip(names, weights, whole):
        if name != "seen":
            torch.testing.assert_close(torch.tensor(value), torch.tensor(other), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_each_by_itself(both):
    losses, _ = both[0]["alone"]
    expected, _ = trained(uneven, steps=3)
    assert both[0]["alone"] == both[1]["alone"] and losses == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_callbacks_are_the_first_ones(both):
    assert [log["step"] for log in both[0]["callbacks"]] == [4, 8] and both[1]["callbacks"] == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_run_goes_on_in_one_two_and_one(both, folder, mode):
    """Left by one process after 6 steps, by two after 12."""
    assert states(folder / mode / "state")[0].name == "00000012"
    losses, _ = trained(unet, 24, out=folder / mode)
    expected, _ = trained(unet, 24)
    assert losses == pytest.approx(expected, rel=2e-6)
    assert gf.load(folder / mode).extra["step"] == 24


@pytest.mark.slow
def test_an_error_in_all_is_a_place_to_go_on_from(both, folder):
    """With the bits of a run that had none."""
    assert [found["whole"] for found in both] == [found["again"] for found in both] == ["done", "done"]
    assert [found["both"] for found in both] == ["KeyError: 'no such thing'"] * 2
    one, other = (gf.load(folder / name).state_dict() for name in ("both", "whole"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_an_error_in_one_ends_the_other_with_its_reason(both, folder):
    """And the first saves what there is, by itself."""
    assert_one_has_failed(both, folder / "one")
    assert "start them again" in both[0]["after"]


def test_what_cannot_be():
    model, data = made(unet)
    with pytest.raises(ValueError, match=r"parallel must go with several processes, .*; got 'ddp' in one"):
        gf.fit(model, data, steps=1, parallel="ddp")
    with pytest.raises(ValueError, match=r"parallel must be one of"):
        gf.fit(model, data, steps=1, parallel="dp")


def test_one_process_under_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert trained(unet, 2, parallel="ddp") == trained(unet, 2)
