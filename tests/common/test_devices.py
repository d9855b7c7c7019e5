"""Tensors of the library's own lie where it says, whatever torch's default device is."""

import ast

import pytest
import torch
from test_layout import PACKAGE, tracked

import genfast as gf

MAKERS = {
    "arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint", "randn",
    "randperm", "tensor", "zeros",
}  # fmt: skip
# Modules are made on the default device, as torch's own are; so are the frequencies that they are made of.
FOLLOW = ("nn/", "ops/time_embedding.py")


def unplaced(tree):
    """Lines of calls that make a tensor without saying where, unless it is a Module's own."""
    inside = {
        id(node)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") in ("register_buffer", "Parameter")
        for node in ast.walk(call)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and id(node) not in inside and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name) and node.func.value.id == "torch" and node.func.attr in MAKERS
        and not any(keyword.arg in ("device", None) for keyword in node.keywords)
    ]  # fmt: skip


def test_unplaced_tensors_are_found():
    assert unplaced(ast.parse("torch.zeros(3)\ntorch.ones(2, device='cpu')\nx.new_zeros(3)\ntorch.tensor(1)")) == [1, 4]
    assert not unplaced(ast.parse("self.register_buffer('scale', torch.zeros(3))"))


FILES = [str(path.relative_to(PACKAGE)) for path in tracked(PACKAGE) if path.suffix == ".py"]


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(FOLLOW)])
def test_tensors_name_their_device(file):
    assert not unplaced(ast.parse((PACKAGE / file).read_text()))


def diffusion():
    return gf.Diffusion(gf.nn.MLP(4, width=8, depth=1, classes=3), "vp_cosine", shape=(4,))


def vae():
    return gf.VAE(gf.nn.FeedForward(4, 4), gf.nn.FeedForward(2, 4), latent=2, shape=(4,))


def latent_diffusion():
    return gf.LatentDiffusion(vae(), gf.Diffusion(gf.nn.MLP(2, width=8, depth=1, classes=3), "vp_cosine"))


def gan():
    return gf.GAN(gf.nn.FeedForward(2, 4), gf.nn.FeedForward(4, 1), latent=2, shape=(4,))


DATA = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
USES = {
    "sample": lambda m, folder: m.sample(5, **({"label": 1} if getattr(m, "classes", 0) else {})),
    "labels": lambda m, folder: m.sample(3, label=[0, 2, 1]) if getattr(m, "classes", 0) else m.sample(3),
    "save": lambda m, folder: gf.save(m, folder) or gf.load(folder).sample(2),
    "evaluate": lambda m, folder: torch.tensor(
        [r.value for r in gf.evaluate(m, DATA, metrics="quality", progress=False).records], device="cpu"
    ),
}


@pytest.fixture
def elsewhere():
    """To be called: from then on torch's default device is one that holds no numbers."""
    yield lambda: torch.set_default_device("meta")
    torch.set_default_device(None)


@pytest.mark.parametrize("make", [diffusion, vae, gan, latent_diffusion])
@pytest.mark.filterwarnings("ignore:data have labels")
def test_networks_under_another_default_device(make, elsewhere, tmp_path):
    torch.manual_seed(0)
    model, again = make(), make()
    again.load_state_dict(model.state_dict())
    settings = {"steps": 3, "batch": 20, "progress": False}
    gf.fit(model, DATA, **settings)
    wanted = {name: use(model, tmp_path / name) for name, use in USES.items()}
    elsewhere()
    gf.fit(again, DATA, **settings)
    for name, use in USES.items():
        assert torch.equal(use(again, tmp_path / f"{name}_again").nan_to_num(7), wanted[name].nan_to_num(7)), name


@pytest.mark.parametrize("model", [gf.Gaussian(), gf.Gaussian("diagonal"), gf.PPCA(2), gf.GaussianMixture(2)])
def test_closed_forms_under_another_default_device(model, elsewhere):
    x = DATA[0].numpy()  # which torch.as_tensor would move
    wanted = model.fit(x).sample(5), model.log_prob(x)
    elsewhere()
    assert all(map(torch.equal, (model.fit(x).sample(5), model.log_prob(x)), wanted))


def test_a_queue_and_a_classifier_under_another_default_device(elsewhere):
    torch.manual_seed(0)
    model = diffusion()
    wanted = model.sample([4], label=2, steps=3), gf.GenerativeClassifier([gf.PPCA(1) for _ in range(3)]).fit(DATA)
    elsewhere()
    queue = model.queue(capacity=2)
    queue.add(4, label=2, steps=3)
    [(_, x)] = list(queue)
    assert torch.allclose(x, wanted[0][0], atol=1e-5)
    classifier = gf.GenerativeClassifier([gf.PPCA(1) for _ in range(3)]).fit(DATA)
    assert torch.equal(classifier.predict_proba(DATA[0]), wanted[1].predict_proba(DATA[0]))


def test_keys_and_what_is_computed_of_them_under_another_default_device(elsewhere):
    torch.manual_seed(0)
    models, x = (diffusion(), vae()), DATA[0][:4]

    def answers():
        keys = [gf.ops.make_key(0, index) for index in (4, range(4), torch.arange(4, device="cpu"))]
        return [*keys, gf.ops.normal(keys[0], (2,)), *(model.elbo(x, keys[0]) for model in models)]

    wanted = answers()
    elsewhere()
    assert all(map(torch.equal, answers(), wanted))


@pytest.mark.parametrize(
    "make", [gf.ops.geometric_frequencies, gf.ops.sinusoidal_frequencies, gf.ops.gaussian_frequencies]
)
def test_frequencies_follow_the_default_device(make, elsewhere):
    elsewhere()
    assert make(3).device.type == "meta"
    assert all(buffer.device.type == "meta" for buffer in gf.nn.FeedForward(2, 2, fourier=3).buffers())


@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)])
def test_features_under_another_default_device(shape, elsewhere):
    x, label = DATA[0].reshape(-1, *shape), DATA[1]

    def answers():
        trained = gf.features.classifier(x, label, steps=3)
        return [trained.probabilities(x), gf.features.extract(trained, x)]

    wanted = answers()
    elsewhere()
    assert all(map(torch.equal, answers(), wanted))


def test_features_of_large_images_under_another_default_device(elsewhere):
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = gf.features.extract(gf.features.random_conv((1, 8, 8)), x)
    elsewhere()
    assert torch.equal(gf.features.extract(gf.features.random_conv((1, 8, 8)), x), wanted)
