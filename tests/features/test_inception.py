"""Inception-v3 answers as torch-fidelity's with the same weights, reads the layouts in use and no others."""

import importlib
import importlib.util
import pickle
import sys
import types

import pytest
import safetensors.torch
import torch
from torch import nn

from genfast.features import Features, as_features, extract, inception
from genfast.features.inception_v3 import Inception, quantize, resize_pytorch_fid, resize_torch_fidelity

internals = sys.modules["genfast.features.inception"]


@pytest.fixture(scope="module")
def peer():
    """torch-fidelity's module of the network, without the package around it, which wants torchvision."""
    package = types.ModuleType("torch_fidelity")
    package.__path__ = importlib.util.find_spec("torch_fidelity").submodule_search_locations
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_fidelity", package)
        yield importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
        for name in [name for name in sys.modules if name.startswith("torch_fidelity.")]:
            patch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def weights():
    """Random weights that keep the scale of what passes through, with norms that do something."""
    generator = torch.Generator().manual_seed(0)
    state = Inception().state_dict()
    for name, value in state.items():
        if name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
        elif not name.endswith("num_batches_tracked"):
            value.normal_(0, 0.2, generator=generator)
    return state


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(weights, path)
    return path


def images(*shape):
    """8-bit images, and what they are in [-1, 1]."""
    image = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return image, image / 127.5 - 1


@pytest.mark.parametrize("shape", [(3, 3, 32, 40), (2, 1, 8, 8), (1, 3, 310, 299)])
def test_equals_torch_fidelity(peer, file, shape):
    theirs = peer.FeatureExtractorInceptionV3("peer", ["2048", "logits_unbiased"], feature_extractor_weights_path=file)
    ours = inception(file)
    image, x = images(*shape)
    features, logits = theirs(image.expand(-1, 3, -1, -1))
    error = (ours(x) - features).abs().max() / features.abs().max()
    assert error < 1e-5 and features.std() > 1
    torch.testing.assert_close(ours.classify(ours(x)), logits.softmax(1), rtol=1e-4, atol=1e-5)


def test_the_peer_has_our_names(peer, file, weights):
    theirs = peer.FeatureExtractorInceptionV3("peer", ["2048"], feature_extractor_weights_path=file).state_dict()
    assert {name: value.shape for name, value in theirs.items()} == {n: v.shape for n, v in weights.items()}


def test_layouts(file, weights, tmp_path):
    """The file's names, without the counters of old files too, and those of pytorch-fid's module of four blocks."""
    expected = inception(file)
    _, x = images(1, 3, 16, 16)
    features = expected(x)

    plain = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    safetensors.torch.save_file(plain, tmp_path / "plain.safetensors")
    converted = inception(tmp_path / "plain.safetensors")
    assert converted.fingerprint == expected.fingerprint and torch.equal(converted(x), features)

    net = Inception()
    net.load_state_dict(weights)
    children = dict(net.named_children())
    names = [name for name in children if name.startswith("Mixed")]
    blocks = nn.ModuleList(
        [
            nn.Sequential(net.Conv2d_1a_3x3, net.Conv2d_2a_3x3, net.Conv2d_2b_3x3, nn.MaxPool2d(3, 2)),
            nn.Sequential(net.Conv2d_3b_1x1, net.Conv2d_4a_3x3, nn.MaxPool2d(3, 2)),
            nn.Sequential(*(children[name] for name in names[:8])),
            nn.Sequential(*(children[name] for name in names[8:]), nn.AdaptiveAvgPool2d(1)),
        ]
    )
    torch.save(nn.ModuleDict({"blocks": blocks}).state_dict(), tmp_path / "blocks.pth")
    wrapped = inception(tmp_path / "blocks.pth")
    assert names[7:9] == ["Mixed_6e", "Mixed_7a"] and torch.equal(wrapped(x), features)
    assert wrapped.fingerprint == expected.fingerprint  # the last layer is no part of the features
    with pytest.raises(ValueError, match="fc"):
        wrapped.probabilities(x)


def test_protocol(file):
    f = inception(file)
    _, x = images(3, 3, 12, 12)
    whole = extract(f, x, batch=2)
    assert isinstance(f, Features) and whole.shape == (3, f.dim) == (3, 2048)
    assert torch.equal(whole[1:], extract(f, x[1:], batch=2))
    probabilities = f.probabilities(x, batch=2)
    assert probabilities.shape == (3, 1008) and torch.equal(probabilities, f.classify(whole))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    assert not f.net.training and not any(p.requires_grad for p in f.net.parameters())


def test_name_and_fingerprint_say_which(file, weights, tmp_path, monkeypatch):
    f = inception(file)
    digest = f.sha256[:8]
    assert not f.verified and f.name == f"inception unverified {digest} (torch_fidelity)"
    other = inception(file, mode="pytorch_fid")
    first = "Conv2d_1a_3x3.bn.bias"
    torch.save(weights | {first: weights[first] + 1}, tmp_path / "other.pth")
    assert len({f.fingerprint, other.fingerprint, inception(tmp_path / "other.pth").fingerprint}) == 3
    monkeypatch.setattr(internals, "SHA256", digest)
    monkeypatch.setenv("GENFAST_INCEPTION", str(file))
    official = as_features("inception", (3, 8, 8))
    assert official.verified and official.name == "inception 2015-12-05 (torch_fidelity)"
    assert official.fingerprint == f.fingerprint


def test_quantize_undoes_the_scaling_of_images():
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(quantize(image / 127.5 - 1), image.expand(1, 3, 16, 16))
    outside = torch.tensor([-1.7, -1.0, 1.0, 1.2]).reshape(1, 1, 2, 2)
    assert quantize(outside)[0, 0].flatten().tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("resize", [resize_torch_fidelity, resize_pytorch_fid])
@pytest.mark.parametrize("size", [(5, 7), (299, 299), (340, 2), (1, 30)])
def test_resize(resize, size):
    """Against interpolation by hand in float64: corners of pixels matched, or their centers."""
    image, _ = images(2, 3, *size)
    matrices = []
    for length in size:
        matrix = torch.zeros(299, length, dtype=torch.float64)
        for i in range(299):
            place = i * length / 299 if resize is resize_torch_fidelity else (i + 0.5) * length / 299 - 0.5
            low = int(max(place, 0))
            share = max(place, 0) - low
            matrix[i, min(low, length - 1)] += 1 - share
            matrix[i, min(low + 1, length - 1)] += share
        matrices.append(matrix)
    resized = matrices[0] @ image.double() @ matrices[1].T
    expected = (resized - 128) / 128 if resize is resize_torch_fidelity else resized / 127.5 - 1
    torch.testing.assert_close(resize(image).double(), expected, rtol=0, atol=2e-4)
    if size == (299, 299):
        torch.testing.assert_close(resize(image).double(), expected, rtol=0, atol=1e-6)


def test_no_file(monkeypatch, tmp_path):
    monkeypatch.delenv("GENFAST_INCEPTION", raising=False)
    said = (
        r"pt_inception-2015-12-05-6726825d.pth.*https://.*weights-inception-2015-12-05-6726825d.pth.*GENFAST_INCEPTION"
    )
    with pytest.raises(FileNotFoundError, match=f"say nothing.*{said}"):
        inception()
    with pytest.raises(FileNotFoundError, match=f"no file .*absent.pth.*{said}"):
        inception(tmp_path / "absent.pth")
    monkeypatch.setenv("GENFAST_INCEPTION", str(tmp_path / "elsewhere.pth"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        inception()


class Code:
    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: {n: v for n, v in s.items() if n != "fc.bias"}, "1 missing: fc.bias.*Known layouts.*blocks.0.0"),
        (
            lambda s: s | {"AuxLogits.fc.weight": s["fc.bias"], "z": s["fc.bias"]},
            r"2 unexpected: AuxLogits.fc.weight, z",
        ),
        (
            lambda s: s | {"fc.weight": s["fc.weight"][:1000]},
            r"fc.weight of shape \(1000, 2048\) instead of \(1008, 2048",
        ),
        (
            lambda s: {f"blocks.7.{n}": v for n, v in s.items()},
            r"missing: Conv2d_1a_3x3.bn.bias, .*\.\.\.; .*unexpected",
        ),
        (lambda s: {"state_dict": s}, "dict of tensors"),
        (lambda s: list(s.values()), "dict of tensors.*list"),
        (lambda s: {"fc.weight": Code()}, "cannot be read"),
    ],
)
def test_other_files(weights, tmp_path, change, words, capfd):
    path = tmp_path / "other.pth"
    torch.save(change(weights), path)
    with pytest.raises(ValueError, match=words):
        inception(path)
    assert "never" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"a": 1}, protocol=2)[:-3] + b"garbage")
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        inception(path)


def test_bad_input(file):
    with pytest.raises(ValueError, match=r"mode.*pytorch_fid.*'clean'"):
        inception(file, mode="clean")
    f = inception(file)
    with pytest.raises(ValueError, match=r"x.*\(B, 1 or 3, H, W\).*\(2, 4, 8, 8\)"):
        f(torch.zeros(2, 4, 8, 8))
    with pytest.raises(TypeError, match=r"x.*uint8"):
        f(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\[-1, 1\].*from 0 to 255.*127.5"):
        f(torch.tensor([0.0, 255.0]).expand(1, 1, 2, 2))
