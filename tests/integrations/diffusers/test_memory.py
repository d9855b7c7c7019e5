"""What schedulers remember from call to call: a step of diffusers' own can follow any of ours."""

import math

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")

from peer_diffusers import KARRAS, LOW, difference, made, network, start  # noqa: E402

from genfast.integrations.diffusers import GenfastScheduler  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:The `scale_model_input` function:UserWarning"),
]
ONE = torch.ones(1, 1, 1, 1)


def output(scheduler, x, t):
    return network(scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x, t)


@pytest.mark.parametrize(("name", "expected"), [("HeunDiscrete", -1.8548), ("FlowMatchHeunDiscrete", 9.8890)])
def test_the_second_call_of_a_step_starts_from_the_stored_sample(name, expected):
    ours = GenfastScheduler(made(name, {}, 10))
    first, second = ours.timesteps[:2]
    x = ours.step(ONE, first, 10 * ONE).prev_sample
    x = ours.step(ONE, second, 0.5 * x)
    assert x.prev_sample.item() == pytest.approx(expected, abs=1e-4)
    theirs = made(name, {}, 10)
    y = theirs.step(ONE, first, 10 * ONE).prev_sample
    assert x.prev_sample.item() == pytest.approx(theirs.step(ONE, second, 0.5 * y).prev_sample.item(), rel=1e-5)


def test_a_trajectory_begins_inside_a_step():
    ours, x = GenfastScheduler(made("DPMSolverSinglestep", {}, 10)), ONE
    for t in ours.timesteps[5:]:
        x = ours.step(torch.sin(3 * x + t / 300), t, x).prev_sample
    assert x.item() == pytest.approx(4.3147, abs=1e-4)


@pytest.mark.parametrize("by_index", [False, True])
@pytest.mark.parametrize("order", [2, 3])
def test_a_trajectory_begins_anywhere(order, by_index):
    for begin in range(12):
        ends = []
        for whose in ("ours", "theirs"):
            scheduler = made("DPMSolverSinglestep", {"solver_order": order, **KARRAS}, 12)
            one = GenfastScheduler(scheduler) if whose == "ours" else scheduler
            x = start(scheduler)
            if by_index:
                one.set_begin_index(begin)
            for t in one.timesteps[begin:]:
                x = one.step(network(x, t), t, x).prev_sample
            ends.append(x)
        assert difference(*ends) < 2e-5


REMEMBERING = [
    ("HeunDiscrete", {}),
    ("FlowMatchHeunDiscrete", {}),
    ("LMSDiscrete", {}),
    ("DPMSolverMultistep", {}),
    ("DPMSolverMultistep", {"solver_order": 3, **KARRAS}),
    ("DPMSolverMultistep", {"algorithm_type": "dpmsolver", **LOW}),
    ("DPMSolverSinglestep", {"solver_order": 2}),
    ("DPMSolverSinglestep", {"solver_order": 3}),
    ("UniPCMultistep", {"solver_order": 1}),
    ("UniPCMultistep", {"solver_order": 3}),
    ("UniPCMultistep", {"lower_order_final": False, **LOW}),
    ("DEISMultistep", {"solver_order": 3}),
    ("EDMDPMSolverMultistep", {"solver_order": 3}),
]
NAMES = [f"{name}-{i}" for i, (name, _) in enumerate(REMEMBERING)]


@pytest.mark.parametrize(("name", "config"), REMEMBERING, ids=NAMES)
def test_diffusers_own_step_can_follow_any_of_ours(name, config):
    """Each call of a trajectory in turn is the last of ours: from there on a part of every sample is gone."""
    count = len(made(name, config, 7).timesteps)
    for last in range(count - 1):
        ends = []
        for whose in ("ours", "theirs"):
            scheduler = made(name, config, 7)
            one = GenfastScheduler(scheduler) if whose == "ours" else scheduler
            x = start(scheduler)
            for i, t in enumerate(one.timesteps):
                if i == last + 1:
                    x = x[..., :3]
                    shorten(one)
                x = one.step(output(one, x, t), t, x).prev_sample
            ends.append(x)
        assert ends[0].shape == ends[1].shape and difference(*ends) < 2e-5, last


def shorten(scheduler):
    """Of what a scheduler remembers, the same part, as pipelines for video take it out of its attributes."""
    for name in ("model_outputs", "derivatives"):
        values = vars(scheduler).get(name, [])
        values[:] = [value if value is None else value[..., :3] for value in values]
    for name in ("last_sample", "sample", "prev_derivative"):
        if vars(scheduler).get(name) is not None:
            setattr(scheduler, name, getattr(scheduler, name)[..., :3])


@pytest.mark.parametrize(("name", "config"), REMEMBERING, ids=NAMES)
def test_the_same_is_remembered(name, config):
    """What is there after every call but the last, which ends the trajectory."""
    theirs = made(name, config, 7)
    ours, x = GenfastScheduler(theirs), start(theirs)
    for t in theirs.timesteps[:-1]:
        F = output(theirs, x, t)
        x, other = theirs.step(F, t, x).prev_sample, ours.step(F, t, x).prev_sample
        assert difference(other, x) < 2e-5 and ours.step_index == theirs.step_index
        for attribute in ("lower_order_nums", "this_order", "state_in_first_order"):
            assert getattr(ours, attribute, None) == getattr(theirs, attribute, None)
        if name == "DPMSolverSinglestep":
            continue  # it also keeps what no later call reads
        pairs = [(ours.model_outputs, theirs.model_outputs)] if hasattr(theirs, "model_outputs") else []
        for attribute in ("last_sample", "sample", "prev_derivative", "dt"):
            pairs.append(([getattr(ours, attribute, None)], [getattr(theirs, attribute, None)]))
        for mine, their in pairs:
            for one, two in zip(reversed(mine), reversed(their), strict=True):
                if one is not None:
                    assert math.isclose(float((one - two).abs().max()), 0, abs_tol=2e-5 * float(two.abs().max()))
                elif two is not None:  # the oldest of the outputs, which no next step of this order reads
                    assert two is theirs.model_outputs[0]


def test_a_step_again_is_refused():
    """Of a scheduler that remembers; one that does not takes it, as pipelines do to have a first estimate of x_0."""
    ours, x = GenfastScheduler(made("UniPCMultistep", {}, 6)), torch.ones(2, 3, 4, 4)
    ours.step(x, ours.timesteps[0], x)
    ours._step_index -= 1
    with pytest.raises(
        ValueError, match="step_index must go up by one a call of UniPCMultistepScheduler; got 0 after 0"
    ):
        ours.step(x, ours.timesteps[0], x)
    theirs = made("EDMEuler", {}, 6)
    ours, x = GenfastScheduler(theirs), start(theirs)
    for t in theirs.timesteps:
        whole = []
        for one in (ours, theirs):
            F = output(one, x, t)
            estimate = one.step(F, t, torch.cat([x, x])[: len(F)], return_dict=False)[1]
            one._step_index -= 1
            whole.append(one.step(F, t, x, pred_original_sample=0.5 * estimate).prev_sample)
        assert difference(*whole) < 1e-5
        x = whole[0]
