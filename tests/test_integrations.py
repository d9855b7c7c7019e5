"""diffusers' schedulers against ours on one fake network: in the loop of a pipeline, in our own loop, in float64.

Run as a program it prints the table of all cases: the greatest relative differences between trajectories.
"""

import contextlib
import importlib
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")

from genfast import ops  # noqa: E402
from genfast.integrations.diffusers import GenfastScheduler, denoiser, from_scheduler  # noqa: E402
from genfast.integrations.diffusers.tables import VARIABLES  # noqa: E402
from genfast.sampling import sample  # noqa: E402
from genfast.schedules import EDM, Flow  # noqa: E402
from genfast.solvers import SOLVERS  # noqa: E402
from genfast.solvers import plan as make_plan  # noqa: E402
from genfast.tabulated import Tabulated  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:The `scale_model_input` function:UserWarning"),
]
SEED, SHAPE = 7, (3, 4, 4)
KARRAS, EXPONENTIAL, BETA = ({f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta"))
V, SAMPLE, TRAILING = (
    {"prediction_type": "v_prediction"},
    {"prediction_type": "sample"},
    {"timestep_spacing": "trailing"},
)
LEADING, ZERO_SNR = (
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"rescale_betas_zero_snr": True, **V, **TRAILING},
)
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
COSINE, SCALED = {"beta_schedule": "squaredcos_cap_v2"}, {"beta_schedule": "scaled_linear"}
LOW = {"final_sigmas_type": "sigma_min"}


def _cases():
    """(scheduler, config, options of each step, steps)."""
    trained = {"trained_betas": np.linspace(1e-4, 0.03, 500).tolist(), "num_train_timesteps": 500}
    for config in ({}, V, SAMPLE, COSINE, {**ZERO_SNR}, trained, {"beta_schedule": "sigmoid"}, {"thresholding": True}):
        yield "DDPM", config, {}, 20
    for kind in ("fixed_small_log", "fixed_large"):
        yield "DDPM", {"variance_type": kind, "clip_sample": False}, {}, 20
    yield "DDPM", {"timestep_spacing": "linspace"}, {}, 15
    for config in ({}, V, SAMPLE, COSINE, ZERO_SNR, {**SCALED, **LEADING, "set_alpha_to_one": False}):
        for options in ({}, {"eta": 0.7}, {"eta": 1.0, "use_clipped_model_output": True}):
            yield "DDIM", config, options, 20
    yield "DDIM", {"set_alpha_to_one": False}, {"eta": 0.5}, 50
    yield "DDIM", {"thresholding": True, "sample_max_value": 2.0}, {}, 20
    for config in ({}, V, SAMPLE, KARRAS, EXPONENTIAL, BETA, LEADING, TRAILING, ZERO_SNR, {**KARRAS, **LOW}, SCALED):
        yield "EulerDiscrete", config, {}, 20
    yield "EulerDiscrete", {"timestep_type": "continuous", **V, "sigma_min": 0.1, "sigma_max": 50.0, **KARRAS}, {}, 20
    yield "EulerDiscrete", {"interpolation_type": "log_linear"}, {}, 50
    for config in ({}, V, LEADING, ZERO_SNR, COSINE):
        yield "EulerAncestralDiscrete", config, {}, 20
    for config in ({}, V, SAMPLE, KARRAS, EXPONENTIAL, BETA, LEADING, {"clip_sample": True}):
        yield "HeunDiscrete", config, {}, 20
    for order in (1, 2, 3, 4):
        yield "LMSDiscrete", KARRAS if order > 2 else {}, {"order": order}, 20
    for algorithm in ("dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"):
        for order in (1, 2, 3) if not algorithm.startswith("sde") else (1, 2):
            for steps in (10, 20):
                config = {"algorithm_type": algorithm, "solver_order": order}
                config |= {"solver_type": "heun" if steps == 20 else "midpoint"}
                yield "DPMSolverMultistep", config | ({} if algorithm.endswith("++") else LOW), {}, steps
    more = (V, SAMPLE, KARRAS, EXPONENTIAL, BETA, {"use_lu_lambdas": True}, FLOW, ZERO_SNR, {**KARRAS, **LOW}, LEADING)
    for config in (*more, {"thresholding": True}, {**COSINE, **KARRAS, **V}, {"lambda_min_clipped": -5.1, **COSINE}):
        yield "DPMSolverMultistep", {**config, "solver_order": 3}, {}, 12
    for algorithm in ("dpmsolver++", "dpmsolver"):
        for order in (1, 2, 3):
            for steps in (12, 20):
                config = {"algorithm_type": algorithm, "solver_order": order, "lower_order_final": steps == 20}
                config |= {"solver_type": "heun" if steps == 20 else "midpoint"}
                yield "DPMSolverSinglestep", config | ({} if algorithm.endswith("++") else LOW), {}, steps
    for config in (KARRAS, FLOW, V):
        yield "DPMSolverSinglestep", config, {}, 21
    for order in (1, 2, 3):
        for kind in ("bh1", "bh2"):
            last = LOW if kind == "bh1" else {}
            yield "UniPCMultistep", {"solver_order": order, "solver_type": kind, **last}, {}, 20
    for config in (
        V,
        SAMPLE,
        KARRAS,
        FLOW,
        {**FLOW, **KARRAS},
        {**KARRAS, **LOW},
        ZERO_SNR,
        {"lower_order_final": False},
    ):
        yield "UniPCMultistep", {**config, **({} if config.get("lower_order_final", True) else LOW)}, {}, 10
    for order in (1, 2, 3):
        for config in ({}, KARRAS):
            yield "DEISMultistep", {"solver_order": order, **config}, {}, 10 if config else 20
    for config in ({}, V, LOW, {"sigma_schedule": "exponential"}):
        yield "EDMEuler", config, {}, 20
        yield "EDMDPMSolverMultistep", {**config, "solver_order": 2 if config == LOW else 3}, {}, 20
    for order in (1, 2):
        yield "EDMDPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", "solver_order": order}, {}, 20
    for config in ({}, {"shift": 3.0}, {"stochastic_sampling": True}, KARRAS, {"shift_terminal": 0.1}):
        yield "FlowMatchEulerDiscrete", config, {}, 20
    for config in ({}, {"shift": 3.0}):
        yield "FlowMatchHeunDiscrete", config, {}, 20


CASES = list(_cases())
NAMES = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]
every_case = pytest.mark.parametrize("case", CASES, ids=NAMES)


def made(name, config, steps):
    scheduler = getattr(diffusers, f"{name}Scheduler")(**config)
    scheduler.set_timesteps(steps)
    return scheduler


def network(x, t, **_):
    """A function of each element, its place and the time."""
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1)) / 1000
    place = torch.linspace(-1, 1, x.shape[1:].numel(), dtype=x.dtype).reshape(x.shape[1:])
    return 0.6 * torch.sin(1.3 * x + t) + 0.3 * place * torch.cos(2 * t * x) + 0.1 * x


def noise(count=2, seed=SEED):
    return ops.normal(ops.make_key(seed, count), SHAPE, ops.Purpose.PRIOR)


def loop(scheduler, x, options=None, net=network):
    """The loop of diffusers' own tests; the state after every call."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    states = []
    for t in scheduler.timesteps:
        y = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(net(y, t), t, x, **(options or {})).prev_sample
        states.append(x)
    return torch.stack(states)


@contextlib.contextmanager
def our_noise(scheduler, count=2, seed=SEED, wide=False):
    """diffusers' scheduler draws the noise that ours makes: that of step 0, 1, 2, ...; wide: it computes in float64."""
    module, calls = importlib.import_module(type(scheduler).__module__), iter(range(10**6))

    def draw(shape, generator=None, device=None, dtype=None, layout=None):
        return ops.normal(ops.make_key(seed, count), shape[1:], ops.Purpose.STEP, next(calls)).to(dtype)

    class Wide:
        """torch, where float32 is float64: schedulers cast their state to it."""

        float32 = torch.float64

        def __getattr__(self, name):
            return getattr(torch, name)

    with mock.patch.object(module, "randn_tensor", draw, create=True):
        if not wide:
            yield
            return
        for name in ("alphas_cumprod", "sigmas", "final_alpha_cumprod", "one"):
            if hasattr(scheduler, name):
                setattr(scheduler, name, getattr(scheduler, name).double())
        with mock.patch.object(module, "torch", Wide()):
            yield


def start(scheduler, count=2):
    return noise(count) * float(getattr(scheduler, "init_noise_sigma", 1.0))


def difference(ours, theirs):
    """The greatest difference after any call, relative to the greatest number there."""
    return float(((ours - theirs).abs().flatten(1).amax(1) / theirs.abs().flatten(1).amax(1)).max())


def compare(name, config, options, steps, wide=True):
    """ours - theirs; if wide also theirs - theirs in float64, ours - theirs in float64, both in float64."""
    scheduler = made(name, config, steps)
    ours = GenfastScheduler.from_scheduler(scheduler, seed=SEED)
    x = start(scheduler)
    mine = loop(ours, x, options)
    with our_noise(scheduler):
        theirs = loop(scheduler, x, options)
    if not wide:
        return (difference(mine, theirs),)
    mine_wide = loop(ours, x.double(), options)
    scheduler = made(name, config, steps)
    with our_noise(scheduler, wide=True):
        wide = loop(scheduler, x.double(), options)
    return difference(mine, theirs), difference(theirs, wide), difference(mine, wide), difference(mine_wide, wide)


@every_case
def test_trajectory_is_that_of_diffusers(case):
    assert compare(*case, wide=False)[0] < 1e-5


@pytest.mark.parametrize("case", CASES[::5], ids=NAMES[::5])
def test_float64_says_whose_rounding_it_is(case):
    _, theirs, mine, wide = compare(*case)
    assert mine < max(1e-6, 3 * theirs)  # no further from their equations in float64 than they are
    assert wide < 1e-6  # float32 sigmas, of which the largest may lie one rounding beyond our table


def test_every_scheduler_is_compared():
    assert {f"{name}Scheduler" for name, *_ in CASES} == set(VARIABLES)


LOOPS = [
    ("DDPM", {"clip_sample": False}),
    ("DDIM", {"clip_sample": False}),
    ("DDIM", {"clip_sample": False, **ZERO_SNR}),
    ("EulerDiscrete", KARRAS),
    ("EulerDiscrete", {**V, **LEADING}),
    ("EulerAncestralDiscrete", {}),
    ("HeunDiscrete", SCALED),
    ("LMSDiscrete", {}),
    ("DPMSolverMultistep", {"solver_order": 3, **KARRAS}),
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverSinglestep", {"solver_order": 3}),
    ("UniPCMultistep", {"solver_order": 3, **FLOW}),
    ("DEISMultistep", {}),
    ("EDMEuler", {}),
    ("EDMDPMSolverMultistep", V),
    ("FlowMatchEulerDiscrete", {"shift": 3.0}),
    ("FlowMatchHeunDiscrete", {}),
]


@pytest.mark.parametrize(("name", "config"), LOOPS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(LOOPS)])
def test_plan_in_our_loop_is_the_pipeline_s(name, config):
    scheduler = made(name, config, 10)
    _, plan = from_scheduler(scheduler)
    D = denoiser(scheduler, network)
    states, watch = [], {"progress": False, "callback": lambda state: states.append(state.x)}
    ours = sample(D, SHAPE, plan, 3, seed=SEED, chunk=4, **watch)
    with our_noise(scheduler, 3):
        theirs = loop(scheduler, start(scheduler, 3))
    assert len(plan) == len(scheduler.timesteps)
    assert D.coefficients(torch.tensor(plan.t)).c_noise.float().equal(scheduler.timesteps.float())
    assert difference(torch.stack(states), theirs) < 1e-5 and ours.equal(states[-1])


def test_clipping_in_our_loop():
    scheduler = made("DDIM", {}, 20)
    D, (_, plan) = denoiser(scheduler, network), from_scheduler(scheduler)
    ours = sample(D, SHAPE, plan, 2, seed=SEED, clamp=(-1.0, 1.0), chunk=2, progress=False)
    theirs = loop(scheduler, start(scheduler), {"use_clipped_model_output": True})[-1]
    assert difference(ours[None], theirs[None]) < 1e-5


def test_schedule_and_variables():
    schedule, plan = from_scheduler(made("DPMSolverMultistep", SCALED, 10))
    products = diffusers.DPMSolverMultistepScheduler(**SCALED).alphas_cumprod.double()
    knots = torch.arange(1, 1001, dtype=torch.float64) / 1000
    assert isinstance(schedule, Tabulated) and torch.allclose(
        schedule.alpha(knots), products.sqrt(), rtol=1e-13, atol=0
    )
    assert plan.name == "dpmpp_2m" and plan.prior_std == 1
    scheduler = made("EulerDiscrete", LEADING, 10)
    schedule, plan = from_scheduler(scheduler)
    assert isinstance(schedule, EDM) and plan.prior_std == pytest.approx(float(scheduler.init_noise_sigma))
    assert plan.sigma == pytest.approx(scheduler.sigmas[:-1].double().numpy(), rel=1e-14)
    assert isinstance(from_scheduler(made("FlowMatchEulerDiscrete", {}, 10))[0], Flow)
    assert isinstance(from_scheduler(made("UniPCMultistep", FLOW, 10))[0], Flow)


def test_steps_leave_the_scheduler_as_it_is():
    scheduler = diffusers.DDIMScheduler()
    assert from_scheduler(scheduler, 10)[1] == from_scheduler(made("DDIM", {}, 10))[1]
    assert scheduler.num_inference_steps is None


# The drop-in scheduler ------------------------------------------------------------------------------------------------


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
    assert loaded.config._scheduler == f"{name}Scheduler"


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


# Where diffusers is wrong ---------------------------------------------------------------------------------------------


def test_ddim_steps_to_the_next_timestep():
    """With linspace spacing diffusers' DDIM goes to t - 1000 // steps, which is not the next timestep. With a network
    that knows x_0 = 1 and eps the state must be alpha + sigma eps at every timestep."""
    z, errors = noise(), []
    for scheduler in (made("DDIM", {"timestep_spacing": "linspace", "clip_sample": False}, 10),) * 2:
        one = GenfastScheduler(scheduler) if errors else scheduler
        products = scheduler.alphas_cumprod[one.timesteps].sqrt(), (1 - scheduler.alphas_cumprod[one.timesteps]).sqrt()
        truth = torch.stack([a + s * z for a, s in zip(*products)])
        states = loop(one, truth[0], net=lambda x, t: z)
        errors.append(float((states[:-1] - truth[1:]).abs().max()))
    assert errors[0] > 0.05 and errors[1] < 1e-4


def test_ddpm_adds_no_noise_to_the_last_state():
    """With trailing spacing the last timestep is above 0, and diffusers adds noise of variance beta to x_0 itself; of
    "fixed_large_log" it takes the root of log(beta), which is NaN."""
    truth, wrong = torch.full((2, *SHAPE), 0.5), []
    for variance in ("fixed_large", "fixed_large_log"):
        scheduler = made("DDPM", {"variance_type": variance, **SAMPLE, **TRAILING}, 20)
        with our_noise(scheduler):
            wrong.append((loop(scheduler, noise(), net=lambda x, t: truth)[-1] - truth).std())
        assert loop(GenfastScheduler(scheduler), noise(), net=lambda x, t: truth)[-1].equal(truth)
    assert wrong[0] > 0.1 and wrong[1].isnan()


def test_unipc_bh1_ends():
    """B(h) = h is infinite in the step to sigma = 0; diffusers multiplies it by 0."""
    scheduler = made("UniPCMultistep", {"solver_type": "bh1"}, 10)
    theirs, ours = loop(scheduler, start(scheduler)), loop(GenfastScheduler(scheduler), start(scheduler))
    assert theirs[-1].isnan().all() and ours[-1].isfinite().all()
    assert difference(ours[:-1], theirs[:-1]) < 1e-5


def test_edm_ends_at_sigma_min():
    """The last two sigmas are equal; diffusers' third order divides by the length of that step."""
    scheduler = made("EDMDPMSolverMultistep", {**LOW, "solver_order": 3}, 20)
    theirs, ours = loop(scheduler, start(scheduler)), loop(GenfastScheduler(scheduler), start(scheduler))
    assert theirs[-1].isnan().all() and difference(ours[:-1], theirs[:-1]) < 1e-5
    assert difference(ours[-1:], ours[-2:-1]) < 1e-6


@pytest.mark.parametrize(
    ("name", "config", "steps"), [("DDPM", {}, 500), ("DEISMultistep", {"solver_order": 3, **KARRAS}, 50)]
)
def test_float32_coefficients_lose_digits(name, config, steps):
    """Short steps make coefficients differences of numbers that are nearly equal, which diffusers takes in float32."""
    ours, theirs, mine, wide = compare(name, config, {}, steps)
    assert theirs > 1.5e-5 > 5e-6 > mine and wide < 1e-6 and ours < 2 * theirs


def test_lms_begins_with_the_history_it_has():
    """Image-to-image: diffusers' LMS takes the weights of four derivatives where there is one yet."""
    scheduler, ends = made("LMSDiscrete", {}, 20), []
    for one in (scheduler, GenfastScheduler(scheduler)):
        x = torch.zeros(2, *SHAPE)
        for t in one.timesteps[6:]:
            x = one.step(noise(), t, x).prev_sample
        ends.append(x)
    truth = -scheduler.sigmas[6] * noise()  # of a constant slope
    assert difference(ends[1][None], truth[None]) < 1e-5 and difference(ends[0][None], truth[None]) > 0.1


def test_duplicate_timesteps_begin_at_the_first():
    """Sigmas of the cosine schedule so dense that two timesteps are equal: diffusers begins at the second of them, and
    runs off the end of its table."""
    scheduler = made("DPMSolverMultistep", {**COSINE, **KARRAS}, 12)
    x = start(scheduler)
    with pytest.raises(IndexError):
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t), t, x).prev_sample
    ours, x = GenfastScheduler(scheduler), start(scheduler)
    for t in ours.timesteps:
        x = ours.step(network(x, t), t, x).prev_sample
    assert x.equal(loop(GenfastScheduler(scheduler), start(scheduler))[-1])


def test_third_order_sde_has_the_right_sign():
    """The mean of the reverse SDE where D is a known function of time, against its integral. diffusers' third-order
    sde-dpmsolver++ has the wrong sign in its quadratic term, which leaves it first order."""
    errors = {}
    for steps in (40, 80):
        config = {
            "algorithm_type": "sde-dpmsolver++",
            "solver_order": 3,
            **SAMPLE,
            **LOW,
            "use_exponential_sigmas": True,
        }
        scheduler = made("DPMSolverMultistep", config, steps)
        levels, calls = -scheduler.sigmas.double().log()[:-1], []

        def net(x, t, levels=levels, calls=calls):
            calls.append(1)
            return torch.sin(levels[len(calls) - 1]).expand_as(x)

        # d(x / alpha rho^2) = 2 D e^(2 l) dl with l = log(alpha / sigma) = -log rho
        l = torch.linspace(levels[0], levels[-1], 200001, dtype=torch.float64)
        integral = torch.trapezoid(2 * torch.sin(l) * torch.exp(2 * (l - l[-1])), l)
        x = torch.zeros(1, 1, dtype=torch.float64)
        truth = integral / (1 + scheduler.sigmas.double()[-2] ** 2).sqrt()
        for whose, one in (("ours", GenfastScheduler(scheduler)), ("theirs", scheduler)):
            calls.clear()
            with our_noise(scheduler, wide=True):
                states = loop(one, x, {"variance_noise": x}, net=net)
            errors[whose, steps] = float((states[-2] - truth).abs())
    assert errors["ours", 80] < errors["theirs", 80] / 5
    assert errors["theirs", 40] / errors["theirs", 80] < 2.5 < 3 < errors["ours", 40] / errors["ours", 80]


def test_first_and_second_order_of_the_older_sde_solver():
    """eta = 0 is the ODE's solver; the rest of dpm_solver_2m_sde is compared above."""
    ours, ode = make_plan("dpm_solver_2m_sde", "vp_linear", 12, eta=0.0), make_plan("dpm_solver_2m", "vp_linear", 12)
    assert (ours.a == ode.a).all() and (ours.b == ode.b).all() and (ours.e == ode.e).all() and not ours.s.any()
    first = SOLVERS["dpm_solver_2m_sde"]("flow", [1.0, 0.5, 0.2, 0.0], order=1)  # alpha = 0: the exact transition
    exact = SOLVERS["ddpm"]("flow", [1.0, 0.5, 0.2, 0.0])
    assert first.a[0] == exact.a[0] == 0 and first.s[0] == pytest.approx(exact.s[0]) and not first.slots


# Bad input ------------------------------------------------------------------------------------------------------------


def test_bad_schedulers():
    with pytest.raises(TypeError, match=r"scheduler must be one of DDPMScheduler.*got PNDMScheduler"):
        from_scheduler(diffusers.PNDMScheduler(), 10)
    with pytest.raises(TypeError, match="scheduler must be one of"):
        GenfastScheduler("ddim")
    with pytest.raises(ValueError, match="steps must be given"):
        from_scheduler(diffusers.DDIMScheduler())
    with pytest.raises(TypeError, match="DDPMScheduler has no option eta; it takes none"):
        from_scheduler(diffusers.DDPMScheduler(), 10, eta=1.0)
    with pytest.raises(TypeError, match="net must be callable"):
        denoiser(diffusers.DDPMScheduler(), None, 10)
    for name, config, message in (
        ("DDPM", {"variance_type": "learned_range"}, "variance_type must be"),
        ("UniPCMultistep", {"predict_x0": False}, "predict_x0 must be True"),
        ("UniPCMultistep", {"disable_corrector": [0]}, "disable_corrector must be"),
        ("DPMSolverMultistep", {"use_flow_sigmas": True, **V}, "prediction_type must be"),
        ("DPMSolverSinglestep", {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type must be"),
        ("FlowMatchEulerDiscrete", {"invert_sigmas": True}, "the noise of a scheduler's steps must fall"),
    ):
        with pytest.raises(ValueError, match=message):
            from_scheduler(getattr(diffusers, f"{name}Scheduler")(**config), 10)
    with pytest.raises(ValueError, match="must begin at the first"):
        from_scheduler(diffusers.HeunDiscreteScheduler(), 10, begin=3)
    with pytest.raises(ValueError, match=r"scheduler must be one of .* got 'Nothing'"):
        GenfastScheduler.from_config({"_class_name": "Nothing"})
    with pytest.raises(TypeError, match="seed must be an int"):
        GenfastScheduler(diffusers.DDIMScheduler(), seed=0.5)


def test_bad_steps():
    ours, x = GenfastScheduler(diffusers.EulerDiscreteScheduler()), noise()
    with pytest.raises(ValueError, match="set_timesteps must be called"):
        ours.step(x, 0, x)
    ours.set_timesteps(5)
    t = ours.timesteps[0]
    with pytest.raises(ValueError, match="model_output must have shape"):
        ours.step(x[:1], t, x)
    with pytest.raises(ValueError, match="s_churn must be 0"):
        ours.step(x, t, x, s_churn=1.0)
    with pytest.raises(ValueError, match="timestep must be one of"):
        ours.step(x, 1.5, x)
    with pytest.raises(TypeError, match="timesteps"):
        GenfastScheduler(diffusers.DDIMScheduler()).set_timesteps(timesteps=[5, 1])
    with pytest.raises(AttributeError):
        _ = GenfastScheduler(diffusers.DDIMScheduler()).sigmas


def test_only_the_integration_imports_diffusers():
    code = "import genfast, sys; assert 'diffusers' not in sys.modules; sys.modules['diffusers'] = None"
    code = [sys.executable, "-c", f"{code}; import genfast.integrations.diffusers"]
    missing = subprocess.run(code, capture_output=True, text=True, check=False)
    assert "ImportError: genfast.integrations.diffusers needs" in missing.stderr
    assert "pip install 'genfast[diffusers]'" in missing.stderr


def table():
    """Lines of the comparison of all cases."""
    titles = " ".join(f"{title:>11}" for title in ("ours-theirs", "theirs-f64", "ours-f64", "both f64"))
    yield f"{'scheduler':24} {titles}  steps, config, options"
    for name, config, options, steps in CASES:
        numbers = " ".join(f"{value:11.1e}" for value in compare(name, config, options, steps))
        config = {k: v for k, v in config.items() if k != "trained_betas"}
        yield f"{name:24} {numbers}  {steps} {config} {options or ''}"


if __name__ == "__main__":
    for line in table():
        print(line)
