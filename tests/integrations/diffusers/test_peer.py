"""Where diffusers is wrong and we are not, each against a known answer."""

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")

from peer_diffusers import (  # noqa: E402
    COSINE,
    KARRAS,
    LOW,
    SAMPLE,
    SHAPE,
    TRAILING,
    compare,
    difference,
    loop,
    made,
    network,
    noise,
    our_noise,
    start,
)

from genfast.integrations.diffusers import GenfastScheduler  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:The `scale_model_input` function:UserWarning"),
]


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
