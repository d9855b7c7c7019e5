"""The drop-in scheduler: pipelines, config, precision, seeds, image-to-image, gradients, bad input."""

import contextlib
import copy
import inspect
import itertools
import json
import pickle
from unittest import mock

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")

from peer_diffusers import KARRAS, SCALED, SEED, SHAPE, difference, loop, made, network, noise, our_noise, start  # noqa: E402

from genfast import ops  # noqa: E402
from genfast.diffusion.sampling.sample import sample  # noqa: E402
from genfast.integrations.diffusers import GenfastScheduler, denoiser, from_scheduler  # noqa: E402
from genfast.integrations.diffusers.tables import VARIABLES  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:The `scale_model_input` function:UserWarning"),
]


def unet(channels=3):
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    size = {"sample_size": 8, "in_channels": channels, "out_channels": channels, "block_out_channels": (8, 8)}
    return diffusers.UNet2DModel(**size, **blocks, layers_per_block=1, norm_num_groups=4).eval()


@pytest.mark.parametrize("name", ["DDPM", "DDIM"])
def test_pipelines_change_one_line(name, tmp_path):
    pipe = getattr(diffusers, f"{name}Pipeline")(unet(), getattr(diffusers, f"{name}Scheduler")())
    pipe.set_progress_bar_config(disable=True)

    def images():
        generator = torch.Generator().manual_seed(3)
        return pipe(2, num_inference_steps=6, generator=generator, output_type="np").images

    drawn = []

    def remembered(count, device, generator, *rest):
        drawn.append(SEED)
        return ops.make_key(SEED, count)

    with our_noise(pipe.scheduler):
        theirs = images()
    pipe.scheduler = GenfastScheduler.from_scheduler(pipe.scheduler)
    with mock.patch("genfast.integrations.diffusers.run._key", remembered):
        ours = images()
    assert drawn == [SEED] and np.abs(ours - theirs).max() < 2e-5 and theirs.std() > 0.01

    again, twice = images(), images()
    assert (again == twice).all()  # the seed is the generator's
    pipe.save_pretrained(tmp_path)
    loaded = GenfastScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    left_out = {"_use_default_values", "_diffusers_version"}
    assert {k: v for k, v in loaded.config.items() if k not in left_out} == {
        k: v for k, v in pipe.scheduler.config.items() if k not in left_out
    }
    assert loaded.config._scheduler == loaded.config._class_name == f"{name}Scheduler"


def test_denoiser_of_a_unet():
    net, scheduler = unet(), made("DDIM", {"clip_sample": False}, 5)
    ours = sample(denoiser(scheduler, net), (3, 8, 8), from_scheduler(scheduler)[1], 2, seed=1, chunk=2, progress=False)
    pipe = diffusers.DDIMPipeline(net, scheduler)
    pipe.set_progress_bar_config(disable=True)
    x = ops.normal(ops.make_key(1, 2), (3, 8, 8), ops.Purpose.PRIOR)
    with mock.patch("diffusers.pipelines.ddim.pipeline_ddim.randn_tensor", lambda *_, **__: x):
        theirs = pipe(2, num_inference_steps=5, output_type="np").images
    assert np.abs((ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() - theirs).max() < 1e-5


def test_config_in_and_out():
    theirs = diffusers.EulerDiscreteScheduler(**SCALED, **KARRAS)
    ours = GenfastScheduler.from_config(theirs.config, scheduler="EulerDiscreteScheduler", seed=5)
    assert ours.config.beta_schedule == "scaled_linear" and ours.config._seed == 5
    back = diffusers.EulerDiscreteScheduler.from_config(ours.config)
    assert all(back.config[name] == value for name, value in theirs.config.items() if name[0] != "_")
    other = diffusers.DPMSolverMultistepScheduler.from_config(ours.config)
    assert other.config.beta_schedule == "scaled_linear" and other.config.use_karras_sigmas
    copy = GenfastScheduler.from_config(ours.config, use_karras_sigmas=False)
    assert copy.config._scheduler == "EulerDiscreteScheduler" and not copy.config.use_karras_sigmas
    copy.set_timesteps(4)
    assert copy.sigmas.equal(made("EulerDiscrete", SCALED, 4).sigmas)
    assert GenfastScheduler(copy).timesteps.equal(copy.timesteps)


def test_looks_like_the_original():
    for name in VARIABLES:
        theirs = getattr(diffusers, name)()
        theirs.set_timesteps(5)
        ours = GenfastScheduler(theirs)
        assert ours.timesteps.equal(theirs.timesteps) and ours.order == theirs.order and len(ours) == len(theirs)
        for field in ("sigmas", "init_noise_sigma", "alphas_cumprod", "betas", "num_inference_steps"):
            assert hasattr(ours, field) == hasattr(theirs, field)
            assert not hasattr(ours, field) or np.array_equal(getattr(ours, field), getattr(theirs, field))


@pytest.mark.parametrize("name", ["DDPM", "DDIM", "EulerDiscrete", "HeunDiscrete", "LMSDiscrete"])
def test_outputs(name):
    scheduler = made(name, {}, 10)
    ours, x = GenfastScheduler(scheduler, seed=SEED), start(scheduler)
    t = scheduler.timesteps[0]
    F = network(x, t)
    before = x.clone(), F.clone()
    with our_noise(scheduler):
        expected = scheduler.step(F, t, scheduler.scale_model_input(x, t) if name == "" else x)
        pair = scheduler.step(F, t, x, return_dict=False)
    got = ours.step(F, t, x)
    assert difference(got.prev_sample, expected.prev_sample) < 1e-5
    assert difference(got.pred_original_sample, expected.pred_original_sample) < 1e-5
    assert len(GenfastScheduler(scheduler, seed=SEED).step(F, t, x, return_dict=False)) == len(pair)
    assert x.equal(before[0]) and F.equal(before[1])


def test_add_noise_and_low_precision():
    """In bfloat16 diffusers' alphas_cumprod of the first timesteps round to 1: no noise is added at all."""
    x, z, t = torch.zeros(4, 3), noise().flatten()[:12].reshape(4, 3), torch.tensor([0, 1, 500, 999])
    for name in ("DDPM", "DDIM"):
        theirs = made(name, {}, 10)
        ours = GenfastScheduler(theirs)
        assert ours.add_noise(x, z, t).equal(theirs.add_noise(x, z, t))
        low = ours.add_noise(x.bfloat16(), z.bfloat16(), t)
        assert low.dtype == torch.bfloat16 and difference(low.float(), ours.add_noise(x, z, t)) < 2**-7
        assert not theirs.add_noise(x.bfloat16(), z.bfloat16(), t)[:2].any() and bool(low[:2].any())
    theirs = made("EulerDiscrete", {}, 10)
    ours, t = GenfastScheduler(theirs), theirs.timesteps[[2, 5, 5, 9]]
    assert ours.add_noise(x, z, t).equal(theirs.add_noise(x, z, t))


def test_half_precision_goes_on_from_float32():
    """Against float32 states with the same rounded network calls: rounding the state at every step is worse."""
    scheduler = made("EulerDiscrete", {}, 50)
    x = start(scheduler)

    def low(y, t):
        return network(y.bfloat16().float(), t).bfloat16().to(y.dtype)

    exact = loop(GenfastScheduler(scheduler), x, net=low)[-1]
    ours = loop(GenfastScheduler(scheduler), x.bfloat16(), net=low)[-1]
    theirs = loop(scheduler, x.bfloat16(), net=low)[-1]
    assert ours.dtype == torch.bfloat16
    errors = [float((result.float() - exact).abs().mean()) for result in (ours, theirs)]
    assert errors[0] < 0.7 * errors[1]


def test_noise_is_a_function_of_seed_and_sample():
    scheduler = made("EulerAncestralDiscrete", {}, 8)
    x = start(scheduler, 4)
    one, two = (loop(GenfastScheduler(scheduler, seed=s), x)[-1] for s in (1, 2))
    assert one.equal(loop(GenfastScheduler(scheduler, seed=1), x)[-1]) and not one.equal(two)
    assert one[:2].equal(loop(GenfastScheduler(scheduler, seed=1), x[:2])[-1])

    def seeded(which):
        generators = [torch.Generator().manual_seed(i) for i in which]
        return loop(GenfastScheduler(scheduler), x[which], {"generator": generators})[-1]

    assert seeded([0, 1, 2, 3])[[3, 1]].equal(seeded([3, 1]))  # a generator a sample: whatever the batch
    torch.manual_seed(0)
    first = loop(GenfastScheduler(scheduler), x)[-1]
    torch.manual_seed(0)
    assert first.equal(loop(GenfastScheduler(scheduler), x)[-1])
    with pytest.raises(ValueError, match="generator must be one, or a list of 4"):
        loop(GenfastScheduler(scheduler), x, {"generator": [torch.Generator()]})


def test_given_noise():
    for name, config, options in (
        ("DDIM", {}, {"eta": 0.6}),
        ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}, {}),
    ):
        scheduler = made(name, config, 8)
        options |= {"variance_noise": noise(seed=11)}
        theirs = loop(scheduler, start(scheduler), options)
        assert difference(loop(GenfastScheduler(scheduler), start(scheduler), options), theirs) < 1e-5


@pytest.mark.parametrize("name", ["DDIM", "EulerDiscrete", "HeunDiscrete", "DPMSolverMultistep", "UniPCMultistep"])
def test_image_to_image_begins_in_the_middle(name):
    scheduler = made(name, {}, 20)
    begin = 6 * scheduler.order
    for by_index in (True, False):
        states = []
        for one in (GenfastScheduler(scheduler), made(name, {}, 20)):
            x, state = noise(), []
            if by_index and hasattr(one, "set_begin_index") and name != "DDIM":
                one.set_begin_index(begin)
            for t in one.timesteps[begin:]:
                x = one.step(network(one.scale_model_input(x, t), t), t, x).prev_sample
                state.append(x)
            states.append(torch.stack(state))
        assert difference(*states) < 1e-5


def test_what_is_prepared_follows_the_settings():
    betas = np.linspace(1e-4, 0.02, 100)  # an array in the config
    ours, x = GenfastScheduler(diffusers.DDIMScheduler(100, trained_betas=betas)), noise()
    ends = []
    for steps, eta in ((10, 0.0), (10, 0.0), (5, 0.0), (10, 0.5), (10, 0.0)):
        ours.set_timesteps(steps)
        ends.append(loop(ours, x, {"eta": eta})[-1])
    assert ends[0].equal(ends[1]) and ends[0].equal(ends[4])
    assert not ends[0].equal(ends[2]) and not ends[0].equal(ends[3])
    flow, ends = GenfastScheduler(diffusers.FlowMatchEulerDiscreteScheduler()), []
    for shift in (1.0, 3.0):
        flow.set_shift(shift)
        flow.set_timesteps(10)
        ends.append(loop(flow, x)[-1])
    theirs = made("FlowMatchEulerDiscrete", {}, 10)
    theirs.set_shift(3.0)
    theirs.set_timesteps(10)
    assert not ends[0].equal(ends[1]) and difference(ends[1][None], loop(theirs, x)[-1:]) < 1e-5


def test_a_run_again_and_a_step_again():
    """A pipeline that is called twice, and a loop that goes back, as RePaint does: there the noise is new."""
    scheduler = made("DDPM", {}, 10)
    ours, x = GenfastScheduler(scheduler), start(scheduler)
    states = loop(ours, x)
    ours.set_timesteps(10)
    assert not states.equal(loop(ours, x))
    t = ours.timesteps[4]
    ours.set_timesteps(10)
    first, second = (ours.step(network(x, t), t, x).prev_sample for _ in range(2))
    assert not first.equal(second) and difference(first, second) < 2


@pytest.mark.parametrize("name", ["DDIM", "EulerDiscrete", "HeunDiscrete", "UniPCMultistep"])
def test_gradients_go_through(name):
    scheduler, gradients = made(name, {}, 5), []
    for one in (GenfastScheduler(scheduler), scheduler):
        x = start(scheduler).requires_grad_()
        gradients.append(torch.autograd.grad(loop(one, x)[-1].square().sum(), x)[0])
    assert difference(*[g[None] for g in gradients]) < 1e-4 and gradients[0].abs().max() > 0


def test_channels_last_and_empty():
    scheduler = made("DPMSolverMultistep", {}, 6)
    x = start(scheduler)
    last = loop(GenfastScheduler(scheduler), x.contiguous(memory_format=torch.channels_last))
    assert difference(last, loop(GenfastScheduler(scheduler), x)) < 1e-6
    assert loop(GenfastScheduler(scheduler), x[:0]).shape == (6, 0, *SHAPE)


ONE = torch.ones(1, 1, 1, 1)


def test_scale_noise_moves():
    ours = GenfastScheduler(diffusers.FlowMatchEulerDiscreteScheduler())
    ours.set_timesteps(10)
    ours.set_begin_index(4)
    ours.step(ONE, ours.timesteps[4], 0 * ONE)
    assert ours.scale_noise(0 * ONE, ours.timesteps[5][None], ONE).item() == pytest.approx(0.445, abs=1e-3)


@pytest.mark.parametrize("name", VARIABLES)
def test_all_that_depends_on_the_position_moves(name):
    """scale_noise, add_noise, scale_model_input, get_velocity, step_index, begin_index: after every call."""
    x, z = noise(seed=1), noise(seed=2)
    theirs = made(name.removesuffix("Scheduler"), {}, 6)
    for begin in (None, 0, 2):
        ours = GenfastScheduler(theirs, seed=SEED)
        for one in (ours, theirs):
            one.set_timesteps(6)
            if begin is not None and hasattr(one, "set_begin_index"):
                one.set_begin_index(begin)
        for i in range(begin or 0, len(theirs.timesteps) - 1):
            for method, arguments in (("scale_noise", 3), ("add_noise", 3), ("scale_model_input", 2)):
                if hasattr(theirs, method):
                    t = theirs.timesteps[i : i + 1].repeat(2) if method == "add_noise" else theirs.timesteps[i : i + 1]
                    given = (x, z, t) if method == "add_noise" else (x, t, z)[:arguments]
                    assert difference(getattr(ours, method)(*given), getattr(theirs, method)(*given)) < 1e-6
            F, t = network(x, theirs.timesteps[i]), theirs.timesteps[i]
            with our_noise(theirs):
                theirs.step(F, t, x)
            ours.step(F, t, x)
            for field in ("step_index", "begin_index"):
                assert getattr(ours, field, "none") == getattr(theirs, field, "none")


@pytest.mark.parametrize("name", VARIABLES)
def test_it_is_the_scheduler_that_it_stands_for(name, tmp_path):
    Peer = getattr(diffusers, name)
    theirs = Peer()
    ours = GenfastScheduler(theirs, seed=4)
    assert isinstance(ours, Peer) and isinstance(ours, GenfastScheduler) and type(ours).__name__ == f"Genfast{name}"
    assert type(ours) is type(GenfastScheduler.from_scheduler(Peer())) is type(GenfastScheduler(ours))
    for method in ("__init__", "step", "set_timesteps", "add_noise"):
        if hasattr(Peer, method):
            assert inspect.signature(getattr(type(ours), method)) == inspect.signature(getattr(Peer, method))
    for attribute in ("add_noise", "scale_noise", "set_begin_index", "sigmas", "alphas_cumprod", "step_index"):
        assert hasattr(ours, attribute) == hasattr(theirs, attribute)
    assert ours.compatibles == theirs.compatibles or set(ours.compatibles) == set(theirs.compatibles)

    ours.set_timesteps(6)
    theirs.set_timesteps(6)
    x, t = start(theirs), ours.timesteps[0]
    with our_noise(theirs):
        expected = theirs.step(x, t, x)
    copies = [ours, pickle.loads(pickle.dumps(ours)), copy.copy(ours), copy.deepcopy(ours)]
    for one in copies:
        got = one.step(x, t, x)
        assert type(one) is type(ours) and type(got) is type(expected) and list(got) == list(expected)
        assert got[0] is got["prev_sample"] is got.to_tuple()[0] is next(iter(got.values())) is got.prev_sample
    tuples = copies[1].step(x, ours.timesteps[1], x, return_dict=False), theirs.step(x, t, x, return_dict=False)
    assert type(tuples[0]) is tuple and len(tuples[0]) == len(tuples[1])

    ours.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"] == name
    loaded, unused = GenfastScheduler.from_pretrained(tmp_path, return_unused_kwargs=True)
    assert type(loaded) is type(ours) and loaded.config._seed == 4
    assert unused.pop("_class_name") == name and all(key.startswith("_") for key in unused)
    assert type(Peer.from_pretrained(tmp_path)) is Peer
    again = type(ours).from_config(theirs.config, seed=5)
    assert type(again) is type(ours) and again.config._seed == 5
    assert type(pickle.loads(pickle.dumps(type(ours)))) is type(type(ours))


def test_the_name_in_a_config_is_that_of_the_last_scheduler():
    ours = GenfastScheduler(diffusers.DDIMScheduler())
    theirs = diffusers.EulerDiscreteScheduler.from_config(ours.config)
    assert isinstance(GenfastScheduler.from_config(theirs.config), diffusers.EulerDiscreteScheduler)
    assert isinstance(GenfastScheduler.from_config({"_scheduler": "DDIMScheduler"}), diffusers.DDIMScheduler)
    with pytest.raises(ValueError, match=r"scheduler must be one of .* got 'PNDMScheduler'"):
        GenfastScheduler.from_config(theirs.config, scheduler="PNDMScheduler")

    class Named(diffusers.DDIMScheduler):
        pass

    again = GenfastScheduler.from_config(GenfastScheduler(Named(), seed=2).config)
    assert type(again).peer is diffusers.DDIMScheduler and again.config._seed == 2

    class Mine(GenfastScheduler):
        pass

    mine = Mine(ours)
    assert isinstance(mine, Mine) and isinstance(mine, diffusers.DDIMScheduler)
    assert type(copy.deepcopy(mine)) is type(mine) is type(Mine.from_config(ours.config))
    own = type(ours)(50, clip_sample=False)
    assert own.config.num_train_timesteps == 50 and not own.config.clip_sample and own.config._seed is None


def test_a_whole_pipeline_comes_back(tmp_path):
    pipe = diffusers.DDIMPipeline(unet(), diffusers.DDIMScheduler())
    pipe.scheduler = GenfastScheduler.from_scheduler(pipe.scheduler, seed=3)
    pipe.save_pretrained(tmp_path)
    assert type(diffusers.DDIMPipeline.from_pretrained(tmp_path).scheduler).__name__.endswith("DDIMScheduler")


def test_arguments_of_the_scheduler_s_own_step():
    """By position and by name; what the kernel has not is diffusers' to do."""
    x, F = noise(seed=1), noise(seed=2)
    for name, arguments, options in (
        ("DDIM", (0.5, True), {"variance_noise": noise(seed=3)}),
        ("DDIM", (0.0,), {}),
        ("LMSDiscrete", (2,), {}),
        ("EDMEuler", (), {"pred_original_sample": noise(seed=3)}),
        ("EDMEuler", (1.0,), {"s_noise": 0.0}),
        ("EulerDiscrete", (1.0, 0.0, float("inf"), 0.0), {}),
        ("FlowMatchHeunDiscrete", (), {"s_churn": 1.0, "s_noise": 0.0}),
        ("FlowMatchEulerDiscrete", (5.0,), {}),
        ("FlowMatchEulerDiscrete", (), {"per_token_timesteps": torch.full((2, 3), 500.0)}),
    ):
        theirs = made(name, {}, 6)
        ours, t = GenfastScheduler(theirs), theirs.timesteps[0]
        given = (x[..., 0], F[..., 0]) if "per_token_timesteps" in options else (x, F)
        pair = [one.step(given[1], t, given[0], *arguments, **options).prev_sample for one in (ours, theirs)]
        assert difference(*pair) < 1e-5
        named = ours.__class__.from_config(ours.config)
        named.set_timesteps(6)
        names = list(inspect.signature(theirs.step).parameters)[3:]
        options = dict(zip(names, arguments, strict=False)) | options
        got = named.step(sample=given[0], timestep=t, model_output=given[1], **options).prev_sample
        assert got.equal(pair[0])
    ours = GenfastScheduler(made("DDIM", {}, 6))
    with pytest.raises(ValueError, match="generator and variance_noise"):
        ours.step(x, 0, x, eta=1.0, generator=torch.Generator(), variance_noise=x)


@pytest.mark.parametrize(
    "name", ["DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "EDMEuler", "FlowMatchEulerDiscrete"]
)
def test_a_step_before_set_timesteps(name):
    theirs = getattr(diffusers, f"{name}Scheduler")()
    ours, x = GenfastScheduler(theirs, seed=SEED), noise()
    with our_noise(theirs):
        for t in theirs.timesteps[3:5]:
            assert difference(*[one.step(x, t, x).prev_sample for one in (ours, theirs)]) < 1e-5


def test_thresholding_below_one():
    for name in ("DDPM", "DDIM", "DPMSolverMultistep", "UniPCMultistep"):
        scheduler = made(name, {"thresholding": True, "sample_max_value": 0.5}, 8)
        with our_noise(scheduler):
            theirs = loop(scheduler, start(scheduler))
        assert difference(loop(GenfastScheduler(scheduler, seed=SEED), start(scheduler)), theirs) < 1e-5


def test_what_has_no_plan_is_diffusers_own_step():
    """A warning names the setting; the numbers are diffusers', with its noise."""
    x = noise(seed=1)
    for name, config, fault in (
        ("DDPM", {"variance_type": "learned_range"}, "variance_type"),
        ("DPMSolverMultistep", {"variance_type": "learned"}, "variance_type"),
        ("UniPCMultistep", {"predict_x0": False, "final_sigmas_type": "sigma_min"}, "predict_x0"),
        ("UniPCMultistep", {**KARRAS, "sigma_max": 200.0}, "sigma_max with use_karras_sigmas"),
        ("FlowMatchEulerDiscrete", {"invert_sigmas": True}, "invert_sigmas"),
        ("DPMSolverSinglestep", {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type"),
        ("DPMSolverMultistep", {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, "euler_at_final"),
    ):
        scheduler = made(name, config, 20)
        wide = 2 if "variance_type" in config else 1
        states = []
        for one in (scheduler, GenfastScheduler(scheduler)):
            state, z = x, torch.Generator().manual_seed(0)
            options = {"generator": z} if "generator" in inspect.signature(one.step).parameters else {}
            with contextlib.nullcontext() if one is scheduler else pytest.warns(UserWarning, match=fault):
                for t in one.timesteps:
                    F = torch.cat([network(state, t)] * wide, 1)
                    state = one.step(F, t, state, **options).prev_sample
            states.append(state)
        assert states[0].equal(states[1])


def test_dtypes_are_those_of_diffusers():
    for name in VARIABLES:
        theirs = made(name.removesuffix("Scheduler"), {}, 4)
        for of_sample, of_output in itertools.product((torch.float32, torch.bfloat16, torch.float64), repeat=2):
            ours, x = GenfastScheduler(theirs, seed=SEED), noise().to(of_sample)
            theirs.set_timesteps(4)
            with our_noise(theirs):
                pair = [one.step(noise().to(of_output), one.timesteps[0], x).to_tuple() for one in (ours, theirs)]
            assert pair[0][0].dtype == pair[1][0].dtype, (name, of_sample, of_output)


def test_bad_steps():
    ours, x = GenfastScheduler(diffusers.EulerDiscreteScheduler()), noise()
    ours.set_timesteps(5)
    t = ours.timesteps[0]
    with pytest.raises(ValueError, match="timestep must be one of"):
        ours.step(x, 1.5, x)
    with pytest.raises(ValueError, match="model_output must have shape"):
        ours.step(x[:1], t, x)
    with pytest.raises(ValueError, match="integer indices"):
        ours.step(x, 3, x)
    with pytest.raises(ValueError, match="set_timesteps"):
        GenfastScheduler(diffusers.DDIMScheduler()).step(x, 0, x)
    with pytest.raises(TypeError, match="timesteps"):
        GenfastScheduler(diffusers.DDIMScheduler()).set_timesteps(timesteps=[5, 1])
    for arguments, options in (((x, t), {}), ((x, t, x), {"eta": 0.0}), ((x, t, x), {"sample": x}), ((x,) * 12, {})):
        with pytest.raises(TypeError):
            ours.step(*arguments, **options)
    with pytest.raises(AttributeError):
        _ = GenfastScheduler(diffusers.DDIMScheduler()).sigmas
    ours = GenfastScheduler(diffusers.LMSDiscreteScheduler())
    ours.set_timesteps(5)
    ours.step(x, ours.timesteps[0], x)
    with pytest.raises(ValueError, match="order must stay the same in a trajectory; got 2 after 4"):
        ours.step(x, ours.timesteps[1], x, order=2)

    class Other(diffusers.DDIMScheduler):
        def step(self, *args, **kwargs):
            return None

    with pytest.raises(TypeError, match="must step as DDIMScheduler; Other has a step of its own"):
        GenfastScheduler(Other())
