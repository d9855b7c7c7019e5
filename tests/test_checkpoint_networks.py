"""What is saved comes back as it was: precision, buffers, wrapped networks; and nothing that is not finite."""

import math

import pytest
import torch
from torch import nn

import genfast as gf
from genfast.checkpoint import MODELS
from genfast.common.files import CorruptCheckpoint
from genfast.nn import MLP, UNet

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn]


def perceptron(features=3, **settings):
    return MLP(features, width=8, depth=1, **settings)


def vectors(inputs, outputs):
    return gf.nn.FeedForward(inputs, outputs, width=8, depth=1)


def vae(wrap=lambda net: net):
    return gf.VAE(wrap(vectors(3, 4)), wrap(vectors(2, 3)), latent=2, likelihood="learned_variance", shape=(3,))


def gan(wrap=lambda net: net):
    return gf.GAN(wrap(vectors(2, 3)), wrap(vectors(3, 1)), latent=2, spectral_norm=True, shape=(3,))


def latent_diffusion(wrap=lambda net: net):
    model = gf.LatentDiffusion(vae(wrap), gf.Diffusion(wrap(perceptron(2))))
    model.scale.fill_(1.0)
    model.measured = True
    return model


def diffusion(wrap=lambda net: net):
    return gf.Diffusion(wrap(perceptron()), shape=(3,))


FAMILIES = [diffusion, vae, gan, latent_diffusion]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name].float(), b[name].float()) for name in a
    )


# Precision


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@every_family
def test_every_precision_comes_back(tmp_path, family, dtype):
    model = family().to(dtype)
    gf.save(model, tmp_path)
    loaded = gf.load(tmp_path)
    assert same(loaded, model) and next(loaded.parameters()).dtype == dtype


def test_mixed_precision_comes_back(tmp_path):
    """Each tensor by itself, also into a network that was passed; tied weights stay tied."""
    model = diffusion()
    model.net.output.bfloat16()
    gf.save(model, tmp_path)
    assert same(gf.load(tmp_path), model) and same(gf.load(tmp_path, net=perceptron()), model)

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

        def forward(self, y, t):
            return self.b(self.a(y))

    model = gf.Diffusion(Tied().double(), shape=(3,))
    gf.save(model, tmp_path)
    loaded = gf.load(tmp_path, net=Tied())
    assert same(loaded, model) and loaded.net.a.weight is loaded.net.b.weight


@pytest.mark.parametrize("build", [perceptron, lambda: UNet(channels=1, width=8, multipliers=(1,)), lambda: gf.nn.DiT(
    channels=1, width=8, depth=1, heads=2)])  # fmt: skip
def test_buffers_that_are_not_saved_are_made_anew(tmp_path, build):
    model = gf.Diffusion(build(), shape=(1, 8, 8))
    kept = {name for name, _ in model.named_buffers()} - model.state_dict().keys()
    assert kept
    gf.save(model, tmp_path)
    loaded = dict(gf.load(tmp_path).named_buffers())
    for name, value in model.named_buffers():
        assert loaded[name].device.type == "cpu" and torch.equal(loaded[name], value)


def test_another_default_device(tmp_path):
    gf.save(model := diffusion(), tmp_path)
    with torch.device("meta"):
        loaded = gf.load(tmp_path)
    assert same(loaded, model) and {b.device.type for b in loaded.buffers()} == {"cpu"}


class Table(nn.Module):
    """A model of the user's, whose constructor reads numbers."""

    def __init__(self, steps):
        super().__init__()
        self.table = torch.linspace(0, 1, steps).tolist()
        self.weight = nn.Parameter(torch.randn(steps))

    def config(self):
        return {"steps": len(self.table)}

    @classmethod
    def from_config(cls, config):
        return cls(config.pop("steps"))


def test_a_class_that_needs_numbers_when_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "Table", Table)
    gf.save(model := Table(5), tmp_path)
    state = torch.get_rng_state()
    loaded = gf.load(tmp_path)
    assert same(loaded, model) and loaded.table == model.table and torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(Table, "config", lambda self: {"steps": 4})
    gf.save(model, tmp_path)
    with pytest.raises(CorruptCheckpoint, match=r"1 misshapen: weight of shape \(5,\) instead of \(4,\)"):
        gf.load(tmp_path)
    monkeypatch.setattr(Table, "config", lambda self: {"steps": "many"})
    gf.save(model, tmp_path)
    with pytest.raises(CorruptCheckpoint, match="Table refuses its config, TypeError"):
        gf.load(tmp_path)


# Wrappers


def twice(net):
    return torch.compile(nn.DataParallel(net))


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, twice], ids=["compile", "DataParallel", "both"])
@every_family
def test_wrapped_networks_are_saved_as_what_they_hold(tmp_path, family, wrap):
    plain, wrapped = family(), family(wrap)
    gf.save(wrapped, tmp_path)
    loaded = gf.load(tmp_path)
    assert loaded.state_dict().keys() == plain.state_dict().keys()
    values = wrapped.state_dict()
    for (name, value), key in zip(loaded.state_dict().items(), values, strict=True):
        assert key.replace("_orig_mod.", "").replace("module.", "") == name and torch.equal(value, values[key])
    places = [name for name, value in loaded.config().items() if isinstance(value, nn.Module)]
    nets = {name: wrap(value) for name, value in family().config().items() if name in places}
    again = gf.load(tmp_path, net=nets)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), values.values(), strict=True))
    for name in places:
        assert again.config()[name] is nets[name]


def test_a_wrapped_network_of_the_users_own_and_a_wrapped_model(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(3, 3)  # a name of its own, which stays
            self.inner = torch.compile(nn.Linear(3, 3))

        def forward(self, y, t):
            return self.inner(self.module(y))

    model = gf.Diffusion(torch.compile(Own()), shape=(3,))
    gf.save(torch.compile(model), tmp_path)
    with pytest.raises(ValueError, match=r"class 'Own'.*net=Own\(\.\.\.\)"):
        gf.load(tmp_path)
    loaded = gf.load(tmp_path, net=Own())
    assert list(loaded.state_dict()) == [
        "net.module.weight", "net.module.bias", "net.inner._orig_mod.weight", "net.inner._orig_mod.bias"
    ]  # fmt: skip
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))


def test_distributed_networks(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", world_size=1, rank=0)
    try:
        model = gf.Diffusion(nn.parallel.DistributedDataParallel(perceptron()), shape=(3,))
        gf.save(model, tmp_path / "run")
    finally:
        torch.distributed.destroy_process_group()
    assert all(map(torch.equal, gf.load(tmp_path / "run").state_dict().values(), model.state_dict().values()))


def test_a_wrapped_network_is_trained_and_saved(tmp_path):
    model = gf.Diffusion(nn.DataParallel(perceptron()), shape=(3,))
    gf.fit(model, torch.randn(32, 3), steps=3, batch=8, out=tmp_path, progress=False)
    loaded = gf.load(tmp_path)
    assert type(loaded.net) is MLP and torch.equal(loaded.sample(3, steps=2), model.sample(3, steps=2))


# What is not finite


@pytest.mark.parametrize("wrap", [lambda net: net, torch.compile], ids=["plain", "compile"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@every_family
def test_parameters_that_are_not_finite_are_not_saved(tmp_path, family, value, wrap):
    gf.save(good := family(), tmp_path)
    model = family(wrap)
    name, parameter = list(model.named_parameters())[-1]
    name = name.replace("_orig_mod.", "")
    parameter.data.view(-1)[-1:] = value
    what = "NaN" if math.isnan(value) else "infinity"
    with pytest.raises(FloatingPointError, match=f"model must be finite to be saved; {name} holds {what}"):
        gf.save(model, tmp_path)
    assert same(gf.load(tmp_path), good)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("build", [
    lambda: gf.PPCA(1).fit(torch.randn(20, 3)), lambda: gf.GaussianMixture(2, "diagonal").fit(torch.randn(20, 3)),
], ids=["PPCA", "GaussianMixture"])  # fmt: skip
def test_parameters_of_closed_forms_are_buffers(tmp_path, build, value):
    model = build()
    model.variances.view(-1)[0] = value
    with pytest.raises(FloatingPointError, match="variances holds"):
        gf.save(model, tmp_path)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("mask", torch.tensor([0.0, -math.inf, math.inf]))
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, y, t):
        return y * self.weight


def test_buffers_may_hold_infinities_but_no_nan(tmp_path):
    model = gf.Diffusion(Masked(), shape=(3,))
    gf.save(model, tmp_path)
    assert gf.load(tmp_path, net=Masked()).net.mask.tolist() == [0.0, -math.inf, math.inf]
    model.net.mean[1] = math.nan
    with pytest.raises(FloatingPointError, match=r"net\.mean holds NaN"):
        gf.save(model, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@every_family
def test_a_file_that_is_not_finite_is_not_loaded(tmp_path, monkeypatch, family, value):
    """Such as an older genfast wrote."""
    model = family()
    name, parameter = next(model.named_parameters())
    parameter.data.view(-1)[0] = value
    with monkeypatch.context() as patch:
        patch.setattr(gf.checkpoint, "not_finite", lambda state, parameters: "")
        gf.save(model, tmp_path)
    with pytest.raises(FloatingPointError, match=rf"{tmp_path}.* must hold finite weights to be loaded; {name} holds "):
        gf.load(tmp_path)


# Places


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.CKPT", "deep/model.json", "x.pth"])
def test_the_name_of_a_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=rf"path must be a folder, which is made.*got \S+{name}, the name of a file"):
        gf.save(diffusion(), tmp_path / name)
    with pytest.raises(ValueError, match="out must be a folder"):
        gf.training.Fit(diffusion(), torch.randn(9, 3), steps=1, out=tmp_path / name)
    with pytest.raises(ValueError, match="out must be a folder"):
        gf.evaluate(torch.randn(9, 3), torch.randn(9, 3), out=tmp_path / name)
    assert not list(tmp_path.iterdir())
    (tmp_path / name).mkdir(parents=True)  # a folder of the name is a folder
    gf.save(diffusion(), tmp_path / name)
    (tmp_path / "x").write_text("mine")
    with pytest.raises(OSError, match=r"path must be a folder that can be written to; got .*x: File exists"):
        gf.save(diffusion(), tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize("text", ['{"name": "theirs"}', "[]", "not even JSON", "\0\1"])
def test_the_model_json_of_another_program_stays(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    for act in (lambda: gf.save(diffusion(), tmp_path), lambda: gf.checkpoint.remove(tmp_path)):
        with pytest.raises(FileExistsError, match=r"path must not hold the model\.json of another program; got "):
            act()
    assert {file.name for file in tmp_path.iterdir()} == {"model.json", ".lock"}
    assert (tmp_path / "model.json").read_text() == text


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_model_json_of_ours_is_replaced(tmp_path, share):
    gf.save(diffusion(), tmp_path)
    file = tmp_path / "model.json"
    file.write_bytes(file.read_bytes()[: int(share * len(file.read_bytes()))])
    gf.save(model := diffusion(), tmp_path)
    assert same(gf.load(tmp_path), model)


def test_state_that_is_no_tensor_is_refused_before_training(tmp_path):
    class Own(nn.Linear):
        def get_extra_state(self):
            return {"steps": 3}

    model = gf.Diffusion(Own(3, 3), shape=(3,))
    for act in (lambda: gf.save(model, tmp_path), lambda: gf.fit(model, torch.randn(9, 3), steps=1, out=tmp_path)):
        with pytest.raises(TypeError, match=r"state_dict\(\) of tensors; got dict for net\._extra_state"):
            act()


def test_what_is_no_network_is_refused(tmp_path):
    gf.save(diffusion(), tmp_path)
    with pytest.raises(TypeError, match=r"net must be a torch\.nn\.Module; got function for 'net'"):
        gf.load(tmp_path, net=lambda y, t: y)
