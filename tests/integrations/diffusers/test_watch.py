"""What is given and what is changed: timesteps on any device, settings, tables; each is in the next step."""

import copy
import itertools

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")

from peer_diffusers import LEADING, V, difference, made, network, noise, our_noise, start  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from genfast.integrations.diffusers import GenfastScheduler  # noqa: E402
from genfast.integrations.diffusers.tables import VARIABLES  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:The `scale_model_input` function:UserWarning"),
]
ONE = torch.ones(1, 1, 1, 1)


class Reads(TorchDispatchMode):
    """Counts how often numbers of one tensor are read."""

    def __init__(self, tensor):
        super().__init__()
        self.tensor, self.count = torch.as_tensor(tensor), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += args[0].data_ptr() == self.tensor.data_ptr()
        return func(*args, **(kwargs or {}))


def through(scheduler, x, timesteps):
    """The states of a loop over (timestep, the number that the network is told)."""
    states = []
    for t, value in timesteps:
        y = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(network(y, value), t, x).prev_sample
        states.append(x)
    return torch.stack(states)


@pytest.mark.parametrize("name", VARIABLES)
def test_no_timestep_is_read_back(name):
    """On the meta device there is nothing to read: from the beginning and from the middle."""
    scheduler = made(name.removesuffix("Scheduler"), {}, 6)
    values = scheduler.timesteps.tolist()
    for begin in (0, 2):
        ours = GenfastScheduler(scheduler, seed=1)
        ours.set_timesteps(6, device="meta")
        assert ours.timesteps.is_meta and ours.timesteps.shape == scheduler.timesteps.shape
        x = start(scheduler)
        away = through(ours, x, list(zip(ours.timesteps, values, strict=True))[begin:])
        ours.set_timesteps(6)
        ours.timesteps = ours.timesteps.to("meta")
        assert away.equal(through(ours, x, list(zip(ours.timesteps, values, strict=True))[begin:]))
        ours.set_timesteps(6)
        assert away.equal(through(ours, x, list(zip(ours.timesteps, values, strict=True))[begin:]))


@pytest.mark.parametrize("name", ["DDIM", "DDPM"])
def test_any_timestep_is_stepped_from(name):
    """To and fro as RePaint, in any form; it is read, once, only where it is no part of `timesteps`."""
    theirs = made(name, {}, 10)
    ours, x, t = GenfastScheduler(theirs, seed=1), noise(), theirs.timesteps
    order = [3, 4, 5, 3, 4, 5, 6, 0, 9, 2, 2]
    forms = (lambda i: ours.timesteps[i], lambda i: t[i].clone(), lambda i: int(t[i]), lambda i: t[i : i + 1].clone())
    for i in order:  # what is prepared, is now
        ours.step(x, t[i], x)
    for form, reads in zip(forms, (0, 1, 0, 1), strict=True):
        for i in order:
            given, F = form(i), network(x, t[i])
            with our_noise(theirs):
                expected = theirs.step(F, t[i], x)
            with Reads(given) as read:
                got = ours.step(F, given, x)
            assert read.count == reads
            assert difference(got.pred_original_sample, expected.pred_original_sample) < 1e-5
            if name == "DDIM":
                assert difference(got.prev_sample, expected.prev_sample) < 1e-5
            else:  # whose noise is another, of the same size
                size = theirs._get_variance(t[i]).sqrt() * (i < 9)
                assert (got.prev_sample - expected.prev_sample).abs().max() < 7 * size + 1e-5


def test_timesteps_outside_of_the_table():
    theirs, x = made("DDIM", {}, 10), noise()
    ours = GenfastScheduler(theirs)
    for given in (1, 333, torch.tensor(998)):
        F = network(x, given)
        assert difference(ours.step(F, given, x).prev_sample, theirs.step(F, given, x).prev_sample) < 1e-5
    theirs = made("UniPCMultistep", {}, 10)  # which takes the last for one that it does not have
    ours = GenfastScheduler(theirs)
    assert difference(ours.step(x, 5, x).prev_sample, theirs.step(x, 5, x).prev_sample) < 1e-5


def test_a_view_of_other_timesteps_is_no_place_in_these():
    ours, x = GenfastScheduler(diffusers.DDIMScheduler()), noise()
    ours.set_timesteps(10)
    before = ours.timesteps
    ours.set_timesteps(5)
    theirs, t = made("DDIM", {}, 5), before[3]
    assert difference(ours.step(x, t, x).prev_sample, theirs.step(x, t, x).prev_sample) < 1e-5
    ours.timesteps = before[1::2]
    theirs.timesteps = before[1::2].clone()
    for given in (ours.timesteps[1], before[3]):
        assert difference(ours.step(x, given, x).prev_sample, theirs.step(x, given, x).prev_sample) < 1e-5


def test_a_registered_setting_is_used():
    ours = GenfastScheduler(diffusers.EulerDiscreteScheduler())
    ours.set_timesteps(10)
    ours.register_to_config(prediction_type="v_prediction")
    assert ours.step(ONE, ours.timesteps[0], 10 * ONE).prev_sample.item() == pytest.approx(2.8136, abs=1e-4)


def changes():
    """(scheduler, change): of settings and tables, each in the middle of a trajectory."""

    def register(**settings):
        return lambda s: s.register_to_config(**settings)

    def assign(name, value):
        return lambda s: setattr(s, name, value(getattr(s, name)))

    def in_place(name, place, factor):
        return lambda s: getattr(s, name)[place : place + 1].mul_(factor)

    def unseen(name, place, factor):
        def change(s):
            getattr(s, name).data[place] *= factor

        return change

    def final(s):
        s.sigmas[-1] = s.sigmas[-2]

    def config(**settings):
        def change(s):
            for name, value in settings.items():
                setattr(s.config, name, value)

        return change

    every = ["EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep"]
    every += ["UniPCMultistep", "DEISMultistep"]
    for name in every:
        yield name, register(prediction_type="v_prediction")
        yield name, in_place("sigmas", 8, 0.97)
        yield name, unseen("sigmas", 8, 0.97)
        yield name, assign("sigmas", lambda sigmas: sigmas * torch.linspace(1, 0.9, len(sigmas)))
    for name in (
        "EulerDiscrete",
        "DPMSolverMultistep",
        "UniPCMultistep",
        "FlowMatchEulerDiscrete",
        "FlowMatchHeunDiscrete",
    ):
        yield name, final
    for name in ("DDIM", "DDPM"):
        yield name, register(clip_sample=False)
        yield name, config(clip_sample=False)
        yield name, assign("alphas_cumprod", lambda products: products**1.1)
        yield name, in_place("alphas_cumprod", 500, 0.999)
        yield name, assign("timesteps", lambda timesteps: timesteps // 2 * 2)
    yield "DDIM", assign("final_alpha_cumprod", lambda final: final * 0.99995)
    yield "DDIM", assign("num_inference_steps", lambda steps: 2 * steps)
    yield "DDPM", register(thresholding=True, sample_max_value=0.5)
    yield "DDPM", register(variance_type="fixed_large")
    yield "UniPCMultistep", assign("disable_corrector", lambda _: [5, 6])
    yield "DPMSolverMultistep", register(solver_type="heun", euler_at_final=True)
    yield "FlowMatchEulerDiscrete", assign("sigmas", lambda sigmas: sigmas * 0.9)


CHANGES = list(changes())


@pytest.mark.parametrize("when", [0, 5])
@pytest.mark.parametrize(("name", "change"), CHANGES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CHANGES)])
@pytest.mark.filterwarnings("ignore:the steps are those of:UserWarning")
def test_a_change_is_in_the_next_step(name, change, when):
    """Before the first step, and in the middle of a trajectory."""
    config = {"variance_type": "fixed_small"} if name == "DDPM" else {}
    states = []
    for whose in ("theirs", "ours"):
        scheduler = made(name, config, 10)
        one = scheduler if whose == "theirs" else GenfastScheduler(scheduler, seed=7)
        x, state = start(scheduler), []
        with our_noise(scheduler):
            for i, index in enumerate(range(len(one.timesteps))):
                if i == when:
                    change(one)
                t = one.timesteps[index]
                y = one.scale_model_input(x, t) if hasattr(one, "scale_model_input") else x
                x = one.step(network(y, t), t, x).prev_sample
                state.append(x)
        states.append(torch.stack(state))
    assert difference(*states[::-1]) < 2e-5


def test_nothing_of_an_earlier_run():
    ours, x, ends = GenfastScheduler(diffusers.EulerDiscreteScheduler()), noise() * 10, []
    for config, steps in itertools.product(({}, V, LEADING), (4, 7)):
        ours.register_to_config(
            **{"prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0, **config}
        )
        ours.set_timesteps(steps)
        theirs = made("EulerDiscrete", config, steps)
        pairs = [through(s, x, list(zip(s.timesteps, s.timesteps.tolist(), strict=True))) for s in (ours, theirs)]
        assert difference(*pairs) < 1e-5
        ends.append(pairs[0][-1])
    assert not any(one.equal(other) for one, other in itertools.combinations(ends, 2))


def test_what_is_no_tensor_is_diffusers_to_take():
    ours, x = GenfastScheduler(diffusers.EulerDiscreteScheduler()), noise() * 10
    theirs = made("EulerDiscrete", {}, 5)
    ours.set_timesteps(5)
    for one in (ours, theirs):
        one.sigmas = one.sigmas.numpy()
        one.set_begin_index(0)
    with pytest.warns(UserWarning, match="sigmas must be a tensor to be made a plan; got ndarray"):
        got = ours.step(x, ours.timesteps[0], x).prev_sample
    assert difference(got, theirs.step(x, theirs.timesteps[0], x).prev_sample) < 1e-6


def test_inference_mode_counts_no_changes():
    scheduler = made("EulerDiscrete", {}, 6)
    expected = through(GenfastScheduler(scheduler), start(scheduler), [(t, t) for t in scheduler.timesteps])
    with torch.inference_mode():
        ours = GenfastScheduler(diffusers.EulerDiscreteScheduler())
        ours.set_timesteps(6)
        assert difference(through(ours, start(scheduler), [(t, t) for t in ours.timesteps]), expected) < 1e-6
        half = through(ours, start(scheduler).bfloat16(), [(t, t) for t in ours.timesteps])
    assert half.dtype == torch.bfloat16 and difference(half.float(), expected) < 0.1


def test_a_copy_goes_on_by_itself():
    scheduler = made("DPMSolverMultistep", {}, 8)
    ours, x = GenfastScheduler(scheduler), start(scheduler)
    pairs = [(t, t) for t in ours.timesteps]
    x = through(ours, x, pairs[:3])[-1]
    other = copy.copy(ours)
    assert through(ours, x, pairs[3:]).equal(through(other, x, pairs[3:])) and not (x - x[0]).equal(x)
