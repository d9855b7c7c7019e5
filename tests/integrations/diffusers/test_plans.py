"""Plans of diffusers' schedulers: trajectories equal to theirs in the loop of a pipeline, in our own, in float64."""

import subprocess
import sys

import numpy as np
import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")

from peer_diffusers import (  # noqa: E402
    CASES,
    FLOW,
    KARRAS,
    LEADING,
    LOW,
    SAMPLE,
    SCALED,
    SEED,
    SHAPE,
    ZERO_SNR,
    V,
    compare,
    difference,
    loop,
    made,
    network,
    our_noise,
    start,
)

import genfast as gf  # noqa: E402
from genfast.diffusion.process.schedules import EDM, Flow  # noqa: E402
from genfast.diffusion.process.tabulated import Tabulated  # noqa: E402
from genfast.diffusion.sampling.sample import sample  # noqa: E402
from genfast.diffusion.solvers import SOLVERS  # noqa: E402
from genfast.diffusion.solvers import plan as make_plan  # noqa: E402
from genfast.integrations.diffusers import GenfastScheduler, denoiser, from_scheduler  # noqa: E402
from genfast.integrations.diffusers.tables import VARIABLES  # noqa: E402
from genfast.nn import UNet  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:The `scale_model_input` function:UserWarning"),
]
NAMES = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
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
    D, (_, plan) = denoiser(scheduler, network), from_scheduler(scheduler, use_clipped_model_output=True)
    ours = sample(D, SHAPE, plan, 2, seed=SEED, chunk=2, progress=False)
    theirs = loop(scheduler, start(scheduler), {"use_clipped_model_output": True})[-1]
    assert difference(ours[None], theirs[None]) < 1e-5


CLIPPED = [
    ("DDPM", {}),
    ("DDPM", {"clip_sample_range": 0.5, **V}),
    ("DDPM", {"thresholding": True}),
    ("DDPM", {"thresholding": True, "sample_max_value": 2.0, "dynamic_thresholding_ratio": 0.7, **SAMPLE}),
    ("DDPM", {"thresholding": True, "sample_max_value": 0.6}),
    ("DDIM", {}),
    ("DDIM", {"thresholding": True, **V}),
]


@pytest.mark.parametrize(("name", "config"), CLIPPED, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CLIPPED)])
def test_a_denoiser_clips_as_its_scheduler(name, config):
    scheduler = made(name, config, 10)
    options = {"use_clipped_model_output": True} if name == "DDIM" else {}
    _, plan = from_scheduler(scheduler, **options)
    ours = sample(denoiser(scheduler, network), SHAPE, plan, 3, seed=SEED, chunk=4, progress=False)
    with our_noise(scheduler, 3):
        theirs = loop(scheduler, start(scheduler, 3), options)[-1]
        unclipped = loop(made(name, {**config, "clip_sample": False, "thresholding": False}, 10), start(scheduler, 3))
    assert difference(ours[None], theirs[None]) < 1e-5 < 1e-2 < difference(unclipped[-1:], theirs[None])


def test_a_network_of_low_precision_is_clipped_in_float32():
    class Net(torch.nn.Linear):
        def forward(self, y, timestep):
            assert not self.training
            return super().forward(y) * 0.1 + y

    scheduler, ends = made("DDPM", {}, 10), []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        D, (_, plan) = denoiser(scheduler, Net(4, 4).to(dtype).train()), from_scheduler(scheduler)
        ends.append(sample(D, SHAPE, plan, 2, seed=SEED, progress=False))
        assert ends[-1].dtype == torch.float32
    assert difference(*ends) < 0.05


def test_clipping_that_no_plan_has_is_refused():
    for name, config, fault in (
        ("DDIM", {}, "clip_sample"),
        ("DDIM", {"clip_sample": False, "thresholding": True}, "thresholding"),
        ("HeunDiscrete", {"clip_sample": True}, "clip_sample"),
        ("DPMSolverMultistep", {"thresholding": True}, "thresholding"),
        ("DPMSolverSinglestep", {"thresholding": True}, "thresholding"),
        ("UniPCMultistep", {"thresholding": True}, "thresholding"),
        ("DEISMultistep", {"thresholding": True}, "thresholding"),
        ("EDMDPMSolverMultistep", {"thresholding": True}, "thresholding"),
    ):
        with pytest.raises(ValueError, match=f"{fault} must be False"):
            from_scheduler(made(name, config, 10))
        if name != "DDIM":
            with pytest.raises(ValueError, match=f"{fault} must be False"):
                denoiser(made(name, config, 10), network)


def test_timesteps_of_one_s_own():
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    scheduler.set_timesteps(timesteps=[900, 700, 300, 20])
    _, plan = from_scheduler(scheduler)
    ours = sample(
        denoiser(scheduler, network), SHAPE, plan, 3, seed=SEED, chunk=4, progress=False, start=start(scheduler, 3)
    )
    with our_noise(scheduler, 3):
        theirs = loop(scheduler, start(scheduler, 3))[-1]
    assert len(plan) == 4 and difference(ours[None], theirs[None]) < 1e-5
    for scheduler in (made("DDIM", {"clip_sample": False}, 10), diffusers.DDPMScheduler()):
        scheduler.timesteps = torch.tensor([900, 700, 300, 20])
        with pytest.raises(ValueError, match=r"timesteps must be those of set_timesteps|steps must be given"):
            from_scheduler(scheduler)


def test_a_plan_begins_inside_a_step_of_two_calls():
    """diffusers lowers the order of a call that has too few calls before it."""
    for order, begin in ((2, 5), (3, 4), (3, 5), (3, 6), (2, 4)):
        scheduler = made("DPMSolverSinglestep", {"solver_order": order}, 12)
        _, plan = from_scheduler(scheduler, begin=begin)
        x = start(scheduler)
        ours = sample(denoiser(scheduler, network), SHAPE, plan, 2, chunk=2, progress=False, start=x)
        scheduler.set_begin_index(begin)
        for t in scheduler.timesteps[begin:]:
            x = scheduler.step(network(x, t), t, x).prev_sample
        assert len(plan) == 12 - begin and difference(ours[None], x[None]) < 1e-5


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
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    assert from_scheduler(scheduler, 10)[1] == from_scheduler(made("DDIM", {"clip_sample": False}, 10))[1]
    assert scheduler.num_inference_steps is None


def test_first_and_second_order_of_the_older_sde_solver():
    """eta = 0 is the ODE's solver; the rest of dpm_solver_2m_sde is compared above."""
    ours, ode = make_plan("dpm_solver_2m_sde", "vp_linear", 12, eta=0.0), make_plan("dpm_solver_2m", "vp_linear", 12)
    assert (ours.a == ode.a).all() and (ours.b == ode.b).all() and (ours.e == ode.e).all() and not ours.s.any()
    first = SOLVERS["dpm_solver_2m_sde"]("flow", [1.0, 0.5, 0.2, 0.0], order=1)  # alpha = 0: the exact transition
    exact = SOLVERS["ddpm"]("flow", [1.0, 0.5, 0.2, 0.0])
    assert first.a[0] == exact.a[0] == 0 and first.s[0] == pytest.approx(exact.s[0]) and not first.slots


@pytest.mark.parametrize("integer", [np.int64, torch.tensor])
def test_integers_of_all_kinds(integer):
    scheduler = diffusers.HeunDiscreteScheduler()
    assert from_scheduler(scheduler, integer(6), begin=integer(2)) == from_scheduler(scheduler, 6, begin=2)
    scheduler = diffusers.LMSDiscreteScheduler()
    assert from_scheduler(scheduler, 6, order=integer(2))[1] == from_scheduler(scheduler, 6, order=2)[1]
    assert GenfastScheduler(scheduler, seed=integer(3)).config._seed == 3
    assert type(GenfastScheduler(scheduler, seed=integer(3)).config._seed) is int


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
        ("DPMSolverMultistep", {"variance_type": "learned"}, "variance_type must be None"),
        ("DPMSolverSinglestep", {"variance_type": "learned_range"}, "variance_type must be None"),
        ("DPMSolverMultistep", {"euler_at_final": True, **LOW}, "euler_at_final must be False"),
        ("UniPCMultistep", {**KARRAS, "sigma_max": 200.0}, "sigma_max with use_karras_sigmas: sigmas must not exceed"),
        ("FlowMatchEulerDiscrete", {"invert_sigmas": True}, "invert_sigmas must be False"),
    ):
        with pytest.raises(ValueError, match=message):
            from_scheduler(getattr(diffusers, f"{name}Scheduler")(**config), 20)
    with pytest.raises(ValueError, match="timesteps must lie below 50, as many as there are betas; got 90"):
        from_scheduler(diffusers.DDIMScheduler(trained_betas=[0.01] * 50), 11)
    with pytest.raises(ValueError, match="must begin at the first"):
        from_scheduler(diffusers.HeunDiscreteScheduler(), 10, begin=3)
    with pytest.raises(ValueError, match=r"scheduler must be one of .* got 'Nothing'"):
        GenfastScheduler.from_config({"_class_name": "Nothing"})
    with pytest.raises(ValueError, match="seed must be an integer from 0 to"):
        GenfastScheduler(diffusers.DDIMScheduler(), seed=0.5)


def test_only_the_scheduler_needs_diffusers():
    code = "import genfast, sys; assert 'diffusers' not in sys.modules; sys.modules['diffusers'] = None"
    code += "; from genfast.integrations.diffusers import from_unet2d; print('so far'); "
    code = [sys.executable, "-c", f"{code} from genfast.integrations.diffusers import GenfastScheduler"]
    missing = subprocess.run(code, capture_output=True, text=True, check=False)
    assert missing.stdout == "so far\n"
    assert "ImportError: GenfastScheduler needs the diffusers library" in missing.stderr
    assert "pip install 'genfast[diffusers]'" in missing.stderr


def wrapped(net):
    """The network as torch wraps it, each way and one in the other."""
    compiled = torch.compile(net, backend="eager")
    return [compiled, torch.nn.DataParallel(net), torch.nn.DataParallel(compiled)]


def test_a_wrapped_network_is_told_the_same_times():
    """of a scheduler, in steps, one that counts them by itself; of a Diffusion, 999 t, one that says `counts_steps`."""
    scheduler, settings = diffusers.DDPMScheduler(), {"progress": False, "chunk": 2}
    ours = UNet(1, 8, groups=4, timesteps={"scale": 999.0}).eval()
    torch.nn.init.normal_(ours.output.weight)
    plan = from_scheduler(scheduler, 3)[1]
    expected = sample(denoiser(scheduler, ours, 3), (1, 4, 4), plan, 2, **settings)
    for net in wrapped(ours):
        found = sample(denoiser(scheduler, net, 3), (1, 4, 4), plan, 2, **settings)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)

    class Counting(torch.nn.Linear):
        counts_steps = True

        def forward(self, y, t):
            return super().forward(y) + t[:, None]

    net, x = Counting(2, 2), torch.randn(3, 2)
    expected = gf.Diffusion(net, "flow", shape=(2,)).denoise(x, 0.5)
    for other in wrapped(net):
        assert torch.equal(gf.Diffusion(other, "flow", shape=(2,)).denoise(x, 0.5), expected)


def test_the_mode_and_dtype_of_their_network_are_seen():
    class Net(torch.nn.Linear):
        def forward(self, y, timestep):
            assert not self.training and y.dtype == torch.float64
            return super().forward(y)

    scheduler, net = diffusers.DDPMScheduler(), Net(2, 2).double().train()
    D, (_, plan) = denoiser(scheduler, net, 4), from_scheduler(scheduler, 4)
    assert sample(D, (2,), plan, 3, progress=False).dtype == torch.float32 and net.training
