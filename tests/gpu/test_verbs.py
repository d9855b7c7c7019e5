"""Every public verb on a device: it runs there, and its answers are there and, but for rounding, the CPU's."""

import importlib.util
import warnings

import pytest
import torch
from families import NAMES, draw, family, images
from helpers import without_zeros

import genfast as gf
from genfast import ops
from genfast.diffusion import sampling
from genfast.diffusion.guidance import DPS, MMPS, ClassifierGuidance, PiGDM

SIZE = {"cpu": 8, "cuda": 16}  # of pictures
SAMPLES = {"cpu": 5, "cuda": 300}


def mlp(**settings):
    torch.manual_seed(0)
    return gf.Diffusion(without_zeros(gf.nn.MLP(2, width=16, depth=2)), schedule="vp_linear", shape=(2,), **settings)


def unet(device, classes=10):
    torch.manual_seed(0)
    width = 32 if device.type == "cuda" else 8
    net = gf.nn.UNet(channels=3, width=width, multipliers=(1, 2), attention=(1,), classes=classes)
    shape = (3, SIZE[device.type], SIZE[device.type])
    return gf.Diffusion(without_zeros(net), schedule="vp_linear", shape=shape).to(device)


def same(device, found, expected, **tolerance):
    """Tensors on the device, those of the CPU to rounding."""
    assert found.device.type == device.type
    torch.testing.assert_close(found.cpu(), expected, **({"rtol": 1e-3, "atol": 1e-3} | tolerance))


def finite(device, *tensors):
    for t in tensors:
        assert t.device.type == device.type and bool(t.isfinite().all())


@pytest.mark.parametrize("solver", gf.solvers.SOLVERS)
def test_sample_by_each_solver(solver, device):
    n = SAMPLES[device.type]
    expected = mlp().sample(n, seed=1, solver=solver, steps=8, progress=False)
    found = mlp().to(device).sample(n, seed=1, solver=solver, steps=8, progress=False)
    same(device, found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_each_family_trains_samples_and_is_kept(name, device, tmp_path):
    model, x, label = family(name), images(), torch.arange(24) % 3
    logs = gf.fit(model, (x, label), steps=3, batch=8, device=device, progress=False)
    assert len(logs) == 1 and next(model.parameters()).device.type == device.type
    told = {"label": 1, "seed": 3}
    found = draw(model, 6, **told)
    finite(device, found)
    gf.save(model, tmp_path / "model")
    same(device, draw(gf.load(tmp_path / "model").to(device), 6, **told), found.cpu(), rtol=0, atol=0)
    same(device, found, draw(gf.load(tmp_path / "model"), 6, **told))


def test_ways_of_sampling(device):
    model, n = unet(device), SAMPLES[device.type] // 5
    shape, label = model.shape, torch.arange(n) % 10
    mask = torch.zeros(shape)
    mask[:, : shape[1] // 2] = 1
    known = {"known": torch.zeros(shape), "mask": mask}
    ways = [
        {"label": label, "guidance": 1.5}, {"label": label, "guidance": gf.Guidance(2.0, interval=(0.2, 0.8))},
        {"label": label, "guidance": gf.Guidance(2.0, rescale=0.5)}, {"noise": "brownian", "solver": "dpmpp_2m_sde"},
        {"solver": "repaint", **known}, known, {"threshold": 0.99}, {"clamp": (-1.0, 1.0)},
        {"source": torch.zeros(n, *shape), "strength": 0.5}, {"solver": "predictor_corrector"},
    ]  # fmt: skip
    for way in ways:
        finite(device, model.sample(n, steps=3, progress=False, **way))


def test_a_sample_is_its_own(device):
    model = mlp().to(device)
    index = [63, 150, 3] if device.type == "cuda" else [3, 0]
    some, every = (model.sample(n, seed=1, steps=5, progress=False) for n in (index, max(index) + 1))
    assert torch.equal(every[index], some)


def test_low_precision_and_memory_formats(device):
    model = unet(device).to(memory_format=torch.channels_last)
    settings = {"steps": 3, "label": 1, "progress": False}
    finite(device, model.sample(4, **settings))
    with torch.autocast(device.type, torch.bfloat16):
        finite(device, model.sample(4, **settings))
    finite(device, model.bfloat16().sample(4, **settings))


def test_queue(device):
    model, count = mlp().to(device), 12
    queue, taken, found = model.queue(capacity=4), {}, {}
    for i in range(count):
        request = {"solver": ["dpmpp_2m", "heun", "ddim"][i % 3], "steps": 3 + i % 4}
        taken[queue.add(i, seed=0, **request)] = (i, request)
    for _ in range(100):
        found |= dict(queue.step())
        if len(found) == count:
            break
    assert set(found) == set(taken)
    for ticket, (i, request) in taken.items():
        alone = model.sample([i], seed=0, chunk=4, progress=False, **request)
        torch.testing.assert_close(found[ticket], alone[0], rtol=1e-4, atol=1e-4)


def test_likelihoods(device):
    x, key = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), ops.make_key(0, 6)
    here, there = mlp(), mlp().to(device)
    for options in ({}, {"divergence": "rademacher", "probes": 4}):
        found, expected = (m.log_likelihood(x, steps=8, **options) for m in (there, here))
        same(device, found[0], expected[0])
    same(device, there.elbo(x.to(device), key.to(device)), here.elbo(x, key))
    pixels = torch.randint(0, 17, (4, 2), generator=torch.Generator().manual_seed(0))
    bits = [m.bits_per_dim(pixels, levels=17, steps=8)[0] for m in (there, here)]
    same(device, *bits)


def test_what_a_model_knows_of_a_point(device):
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    here, there = mlp(), mlp().to(device)
    same(device, there.score(x.to(device), 0.5), here.score(x, 0.5))
    same(device, there.denoise(x.to(device), 0.5), here.denoise(x, 0.5))
    adaptive = [m.sample_adaptively(6, rtol=1e-2, atol=1e-2, progress=False)[0] for m in (there, here)]
    same(device, *adaptive, rtol=0.05, atol=0.05)
    noise = [
        sampling.invert(m.denoiser, x.to(d), steps=8, device=d, progress=False)
        for m, d in ((there, device), (here, "cpu"))
    ]
    same(device, *noise)


def test_guidance_of_gradients(device):
    model, y = mlp().to(device), torch.zeros(5, 1, device=device)
    plan = gf.solvers.plan("dpmpp_2m", model.schedule, 3)

    def first(x):
        return x[:, :1]

    def log_prob(x_t, t, label):
        return -(x_t - label.view(-1, 1)).square().sum(1)

    guided = {
        DPS(model.denoiser, first): {"measurement": y}, PiGDM(model.denoiser, first, noise_std=0.1): {"measurement": y},
        MMPS(model.denoiser, first, noise_std=0.1): {"measurement": y},
        ClassifierGuidance(model.denoiser, log_prob): {"label": torch.arange(5, device=device) % 2},
    }  # fmt: skip
    for denoiser, condition in guided.items():
        finite(device, sampling.sample(denoiser, (2,), plan, 5, condition=condition, device=device, progress=False))


def test_vae(device):
    model, x, key = family("vae", 0).to(device), images().to(device), ops.make_key(0, 24)
    finite(device, *model.encode(x), model.elbo(x, key.to(device)), model.reconstruct(x), model.interpolate(x[0], x[1]))
    same(torch.device("cpu"), model.log_likelihood(x, k=4)[0].cpu(), model.cpu().log_likelihood(x.cpu(), k=4)[0])


@pytest.mark.parametrize("make", [lambda: gf.Gaussian("full"), lambda: gf.PPCA(2), lambda: gf.GaussianMixture(2)])
def test_closed_forms(make, device):
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    here, there = make().fit(x), make().fit(x.to(device))
    assert there.sample(4).shape == (4, 5)
    torch.testing.assert_close(there.log_prob(x[:5].to(device)).cpu(), here.log_prob(x[:5]), rtol=1e-6, atol=1e-6)
    label = torch.arange(200) % 2
    classifier = gf.GenerativeClassifier([make(), make()]).fit((x, label))
    assert classifier.predict(x[:5]).shape == (5,)


def test_evaluate(device):
    model = family("diffusion").to(device)
    real, label = images(60), torch.arange(60) % 3
    options = {"sampling": {"steps": 2}, "progress": False}
    with warnings.catch_warnings():  # of so few
        warnings.simplefilter("ignore")
        report = gf.evaluate(model, (real, label), train=(images(60, seed=1), label), **options)
    assert "frechet" in str(report) and gf.diagnose(report)


def test_pairs(device):
    x, y = (torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (70, 90))
    for f in (lambda a, b: ops.nearest(a, b, k=5), lambda a, b: ops.kernel_sums(a, b, kernel="rbf", gamma=0.1)):
        for found, expected in zip(f(x.to(device), y.to(device)), f(x, y), strict=True):
            assert torch.equal(found.cpu(), expected)


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="needs diffusers")
def test_diffusers(device):
    import diffusers

    from genfast.integrations import diffusers as bridge

    changes = {"width": 32, "multipliers": (1, 2), "timesteps": {"shift": 1.0}}
    net = without_zeros(gf.nn.presets.build("ddpm_cifar10", **changes)).eval().to(device)
    model = bridge.to_unet2d(net, 8)
    x = torch.randn(2, 3, 8, 8, device=device)
    torch.testing.assert_close(bridge.from_unet2d(model)(x, x.new_full((2,), 0.5)), net(x, x.new_full((2,), 499.5)))
    pictures = []
    pipeline = diffusers.DDIMPipeline(model, diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    for scheduler in (pipeline.scheduler, bridge.GenfastScheduler.from_scheduler(pipeline.scheduler)):
        pipeline.scheduler = scheduler
        generator = torch.Generator().manual_seed(0)
        pictures.append(pipeline(2, generator, num_inference_steps=4, output_type="np").images)
    assert abs(pictures[0] - pictures[1]).max() < 1e-3


def test_info(device):
    assert device.type == "cpu" or gf.info()["cuda_kernels"].startswith("live")
